"""Task tokens that come in messages of another source: answered before the message is settled, kept alive with it.

A state machine sends an order and its token (``.waitForTaskToken``) and waits; the carrier is settled as ever. Rules: a
token is answered once for certain before its message goes, so perhaps twice; one that is over is nobody's fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from sidecars.core.crew import Crew
from sidecars.core.source import Delivery, Settlement
from sidecars.sources.aws_client import BROKEN, CALL_S, text_of
from sidecars.sources.stepfunctions_answers import ending_of
from sidecars.sources.stepfunctions_link import DONE, LOST, Tokens

ADDRESS: Final = "task-token:"
"""What ``Delivery.reply_to`` begins with where the answer goes to a token."""
THREADS: Final = 4
TOKEN_CHARS_MAX: Final = 2_048


def is_token(reply_to: str) -> bool:
    """Whether an answer goes to a token."""
    return reply_to.startswith(ADDRESS)


class TaskTokens:
    """The tokens of one source's deliveries."""

    def __init__(self, name: str) -> None:
        """Read the environment.

        Raises:
            ConfigError: If it can't be used.
        """
        self._tokens = Tokens(2 * THREADS)
        self._answering = Crew(f"{name}-token", THREADS)
        self._extending = Crew(f"{name}-beat", THREADS)
        self._log = structlog.get_logger().bind(source=name)
        self.fault = ""  # why tokens can't be answered now

    async def answer(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Answer each token; return those that were not, and are to be tried again."""
        calls = (partial(self._tokens.answer, _token(s.delivery), ending_of(s)) for s in settlements)
        words = await asyncio.gather(*(self._word(self._answering, call) for call in calls))
        failed = []
        for settlement, word in zip(settlements, words, strict=True):
            if word == LOST:
                self._log.warning("task token is over", id=settlement.delivery.source_id)
            elif word != DONE:
                failed.append(settlement)
        self._note(words)
        return failed

    async def keep(self, deliveries: Sequence[Delivery]) -> None:
        """Send a heartbeat for each that has a token; one that fails is sent again with the next extension."""
        calls = [partial(self._tokens.heartbeat, _token(d)) for d in deliveries if is_token(d.reply_to)]
        words = await asyncio.gather(*(self._word(self._extending, call) for call in calls))
        self._note(words)

    def _note(self, words: Sequence[str]) -> None:
        """Remember what keeps tokens from being answered; say it when it begins."""
        fault = next((word for word in words if word not in {DONE, LOST}), "")
        if fault and not self.fault:
            self._log.error("Step Functions fails", why=fault)
        if words:
            self.fault = fault

    async def _word(self, crew: Crew, call: partial[str]) -> str:
        try:
            async with asyncio.timeout(CALL_S):
                return await crew.run(call)
        except BROKEN as e:
            return text_of(e)

    def stop(self) -> None:
        """End the threads."""
        self._answering.stop()
        self._extending.stop()


def _token(delivery: Delivery) -> str:
    return delivery.reply_to.removeprefix(ADDRESS)
