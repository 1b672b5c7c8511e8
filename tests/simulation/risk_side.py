"""A risk service that decides by chance: slow, silent, repeated, lying, killed. The session is the real one.

Its verdicts are drawn, for what it decides is not what is simulated; what the engine makes of them is.
"""

from __future__ import annotations

from random import Random

import msgspec

from protocol.errors import FencedError
from protocol.risk import RiskAnswer, RiskRequest, Verdict, engine_risk_decoder
from risk.portfolio.session import ServiceSession
from tests.simulation.memory import MemoryDealer, Net, VirtualClock

E9 = 10**9
VALID_NS = 500_000_000
EVERYTHING = 1 << 60
_encode = msgspec.msgpack.encode


class RiskSide:
    """One service after the other; each start has a higher number, unless it lies."""

    def __init__(self, net: Net, clock: VirtualClock, random: Random, *, faults: bool) -> None:
        self._net = net
        self._clock = clock
        self._random = random
        self.faults = faults
        self.starts = 0
        self.fenced = 0
        self.last: RiskAnswer | None = None
        self.verdict: Verdict | None = None  # what it says of everything; None = by chance
        self.is_silent = False  # it is there, and decides nothing
        self._silent_until_ns = 0
        self._start()

    def _start(self) -> None:
        self.starts += 1
        epoch = self.starts
        if self.faults and epoch > 2 and self._random.random() < 0.1:
            epoch -= 2  # an older one speaks again
        self.dealer = MemoryDealer(self._net, "risk", 0)
        self.session = ServiceSession(self._random.randbytes(16), epoch)

    def die(self) -> None:
        """It is killed, and started again."""
        self.dealer.die()
        self._start()

    def turn(self) -> None:
        """Read, decide, send; now and then it is killed, silent, or says what it should not."""
        draw = self._random
        if self.faults and draw.random() < 0.01:
            self.die()
        if self._clock.monotonic < self._silent_until_ns:
            return
        if self.faults and draw.random() < 0.02:
            self._silent_until_ns = self._clock.monotonic + draw.choice((300, 1_000, 3_000)) * 1_000_000
        try:
            for body in self.dealer.receive(100):
                self.session.on_message(engine_risk_decoder.decode(body))
        except FencedError:
            self.fenced += 1
            self.die()
            return
        slow = self.is_silent or (self.faults and draw.random() < 0.5)
        for request in () if slow else self.session.due(EVERYTHING):
            for answer in self._answers(request):
                self.last = answer
                self.session.answer(answer)
        if self.faults and self.last is not None and draw.random() < 0.05:
            self.session.answer(self.last)  # again, whatever became of it
        for message in self.session.outgoing(self._clock.monotonic, EVERYTHING):
            if not self.dealer.send(_encode(message)):
                self.session.on_send_failed()
                return
        if self.faults and draw.random() < 0.005:
            self.dealer.send(b"no message")

    def _answers(self, request: RiskRequest) -> list[RiskAnswer]:
        """Return one answer, now and then none, two, or one about something else."""
        draw = self._random
        drawn = draw.choice((Verdict.APPROVE, Verdict.APPROVE, Verdict.APPROVE, Verdict.REJECT, Verdict.TRIM))
        verdict = self.verdict or drawn
        valid_ns = -1 if self.faults and draw.random() < 0.1 else VALID_NS
        quantity_e9 = draw.randint(0, request.quantity_e9 // E9 + 1) * E9 if verdict is Verdict.TRIM else 0
        answer = RiskAnswer(
            request.order_id, request.asked, verdict, quantity_e9, book_seq=EVERYTHING,
            valid_until_ns=request.now_ns + valid_ns if valid_ns > 0 else request.now_ns - 1,
        )  # fmt: skip
        if not self.faults:
            return [answer]
        other = draw.choice((Verdict.APPROVE, Verdict.REJECT))
        return draw.choice(
            (
                [answer], [answer], [answer], [answer], [], [answer, msgspec.structs.replace(answer, verdict=other)],
                [msgspec.structs.replace(answer, asked=request.asked - 1), answer],
                [msgspec.structs.replace(answer, order_id="P-nobody"), answer],
            )
        )  # fmt: skip
