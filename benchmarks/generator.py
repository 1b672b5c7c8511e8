"""The load generator: one process, several DEALERs, the same for the engine and for its floor.

Open loop: every message has a due time; latency runs from the due time, so a stalled server is charged for all that
should have been sent meanwhile (no coordinated omission). Saturated: as much as a window allows. Answers are stored
as they arrive and decoded after the run.
"""

from __future__ import annotations

import ctypes
import gc
import secrets
import select
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from benchmarks.workload import SOURCE, ItemEncoder
from protocol.channels import Context, Dealer, Waiter
from protocol.codes import OutcomeKind
from protocol.errors import RemoteProtocolError
from protocol.orders import Command
from protocol.session import PROTOCOL_VERSION, Claim, Claimed, Hello, Outcomes, Retry, Welcome, engine_decoder

SESSIONS: Final = 4
HWM: Final = 50_000
PR_SET_TIMERSLACK: Final = 29
STALL_S: Final = 30.0

_encode = msgspec.msgpack.Encoder().encode
_OutcomeCount = msgspec.msgpack.Decoder(tuple[int, list[msgspec.Raw], int])


class Answered(NamedTuple):
    """What one run gave.

    Attributes:
        latencies_ns: From the due time of each item to its answer, in order of submission.
        duration_ns: From the first due time to the last answer.
        bodies: The raw answers of each session, in order.
    """

    latencies_ns: list[int]
    duration_ns: int
    bodies: list[list[bytes]]


