"""What the REST API answers with, as types: the OpenAPI document is made of them.

``shard`` stands in an answer where there are several: then each numbers its own records.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from books.views import BreachView, OrderView, PositionView, TradeView


class OrdersPage(Struct):
    """Orders by the record that accepted them; ask again with ``cursor`` until it is null."""

    as_of_seq: int
    cursor: int | None
    orders: list[OrderView]
    shard: int | UnsetType = UNSET


class TradesPage(Struct):
    """Fills in the order they were journaled."""

    as_of_seq: int
    cursor: int | None
    trades: list[TradeView]
    shard: int | UnsetType = UNSET


class PositionsPage(Struct):
    """Positions in the order they were first taken."""

    as_of_seq: int
    cursor: int | None
    positions: list[PositionView]
    shard: int | UnsetType = UNSET


class BreachesPage(Struct):
    """Refusals in the order they were journaled."""

    as_of_seq: int
    cursor: int | None
    breaches: list[BreachView]
    shard: int | UnsetType = UNSET


class OneOrder(Struct):
    """One order."""

    as_of_seq: int
    order: OrderView
    shard: int | UnsetType = UNSET


class BooksStatus(Struct):
    """How far the books are. ``lag_ms``: from decision to visible here; grows while the writer stands still.

    Of several shards: sums of records, the largest lag in time and epoch, the oldest store; each one in ``shards``.
    """

    as_of_seq: int
    journal_seq: int
    lag_seq: int
    lag_ms: int
    epoch: int
    ledger: str
    trading_date: int
    stored_at_ns: int
    store_retries: int
    shards: dict[str, BooksStatus] | UnsetType = UNSET


class Fault(Struct, omit_defaults=True):
    """What is wrong: ``code`` is stable, ``field`` names the parameter."""

    code: str
    text: str
    field: str | UnsetType = UNSET


class FaultAnswer(Struct, omit_defaults=True):
    """The one shape of every error."""

    error: Fault
    as_of_seq: int | UnsetType = UNSET


class Health(Struct):
    """A sign of life. ``shards``: of several, each with ``ready`` or why not; ready is then who has one that is."""

    status: str
    shards: dict[str, str] | UnsetType = UNSET
