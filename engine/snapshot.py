"""The whole state as blocks of a snapshot file, and back: everything that ``state_hash`` covers, and no more.

Which fields of which class: ``engine.layouts``. The file around the blocks: ``journal.snapshots``. Rule: what comes
back has the state hash it was written with, and goes on as the state it was taken of would have: dicts keep their
order, whatever was one object is one object again.

Bounded memory: rows leave in blocks of a few thousand, the dedup table MiB by MiB; both ways. Loading a table of
another size (``dedup_keys_max`` was changed) puts every key in again, in the order of the journal.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from engine.core import Core
from engine.counted import big, counted_rows, take_counted
from engine.counted_money import money_body, take_money
from engine.dedup import DedupTable, KeyHash
from engine.flatten_plan import Flattened
from engine.hold import HoldEnd
from engine.layouts import (
    ACCOUNT,
    BOUND,
    DAY,
    FLATTEN,
    FLATTENED,
    GROUP,
    HALT,
    HOLD,
    INSTRUMENT,
    LAYOUT_ID,
    LAYOUTS,
    LEDGER,
    ORDER,
    OUTGOING,
    RATE,
    REPLACEMENT,
    RISK,
    SCALARS,
    STRATEGY,
    TERMS,
    VENUE,
    Kind,
    Layout,
    Maker,
    Of,
    layout_names,
)
from engine.order import Order
from engine.resized import put_in_again
from engine.state import Halt, State, state_hash
from engine.venue_state import VenueState
from journal.errors import SnapshotDamagedError
from journal.snapshots import SnapshotHead, SnapshotReader
from protocol.amends import SuspendedFill
from protocol.codes import Code, Scope, TradingState
from protocol.params import encode_params, params_decoder
from protocol.records import FlattenPlan
from protocol.venue import Capabilities
from risk.gate.exposure import AccountState, Route, StrategyState
from risk.gate.more import Bound
from risk.gate.rate import RateLog

T = TypeVar("T")
ROWS: Final = 2048
TIMES_MAX: Final = 1 << 16
LAYOUT, STATE, SCOPES, LEDGERS, ROUTES, ORDERS, VENUES, AWAITING, TABLE, DEDUP, TIMES = range(1, 12)
MONEY, HOLDS, LOSSES = 12, 16, 21  # written only where there is any
OPEN, CLOSED, LOOSE = range(3)
EXITS_AT, GROUPS_AT, SUSPENSE_AT, STALE_AT, FLOW_AT = 2, 3, 4, 5, 6
"""Places behind the halts in the block of scopes; a snapshot from before there were any has none."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode
_OFFSET_BYTES: Final = 8


def journal_id(order_id_key: bytes) -> bytes:
    """Return which journal it is: a hash of the secret that stands in its first record."""
    return blake2b(order_id_key, digest_size=16).digest()


def hash_layout(core: Core) -> str:
    """Return what two cores must agree in for their state hashes to be comparable; empty: comparable with none.

    That is which fields are hashed and how large the table of ids is, for ids lie in it in the order they came.
    """
    return f"{LAYOUT_ID}/{core.state.dedup.slots}" if core.is_as_replayed else ""


def head_of(
    state: State, *, seq: int, crc: int, segment: int, offset: int, epoch_max: int, release: str
) -> SnapshotHead:
    """Return the head of a snapshot of the state as it is now, behind record ``seq``. Reads the whole state."""
    return SnapshotHead(
        seq, crc, segment, offset, epoch_max, state.last_ns, state.shard, journal_id(state.order_id_key),
        state_hash(state), LAYOUT_ID, release,
    )  # fmt: skip


# Out


def blocks_of(state: State) -> Iterator[tuple[int, bytes]]:
    """Yield the blocks of a snapshot. The state must not change before the last one was drawn."""
    save: dict[Of, Callable[[Any], object]] = {Kind.BIG: big, Kind.MONEY: _money, Kind.TIMES: list, Kind.IDS: list}
    save[Kind.NAMES] = list
    try:
        yield from _blocks_of(state, save)
    finally:
        save.clear()  # some of it refers to it: a cycle that would keep every order's number


