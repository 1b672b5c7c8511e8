"""What each remembered trade counted, as a snapshot holds it: what a venue takes back, it takes back of this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.layouts import INT64
from engine.venue_state import VenueState
from risk.gate.exposure import Route


def counted_rows(venue: VenueState, routes: dict[int, int]) -> tuple[object, ...]:
    """Return what each trade counted, which of them were amended, and ids of corrections.

    ``routes``: number of each route in the snapshot, by the identity of the object.
    """
    counted = [
        None if c is None else (c[0], -1 if c[1] is None else routes[id(c[1])], big(c[2]), c[3], big(c[4]), *c[5:])
        for c in venue.trade_ids.values()
    ]
    return counted, list(venue.amended), list(venue.corrections.items())


def take_counted(venue: VenueState, routes: Sequence[Route], counted: Any, amended: Any, corrections: Any) -> None:
    """Put it back; the trades' ids are there."""
    for trade_id, row in zip(venue.trade_ids, counted, strict=True):
        if row is not None:
            order_id, route, signed, price_e9, *since = row
            paid_e9, fee_e9, currency = since or (0, 0, "")  # none: from before money was booked
            at = routes[route] if route >= 0 else None
            venue.trade_ids[trade_id] = order_id, at, int(signed), price_e9, int(paid_e9), fee_e9, currency
    venue.amended = dict.fromkeys(amended)
    venue.corrections = dict(corrections)


def big(value: int) -> int | str:
    """Return an integer as msgpack can hold it: as text beyond int64."""
    return value if -INT64 <= value < INT64 else str(value)
