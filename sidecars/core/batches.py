"""One message, many orders: a delivery is split into parts, and ends when every part has an end.

Rule: the parts go their own ways through the engine, in order, perhaps to several shards (DECISIONS 39); the source
sees one delivery and one settlement. It is given back if any part is not decided for certain: what was decided is then
answered as a duplicate. It is copied to the dead letters if any part is refused for people to see, with each reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from protocol.codes import Code
from sidecars.core.envelopes import Item
from sidecars.core.identity import trace_of
from sidecars.core.source import Delivery, Settlement, Verb

# Which verb the whole has: the first of these that a part has.
ORDER: Final = (Verb.ABANDON, Verb.RETRY, Verb.DEAD_LETTER, Verb.ACCEPT)


class _Whole:
    """A delivery whose parts are under way."""

    __slots__ = ("delivery", "ends", "left", "parts")

    def __init__(self, delivery: Delivery, parts: Sequence[Delivery]) -> None:
        self.delivery = delivery
        self.parts = parts
        self.left = len(parts)
        self.ends: list[Settlement | None] = [None] * len(parts)


class _Part:
    """The receipt of a part: which one of which delivery."""

    __slots__ = ("index", "whole")

    def __init__(self, whole: _Whole, index: int) -> None:
        self.whole = whole
        self.index = index


class Batches:
    """The batches under way."""

    def __init__(self) -> None:
        self._open: dict[int, _Whole] = {}

    def __len__(self) -> int:
        return len(self._open)

    def split(self, delivery: Delivery, items: Sequence[Item]) -> Sequence[Delivery]:
        """Return one delivery an item; each comes back through ``join``."""
        parts = [part_of(delivery, item) for item in items]
        whole = _Whole(delivery, parts)
        for index, part in enumerate(parts):
            part.receipt = _Part(whole, index)
        self._open[id(whole)] = whole
        return parts

    def join(self, ended: Iterable[Settlement]) -> list[Settlement]:
        """Return what the source is to settle: what is no part as it is, a whole when its last part has ended."""
        if not self._open:
            return list(ended)
        found: list[Settlement] = []
        for settlement in ended:
            part = settlement.delivery.receipt
            if not isinstance(part, _Part):
                found.append(settlement)
                continue
            settlement.delivery.receipt = None  # else the whole would refer to itself
            whole = part.whole
            if whole.ends[part.index] is None:
                whole.ends[part.index] = settlement
                whole.left -= 1
                if whole.left == 0:
                    del self._open[id(whole)]
                    found.append(_end(whole))
        return found

    def wholes(self, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Return the deliveries as the source knows them, each once."""
        if not self._open:
            return list(deliveries)
        found = {}
        for delivery in deliveries:
            part = delivery.receipt
            whole = part.whole.delivery if isinstance(part, _Part) else delivery
            found[id(whole)] = whole
        return list(found.values())

    def follow_leases(self) -> None:
        """Give every part the lease that its whole has now. Cost: one pass over the parts under way."""
        for whole in self._open.values():
            for part in whole.parts:
                part.lease_until_mono_ns = whole.delivery.lease_until_mono_ns


def part_of(delivery: Delivery, item: Item) -> Delivery:
    """Return the delivery of one item."""
    return replace(
        delivery,
        body=item.body,
        derived_id=item.derived_id,
        created_at_ns=item.created_at_ns or delivery.created_at_ns,
        trace_id=trace_of(item.traceparent) if item.traceparent else delivery.trace_id,
        receipt=None,
        derived_from=(),
    )


def _end(whole: _Whole) -> Settlement:
    ends = [end for end in whole.ends if end is not None]
    assert len(ends) == len(whole.ends)
    verb = next(v for v in ORDER if any(end.verb is v for end in ends))
    worst = next(end for end in ends if end.verb is verb)
    return Settlement(
        whole.delivery,
        verb,
        worst.outcome,
        why=worst.why,
        text="; ".join(f"[{n}] {reason_of(end)}" for n, end in enumerate(ends) if end.verb is Verb.DEAD_LETTER),
        is_unknown=any(end.is_unknown for end in ends),
        mode=worst.mode,
        durable_after_ns=max(end.durable_after_ns for end in ends),
        submitted_mono_ns=max(end.submitted_mono_ns for end in ends),
        answered_mono_ns=max(end.answered_mono_ns for end in ends),
        parts=ends,
    )


def reason_of(settlement: Settlement) -> str:
    """Return why a person should look at it, in one line; the code first."""
    if settlement.text:
        return settlement.text
    outcome = settlement.outcome
    code = Code.OK if outcome is None else outcome.code
    return code.name