def _blocks_of(state: State, save: dict[Of, Callable[[Any], object]]) -> Iterator[tuple[int, bytes]]:
    save[Kind.BOUNDS] = lambda bounds: [BOUND.row(b, save) for b in bounds]
    save[Kind.RATE] = lambda rate: None if rate is None else RATE.row(rate, save)
    save[Kind.TERMS] = lambda terms: None if terms is None else TERMS.row(terms, save)
    save[Kind.REPLACEMENT] = lambda asked: None if asked is None else REPLACEMENT.row(asked, save)
    yield LAYOUT, _encode(layout_names())
    params = b"" if state.params is None else encode_params(state.params)
    yield STATE, _encode((SCALARS.row(state, save), params, int(state.book.state), DAY.row(state.day, save)))
    scopes = (
        [INSTRUMENT.row(i, save) for i in state.instruments.values()],
        [ACCOUNT.row(a, save) for a in state.accounts.values()],
        [STRATEGY.row(s, save) for s in state.strategies.values()],
        [(int(scope), key, HALT.row(halt, save)) for (scope, key), halt in state.halts.items()],
        [FLATTEN.row(f, save) for f in state.flattens.values()],
        [(i, FLATTENED.row(f, save)) for i, f in state.flattened.items()],
        [(i, waits) for i, waits in state.exits.items()],
        [GROUP.row(g, save) for g in state.groups.values()],
        list(state.suspense.values()),
        list(state.stale),
        state.flow.row(),
    )
    yield SCOPES, _encode(scopes)
    money = money_body(state)
    if any(money):
        yield MONEY, _encode(money)
    yield from _times((*state.accounts.values(), *state.strategies.values()))
    yield from _rows(LEDGERS, ((*key, *LEDGER.row(ledger, save)) for key, ledger in state.book.ledgers.items()))
    yield from _rows(ROUTES, ((*key, *LEDGER.row(route.own, save)) for key, route in state.routes.items()))
    routes = {id(route): n for n, route in enumerate(state.routes.values())}
    save[Kind.ROUTE] = lambda route: routes[id(route)]
    numbers: dict[int, int] = {}
    for place, orders in ((OPEN, state.orders), (CLOSED, state.closed), (LOOSE, _loose(state))):
        for order_id, order in orders.items():
            assert order_id == order.order_id
            numbers[id(order)] = len(numbers)
        yield from _rows(ORDERS, (ORDER.row(o, save) for o in orders.values()), place)
    save[Kind.ORDER] = lambda order: numbers[id(order)]
    for venue in state.venues.values():
        not_found = [numbers[id(order)] for order in venue.not_found.values()]
        trades = list(venue.trade_ids), *counted_rows(venue, routes)
        yield VENUES, _encode((VENUE.row(venue, save), not_found, *trades))
        yield from _rows(AWAITING, (OUTGOING.row(o, save) for o in venue.awaiting.values()), venue.name)
    if state.risk.is_used:
        ends = [(order_id, *end) for order_id, end in state.risk.ends.items()]
        yield HOLDS, _encode((RISK.row(state.risk, save), [HOLD.row(h, save) for h in state.risk.holds.values()], ends))
    if losses := state.losses.rows():
        yield LOSSES, _encode(losses)
    table = state.dedup
    yield TABLE, _encode((table.keys_max, table.slots_max, table.slots, table.keys, table.deleted))
    for start, part in table.chunks():
        yield DEDUP, start.to_bytes(_OFFSET_BYTES, "little") + part


def _rows(tag: int, rows: Iterable[Sequence[object]], of: object = None) -> Iterator[tuple[int, bytes]]:
    """Yield the rows in blocks: (what they are of, rows)."""
    left = iter(rows)
    while block := list(islice(left, ROWS)):
        yield tag, _encode((of, block))


