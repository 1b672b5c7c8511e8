"""The load generator: one process, several DEALERs, the same for the engine and for its floor.

Open loop: every message has a due time. Saturated: as much as a window of unanswered orders allows. One order a
message, or, saturated, some. Answers are stored as they arrive and decoded after the run.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import secrets
import select
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from benchmarks.floors import ASK
from benchmarks.workload import SOURCE, ItemEncoder, lane_of
from protocol.channels import Context, Dealer, Waiter
from protocol.codes import OutcomeKind
from protocol.errors import RemoteProtocolError
from protocol.orders import Command
from protocol.session import PROTOCOL_VERSION, Claim, Claimed, Hello, Outcomes, Welcome, engine_decoder
from runtime.clock import monotonic_ns, wall_ns

SESSIONS: Final = 4
HWM: Final = 50_000
WINDOW: Final = 8_192
RECEIVE_MAX: Final = 1_024
LEAD_NS: Final = 1_000_000
WAIT_NS_MAX: Final = 1_000_000
PR_SET_TIMERSLACK: Final = 29
STALL_NS: Final = 30_000_000_000

_encode = msgspec.msgpack.Encoder().encode
_OutcomeCount = msgspec.msgpack.Decoder(tuple[int, list[msgspec.Raw], int, int])

Message = tuple[int, bytes, int]
"""(session, body, commands in it), in order of sending."""


class Answered(NamedTuple):
    """What one run gave.

    Attributes:
        latencies_ns: From the due time of each command to its answer.
        begin_ns: When the first message was due, monotonic.
        duration_ns: From then to the last answer.
        bodies: The raw answers of each session, in order.
    """

    latencies_ns: list[int]
    begin_ns: int
    duration_ns: int
    bodies: list[list[bytes]]


class Generator:
    """Holds open sessions with an engine, or with the floor (which answers counts and needs no Hello)."""

    def __init__(self, endpoint: str, *, floor: bool, sessions: int = SESSIONS) -> None:
        # The kernel may wake a sleeper 50 µs late to save power; a due time may not be.
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
        self._context = Context()
        self._floor = floor
        self._dealers = [Dealer(self._context, endpoint, HWM, secrets.token_bytes(16)) for _ in range(sessions)]
        self._encoders = [self._open(dealer, n) for n, dealer in enumerate(self._dealers)]

    def _open(self, dealer: Dealer, number: int) -> ItemEncoder:
        unit = f"unit-{number}"
        if self._floor:
            self._say(dealer, ASK)
            return ItemEncoder(unit, (1 << 32) | number)
        hello = Hello(PROTOCOL_VERSION, SOURCE, unit, secrets.token_bytes(16))
        welcome = engine_decoder.decode(self._say(dealer, _encode(hello)))
        claimed = engine_decoder.decode(self._say(dealer, _encode(Claim(unit))))
        if not isinstance(welcome, Welcome) or not isinstance(claimed, Claimed):
            raise RemoteProtocolError("engine", "Welcome and Claimed", f"{welcome!r} and {claimed!r}")
        return ItemEncoder(unit, claimed.unit_epoch)

    def _say(self, dealer: Dealer, body: bytes) -> bytes:
        waiter = Waiter(dealer)
        until_ns = monotonic_ns() + STALL_NS
        sent = dealer.send(body)
        while monotonic_ns() < until_ns:
            waiter.wait(10)
            sent = sent or dealer.send(body)
            for answer in dealer.receive(1):
                return answer
        raise RemoteProtocolError("server", "an answer", f"nothing within {STALL_NS} ns")

    def encode(self, commands: Sequence[Command], batch: int = 1) -> list[Message]:
        """Return the messages, ``batch`` commands each; those of an account share a session, so they stay in order."""
        sessions, encoders = len(self._dealers), self._encoders
        created_at_ns = wall_ns()
        messages: list[Message] = []
        waiting: list[list[bytes]] = [[] for _ in encoders]
        for command in commands:
            lane = lane_of(command, sessions)
            waiting[lane].append(_encode(command))
            if len(waiting[lane]) == batch:
                messages.append((lane, encoders[lane].submit(waiting[lane], created_at_ns), batch))
                waiting[lane] = []
        for lane, left in enumerate(waiting):
            if left:
                messages.append((lane, encoders[lane].submit(left, created_at_ns), len(left)))
        return messages

    def run(self, messages: list[Message], offsets_ns: Sequence[int] = (), window: int = WINDOW) -> Answered:
        """Send everything: when it is due, or without ``offsets_ns`` as fast as ``window`` unanswered orders allow."""
        exchange = _Exchange(self._dealers, messages, offsets_ns, window, floor=self._floor)
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            return exchange.run()
        finally:
            gc.enable()
            gc.unfreeze()

    def ask(self) -> int:
        """Return how many items the floor has filled, durably."""
        return int.from_bytes(self._say(self._dealers[0], ASK), "little")

    def close(self) -> None:
        """End the sessions."""
        self._context.close()


class _Exchange:
    """One run: what is due, what was sent, what came back."""

    def __init__(
        self, dealers: list[Dealer], messages: list[Message], offsets_ns: Sequence[int], window: int, *, floor: bool
    ) -> None:
        self._dealers = dealers
        self._messages = messages
        self._offsets_ns = offsets_ns
        self._window = window
        self._floor = floor
        self._is_batched = any(size > 1 for _, _, size in messages)
        self._sends = [dealer.socket.send for dealer in dealers]
        self._fds = [dealer.fd for dealer in dealers]
        self._due: list[deque[int]] = [deque() for _ in dealers]
        self._sizes: list[deque[int]] = [deque() for _ in dealers]  # of what the floor has not counted yet
        self._latencies: list[list[int]] = [[] for _ in dealers]
        self._bodies: list[list[bytes]] = [[] for _ in dealers]
        self._next = 0
        self._unanswered = 0
        self._begin_ns = 0
        self._last_answer_ns = 0

    def run(self) -> Answered:
        total = len(self._messages)
        self._begin_ns = self._last_answer_ns = monotonic_ns() + LEAD_NS
        send = self._send_due if self._offsets_ns else self._send_window
        while self._next < total or self._unanswered:
            send()
            if not self._receive():
                self._wait()
        latencies = [ns for lane in self._latencies for ns in lane]
        return Answered(latencies, self._begin_ns, self._last_answer_ns - self._begin_ns, self._bodies)

    def _send_due(self) -> None:
        """Send everything whose time has come, before anything else."""
        messages, offsets_ns = self._messages, self._offsets_ns
        while self._next < len(messages):
            due_ns = self._begin_ns + offsets_ns[self._next]
            if due_ns > monotonic_ns():
                return
            lane, body, _ = messages[self._next]
            self._sends[lane](body)
            self._due[lane].append(due_ns)
            self._next += 1
            self._unanswered += 1

    def _send_window(self) -> None:
        """Send what the window allows; all of it counts as due now."""
        messages, sends, due, first = self._messages, self._sends, self._due, self._next
        room = self._window - self._unanswered
        is_batched = self._is_batched
        now_ns = monotonic_ns()
        for lane, body, size in messages[first : first + room]:
            if size > room:
                break
            sends[lane](body)
            if is_batched:
                due[lane].extend([now_ns] * size)
                self._sizes[lane].append(size)
            else:
                due[lane].append(now_ns)
            room -= size
            self._next += 1
        self._unanswered = self._window - room

    def _receive(self) -> int:
        """Take the answers that are there; return how many messages they answer."""
        got = 0
        for lane, dealer in enumerate(self._dealers):
            received = dealer.receive(RECEIVE_MAX)
            if not received:
                continue
            now_ns = self._last_answer_ns = monotonic_ns()
            self._bodies[lane] += received
            pop = self._due[lane].popleft
            for body in received:
                count = self._counted(lane, int.from_bytes(body, "little")) if self._floor else _count(body)
                got += count
                self._latencies[lane] += [now_ns - pop() for _ in range(count)]
        self._unanswered -= got
        return got

    def _counted(self, lane: int, messages: int) -> int:
        """Return how many commands were in so many messages that the floor has counted."""
        sizes = self._sizes[lane]
        return sum(sizes.popleft() for _ in range(messages)) if sizes else messages

    def _wait(self) -> None:
        now_ns = monotonic_ns()
        if now_ns - self._last_answer_ns > STALL_NS:
            raise RemoteProtocolError("server", f"answers to {self._unanswered} items", f"nothing for {STALL_NS} ns")
        wait_ns = WAIT_NS_MAX
        if self._offsets_ns and self._next < len(self._messages):
            wait_ns = min(wait_ns, self._begin_ns + self._offsets_ns[self._next] - now_ns)
        if wait_ns > 0:
            select.select(self._fds, [], [], wait_ns / 1e9)


def _count(body: bytes) -> int:
    try:
        return len(_OutcomeCount.decode(body)[1])
    except msgspec.DecodeError:
        raise RemoteProtocolError("engine", "Outcomes", repr(engine_decoder.decode(body))[:200]) from None


class Outcome(NamedTuple):
    """All answers of one run: how many of each kind, and a hash that is the same for equal decisions."""

    kinds: dict[str, int]
    digest: str


def count_outcomes(bodies: list[list[bytes]], *, with_positions: bool = True) -> Outcome:
    """Count the outcomes, one for every submit, and hash what was decided.

    Args:
        bodies: The raw answers of each session.
        with_positions: Hash worst-case positions too; where fills come back, their timing is in them.

    Raises:
        RemoteProtocolError: If an item got no outcome, or two, or was told to come again.
    """
    kinds: dict[str, int] = {}
    digest = hashlib.sha256()
    for lane in bodies:
        seqs: list[int] = []
        for body in lane:
            message = engine_decoder.decode(body)
            if not isinstance(message, Outcomes):
                raise RemoteProtocolError("engine", "Outcomes", repr(message)[:200])
            for outcome in message.items:
                seqs.append(outcome.item_seq)
                name = outcome.kind.name if outcome.kind is OutcomeKind.ACCEPTED else outcome.code.name
                kinds[name] = kinds.get(name, 0) + 1
                position = outcome.position_after_e9 if with_positions else 0
                digest.update(
                    f"{outcome.item_seq} {outcome.kind.name} {outcome.code.name} {outcome.checks_passed} {position}\n"
                    .encode()
                )  # fmt: skip
        if sorted(seqs) != list(range(len(seqs))):
            raise RemoteProtocolError("engine", "one outcome per submit", f"{len(seqs)} for {len(set(seqs))} items")
    return Outcome(kinds, digest.hexdigest())
