"""What comes from a source on its way to the engines: opened, split, decoded; what can't be goes to the dead letters.

Rule (R8): what can't be decoded is permanent and never reaches the engine; the other items of its message go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from protocol.errors import FieldError
from protocol.orders import Command
from sidecars.core.batches import Batches, part_of
from sidecars.core.decode import decode_delivery, items_of, read_delivery
from sidecars.core.shards import EngineSessions
from sidecars.core.source import Delivery, Settlement, Verb, Why


class Intake:
    """Deliveries into commands."""

    def __init__(self, batches: Batches, body_bytes_max: int) -> None:
        self._batches = batches
        self._body_bytes_max = body_bytes_max

    def take(
        self, deliveries: Iterable[Delivery], engines: EngineSessions, ended: list[Settlement], now_ns: int
    ) -> None:
        """Hand each order to the session of its account's engine, and what is none to ``ended``."""
        most = self._body_bytes_max
        for delivery in deliveries:
            try:
                order = read_delivery(delivery) if len(delivery.body) <= most else None
            except FieldError as e:
                ended.append(_poison(delivery, str(e)))
                continue
            if order is not None:
                engines.of(order.account).take(delivery, order, now_ns)
                continue
            for read in self.read(delivery):
                if isinstance(read, Settlement):
                    ended.append(read)
                else:
                    one, command = read
                    engines.of(command.account).take(one, command, now_ns)

    def read(self, delivery: Delivery) -> Iterator[tuple[Delivery, Command] | Settlement]:
        """Yield each order of a delivery, or the end of what is none."""
        if delivery.command is not None:
            yield delivery, delivery.command
            return
        if delivery.refused:
            yield _poison(delivery, delivery.refused)
            return
        try:
            items, is_batch = items_of(delivery, self._body_bytes_max)
        except FieldError as e:
            yield _poison(delivery, str(e))
            return
        if is_batch:
            for part in self._batches.split(delivery, items):
                yield _read_one(part)
        else:
            (item,) = items
            if item.body is not delivery.body:
                opened = part_of(delivery, item)
                delivery.body, delivery.derived_id, delivery.derived_from = opened.body, opened.derived_id, ()
                delivery.created_at_ns, delivery.trace_id = opened.created_at_ns, opened.trace_id
            yield _read_one(delivery)


def _read_one(delivery: Delivery) -> tuple[Delivery, Command] | Settlement:
    try:
        return delivery, decode_delivery(delivery)
    except FieldError as e:
        return _poison(delivery, str(e))


def _poison(delivery: Delivery, why: str) -> Settlement:
    return Settlement(delivery, Verb.DEAD_LETTER, why=Why.MALFORMED, text=why)
