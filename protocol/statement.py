"""What a venue states of itself when it is asked: open orders, fills of the day, positions, as of one report.

    engine                                          gateway
    AskStatement(number, after_seq)             ──►
                                                ◄──  Statement(number, received_seq, report_seq, part of parts, rows)

Neither is numbered with the commands, nor journaled: asking changes nothing, and what is lost is asked again. The
answer stands between the reports that it knows of and those after them, so both sides speak of the same moment: all
commands up to ``received_seq`` and all reports up to ``report_seq``, and nothing else (docs/decisions/0014).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.codes import Scope, Side

STATEMENT_ROWS_MAX: Final = 1024
"""Rows of all kinds in one part."""
STATEMENT_PARTS_MAX: Final = 1024
FILLS_STATED_MAX: Final = 10_000
"""The newest of the day: fewer than the fills whose ids an engine remembers, so that none looks missing for its age."""


class StatedOrder(Struct, array_like=True, frozen=True, gc=False):
    """An order that works at the venue."""

    order_id: str
    account: str
    instrument: str
    leaves_quantity_e9: int
    cum_quantity_e9: int


class StatedFill(Struct, array_like=True, frozen=True, gc=False):
    """A fill of the venue's trading day."""

    trade_id: str
    order_id: str
    account: str
    instrument: str
    side: Side
    quantity_e9: int
    price_e9: int


class StatedPosition(Struct, array_like=True, frozen=True, gc=False):
    """What the venue says is held; signed, 0 is not stated."""

    account: str
    instrument: str
    quantity_e9: int


Rows = Meta(max_length=STATEMENT_ROWS_MAX)


class AskStatement(Struct, array_like=True, tag=40, frozen=True):
    """Ask for a statement that knows at least the commands up to ``after_seq``; a newer ask replaces an older one."""

    epoch: int
    number: int
    after_seq: int


class Statement(Struct, array_like=True, tag=40, frozen=True, gc=False):
    """One part of the answer to ask ``number``; parts count from 0 and come in order, without anything between.

    Attributes:
        states_positions: Whether the venue knows positions at all.
        whole_positions: Whether they hold what came from outside the venue too (transfers, opening positions); if not,
            they are what was traded here.
    """

    epoch: int
    received_seq: int
    number: int
    report_seq: int
    part: int
    parts: Annotated[int, Meta(ge=1, le=STATEMENT_PARTS_MAX)]
    states_positions: bool
    whole_positions: bool
    orders: Annotated[list[StatedOrder], Rows]
    fills: Annotated[list[StatedFill], Rows]
    positions: Annotated[list[StatedPosition], Rows]


class DifferenceKind(IntEnum):
    """How a venue's statement differs from the state; docs/reconcile.md says what follows."""

    UNKNOWN_AT_VENUE = 1  # works here, the venue does not list it
    UNKNOWN_HERE = 2  # works there, never seen here
    CLOSED_HERE = 3  # works there, over here
    QUANTITY = 4  # works on both sides, leaves or cum differ
    FILL_MISSING = 5  # the venue states a fill that was never booked
    POSITION = 6


class Difference(Struct, array_like=True, frozen=True, gc=False):
    """One difference and the scope that it puts into reduce-only.

    ``ours_e9``, ``theirs_e9``: leaves of an order, quantity of a fill, signed position; 1e-9 each. ``side`` 0 = none.
    """

    kind: DifferenceKind
    scope: Scope
    key: str
    account: str
    instrument: str
    order_id: str
    trade_id: str
    ours_e9: int
    theirs_e9: int
    ours_cum_e9: int = 0
    theirs_cum_e9: int = 0
    price_e9: int = 0
    side: int = 0


class Reconciled(Struct, array_like=True, tag=43, frozen=True):
    """A venue's statement was compared with the state as of the same report.

    ``cause``: ``start``, ``reconnect``, ``doubt`` (it counts other fills) or ``asked``. The counts are what the venue
    stated; ``positions`` -1 = none. ``more``: differences beyond those listed. ``queries``: (order_id, venue_seq) of
    orders that are UNKNOWN by it.
    """

    venue: str
    received_seq: int
    report_seq: int
    cause: str
    operator: str
    reason: str
    orders: int
    fills: int
    positions: int
    whole_positions: bool
    differences: list[Difference]
    more: int = 0
    queries: list[tuple[str, int]] = []