class Generator:
    """Holds open sessions with an engine, or with the floor (which answers counts and needs no Hello)."""

    def __init__(self, endpoint: str, *, floor: bool, sessions: int = SESSIONS) -> None:
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
        self._context = Context()
        self._floor = floor
        self._dealers = [Dealer(self._context, endpoint, HWM, secrets.token_bytes(8)) for _ in range(sessions)]
        self._encoders = [self._open(dealer, n) for n, dealer in enumerate(self._dealers)]

    def _open(self, dealer: Dealer, number: int) -> ItemEncoder:
        unit = f"unit-{number}"
        if self._floor:
            return ItemEncoder(unit, (1 << 32) | number)
        self._say(dealer, Hello(PROTOCOL_VERSION, SOURCE, unit, secrets.token_bytes(16)), Welcome)
        claimed = self._say(dealer, Claim(unit), Claimed)
        assert isinstance(claimed, Claimed)
        return ItemEncoder(unit, claimed.unit_epoch)

    def _say(self, dealer: Dealer, message: msgspec.Struct, expected: type) -> object:
        waiter = Waiter(dealer)
        until = time.monotonic() + STALL_S
        sent = dealer.send(_encode(message))
        while time.monotonic() < until:
            waiter.wait(10)
            sent = sent or dealer.send(_encode(message))
            for body in dealer.receive(1):
                answer = engine_decoder.decode(body)
                if isinstance(answer, expected):
                    return answer
                raise RemoteProtocolError("engine", expected.__name__, repr(answer))
        raise RemoteProtocolError("engine", expected.__name__, f"nothing within {STALL_S} s")

    def encode(self, commands: Sequence[Command], per_message: int = 1) -> list[list[bytes]]:
        """Return the messages of each session: commands are dealt round robin, so lanes stay in order."""
        sessions = len(self._dealers)
        created_at_ns = time.time_ns()
        messages: list[list[bytes]] = []
        for number, encoder in enumerate(self._encoders):
            mine = list(commands[number::sessions])
            messages.append(
                [
                    encoder.submit(start, mine[start : start + per_message], created_at_ns)
                    for start in range(0, len(mine), per_message)
                ]
            )
        return messages

    def run(self, messages: list[list[bytes]], per_message: int, rate_per_s: int, window: int) -> Answered:
        """Send everything; ``rate_per_s`` 0 = saturated within ``window`` unanswered items, else open loop."""
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            return self._run(messages, per_message, rate_per_s, window)
        finally:
            gc.enable()

    def _run(self, messages: list[list[bytes]], per_message: int, rate_per_s: int, window: int) -> Answered:
        sessions = len(self._dealers)
        total = sum(map(len, messages))
        interval_ns = 1_000_000_000 * per_message / rate_per_s if rate_per_s else 0.0
        due: list[deque[int]] = [deque() for _ in messages]
        sent_items: list[deque[int]] = [deque() for _ in messages]
        latencies: list[list[int]] = [[] for _ in messages]
        bodies: list[list[bytes]] = [[] for _ in messages]
        fds = [dealer.fd for dealer in self._dealers]
        clock = time.monotonic_ns
        sends = [dealer.socket.send for dealer in self._dealers]
        next_message = 0
        unanswered = 0
        begin_ns = clock() + 1_000_000
        last_answer_ns = begin_ns
        stall_ns = int(STALL_S * 1e9)
        while next_message < total or unanswered:
            now = clock()
            # Everything that is due goes out before anything else.
            while next_message < total:
                due_ns = begin_ns + int(next_message * interval_ns) if rate_per_s else now
                if due_ns > now or (not rate_per_s and unanswered >= window):
                    break
                lane, place = next_message % sessions, next_message // sessions
                if place >= len(messages[lane]):
                    next_message += 1
                    continue
                sends[lane](messages[lane][place])
                items = per_message
                due[lane].append(due_ns)
                sent_items[lane].append(items)
                unanswered += items
                next_message += 1
                if rate_per_s:
                    now = clock()
            got = 0
            for lane, dealer in enumerate(self._dealers):
                received = dealer.receive(1024)
                if not received:
                    continue
                now = clock()
                for body in received:
                    bodies[lane].append(body)
                    count = int.from_bytes(body, "little") if self._floor else len(_OutcomeCount.decode(body)[1])
                    got += count
                    lane_due, lane_latencies = due[lane], latencies[lane]
                    if per_message == 1:
                        lane_latencies.extend([now - lane_due.popleft() for _ in range(count)])
                    else:
                        while count > 0:
                            lane_latencies.append(now - lane_due.popleft())
                            count -= per_message
            if got:
                unanswered -= got
                last_answer_ns = now
                continue
            if now - max(last_answer_ns, begin_ns) > stall_ns:
                raise RemoteProtocolError("server", f"answers to {unanswered} items", f"nothing for {STALL_S} s")
            wait_ns = 1_000_000
            if rate_per_s and next_message < total:
                wait_ns = begin_ns + int(next_message * interval_ns) - clock()
            if wait_ns > 0:
                select.select(fds, [], [], min(wait_ns, 1_000_000) / 1e9)
        return Answered([ns for lane in latencies for ns in lane], last_answer_ns - begin_ns, bodies)

    def close(self) -> None:
        """End the sessions."""
        self._context.close()


def count_outcomes(bodies: list[list[bytes]]) -> dict[str, int]:
    """Return how many outcomes of each kind came.

    Raises:
        RemoteProtocolError: If an item got no outcome, or two, or was told to come again.
    """
    kinds: dict[str, int] = {}
    for lane in bodies:
        seqs: list[int] = []
        for body in lane:
            message = engine_decoder.decode(body)
            if isinstance(message, Retry) or not isinstance(message, Outcomes):
                raise RemoteProtocolError("engine", "Outcomes", repr(message)[:200])
            for outcome in message.items:
                seqs.append(outcome.item_seq)
                name = outcome.kind.name if outcome.kind is OutcomeKind.ACCEPTED else outcome.code.name
                kinds[name] = kinds.get(name, 0) + 1
        if sorted(seqs) != list(range(len(seqs))):
            raise RemoteProtocolError("engine", "one outcome per submit", f"{len(seqs)} for {len(set(seqs))} items")
    return kinds