def _times(scopes: Iterable[AccountState | StrategyState]) -> Iterator[tuple[int, bytes]]:
    """Yield what the rate logs of these scopes counted: (number of the scope, wider logs before it, times)."""
    for n, scope in enumerate(scopes):
        log, depth = scope.rate, 0
        while log is not None:
            left = iter(log.times)
            while part := array("q", islice(left, TIMES_MAX)):
                yield TIMES, _encode((n, depth, part.tobytes()))
            log, depth = log.wider, depth + 1


def _loose(state: State) -> dict[str, Order]:
    """Return the orders that only a venue's outbox still knows."""
    found: dict[str, Order] = {}
    for venue in state.venues.values():
        waiting = [outgoing.order for outgoing in venue.awaiting.values()]
        for order in (*waiting, *venue.not_found.values()):
            if order.order_id not in state.orders and order.order_id not in state.closed:
                found[order.order_id] = order
    return found


def _money(amounts: dict[str, int]) -> dict[str, int | str]:
    return {currency: big(amount) for currency, amount in amounts.items()}


# In


def load_snapshot(path: Path, dedup_keys_max: int) -> tuple[Core, SnapshotHead]:
    """Return a core with the state of a snapshot, as if it had applied every record up to there.

    Raises:
        SnapshotDamagedError: If the file is not as written, or comes to another state than it says.
        ConfigError: If its keys do not fit into ``dedup_keys_max``.
    """
    reader = SnapshotReader(path)
    try:
        core = Core(dedup_keys_max)
        loader = _Loader(core)
        try:
            for tag, body in reader.blocks():
                loader.take(tag, body)
            same_size = core.is_as_replayed = loader.finish()
        except (ValueError, LookupError, TypeError, AttributeError, msgspec.MsgspecError) as e:
            # The bytes are as written: the release that wrote them knew something that this one does not.
            why = f"of release {reader.head.release or 'unknown'} can't be read: {type(e).__name__}: {e}"
            raise SnapshotDamagedError(path, 0, why) from e
        if same_size and reader.head.layout == LAYOUT_ID:
            found = state_hash(core.state)
            if found != reader.head.state_hash:
                why = f"comes to state {found}, expected {reader.head.state_hash}"
                raise SnapshotDamagedError(path, 0, why)
        return core, reader.head
    finally:
        reader.close()


