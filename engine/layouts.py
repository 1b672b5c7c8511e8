"""Which fields of the state's classes a snapshot holds: one table a class, nothing else lists them.

Rule: every slot of these classes stands in its table, as a field or under ``left_out`` with the reason; a test walks
the slots. Fields are saved under their names, so a table may grow: give a new field the value that state from before
it had (``default``). A name is never taken for another meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from engine.day import TradingDay
from engine.flatten_plan import Flatten, Flattened
from engine.group import Group
from engine.hold import Hold, RiskState
from engine.order import Order, Outgoing, OutgoingKind, Replacement, Terms
from engine.state import Halt, State
from engine.venue_state import VenueState
from protocol.codes import Mode, OrderStatus, OrderType, Scope, Side, TimeInForce, TradingState
from protocol.params import ContractKind, InstrumentParams
from risk.gate.exposure import AccountState, InstrumentState, Ledger, StrategyState
from risk.gate.more import Bound
from risk.gate.rate import RateLog

T = TypeVar("T")
INT64: Final = 1 << 63
REQUIRED: Final = object()


class Kind(Enum):
    """How a value is written, where it is not a number, a text, bytes or a truth."""

    PLAIN = auto()
    BIG = auto()  # an integer of any size
    MONEY = auto()  # currency → amount of any size
    BOUNDS = auto()  # a tuple of Bound
    RATE = auto()  # a RateLog with its wider ones, or None
    TIMES = auto()
    NAMES = auto()  # the keys of a dict without values
    IDS = auto()  # a deque of order ids
    ROUTE = auto()  # number of the route in the snapshot
    ORDER = auto()  # number of the order in the snapshot
    PLAN = auto()  # a FlattenPlan
    TERMS = auto()  # Terms, or None
    CAPABILITIES = auto()  # what a venue takes, or None
    REPLACEMENT = auto()  # a Replacement, or None
    KEY = auto()  # a tuple: words and bytes of a dedup key, ids of orders
    KEYS = auto()
    CODES = auto()  # a tuple of Code


Of = Kind | type[Enum]


class Field(NamedTuple):
    """One field: its name, how it is written, and what state from before it had."""

    name: str
    of: Of = Kind.PLAIN
    default: object = REQUIRED


class Layout(Generic[T]):
    """The table of one class.

    ``made_with``: the fields that its constructor demands (a class compiled ahead of time can't be made without it);
    ``new``: what makes a thing of the fields' values, where the constructor takes something else.
    """

    def __init__(
        self,
        kind: type[T],
        *fields: Field | str,
        left_out: dict[str, str] | None = None,
        made_with: tuple[str, ...] = (),
        new: Callable[[dict[str, Any]], T] | None = None,
    ) -> None:
        self.made_with = made_with
        self.new = new
        self.kind = kind
        self.name = kind.__name__
        self.fields = tuple(Field(f) if isinstance(f, str) else f for f in fields)
        self.left_out = left_out or {}
        self.names = tuple(f.name for f in self.fields)
        self._get: Callable[[T], tuple[object, ...]] = attrgetter(*self.names)

    def row(self, thing: T, save: dict[Of, Callable[[object], object]]) -> list[object]:
        """Return the fields' values as they are written; ``save`` has a function for each kind that needs one."""
        values = list(self._get(thing))
        for n, field in enumerate(self.fields):
            how = save.get(field.of)
            if how is not None:
                values[n] = how(values[n])
        return values

    def maker(self, names: Sequence[str], load: dict[Of, Callable[[object], object]]) -> Maker[T]:
        """Return what makes things of rows that were written with these names.

        Raises:
            ValueError: If a name is not known here, or a field without a default is missing.
        """
        return Maker(self, names, load)


class Maker(Generic[T]):
    """Makes things of one class from rows; class by class the inverse of ``Layout.row``."""

    def __init__(self, layout: Layout[T], names: Sequence[str], load: dict[Of, Callable[[object], object]]) -> None:
        known = {f.name: f for f in layout.fields}
        unknown = [n for n in names if n not in known]
        missing = [f.name for f in layout.fields if f.name not in names and f.default is REQUIRED]
        if unknown or missing:
            raise ValueError(f"{layout.name} expected fields {list(known)}, unknown {unknown}, missing {missing}")
        self._kind = layout.kind
        self._new = layout.new
        self._made_with = layout.made_with
        self._how = [(n, _loader(known[n].of, load)) for n in names]
        self._defaults = [(f.name, f.default) for f in layout.fields if f.name not in names]

    def fill(self, thing: T, row: Sequence[object]) -> T:
        """Set every field of a thing."""
        for (name, how), value in zip(self._how, row, strict=True):
            setattr(thing, name, value if how is None else how(value))
        for name, value in self._defaults:
            setattr(thing, name, value)
        return thing

    def make(self, row: Sequence[object]) -> T:
        """Return a new thing."""
        values = self.values(row)
        if self._new is not None:
            thing = self._new(values)
        else:
            thing = self._kind(**{name: values.pop(name) for name in self._made_with})
        for name, value in values.items():
            setattr(thing, name, value)
        return thing

    def values(self, row: Sequence[object]) -> dict[str, object]:
        """Return the fields by name, for a class that is made by its constructor."""
        found = dict(self._defaults)
        for (name, how), value in zip(self._how, row, strict=True):
            found[name] = value if how is None else how(value)
        return found


def _loader(of: Of, load: dict[Of, Callable[[object], object]]) -> Callable[[object], object] | None:
    if of is Kind.PLAIN:
        return None
    return load[of] if isinstance(of, Kind) else of


def _instrument(values: dict[str, Any]) -> InstrumentState:
    """Return an instrument of the right steps; every other field is set behind this."""
    name, venue, currency, kind = (values[n] for n in ("name", "venue", "currency", "kind"))
    steps = values["price_step_e9"], values["quantity_step_e9"]
    return InstrumentState(InstrumentParams(name, venue, currency, kind, *steps, *steps, 1, 1, 1, 0, 0))


BIG: Final = Kind.BIG
SCALARS: Final = Layout(
    State,
    Field("mode", Mode), "shard", "epoch", "instance", "trading_date", "order_id_key", "last_ns", "params_hash",
    "unconfirmed_jump", Field("suspense_more", default=0), Field("stale_count", default=0),
    left_out={
        "accounts": "rows of AccountState",
        "book": "its state and rows of Ledger",
        "channels": "from params",
        "closed": "rows of Order",
        "closed_order": "the ids of closed",
        "day": "a row of TradingDay",
        "dedup": "in chunks",
        "exits": "ids of orders, with the scopes",
        "flattened": "rows of Flattened",
        "flattens": "rows of Flatten",
        "flow": "its row, with the scopes",
        "further": "from params, and its sums from what is open and held",
        "group_changes": "no state: tells the loop when to look",
        "groups": "rows of Group",
        "halts": "rows of Halt",
        "instruments": "rows of InstrumentState",
        "keys": "from order_id_key",
        "limits": "from params",
        "losses": "a block of its own",
        "listed": "from params",
        "orders": "rows of Order",
        "paper_routes": "from routes",
        "params": "as journaled",
        "permits": "a look-up kept, from params",
        "principals": "from params",
        "renamed": "from the keys in the terms of open orders",
        "risk": "a block of its own",
        "routes": "three names and a Ledger each",
        "shards": "from params",
        "stale": "ids of orders, with the scopes",
        "strategies": "rows of StrategyState",
        "suspense": "as journaled, with the scopes",
        "venues": "rows of VenueState",
        "watches": "from params",
    },
)  # fmt: skip
DAY: Final = Layout(
    TradingDay,
    "began_ns", "position", "retire_before", "part", "parts", Field("expiring", Kind.IDS),
    Field("past_dates", Kind.TIMES), Field("earlier", Kind.TIMES),
)  # fmt: skip
ORDER: Final = Layout(
    Order,
    Field("route", Kind.ROUTE), Field("side", Side), Field("price", BIG), "leaves", Field("reserved_value_e9", BIG),
    "account", "client_order_id", "order_id", Field("order_type", OrderType), Field("time_in_force", TimeInForce),
    Field("status", OrderStatus), "quantity", "limit_price", "reduce_only", "venue_seq", "accepted_ns",
    "created_at_ns", "trace_id", "slot", "cum", Field("value_e9", BIG), "cancel_seq",
    Field("source", default=""), Field("terms", Kind.TERMS, default=None), Field("is_exit", default=False),
    made_with=(
        "route", "side", "price", "leaves", "reserved_value_e9", "account", "client_order_id", "order_id", "order_type",
        "time_in_force", "status", "quantity", "limit_price", "reduce_only", "venue_seq", "accepted_ns",
        "created_at_ns", "trace_id", "slot",
    ),
)  # fmt: skip
TERMS: Final = Layout(
    Terms,
    "stop_price", "expire_at_ns", "post_only", Field("keys", Kind.KEYS), Field("replacement", Kind.REPLACEMENT),
    left_out={"group": "from the groups"},
)  # fmt: skip
REPLACEMENT: Final = Layout(
    Replacement, "seq", "client_order_id", Field("key", Kind.KEY), "quantity", "price", "stop_price",
    Field("is_flip", default=False),
    made_with=("seq", "client_order_id", "key", "quantity", "price", "stop_price"),
)  # fmt: skip
OUTGOING: Final = Layout(
    Outgoing, "seq", Field("kind", OutgoingKind), Field("order", Kind.ORDER), "at_ns",
    made_with=("seq", "kind", "order", "at_ns"),
)  # fmt: skip
VENUE: Final = Layout(
    VenueState,
    "name", "ready", "changed_ns", "gateway_instance", "last_seq", "received_seq", "report_seq",
    Field("manual_trades", Kind.NAMES), Field("doubted", Kind.NAMES),
    Field("capabilities", Kind.CAPABILITIES, default=None), Field("differing", Kind.KEY, default=()),
    left_out={
        "awaiting": "rows of Outgoing",
        "not_found": "numbers of orders",
        "amended": "with what trades counted",
        "corrections": "with what trades counted",
        "trade_ids": "a list, and what each counted",
        "trade_order": "the ids of trade_ids",
        "fresh": "no state: what the loop was not yet handed",
    },
)  # fmt: skip
LEDGER: Final = Layout(
    Ledger, Field("position", BIG), Field("buy", BIG), Field("sell", BIG), Field("outside", BIG, 0),
    Field("traded_e9", BIG, 0),
)  # fmt: skip
ACCOUNT: Final = Layout(
    AccountState,
    "name", "currency", Field("state", TradingState), Field("bounds", Kind.BOUNDS), "open_count",
    Field("open_value_e9", BIG), Field("rate", Kind.RATE), Field("cash_e9", Kind.MONEY),
    left_out={"fees_e9": "in a block of money", "collateral": "in a block of money"},
    made_with=("name", "currency"),
)  # fmt: skip
STRATEGY: Final = Layout(
    StrategyState,
    "name", "ttl_ns", Field("bounds", Kind.BOUNDS), Field("state", TradingState), Field("rate", Kind.RATE),
    made_with=("name", "ttl_ns"),
)  # fmt: skip
INSTRUMENT: Final = Layout(
    InstrumentState,
    "name", "venue", "currency", Field("kind", ContractKind), Field("state", TradingState),
    Field("bounds", Kind.BOUNDS), "price_step_e9", "quantity_step_e9", "multiplier_e9", "tick", "lot", "quantity_min",
    "quantity_max", "collar_buy_bp", "collar_sell_bp", Field("collar_divisor", BIG), "tick_age_max_ns", "tradable",
    "expiry_ns", Field("step_value_e27", BIG), Field("unit_value_e9", BIG),
    left_out={
        "index": "the loop's own: place in the last-value table",
        "capabilities": "from its venue",
        "limit_times": "from capabilities",
        "market_times": "from capabilities",
    },
    new=_instrument,
)  # fmt: skip
BOUND: Final = Layout(Bound, Field("value", BIG), Field("scope", Scope), "key")
RATE: Final = Layout(
    RateLog, "count", "window_ns", "reserve_exit", Field("wider", Kind.RATE),
    left_out={
        "times": "in blocks of their own: there may be millions",
        "_charged": "the last time, kept to be charged again as it is",
        "_charged_ns": "the same",
        "room": "how long nobody has to look; 0 is always true",
    },
)  # fmt: skip
HALT: Final = Layout(Halt, Field("state", TradingState), "reason", "operator")
FLATTEN: Final = Layout(
    Flatten, Field("plan", Kind.PLAN), Field("scope", Scope), "key", "operator", "started_ns", "children",
    made_with=("plan", "scope", "key", "operator", "started_ns"),
)  # fmt: skip
FLATTENED: Final = Layout(Flattened, Field("scope", Scope), "key", "why", "children", "at_ns")
GROUP: Final = Layout(
    Group,
    "account", "client_order_id", "first", "second", "is_exit", "done", "triggered",
    made_with=("account", "client_order_id", "first", "second", "is_exit"),
)  # fmt: skip
HOLD: Final = Layout(
    Hold,
    "order_id", Field("codes", Kind.CODES), "held_ns", "deadline_ns", "asked", "is_extended", "allows_trim",
    made_with=("order_id", "codes", "held_ns", "deadline_ns"),
)  # fmt: skip
RISK: Final = Layout(
    RiskState, "ready", "instance_epoch", "changed_ns",
    left_out={"holds": "rows of Hold", "ends": "a list", "forwards": "from params", "halts": "from params",
        "routed": "from params", "sandboxes": "from params",
    },
)  # fmt: skip

LAYOUTS: Final[tuple[Layout[object], ...]] = (
    SCALARS, TERMS, REPLACEMENT, DAY, ORDER, OUTGOING, VENUE, LEDGER, ACCOUNT, STRATEGY, INSTRUMENT, BOUND, RATE, HALT,
    FLATTEN, FLATTENED, GROUP, HOLD, RISK,
)  # type: ignore[assignment]  # fmt: skip


def layout_names() -> dict[str, tuple[str, ...]]:
    """Return the fields of every class, as a snapshot says them."""
    return {layout.name: layout.names for layout in LAYOUTS}


LAYOUT_ID: Final = blake2b(msgspec.msgpack.encode(layout_names()), digest_size=8).hexdigest()
"""Tells whether two releases hash the same fields: state hashes of two layouts are not comparable."""
