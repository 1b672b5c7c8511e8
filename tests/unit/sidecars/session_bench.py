"""A session with a clock moved by hand and an engine played by the test."""

from __future__ import annotations

import itertools
from pathlib import Path

from protocol.codes import Code, Mode, OrderStatus, OrderType, OutcomeKind, Side, TimeInForce
from protocol.orders import Command, NewOrder
from protocol.session import (
    Claim,
    Claimed,
    Item,
    Outcome,
    Ping,
    Pong,
    SidecarMessage,
    Submit,
    Welcome,
)
from sidecars.core.epochs import EpochFile
from sidecars.core.session import EngineSession
from sidecars.core.settings import SessionSettings
from sidecars.core.source import Delivery, Verb, Why

MS = 1_000_000
TRACE = bytes(16)


def order(number: int, *, reduce_only: bool = False) -> NewOrder:
    return NewOrder(
        "acc", f"id-{number}", "s", "BTCUSDT", Side.BUY, OrderType.LIMIT, TimeInForce.DAY, 10**9, 10**9, reduce_only
    )


def delivery(number: int, until_ns: int = 0, received_ns: int = 0) -> Delivery:
    return Delivery("p", "acc", TRACE, 1, received_ns, source_id=str(number), lease_until_mono_ns=until_ns)


class Bench:
    """A session with a hand-moved clock and an engine played by the test."""

    def __init__(
        self, path: Path, *, credits_: int = 4, reserved: int = 2, hold_ms: int = 0, several: bool = False
    ) -> None:
        instances = itertools.count(1)
        self.session = EngineSession(
            SessionSettings(hold_ms=hold_ms, is_one_of_several=several),
            EpochFile(path),
            source="test",
            sidecar="host",
            new_instance=lambda: next(instances).to_bytes(16, "little"),
            jitter=lambda: 0.0,
        )
        self.now_ns = 10**9
        self.epoch = 1
        self.credits, self.reserved = credits_, reserved
        self.sent: list[SidecarMessage] = []

    def out(self) -> list[SidecarMessage]:
        messages = self.session.outgoing(self.now_ns)
        self.sent += messages
        return messages

    def items(self) -> list[Item]:
        return [item for m in self.out() if isinstance(m, Submit) for item in m.items]

    def hear(self, message: object) -> None:
        self.session.on_message(message, self.now_ns)  # type: ignore[arg-type]

    def welcome(self, epoch: int | None = None, instance: bytes = bytes(16)) -> None:
        epoch = self.epoch if epoch is None else epoch
        self.hear(Welcome(1, 0, epoch, instance, Mode.PAPER, self.credits, self.reserved))

    def open(self) -> None:
        self.out()
        self.welcome()
        assert Claim(self.session.unit) in self.out()
        self.hear(Claimed(self.session.unit, 7))

    def take(self, number: int, command: Command | None = None, until_ns: int = 0) -> None:
        self.session.take(delivery(number, until_ns, self.now_ns), command or order(number), self.now_ns)

    def pass_ms(self, ms: int) -> None:
        self.now_ns += ms * MS
        self.session.on_tick(self.now_ns)

    def live_ms(self, ms: int) -> None:
        """Pass time with an engine that answers every Ping."""
        for _ in range(ms // 100):
            self.pass_ms(100)
            if Ping() in self.out():
                self.hear(Pong())

    def ended(self) -> list[tuple[str, Verb, Why]]:
        found = [(s.delivery.source_id, s.verb, s.why) for s in self.session.ended]
        self.session.ended.clear()
        return found


def accepted(item: Item) -> Outcome:
    return Outcome(item.seq, OutcomeKind.ACCEPTED, Code.OK, f"P-{item.seq}", item.seq, OrderStatus.PENDING_NEW)
