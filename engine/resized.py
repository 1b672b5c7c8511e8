"""A table of ids of another size: every key of a snapshot put in again, in the order of the journal."""

from __future__ import annotations

from engine.dedup import POSITION_MASK, DedupTable
from engine.order import Order
from protocol.errors import ConfigError


def put_in_again(old: DedupTable, new: DedupTable, orders: list[Order]) -> None:
    """Put every key of a table into one of another size, in the order of the journal; orders learn their slots.

    Raises:
        ConfigError: If they do not fit.
    """
    if old.keys > new.slots_max:
        why = f"engine.dedup_keys_max expected at least {old.keys}, the ids that are remembered, was {new.keys_max}"
        raise ConfigError([why])
    moved = {order.slot: -1 for order in orders}
    for slot, low, high, payload, value in sorted(old.used(), key=_position):
        found = -1 - new.find(low, high)
        new.insert(found, low, high, payload, value)
        if slot in moved:
            moved[slot] = found
    for order in orders:
        order.slot = moved[order.slot]


def _position(entry: tuple[int, int, int, int, int]) -> int:
    return entry[4] & POSITION_MASK
