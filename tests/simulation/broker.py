"""A message broker and the source that speaks to it: at-least-once, leases, redelivery, a place for dead letters.

The broker keeps every message until it is deleted by who holds its lease, hands it out again when the lease ends,
sometimes to two at once, and not in order. It remembers how each message ended; ``verify`` says whether any was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random

import msgspec

from protocol.orders import Command
from protocol.session import Outcome
from sidecars.core.source import Delivery, Engines, Lag, Settlement, Verb, Why
from tests.simulation.answers import FOR_PEOPLE, Answers, require_journaled
from tests.simulation.checkers import Watch
from tests.simulation.memory import VirtualClock

LEASE_NS = 3_000_000_000
_encode = msgspec.msgpack.encode


class Message:
    """One message of a producer. ``command`` None: a body that no engine would understand."""

    def __init__(self, number: int, command: Command | None, created_at_ns: int, principal: str) -> None:
        self.number = number
        self.command = command
        self.created_at_ns = created_at_ns
        self.principal = principal
        self.leased_until_ns = 0
        self.receipt = 0
        self.deliveries = 0
        self.ends: list[tuple[Verb, Outcome | None, Why]] = []


class Broker:
    """One queue with competing consumers."""

    def __init__(self, clock: VirtualClock, random: Random, answers: Answers) -> None:
        self._clock = clock
        self._random = random
        self._answers = answers
        self.messages: list[Message] = []
        self.kept: dict[int, Message] = {}
        self.doubles = 0  # so many messages are handed out a second time while the first hand still has them
        self.shuffles = 0  # so many receives are answered in no order
        self.refuses = 0  # so many settlements fail
        self.struck: Callable[[str], None] = lambda _: None  # a fault took effect

    def publish(self, command: Command | None, principal: str = "all") -> None:
        message = Message(len(self.messages) + 1, command, self._clock.wall, principal)
        self.messages.append(message)
        self.kept[message.number] = message

    @property
    def has_visible(self) -> bool:
        now_ns = self._clock.monotonic
        return any(m.leased_until_ns <= now_ns for m in self.kept.values())

    def receive(self, most: int) -> list[Message]:
        now_ns = self._clock.monotonic
        found = [m for m in self.kept.values() if m.leased_until_ns <= now_ns or self._double()]
        if self.shuffles:
            self.shuffles -= 1
            self._random.shuffle(found)
            if len(found) > 1:
                self.struck("reorder")
        for message in found[:most]:
            message.leased_until_ns = now_ns + LEASE_NS
            message.receipt += 1
            message.deliveries += 1
        return found[:most]

    def _double(self) -> bool:
        if not self.doubles:
            return False
        self.doubles -= 1
        self.struck("duplication")
        return True

    def holds(self, message: Message, receipt: int) -> bool:
        return receipt == message.receipt and message.leased_until_ns > self._clock.monotonic

    def end(self, message: Message, receipt: int, settlement: Settlement) -> bool:
        """Delete a message for good, or move it to the dead letters; False if somebody else has it now."""
        if self.refuses:
            self.refuses -= 1
            self.struck("loss")
            return False
        if not self.holds(message, receipt):
            return False
        message.ends.append((settlement.verb, settlement.outcome, settlement.why))
        self.kept.pop(message.number, None)
        if settlement.outcome is not None and message.command is not None:
            self._answers.take(_encode(message.command), settlement.outcome)
        return True

    def give_back(self, message: Message, receipt: int) -> None:
        if self.holds(message, receipt):
            message.leased_until_ns = self._clock.monotonic

    def extend(self, message: Message, receipt: int) -> bool:
        if not self.holds(message, receipt):
            return False
        message.leased_until_ns = self._clock.monotonic + LEASE_NS
        return True

    def verify(self, watch: Watch) -> None:
        """Conservation: every message ended once, with a decision that the journal holds, or as a dead letter."""
        assert not self.kept, f"messages {sorted(self.kept)} are still there"
        for message in self.messages:
            assert len(message.ends) == 1, f"message {message.number} ended {len(message.ends)} times"
            verb, outcome, why = message.ends[0]
            if message.command is None:
                assert verb is Verb.DEAD_LETTER, "a body nobody understands was not kept for people"
                continue
            assert outcome is not None, f"message {message.number} was settled ({why.name}) and nobody decided it"
            require_journaled(watch, _encode(message.command), outcome.first or outcome)
            is_for_people = outcome.code in FOR_PEOPLE
            assert verb is (Verb.DEAD_LETTER if is_for_people else Verb.ACCEPT), f"{outcome} was settled by {verb.name}"


class BrokerSource:
    """sidecars.core.source.Source over the broker."""

    name = "src"
    lease_extend_ms = LEASE_NS // 10**6
    tells_reserved = False
    tells_account = False

    def __init__(self, broker: Broker, clock: VirtualClock) -> None:
        self._broker = broker
        self._clock = clock
        self._wake = asyncio.Event()
        self.is_dead = False
        self.is_stopped = False

    async def open(self, flow: Engines) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close: leases end by themselves."""

    def wake(self) -> None:
        """Look again."""
        if self._broker.has_visible or self._broker.doubles:
            self._wake.set()

    async def receive(self, most: int, most_reserved: int) -> Sequence[Delivery]:
        while True:
            self._wake.clear()
            found = [] if self.is_dead or self.is_stopped else self._broker.receive(min(most, 10))
            if found:
                return [self._delivery(m) for m in found]
            await self._wake.wait()

    def _delivery(self, message: Message) -> Delivery:
        return Delivery(
            message.principal, "lane", b"t" * 16, message.created_at_ns, self._clock.monotonic, message.command, b"{",
            str(message.number), lease_until_mono_ns=message.leased_until_ns,
            is_redelivered=message.deliveries > 1, receipt=(message, message.receipt),
        )  # fmt: skip

    def stop(self, units: frozenset[str]) -> None:
        self.is_stopped = bool(units)  # it has no parts to stop

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        failed = []
        for delivery in deliveries:
            if self.is_dead or not self._broker.extend(*delivery.receipt):
                failed.append(delivery)
            else:
                delivery.lease_until_mono_ns = delivery.receipt[0].leased_until_ns
        return failed

    async def pause(self) -> Sequence[Delivery]:
        return []

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        failed = []
        for settlement in settlements:
            if self.is_dead:
                continue
            message, receipt = settlement.delivery.receipt
            match settlement.verb:
                case Verb.ACCEPT | Verb.DEAD_LETTER:
                    if not self._broker.end(message, receipt, settlement):
                        failed.append(settlement)
                case Verb.RETRY:
                    self._broker.give_back(message, receipt)
                case Verb.ABANDON:
                    pass
        return failed

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Has no way back."""
        return ()

    def fault(self) -> str:
        return ""

    def lag(self) -> Lag | None:
        return Lag(len(self._broker.kept), 0)