class _Loader:
    """Puts blocks into the state of a new core, in the order they were written."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._state = core.state
        self._names = layout_names()
        self._bounds: dict[str, tuple[Bound, ...]] = {}
        self._routes: list[Route] = []
        self._orders: list[Order] = []
        self._table = core.state.dedup
        self._keys = self._deleted = 0
        self._makers: dict[str, Maker[Any]] = {}
        self._take: dict[int, Callable[[Any], None]] = {
            STATE: self._take_state, SCOPES: self._take_scopes, LEDGERS: self._take_ledgers,
            ROUTES: self._take_routes, ORDERS: self._take_orders, VENUES: self._take_venue,
            AWAITING: self._take_awaiting, TABLE: self._take_table, LAYOUT: self._take_layout,
            TIMES: self._take_times, MONEY: lambda body: take_money(self._state, body), HOLDS: self._take_holds,
            LOSSES: self._take_losses,
        }  # fmt: skip

    def take(self, tag: int, body: bytes) -> None:
        """Take one block."""
        if tag == DEDUP:
            self._table.put(int.from_bytes(body[:_OFFSET_BYTES], "little"), body[_OFFSET_BYTES:])
        else:
            self._take[tag](_decode(body))

    def finish(self) -> bool:
        """Derive what is derived; return whether the dedup table is of the size it was taken of."""
        self._table.keys, self._table.deleted = self._keys, self._deleted
        own = self._state.dedup
        if self._table is not own:
            put_in_again(self._table, own, self._orders)
        self._link_groups()
        if self._state.further is not None:
            self._state.count_further()
        self._core.take_restored()
        return self._table is own

    def _link_groups(self) -> None:
        """Let the orders of a group know it; one that is closed too, for it may be told of a late fill."""
        state = self._state
        for group in state.groups.values():
            for order_id in (group.first, group.second):
                order = state.orders.get(order_id) or state.closed.get(order_id)
                if order is not None and order.terms is not None:
                    order.terms.group = group

    def _maker(self, layout: Layout[T]) -> Maker[T]:
        return self._makers[layout.name]

    def _take_layout(self, written: dict[str, list[str]]) -> None:
        load: dict[Of, Callable[[Any], object]] = {
            Kind.BIG: int, Kind.BOUNDS: self._load_bounds, Kind.RATE: self._load_rate, Kind.TIMES: list,
            Kind.IDS: deque, Kind.NAMES: dict.fromkeys,
            Kind.MONEY: lambda amounts: {c: int(v) for c, v in amounts.items()},
            Kind.ROUTE: lambda n: self._routes[n],
            Kind.ORDER: lambda n: self._orders[n],
            Kind.PLAN: lambda plan: msgspec.convert(plan, FlattenPlan),
            Kind.TERMS: lambda row: None if row is None else self._maker(TERMS).make(row),
            Kind.REPLACEMENT: lambda row: None if row is None else self._maker(REPLACEMENT).make(row),
            Kind.CAPABILITIES: lambda row: None if row is None else msgspec.convert(row, Capabilities),
            Kind.CODES: lambda codes: tuple(Code(code) for code in codes),
            Kind.KEY: tuple, Kind.KEYS: lambda keys: [tuple(key) for key in keys],
        }  # fmt: skip
        self._makers = {layout.name: layout.maker(written.get(layout.name, layout.names), load) for layout in LAYOUTS}

    def _take_state(self, body: Any) -> None:
        row, params, trading_state, day = body
        state = self._state
        if params:
            # First: it makes what derives from parameters; what is counted is then written over it.
            scalars = self._maker(SCALARS).values(row)
            content_hash, trading_date = scalars["params_hash"], scalars["trading_date"]
            assert isinstance(content_hash, bytes)
            assert isinstance(trading_date, int)
            state.trading_date = trading_date  # dated rows resolve by it
            state.set_params(params_decoder.decode(params), content_hash)
        self._maker(SCALARS).fill(state, row)
        state.keys = KeyHash(state.order_id_key)
        state.book.state = TradingState(trading_state)
        self._maker(DAY).fill(state.day, day)

    def _take_scopes(self, body: Any) -> None:
        instruments, accounts, strategies, halts, *since = body
        state = self._state
        state.instruments = self._refilled(INSTRUMENT, state.instruments, instruments)
        for instrument in state.instruments.values():
            instrument.index = -1
            instrument.take_capabilities(None)  # its venue comes later
        state.accounts = self._refilled(ACCOUNT, state.accounts, accounts)
        state.strategies = self._refilled(STRATEGY, state.strategies, strategies)
        for scope, key, row in halts:
            state.halts[Scope(scope), key] = Halt(**self._maker(HALT).values(row))  # type: ignore[arg-type]
        if since:
            flattens = [self._maker(FLATTEN).make(row) for row in since[0]]
            state.flattens = {f.flatten_id: f for f in flattens}
            for flatten_id, row in since[1]:
                state.flattened[flatten_id] = Flattened(**self._maker(FLATTENED).values(row))  # type: ignore[arg-type]
        if len(since) > EXITS_AT:
            state.exits = {order_id: tuple(waits) for order_id, waits in since[EXITS_AT]}
        if len(since) > GROUPS_AT:
            groups = [self._maker(GROUP).make(row) for row in since[GROUPS_AT]]
            state.groups = {(g.account, g.client_order_id): g for g in groups}
        if len(since) > SUSPENSE_AT:
            fills = msgspec.convert(since[SUSPENSE_AT], list[SuspendedFill])
            state.suspense = {(fill.venue, fill.trade_id): fill for fill in fills}
        if len(since) > STALE_AT:
            state.stale = dict.fromkeys(since[STALE_AT])
        if len(since) > FLOW_AT:
            state.flow.load(*since[FLOW_AT])

    def _refilled(self, layout: Layout[T], made: dict[str, T], rows: list[list[object]]) -> dict[str, T]:
        """Return the scopes of the rows in their order; the objects that the parameters made are kept."""
        maker = self._maker(layout)
        found: dict[str, T] = {}
        for row in rows:
            name = str(maker.values(row)["name"])
            known = made.get(name)
            found[name] = maker.make(row) if known is None else maker.fill(known, row)
        return found

    def _take_times(self, body: Any) -> None:
        n, depth, times = body
        scopes: list[AccountState | StrategyState] = [*self._state.accounts.values(), *self._state.strategies.values()]
        log = scopes[n].rate
        for _ in range(depth):
            assert log is not None
            log = log.wider
        assert log is not None
        part = array("q")
        part.frombytes(times)
        log.times.extend(part)

    def _take_ledgers(self, body: Any) -> None:
        make, book = self._maker(LEDGER).make, self._state.book
        for account, instrument, *row in body[1]:
            book.ledgers[account, instrument] = make(row)

    def _take_routes(self, body: Any) -> None:
        state, fill = self._state, self._maker(LEDGER).fill
        for account, strategy, instrument, *row in body[1]:
            route = state.route(account, strategy, instrument)
            fill(route.own, row)
            self._routes.append(route)

    def _take_orders(self, body: Any) -> None:
        place, rows = body
        make, state = self._maker(ORDER).make, self._state
        orders = [make(row) for row in rows]
        self._orders += orders
        if place != LOOSE:
            into = state.orders if place == OPEN else state.closed
            into.update((order.order_id, order) for order in orders)
        if place == CLOSED:
            state.closed_order.extend(order.order_id for order in orders)
        if place == OPEN:
            state.renamed.update((key[2], o) for o in orders if o.terms is not None for key in o.terms.keys)

    def _take_venue(self, body: Any) -> None:
        row, not_found, trade_ids, *since = body
        venue = self._maker(VENUE).fill(VenueState(""), row)
        venue.not_found = {self._orders[n].order_id: self._orders[n] for n in not_found}
        venue.trade_ids = dict.fromkeys(trade_ids)
        venue.trade_order = deque(trade_ids)
        if since:
            take_counted(venue, self._routes, *since)
        self._state.venues.pop(venue.name, None)  # so that they stand in the order they had
        self._state.venues[venue.name] = venue
        if venue.capabilities is not None:
            self._state.take_capabilities(venue, venue.capabilities)

    def _take_awaiting(self, body: Any) -> None:
        name, rows = body
        make, awaiting = self._maker(OUTGOING).make, self._state.venues[name].awaiting
        for row in rows:
            outgoing = make(row)
            awaiting[outgoing.seq] = outgoing

    def _take_holds(self, body: Any) -> None:
        risk, holds, ends = body
        state = self._state
        self._maker(RISK).fill(state.risk, risk)
        made = [self._maker(HOLD).make(row) for row in holds]
        state.risk.holds = {hold.order_id: hold for hold in made}
        state.risk.ends = {order_id: HoldEnd(Code(code), *rest) for order_id, code, *rest in ends}

    def _take_losses(self, body: Any) -> None:
        state = self._state
        state.losses.load(body, state.book.ledgers, state.routes, state.instruments)

    def _take_table(self, body: Any) -> None:
        keys_max, slots_max, slots, self._keys, self._deleted = body
        if slots != self._table.slots:
            self._table = DedupTable(keys_max, slots_max - keys_max)
            if slots != self._table.slots:
                raise ValueError(f"table of {keys_max} keys expected {self._table.slots} slots, was {slots}")

    def _load_bounds(self, rows: list[list[object]]) -> tuple[Bound, ...]:
        """Return the bounds; equal ones are one object, as where they were made."""
        key = repr(rows)
        if key not in self._bounds:
            self._bounds[key] = tuple(self._maker(BOUND).make(row) for row in rows)
        return self._bounds[key]

    def _load_rate(self, row: list[object] | None) -> RateLog | None:
        if row is None:
            return None
        values: dict[str, Any] = self._maker(RATE).values(row)
        return RateLog(values["count"], values["window_ns"], values["reserve_exit"], values["wider"])
