"""A message source with its sidecar, written from the protocol's text: submits, resubmits, doubles, never gives up.

It keeps every delivery until it is answered (the broker's promise) and submits again whatever is unanswered after a
cut, in order. Nothing of it is shared with sidecars/.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec
from msgspec import Raw

from protocol.codes import OrderType, OutcomeKind, Side, TimeInForce
from protocol.orders import CancelOrder, Command, NewOrder
from protocol.session import (
    PROTOCOL_VERSION,
    Bye,
    Claim,
    Claimed,
    Drain,
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
from tests.simulation.memory import MemoryDealer, Net, VirtualClock

E9 = 10**9
ANSWER_NS = 2 * E9
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

    def __init__(self, name: str, net: Net, clock: VirtualClock, random: Random, answered: Answered) -> None:
        self.name = name
        self.dealer = MemoryDealer(net, "sidecars", 0)
        self._clock = clock
        self._random = random
        self._answered = answered
        self._seq = 0
        self._orders = 0
        self._sent: list[Command] = []
        self._unit_epoch = 0
        self._phase = "away"
        self._heard_ns = 0
        self.waiting: list[Delivery] = []
        self.in_flight: dict[int, Delivery] = {}

    def make_command(self) -> Command:
        """Return a new order, an old one again, one with a known id and other content, or a cancel."""
        draw = self._random
        chance = draw.random()
        if self._sent and chance < 0.15:
            return draw.choice(self._sent)
        if self._sent and chance < 0.20:
            old = draw.choice(self._sent)
            if isinstance(old, NewOrder):
                return msgspec.structs.replace(old, quantity_e9=old.quantity_e9 + E9)
        if chance < 0.40:
            number = draw.randint(max(1, self._orders - 8), self._orders + 2)  # some come before their order
            return CancelOrder("a1", f"{self.name}-{number}")
        self._orders += 1
        side = draw.choice((Side.BUY, Side.SELL))
        kind = draw.choice(("rest", "rest", "take", "ioc", "market", "wild"))
        price = {"rest": 99 if side is Side.BUY else 102, "wild": 500}.get(kind, 101 if side is Side.BUY else 100)
        return NewOrder(
            "a1", f"{self.name}-{self._orders}", "s1", "XY", side,
            OrderType.MARKET if kind == "market" else OrderType.LIMIT,
            TimeInForce.IOC if kind in {"ioc", "market"} else TimeInForce.DAY,
            draw.randint(1, 9) * E9, 0 if kind == "market" else price * E9, draw.random() < 0.1,
        )  # fmt: skip

    def produce(self, command: Command | None = None) -> None:
        """Let the producer publish one command; the broker has it from here on."""
        command = command or self.make_command()
        self._sent.append(command)
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

    def _lose(self) -> None:
        self._phase = "away"
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
            case Welcome():
                self.dealer.send(_encode(Claim(f"unit-{self.name}")))
            case Claimed():
                self._unit_epoch = message.unit_epoch
                self._phase = "open"
            case Outcomes():
                for outcome in message.items:
                    self._settle(outcome)
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
        self._answered(delivery, outcome)

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
            if part and not self.dealer.send(_encode(Submit(part))):
                self._lose()
                return
