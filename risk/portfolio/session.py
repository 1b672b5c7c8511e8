"""The service's side of the session with the engine, without I/O: messages and time in, messages out.

Rules: one queue an account, first come first decided, so that each answer is on a book that has the ones before it; a
request waits until the replica has its ``book_seq``; queues are bounded, and beyond them the answer is a refusal. What
the engine no longer asks is dropped; an engine that starts again asks everything anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from protocol.codes import ByeReason, Code
from protocol.errors import FencedError
from protocol.risk import (
    RISK_PROTOCOL_VERSION,
    EngineRiskMessage,
    RiskAnswer,
    RiskBye,
    RiskHeartbeat,
    RiskHello,
    RiskMessage,
    RiskRequest,
    RiskWelcome,
    RiskWithdrawn,
    Verdict,
)

ACCOUNT_MAX: Final = 64
"""Requests of one account that wait."""
ALL_MAX: Final = 4096
HELLO_AGAIN_NS: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000


def _never(_account: str) -> bool:
    return False


class ServiceSession:
    """One session; it comes back by itself when the engine does."""

    def __init__(self, instance: bytes, instance_epoch: int) -> None:
        self._instance = instance
        self._instance_epoch = instance_epoch
        self._queues: dict[str, deque[RiskRequest]] = {}
        self._out: list[RiskMessage] = []
        self._heartbeat_ns = HELLO_AGAIN_NS
        self._due_ns = 0
        self.is_open = False
        self.refused = 0

    @property
    def waiting(self) -> int:
        """Requests that are not answered yet."""
        return sum(map(len, self._queues.values()))

    def on_message(self, message: EngineRiskMessage) -> None:
        """Take one message of the engine.

        Raises:
            FencedError: If the engine knows a newer service.
        """
        match message:
            case RiskWelcome():
                self.is_open = True
                self._heartbeat_ns = message.heartbeat_ms * NS_PER_MS
                self._due_ns = 0
                self._queues.clear()  # all of it is asked anew
            case RiskRequest():
                self._queue(message)
            case RiskWithdrawn():
                self._drop(message.order_id)
            case RiskBye():
                self.is_open = False
                self._queues.clear()
                if message.reason in {ByeReason.FENCED, ByeReason.VERSION}:
                    raise FencedError("risk service", message.text, f"instance epoch {self._instance_epoch}")

    def _queue(self, request: RiskRequest) -> None:
        self._drop(request.order_id)  # asked again
        queue = self._queues.setdefault(request.account, deque())
        if len(queue) >= ACCOUNT_MAX or self.waiting >= ALL_MAX:
            self.refused += 1
            self._out.append(RiskAnswer(request.order_id, request.asked, Verdict.REJECT, code=Code.RISK_PENDING_MAX))
            return
        queue.append(request)

    def _drop(self, order_id: str) -> None:
        for account, queue in list(self._queues.items()):
            kept = deque(r for r in queue if r.order_id != order_id)
            if kept:
                self._queues[account] = kept
            else:
                del self._queues[account]

    def due(self, book_seq: int, is_busy: Callable[[str], bool] = _never) -> Iterator[RiskRequest]:
        """Yield what can be decided on a replica that has ``book_seq``; each is answered before the next is drawn.

        ``is_busy``: whether an account's next has to wait for what is asked about elsewhere.
        """
        for account in list(self._queues):
            queue = self._queues[account]
            while queue and queue[0].book_seq <= book_seq and not is_busy(account):
                yield queue.popleft()
            if not queue:
                del self._queues[account]

    def answer(self, answer: RiskAnswer) -> None:
        """Say what was decided."""
        self._out.append(answer)

    def outgoing(self, now_ns: int, book_seq: int) -> list[RiskMessage]:
        """Return what is to be sent now; ``now_ns`` is monotonic."""
        messages, self._out = self._out, []
        if now_ns >= self._due_ns:
            if self.is_open:
                self._due_ns = now_ns + self._heartbeat_ns
                messages.append(RiskHeartbeat(book_seq))
            else:
                self._due_ns = now_ns + HELLO_AGAIN_NS
                messages.append(RiskHello(RISK_PROTOCOL_VERSION, self._instance, self._instance_epoch))
        return messages

    def on_send_failed(self) -> None:
        """There is no connection, so there is no session; what was asked is asked anew."""
        self.is_open = False
        self._queues.clear()
        self._out.clear()
