"""One lane a receiver: what it is told, how often, and the thread that tells it. A slow receiver delays itself alone.

Rules: at most ``burst`` messages of a rule in ``burst_ms``, what is held back is counted and told; who was told of a
state is told of its end, whatever the rate; at most ``QUEUE_MAX`` messages wait, what does not fit is counted and told.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection
from random import Random
from typing import Final, NamedTuple
from uuid import uuid4

from structlog.stdlib import BoundLogger

from cli.alerting.judge import Alert, Key, Say
from cli.alerting.message import Message, message_of
from cli.alerting.receivers import DeliveryError, Receiver
from runtime.clock import wall_ns

QUEUE_MAX: Final = 256
TOLD_MAX: Final = 2_000
BACKOFF_S: Final = 1.0
BACKOFF_S_MAX: Final = 30.0
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000


class LaneRules(NamedTuple):
    """How a lane tells."""

    deployment: str
    burst: int
    burst_ms: int
    attempts: int
    timeout_s: float


class Lane:
    """One receiver. ``offer`` and ``flush`` are the loop's, ``run`` is its own thread's.

    Attributes:
        sent, retried, failed, suppressed, dropped: Counts since the start.
    """

    def __init__(
        self, name: str, receiver: Receiver, only: Collection[str], rules: LaneRules, log: BoundLogger, seed: int = 0
    ) -> None:
        self.name = name
        self._receiver = receiver
        self._only = frozenset(only)
        self._rules = rules
        self._log = log
        self._random = Random(seed)  # noqa: S311 - spreads retries, keeps no secret
        self._queue: deque[Message] = deque()
        self._ready = threading.Condition()
        self._ending = False
        self._stop = threading.Event()
        self._times: dict[str, deque[int]] = {}
        self._held_back: dict[str, int] = {}
        self._told: dict[Key, None] = {}
        self._lost = 0
        self.sent = self.retried = self.failed = self.suppressed = self.dropped = 0
        self._thread = threading.Thread(target=self._run, name=f"alerts {name}", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def close(self, within_s: float) -> None:
        """Tell what waits, if it goes within the time; then end."""
        with self._ready:
            self._ending = True
            self._ready.notify()
        self._thread.join(within_s)
        self._stop.set()

    @property
    def waiting(self) -> int:
        """Messages that wait."""
        return len(self._queue)

    def offer(self, alert: Alert, now_ns: int) -> bool:
        """Take an alert; whether it goes out."""
        key = alert.key
        if self._only and key.rule not in self._only and alert.say is not Say.TEST:
            return False
        if alert.say is Say.RESOLVED:
            if self._told.pop(key, 1) is not None:  # it was not told of, and needs no end
                return False
        elif alert.say is not Say.TEST and not self._has_room(key.rule, now_ns):
            self._held_back[key.rule] = self._held_back.get(key.rule, 0) + 1
            self.suppressed += 1
            return False
        if alert.say in {Say.FIRING, Say.AGAIN}:
            self._told[key] = None
            if len(self._told) > TOLD_MAX:
                del self._told[next(iter(self._told))]
        self._put(message_of(
            alert, uuid4().hex, self._rules.deployment, self._held_back.pop(key.rule, 0), self._take_lost()
        ))  # fmt: skip
        return True

    def told(self, key: Key) -> None:
        """Say that the receiver was told of a state before this process began: it is told of its end."""
        self._told[key] = None

    def flush(self, now_ns: int) -> None:
        """Say how many were held back, of every rule that has room again."""
        for rule in [r for r in self._held_back if self._has_room(r, now_ns)]:
            text = f"{self._held_back[rule]} messages of rule {rule} were held back"
            alert = Alert(Say.SUPPRESSED, Key(rule, "", ""), text, now_ns, now_ns)
            count = self._held_back.pop(rule)
            self._put(message_of(alert, uuid4().hex, self._rules.deployment, count, self._take_lost()))

    def _has_room(self, rule: str, now_ns: int) -> bool:
        """Whether the rate has room for one more, which is then counted."""
        times = self._times.setdefault(rule, deque())
        while times and now_ns - times[0] >= self._rules.burst_ms * NS_PER_MS:
            times.popleft()
        if len(times) >= self._rules.burst:
            return False
        times.append(now_ns)
        return True

    def _take_lost(self) -> int:
        lost, self._lost = self._lost, 0
        return lost

    def _put(self, message: Message) -> None:
        with self._ready:
            if len(self._queue) >= QUEUE_MAX:
                self.dropped += 1
                self._lost += 1 + message.lost
                return
            self._queue.append(message)
            self._ready.notify()

    # The thread

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._queue and not self._ending:
                    self._ready.wait()
                if not self._queue:
                    return
                message = self._queue[0]
            if not self._deliver(message):
                self.failed += 1
                self._lost += 1 + message.lost
            self._queue.popleft()

    def _deliver(self, message: Message) -> bool:
        for attempt in range(1, self._rules.attempts + 1):
            try:
                self._receiver.send(message, wall_ns() // NS_PER_S, self._rules.timeout_s)
            except DeliveryError as e:
                error = e
            except Exception as e:  # noqa: BLE001 - whatever a receiver's answer does, the others are told
                error = DeliveryError(type(e).__name__, is_final=True)
            else:
                self.sent += 1
                return True
            is_last = error.is_final or attempt == self._rules.attempts or self._ending
            self._log.warning(
                "alert not delivered", receiver=self.name, rule=message.rule, why=error.why, attempt=attempt,
                gives_up=is_last,
            )  # fmt: skip
            if is_last:
                return False
            self.retried += 1
            if self._stop.wait(max(error.after_s, self._backoff_s(attempt))):
                return False
        return False

    def _backoff_s(self, attempt: int) -> float:
        """Return a wait with jitter, so that many who failed together do not come again together."""
        return min(BACKOFF_S_MAX, BACKOFF_S * (1 << (attempt - 1))) * self._random.uniform(0.5, 1.5)
