"""A message source with its sidecar, written from the protocol's text: submits, resubmits, doubles, never gives up.

It keeps every delivery until it is answered (the broker's promise) and submits again whatever is unanswered after a
cut, in order; it obeys no engine older than one it has known. Nothing of it is shared with sidecars/.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec
from msgspec import Raw

from protocol.codes import OutcomeKind
from protocol.orders import Command
from protocol.session import (
    PROTOCOL_VERSION,
    Bye,
    Claim,
    Claimed,
    Drain,
    Finals,
    Hello,
    Item,
    Outcome,
    Outcomes,
    Resume,
    Retry,
    Submit,
    Welcome,
    engine_decoder,
)
from tests.simulation.generator import Generator
from tests.simulation.memory import MemoryDealer, Net, VirtualClock

ANSWER_NS = 2 * 10**9
IN_FLIGHT_MAX = 16
_encode = msgspec.msgpack.encode


class Delivery:
    """One hand-over of a command by the broker, kept until it is answered."""

    def __init__(self, seq: int, command: Command, created_at_ns: int) -> None:
        self.seq = seq
        self.command = command
        self.body = _encode(command)
        self.created_at_ns = created_at_ns


Answered = Callable[[Delivery, Outcome], None]


class Client:
    """One sidecar session after the other over one dealer."""

    def __init__(self, generator: Generator, net: Net, clock: VirtualClock, random: Random, answered: Answered) -> None:
        self.name = generator.name
        self.dealer = MemoryDealer(net, "sidecars", 0)
        self._clock = clock
        self._random = random
        self._answered = answered
        self._generator = generator
        self._seq = 0
        self._newest = (0, b"")
        self._unit_epoch = 0
        self._last_submit: Submit | None = None
        self._phase = "away"
        self._heard_ns = 0
        self.waiting: list[Delivery] = []
        self.in_flight: dict[int, Delivery] = {}
        self.held: set[int] = set()  # answered HELD in this session, and no FINAL yet
        self.finals = 0

    def produce(self, command: Command | None = None) -> None:
        """Let the producer publish one command; the broker has it from here on."""
        command = command or self._generator.next()
        self._seq += 1
        self.waiting.append(Delivery(self._seq, command, self._clock.wall))

    @property
    def is_open(self) -> bool:
        return self._phase == "open"

    @property
    def is_settled(self) -> bool:
        return not self.waiting and not self.in_flight

    def turn(self) -> None:
        """Read what came, then send what may go."""
        for body in self.dealer.receive(100):
            self._receive(engine_decoder.decode(body))
        now = self._clock.monotonic
        if (self._phase != "open" and now - self._heard_ns > ANSWER_NS // 4) or (
            self.in_flight and now - self._heard_ns > ANSWER_NS
        ):
            self._greet()
        if self._phase == "open":
            self._submit()

    def cut(self) -> None:
        """Lose the connection, or the whole sidecar: the broker gives back what was not settled."""
        self.dealer.cut(self._random)
        self._lose()

    @property
    def epoch(self) -> int:
        """The newest engine it has known."""
        return self._newest[0]

    def speak_as_before(self) -> None:
        """Say again what was said last, under the claim of then: an instance of old that was only asleep."""
        if self._last_submit is not None:
            self.dealer.send(_encode(self._last_submit))

    def _lose(self) -> None:
        self._phase = "away"
        self.held.clear()
        self.waiting = sorted([*self.in_flight.values(), *self.waiting], key=lambda d: d.seq)
        self.in_flight = {}

    def _greet(self) -> None:
        self._lose()
        self._heard_ns = self._clock.monotonic
        self.dealer.close()
        self.dealer.send(_encode(Hello(PROTOCOL_VERSION, "src", self.name, b"i" * 16)))

    def _receive(self, message: object) -> None:
        self._heard_ns = self._clock.monotonic
        match message:
            case Welcome() if (message.epoch, message.instance) != self._newest and message.epoch <= self.epoch:
                self._lose()  # a zombie
            case Welcome():
                self._newest = (message.epoch, message.instance)
                self.dealer.send(_encode(Claim(f"unit-{self.name}")))
            case Claimed():
                self._unit_epoch = message.unit_epoch
                self._phase = "open"
            case Outcomes() if message.epoch == self.epoch:
                for outcome in message.items:
                    self._settle(outcome)
            case Finals() if message.epoch == self.epoch:
                for final in message.items:
                    self._end_hold(final)
            case Retry():
                back = [self.in_flight.pop(s) for s in message.item_seqs if s in self.in_flight]
                self.waiting = sorted([*back, *self.waiting], key=lambda d: d.seq)
                self.dealer.send(_encode(Resume()))
            case Bye():
                self._lose()
            case Drain():
                pass

    def _settle(self, outcome: Outcome) -> None:
        delivery = self.in_flight.pop(outcome.item_seq, None)
        if delivery is None:
            return
        if outcome.kind is OutcomeKind.NOT_TAKEN:
            self.waiting.insert(0, delivery)
            return
        if (outcome.first or outcome).kind is OutcomeKind.HELD:
            self.held.add(outcome.item_seq)
        self._answered(delivery, outcome)

    def _end_hold(self, final: Outcome) -> None:
        """Behind each HELD comes one FINAL; a lossy network may lose the HELD before it, or bring one twice."""
        self.finals += final.item_seq in self.held
        self.held.discard(final.item_seq)

    def _submit(self) -> None:
        items = []
        while self.waiting and len(self.in_flight) < IN_FLIGHT_MAX:
            d = self.waiting.pop(0)
            self.in_flight[d.seq] = d
            items.append(
                Item(
                    d.seq, f"unit-{self.name}", self._unit_epoch, 0, "lane", "all", b"t" * 16, d.created_at_ns,
                    Raw(d.body),
                )
            )  # fmt: skip
        if not items:
            return
        half = self._random.randint(0, len(items))
        for part in (items[:half], items[half:]):
            if not part:
                continue
            self._last_submit = Submit(part)
            if not self.dealer.send(_encode(self._last_submit)):
                self._lose()
                return
