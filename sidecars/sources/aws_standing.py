"""How a source stands with a service of AWS that it asks from threads: what fails, for how long, when to ask again.

Rule: a call has a deadline of ours besides the client's own; who failed asks more and more slowly, with jitter; the
first failure is logged, the last is the fault.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from structlog.stdlib import BoundLogger

from sidecars.core.crew import Crew
from sidecars.sources.aws_client import BROKEN, CALL_S, text_of

BACKOFF_MS: Final = 100
BACKOFF_MS_MAX: Final = 20_000
BACKOFF_DOUBLINGS_MAX: Final = 8


class Standing:
    """One source's."""

    def __init__(self, service: str, log: BoundLogger) -> None:
        """``service``: as people know it, for the log."""
        self.fault = "not connected yet"
        self._service = service
        self._log = log
        self._failures = 0
        self._jitter = random.SystemRandom()

    @staticmethod
    async def call(crew: Crew, call: Callable[[], Any]) -> Any:
        """Make a call in a thread; the client's own deadlines are shorter than ours.

        Raises:
            ClientError, BotoCoreError, OSError, TimeoutError: What is ``BROKEN``.
        """
        async with asyncio.timeout(CALL_S):
            return await crew.run(call)

    def good(self) -> None:
        """Note that it serves us."""
        self.fault, self._failures = "", 0

    def bad(self, error: BaseException) -> None:
        """Note that it does not."""
        if not self.fault:
            self._log.warning(f"{self._service} fails", why=text_of(error))
        self.fault = text_of(error)
        self._failures += 1

    def wait_ms(self) -> int:
        """Return how long to wait before the next try."""
        wait_ms = min(BACKOFF_MS << min(max(0, self._failures - 1), BACKOFF_DOUBLINGS_MAX), BACKOFF_MS_MAX)
        return self._jitter.randint(wait_ms // 2, wait_ms)

    async def find(self, connect: Callable[[], Awaitable[None]]) -> None:
        """Try to connect, more and more slowly, until it is done."""
        while True:
            await asyncio.sleep(self.wait_ms() / 1000)
            try:
                await connect()
            except BROKEN as e:
                self.bad(e)
            else:
                return
