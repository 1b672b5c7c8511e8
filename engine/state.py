"""What ``apply`` writes: the order table, the exposure book, the dedup map, venues, halts, parameters.

Each fact has one owner: an order owns cum, leaves and status; the exposure book owns positions, reservations and
rate logs. ``state_hash`` covers all of it in canonical order (DECISIONS 5).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from engine import hashed
from engine.day import TradingDay
from engine.dedup import DedupTable, KeyHash
from engine.flatten_plan import Flatten, Flattened
from engine.group import Group
from engine.hold import RiskState
from engine.order import Order, Terms
from engine.paper_scopes import add_paper_route, follow_real
from engine.permit import Permit, find_permit, renew
from engine.venue_state import VenueState
from protocol.amends import SuspendedFill
from protocol.codes import AT_NO_VENUE, Code, Mode, OrderStatus, Scope, TradingState
from protocol.paper import is_paper, real_name
from protocol.params import ChannelParams, InstrumentParams, Params, PrincipalParams
from protocol.session import Facts
from protocol.shards import ShardMap
from protocol.venue import Capabilities
from risk.gate.exposure import AccountState, ExposureBook, InstrumentState, Ledger, Route, StrategyState, note_price
from risk.gate.flow import Flow
from risk.gate.further import Furthers, is_needed
from risk.gate.limits import LimitTable
from risk.gate.losses import Losses
from risk.gate.more import NOTHING
from risk.gate.watch import Watches

CLOSED_MAX: Final = 4096
FLATTENED_MAX: Final = 64
ENGINE: Final = "engine"  # an operator's name may not be this: engine.control
CLOCK_JUMPED: Final = "clock jumped"


class Halt(NamedTuple):
    """Why a scope is not ACTIVE."""

    state: TradingState
    reason: str
    operator: str

    @property
    def is_clocks(self) -> bool:
        """Whether a clock jump alone is why."""
        return self.operator == ENGINE and self.reason.startswith(CLOCK_JUMPED)


class State:
    """Everything that is a function of the journal."""

    __slots__ = (
        "accounts", "book", "channels", "closed", "closed_order", "day", "dedup", "epoch", "exits", "flattened",
        "flattens", "flow", "further", "group_changes", "groups", "halts", "instance", "instruments", "keys",
        "last_ns", "limits", "listed", "losses", "mode", "order_id_key", "orders", "paper_routes",
        "params", "params_hash", "permits", "principals", "renamed", "risk", "routes", "shard", "shards", "stale",
        "stale_count",
        "strategies", "suspense", "suspense_more", "trading_date", "unconfirmed_jump", "venues", "watches",
    )  # fmt: skip

    def __init__(self, dedup_keys_max: int) -> None:
        self.mode = Mode.PAPER
        self.shard = 0
        self.epoch = 0
        self.instance = b""
        self.trading_date = 0
        self.day = TradingDay()
        self.order_id_key = b""
        self.keys = KeyHash(b"")
        self.last_ns = 0
        self.params: Params | None = None
        self.params_hash = b""
        self.limits = LimitTable(())
        self.book = ExposureBook()
        self.flow = Flow()
        self.watches = Watches((), self.flow)
        self.losses = Losses()
        self.further: Furthers | None = None  # None = no parameter of the complete gate is given
        self.instruments: dict[str, InstrumentState] = {}
        self.accounts: dict[str, AccountState] = {}
        # (accounts, strategies) of the parameters now; one that left them keeps its positions and takes cancels only.
        self.listed: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        self.strategies: dict[str, StrategyState] = {}
        self.channels: dict[str, ChannelParams] = {}
        self.principals: dict[str, PrincipalParams] = {}
        self.permits: dict[tuple[str, str], Permit] = {}
        self.routes: dict[tuple[str, str, str], Route] = {}
        self.paper_routes: list[Route] = []  # those of them whose orders are paper
        self.shards: ShardMap | None = None  # None = all accounts are here
        self.venues: dict[str, VenueState] = {}
        self.orders: dict[str, Order] = {}
        self.closed: dict[str, Order] = {}
        self.closed_order: deque[str] = deque()  # oldest first: the dict alone would walk over its holes
        self.renamed: dict[bytes, Order] = {}  # open orders by the ids that replaces gave them
        self.exits: dict[str, tuple[str, ...]] = {}  # SUSPENDED orders: the ids of those that each waits for
        self.groups: dict[tuple[str, str], Group] = {}  # OCO groups of which an order is open, by account and id
        self.group_changes = 0  # no state: tells the loop when to look at the groups
        self.stale: dict[str, None] = {}  # open exits of more than is left: cancelled until they are over
        self.stale_count = 0  # how many ever were
        self.halts: dict[tuple[Scope, str], Halt] = {}
        self.flattens: dict[str, Flatten] = {}
        self.flattened: dict[str, Flattened] = {}
        self.dedup = DedupTable(dedup_keys_max)
        self.unconfirmed_jump = False
        self.suspense: dict[tuple[str, str], SuspendedFill] = {}  # by venue and trade id
        self.suspense_more = 0  # fills that it had no room for
        self.risk = RiskState()  # held orders, and the service that is asked about them

    def set_params(self, params: Params, content_hash: bytes) -> None:
        """Take new parameters; positions, orders, counts and halts stay.

        Steps are immutable: ``engine.start`` refuses a change of them before it is journaled.
        """
        self.params = params
        self.params_hash = content_hash
        self.risk.take_params(params.risk)
        rows = params.limits_on(self.trading_date)
        limits = self.limits = LimitTable(rows)
        self.watches = Watches(rows, self.flow, exempt=ENGINE)
        further: Furthers | None = None
        if is_needed(params):
            further = Furthers(params, self.trading_date, self.flow, self.book.money, self.losses.pnls)
        was_further, self.further = self.further, further
        for row in params.instruments:
            self._set_instrument(row)
        for name, instrument in self.instruments.items():
            instrument.bounds = limits.bounds(Scope.INSTRUMENT, name)
        listed = {row.instrument for row in params.instruments}
        for name, instrument in self.instruments.items():
            instrument.tradable = instrument.tradable and name in listed
        for account in params.accounts:
            known_account = self.accounts.setdefault(account.account, AccountState(account.account, account.currency))
            known_account.bounds = limits.bounds(Scope.ACCOUNT, account.account)
            known_account.rate = limits.rate(Scope.ACCOUNT, account.account, known_account.rate)
        for strategy in params.strategies:
            known = self.strategies.setdefault(strategy.strategy, StrategyState(strategy.strategy, strategy.ttl_ns))
            known.ttl_ns = strategy.ttl_ns
            known.bounds = limits.bounds(Scope.STRATEGY, strategy.strategy)
            known.rate = limits.rate(Scope.STRATEGY, strategy.strategy, known.rate)
        if ENGINE in self.strategies:
            self.take_engine_strategy()
        self.listed = frozenset(a.account for a in params.accounts), frozenset(s.strategy for s in params.strategies)
        explicit = {a.account: a.shard for a in params.accounts if a.shard >= 0}
        self.shards = ShardMap(params.shards, explicit) if params.shards > 1 else None
        self.channels = {c.source: c for c in params.channels}
        self.principals = {p.principal: p for p in params.principals}
        renew(self.permits, self.channels, self.principals)
        for route in self.routes.values():
            route.limits = limits.limits(route.account, route.strategy, route.instrument)
            route.watch = self.watches.watch(route.strategy.name, route.instrument.name, route.instrument.venue)
            self.halt_watched(route, self.last_ns)  # a limit may be tighter now than what was counted
        self.losses.take_params(rows, params, self.book.ledgers, self.routes, self.instruments)
        if further is not None or was_further is not None:
            self.count_further()
        follow_real(self.paper_routes, self.accounts, self.strategies)

    def count_further(self) -> None:
        """Give every route what it needs of the complete gate, and make its sums anew from what is open and held."""
        if self.further is not None:
            self.further.clear()
        for route in self.routes.values():
            route.more, route.is_complete = NOTHING, False
            if self.further is not None and not is_paper(route.account.name):
                self.further.attach(route)
        if self.further is not None:
            self.further.count(self.orders.values(), self.book.ledgers, self.instruments)

    def take_engine_strategy(self) -> None:
        """Have the strategy under whose name the engine exits what no strategy holds; under the global limits."""
        known = self.strategies.setdefault(ENGINE, StrategyState(ENGINE, 0))
        known.bounds = self.limits.bounds(Scope.STRATEGY, ENGINE)
        known.rate = self.limits.rate(Scope.STRATEGY, ENGINE, known.rate)

    def end_flatten(self, flatten: Flatten, why: str, now_ns: int) -> None:
        """Keep only how a flatten ended."""
        del self.flattens[flatten.flatten_id]
        self.flattened[flatten.flatten_id] = Flattened(flatten.scope, flatten.key, why, flatten.children, now_ns)
        if len(self.flattened) > FLATTENED_MAX:
            del self.flattened[next(iter(self.flattened))]

    def _set_instrument(self, row: InstrumentParams) -> None:
        known = self.instruments.get(row.instrument)
        if known is None:
            made = self.instruments[row.instrument] = InstrumentState(row)
            made.take_capabilities(self.venues.setdefault(row.venue, VenueState(row.venue)).capabilities)
        else:
            known.update(row)
        if self.further is not None:
            self.further.update(self.instruments[row.instrument])

    def take_capabilities(self, venue: VenueState, capabilities: Capabilities) -> None:
        """Take what a venue's gateway said that it takes."""
        venue.capabilities = capabilities
        for instrument in self.instruments.values():
            if instrument.venue == venue.name:
                instrument.take_capabilities(capabilities)

    def permit(self, source: str, principal: str) -> Permit | None:
        """Return what the principal may do through the source; None if the source may not speak for it."""
        return find_permit(self.permits, self.channels, self.principals, source, principal)

    def route(self, account: str, strategy: str, instrument: str) -> Route:
        """Return the route of three known names, making it the first time."""
        found = self.routes.get((account, strategy, instrument))
        if found is None:
            scopes = self.accounts[account], self.strategies[strategy], self.instruments[instrument]
            # Under the scopes' own names: those of an order are its own copies, and would stay as long as the route.
            names = scopes[0].name, scopes[1].name, scopes[2].name
            if is_paper(account):
                real, ledger = self.route(real_name(account), *names[1:]), self.book.ledger(names[0], names[2])
                found = self.routes[names] = add_paper_route(self.paper_routes, real, scopes[0], ledger)
                return found
            found = Route(*scopes, self.book.ledger(names[0], names[2]), Ledger(), self.limits.limits(*scopes))
            found.watch = self.watches.watch(names[1], names[2], scopes[2].venue)
            if self.further is not None:
                self.further.attach(found)
            self.routes[names] = found
            if self.losses.scopes:
                self.losses.watch_route(found)
        return found

    @property
    def watches_sources(self) -> bool:
        """Whether the orders of any source are cancelled when it is away."""
        params = self.params
        return params is not None and (
            any(c.disconnect_ns for c in params.channels) or any(a.disconnect_ns > 0 for a in params.accounts)
        )

    def belongs_elsewhere(self, account: str) -> Facts | None:
        """Return what to tell whoever asks for an account of another shard; None if it belongs here."""
        if self.shards is None:
            return None
        shard = self.shards.shard_of(real_name(account))
        return Facts(shard, self.shard, Scope.ACCOUNT, account) if shard != self.shard else None

    def set_trading_state(self, scope: Scope, key: str, state: TradingState) -> None:
        """Set the state of one scope."""
        match scope:
            case Scope.GLOBAL:
                self.book.state = state
            case Scope.ACCOUNT:
                self.accounts[key].state = state
            case Scope.STRATEGY:
                self.strategies[key].state = state
            case Scope.INSTRUMENT:
                self.instruments[key].state = state
        follow_real(self.paper_routes, self.accounts, self.strategies)

    def raise_state(self, scope: Scope, key: str, trading_state: TradingState, reason: str) -> None:
        """Raise the severity of a scope by the engine itself; it never lowers one (RISK.md A6).

        Of two reasons of one severity the clock's gives way: confirming the clock must not lift the other.
        """
        known = self.halts.get((scope, key))
        if known is None or known.state < trading_state or (known.state is trading_state and known.is_clocks):
            self.halts[scope, key] = Halt(trading_state, reason, ENGINE)
            self.set_trading_state(scope, key, trading_state)

    def halt_watched(self, route: Route, now_ns: int) -> None:
        """Halt the strategy if what its venue said has used up a limit: fills, churn or refusals (RISK.md A2)."""
        if route.watch is not None and (why := route.watch.why_halted(now_ns)):
            self.raise_state(Scope.STRATEGY, route.strategy.name, TradingState.HALTED_AUTO, why)

    def knows(self, scope: Scope, key: str) -> bool:
        """Whether there is such a scope."""
        names: dict[Scope, Container[str]] = {
            Scope.GLOBAL: {""},
            Scope.ACCOUNT: self.accounts,
            Scope.STRATEGY: self.strategies,
            Scope.INSTRUMENT: self.instruments,
        }
        return key in names.get(scope, ())

    def set_status(self, order: Order, status: OrderStatus) -> None:
        """Set what the order is, under all its ids."""
        was, order.status = order.status, status
        if was in AT_NO_VENUE:  # it goes out now, or is over
            note_price(order)
        if order.slot >= 0:
            self.dedup.set_state(order.slot, status)
        else:
            self.restate_closed(order)
        if order.terms is not None:
            self._set_status_of_names(order.terms, status)

    def _set_status_of_names(self, terms: Terms, status: OrderStatus) -> None:
        for low, high, _ in terms.keys:
            slot = self.dedup.find(low, high)
            if slot >= 0:
                self.dedup.set_state(slot, status)

    def rename(self, order: Order, key: tuple[int, int, bytes]) -> None:
        """Let another id name the order."""
        assert order.terms is not None
        order.terms.keys.append(key)
        self.renamed[key[2]] = order

    def forget_name(self, order: Order, key: tuple[int, int, bytes]) -> None:
        """Take an id back: its replace was refused."""
        assert order.terms is not None
        order.terms.keys.remove(key)
        self.renamed.pop(key[2], None)
        slot = self.dedup.find(key[0], key[1])
        if slot >= 0:
            self.dedup.set_state(slot, OrderStatus.REJECTED)

    def close(self, order: Order) -> None:
        """Move a terminal order out of the open set; a few stay findable for late fills."""
        if self.orders.pop(order.order_id, None) is None:
            return
        if self.exits and self.exits.pop(order.order_id, None) is not None:
            self.book.drop(order)
        if self.stale:
            self.stale.pop(order.order_id, None)
        if self.risk.holds and order.order_id in self.risk.holds:  # cancelled while it was held
            self.risk.end(order.order_id, Code.HELD_CANCELLED)
            self.book.set_leaves(order, 0)
        order.slot = -1  # its key may leave the dedup table now
        if order.terms is not None:
            for _, _, id_key in order.terms.keys:
                self.renamed.pop(id_key, None)
            if order.terms.group is not None:
                self._leave_group(order, order.terms.group)
        self.closed[order.order_id] = order
        self.closed_order.append(order.order_id)
        if len(self.closed_order) > CLOSED_MAX:
            del self.closed[self.closed_order.popleft()]

    def add_group(self, group: Group) -> None:
        """Take an OCO group; its orders are open."""
        self.groups[group.account, group.client_order_id] = group
        for order_id in (group.first, group.second):
            terms = self.orders[order_id].terms
            assert terms is not None
            terms.group = group
        self.regroup(self.orders[group.first])

    def regroup(self, order: Order) -> None:
        """Let the leg that waits reserve what its group may need beyond the leg at the venue, which has changed.

        Both together reserve the larger of what each may still fill (RISK.md A1), in quantity and in money: a fill of
        the one takes as much from the other, and the second goes out only when the first is over.
        """
        group = order.terms.group if order.terms is not None else None
        if group is None or order.order_id != group.first:
            return
        second = self.orders.get(group.second)
        if second is None or second.status is not OrderStatus.SUSPENDED:
            return
        self.group_changes += 1
        group.done = order.cum
        left = group.left(second.quantity)
        value_e9 = second.route.instrument.value_e9(left, second.price)
        self.book.hold(second, max(0, left - order.leaves), max(0, value_e9 - order.reserved_value_e9))

    def _leave_group(self, order: Order, group: Group) -> None:
        self.group_changes += 1
        if order.order_id == group.first:
            self.regroup(order)
        elif not order.venue_seq:  # it never went out
            self.book.hold(order, 0, 0)
            self.book.drop(order)
        other_id = group.second if order.order_id == group.first else group.first
        if other_id not in self.orders:
            del self.groups[group.account, group.client_order_id]
            for leg in (order, self.closed.get(other_id)):
                if leg is not None and leg.terms is not None:
                    leg.terms.group = None

    def restate_closed(self, order: Order) -> None:
        """Say under the key of an order that left the open set what it is now, if the key is still there."""
        account = order.account if order.source == ENGINE else real_name(order.account)  # as its command named it
        low, high, _ = self.keys.key(account, order.client_order_id)
        slot = self.dedup.find(low, high)
        if slot >= 0:
            self.dedup.set_state(slot, order.status)


def state_hash(state: State) -> str:
    """Return a hash over everything ``apply`` writes, in canonical order; equal states have equal hashes."""
    digest = blake2b(digest_size=16)
    encode = msgspec.msgpack.encode
    digest.update(encode((
        int(state.mode), state.shard, state.trading_date, state.order_id_key, state.last_ns, state.params_hash,
        int(state.book.state), state.unconfirmed_jump,
    )))  # fmt: skip
    for orders in (state.orders, state.closed):
        for _, order in sorted(orders.items()):
            digest.update(encode(hashed.order_row(order)))
    hashed.hash_ledgers(state.book.ledgers, state.routes, digest)
    hashed.hash_scopes(state.accounts, state.strategies, state.instruments, digest)
    for name in sorted(state.venues):
        digest.update(encode(state.venues[name].row()))
    digest.update(encode([(int(s), k, *h) for (s, k), h in sorted(state.halts.items())]))
    digest.update(hashed.waiting_rows(state.exits, state.groups))
    digest.update(hashed.exit_rows(state.orders, state.stale, state.stale_count))
    digest.update(hashed.suspense_row(state.suspense, state.suspense_more))
    digest.update(hashed.money_rows(state.book, state.accounts, state.routes))
    digest.update(state.risk.hashed())
    digest.update(b"" if state.flow.is_empty else encode(state.flow.row()))
    digest.update(hashed.loss_rows(state.losses))
    digest.update(hashed.flatten_rows(state.flattens, state.flattened))
    if state.watches_sources or state.flattens:
        digest.update(encode([(order_id, state.orders[order_id].source) for order_id in sorted(state.orders)]))
    if state.day.began_ns:  # a journal that never rolled has the hash it had before rolls were
        digest.update(encode(state.day.row()))
    digest.update(state.dedup.content_hash())
    return digest.hexdigest()
