"""A core without a journal: commands, reports and controls in, decisions out, each applied as the loop would."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from engine.core import Core
from engine.dedup import DedupTable
from engine.order import Order
from engine.orders import Breach, Defer, Replay
from engine.state import State, state_hash
from protocol.codes import (
    ExecType,
    Mode,
    OrderStatus,
    OrderType,
    OutcomeKind,
    ReferenceSource,
    RetryReason,
    Scope,
    Side,
    TimeInForce,
)
from protocol.decisions import BasketDecision, CancelDecision, ExitDecision, NewDecision, Reference, ReportDecision
from protocol.orders import (
    CancelOrder,
    Command,
    ExitReplace,
    NewBasket,
    NewOrder,
    ReplaceOrder,
    TermedOrder,
    order_of,
)
from protocol.params import (
    AccountParams,
    ChannelParams,
    InstrumentParams,
    LimitName,
    LimitRow,
    Params,
    PrincipalParams,
    StrategyParams,
    encode_params,
    params_hash,
)
from protocol.records import (
    Adjusted,
    BasketOrdered,
    CancelRequested,
    ControlAction,
    Controlled,
    ExitReleased,
    ExitRequested,
    Ordered,
    ParamsSet,
    Record,
    ReplaceRequested,
    Reported,
    Started,
    VenueChanged,
)
from protocol.replaces import ReplaceDecision
from protocol.session import Item
from protocol.venue import Details, Report
from tests.unit.venues.stage import XY

E9 = 10**9
NOW = 1_780_000_000 * E9
REFERENCE = Reference(100 * E9, 0, ReferenceSource.LAST_TRADE)
SECRET = b"k" * 32
_encode = msgspec.msgpack.encode


def limit(name: LimitName, value: int, scope: Scope = Scope.GLOBAL, key: str = "", **rest: int) -> LimitRow:
    """Return a row; money and quantities in whole units, counts as they are."""
    plain = name in {LimitName.OPEN_COUNT_MAX, LimitName.RATE_COUNT}
    return LimitRow(name, scope, key, value if plain else value * E9, **rest)


def params(
    *limits: LimitRow,
    instruments: tuple[InstrumentParams, ...] = (XY,),
    ttl_ns: int = 0,
    order_age_max_ns: int = 60 * E9,
) -> Params:
    return Params(
        instruments, (AccountParams("a1", "USDT"), AccountParams("a2", "USDT")),
        (StrategyParams("s1", ttl_ns), StrategyParams("s2")),
        (PrincipalParams("all", ("*",), ("*",)), PrincipalParams("one", ("a1",), ("s1",))),
        (ChannelParams("src", ("all", "one")),), limits, order_age_max_ns, E9, E9 // 2,
    )  # fmt: skip


class Desk:
    """One core and the venue's side of it."""

    def __init__(
        self,
        *limits: LimitRow,
        given: Params | None = None,
        keys_max: int = 256,
        position: int = 0,
        trading_date: int = 20260530,
        secret: bytes = SECRET,
        mode: Mode = Mode.PAPER,
    ) -> None:
        self.core = Core(keys_max)
        self.now = NOW
        self.seq = 0
        self.reports = 0
        self.trades = 0
        self.records: list[tuple[int, int, int, Record]] = []
        self.apply(Started(1, b"i" * 16, mode, 0, trading_date, 1, "0", secret))
        self.set_params(given or params(*limits))
        self.apply(VenueChanged("sandbox", True, b"g" * 16, 0))
        if position:
            self.apply(Adjusted("a1", "XY", position * E9, 100 * E9, "", "", "opening"))

    @property
    def state(self) -> State:
        return self.core.state

    @property
    def position(self) -> int:
        return self.state.book.ledger("a1", "XY").position

    def apply(self, record: Record) -> None:
        self.seq += 1
        self.records.append((self.seq, self.now, self.seq, record))
        self.core.apply(self.seq, self.now, self.seq, record)

    def set_params(self, given: Params) -> None:
        content = encode_params(given)
        self.apply(ParamsSet(content, params_hash(content)))

    def item(self, command: Command, created_at_ns: int | None = None, principal: str = "all") -> Item:
        created = self.now if created_at_ns is None else created_at_ns
        return Item(1, "u", 1, 0, "lane", principal, b"t" * 16, created, Raw(_encode(command)))

    def order(
        self,
        client_order_id: str,
        side: Side = Side.BUY,
        quantity: int = 1,
        price: int = 100,
        *,
        account: str = "a1",
        strategy: str = "s1",
        instrument: str = "XY",
        order_type: OrderType = OrderType.LIMIT,
        time_in_force: TimeInForce = TimeInForce.DAY,
        reduce_only: bool = False,
    ) -> NewOrder:
        price_e9 = 0 if order_type is OrderType.MARKET else price * E9
        return NewOrder(
            account, client_order_id, strategy, instrument, side, order_type, time_in_force, quantity * E9, price_e9,
            reduce_only,
        )  # fmt: skip

    def termed(
        self,
        client_order_id: str,
        side: Side = Side.BUY,
        quantity: int = 1,
        price: int = 100,
        *,
        order_type: OrderType = OrderType.LIMIT,
        time_in_force: TimeInForce = TimeInForce.GTC,
        stop_price: int = 0,
        expire_at_ns: int = 0,
        post_only: bool = False,
    ) -> TermedOrder:
        return TermedOrder(
            "a1", client_order_id, "s1", "XY", side, order_type, time_in_force, quantity * E9, price * E9, False,
            stop_price * E9, expire_at_ns, post_only,
        )  # fmt: skip

    def decide(
        self,
        order: NewOrder,
        *,
        reference: Reference | None = REFERENCE,
        created_at_ns: int | None = None,
        principal: str = "all",
        defer: RetryReason | None = None,
    ) -> NewDecision | Replay | Defer | Breach:
        item = self.item(order, created_at_ns, principal)
        route = self.core.orders.find_route(self.state.permit("src", principal), order)
        return self.core.orders.decide_new(order, item, route, self.now, reference, defer)

    def submit(
        self,
        order: NewOrder,
        *,
        reference: Reference | None = REFERENCE,
        created_at_ns: int | None = None,
        principal: str = "all",
        defer: RetryReason | None = None,
    ) -> NewDecision | Replay | Defer:
        """Decide and apply, as the loop does: the very command object."""
        decided = self.decide(order, reference=reference, created_at_ns=created_at_ns, principal=principal, defer=defer)
        if isinstance(decided, NewDecision):
            item = self.item(order, created_at_ns, principal)
            record = Ordered("src", item, reference, decided, self.seq + 1)
            self.seq += 1
            self.records.append((self.seq, self.now, self.seq, record))
            self.state.last_ns = self.now
            self.core.orders.apply_ordered(record, order, self.seq, self.now)
        return decided

    def accept(self, order: NewOrder) -> Order:
        decided = self.submit(order)
        assert isinstance(decided, NewDecision)
        assert decided.kind is OutcomeKind.ACCEPTED, decided
        return self.state.orders[decided.order_id]

    def cancel(self, client_order_id: str, account: str = "a1", principal: str = "all") -> CancelDecision | Defer:
        command = CancelOrder(account, client_order_id)
        decided = self.core.orders.decide_cancel(command, self.state.permit("src", principal))
        if isinstance(decided, CancelDecision):
            self.apply(CancelRequested("src", self.item(command, principal=principal), decided))
        return decided

    def decide_replace(
        self,
        orig: str,
        name: str,
        quantity: int = 0,
        price: int = 0,
        *,
        reference: Reference | None = REFERENCE,
        account: str = "a1",
        principal: str = "all",
        defer: RetryReason | None = None,
        created_at_ns: int | None = None,
        stop_price: int = 0,
    ) -> ReplaceDecision | Replay | Defer:
        command = ReplaceOrder(account, name, orig, quantity * E9, price * E9, stop_price * E9)
        item = self.item(command, created_at_ns, principal)
        permit = self.state.permit("src", principal)
        return self.core.replaces.decide_replace(command, item, permit, self.now, reference, defer)

    def replace(
        self,
        orig: str,
        name: str,
        quantity: int = 0,
        price: int = 0,
        *,
        reference: Reference | None = REFERENCE,
        account: str = "a1",
        principal: str = "all",
        stop_price: int = 0,
    ) -> ReplaceDecision | Replay | Defer:
        """Decide and apply a replace of ``orig`` under the id ``name``."""
        decided = self.decide_replace(
            orig, name, quantity, price, reference=reference, account=account, principal=principal,
            stop_price=stop_price,
        )  # fmt: skip
        if isinstance(decided, ReplaceDecision):
            command = ReplaceOrder(account, name, orig, quantity * E9, price * E9, stop_price * E9)
            item = self.item(command, principal=principal)
            self.apply(ReplaceRequested("src", item, reference, decided, self.seq + 1))
        return decided

    def basket(self, client_order_id: str, *legs: NewOrder, account: str = "a1") -> NewBasket:
        """Return a basket of these orders, named as its legs."""
        named = [
            msgspec.structs.replace(leg, client_order_id=f"{client_order_id}/{n}")
            for n, leg in enumerate(legs, start=1)
        ]
        return NewBasket(account, client_order_id, named)

    def submit_basket(
        self,
        command: NewBasket,
        *,
        references: list[Reference | None] | None = None,
        principal: str = "all",
        defer: RetryReason | None = None,
    ) -> BasketDecision | Replay | Defer:
        """Decide and apply, as the loop does."""
        baskets = self.core.baskets
        item = self.item(command, principal=principal)
        routes = baskets.find_routes(self.state.permit("src", principal), command)
        given = references if references is not None else [REFERENCE] * len(command.legs)
        decided = baskets.decide_basket(command, item, routes, self.now, given, defer)
        if isinstance(decided, BasketDecision):
            self.apply(BasketOrdered("src", item, given, decided, self.seq + 1))
        return decided

    def exit_replace(
        self,
        client_order_id: str,
        cancels: list[str],
        quantity: int,
        side: Side = Side.SELL,
        price: int = 100,
        *,
        account: str = "a1",
        strategy: str = "s1",
        instrument: str = "XY",
        order_type: OrderType = OrderType.LIMIT,
    ) -> ExitReplace:
        """Return an exit in the place of others."""
        price_e9 = 0 if order_type is OrderType.MARKET else price * E9
        return ExitReplace(
            account, client_order_id, strategy, instrument, side, order_type, TimeInForce.DAY, quantity * E9, cancels,
            price_e9,
        )  # fmt: skip

    def submit_exit(
        self, command: ExitReplace, *, reference: Reference | None = REFERENCE, principal: str = "all"
    ) -> ExitDecision | Replay | Defer:
        """Decide and apply, as the loop does."""
        item = self.item(command, principal=principal)
        route = self.core.orders.find_route(self.state.permit("src", principal), order_of(command))
        decided = self.core.exit_replaces.decide_exit(command, item, route, self.now, reference)
        if isinstance(decided, ExitDecision):
            self.apply(ExitRequested("src", item, reference, decided, self.seq + 1))
        return decided

    def release(self, reference: Reference | None = REFERENCE) -> list[ExitReleased]:
        """Let out what is due, as the loop does."""
        exits = self.core.exit_replaces
        released = []
        for order in exits.due():
            record = exits.decide_release(order, self.now, reference)
            self.apply(record)
            released.append(record)
        return released

    def answer(
        self,
        exec_type: ExecType,
        order: Order,
        quantity: int,
        price: int,
        *,
        venue_seq: int = 0,
        status: OrderStatus = OrderStatus.NONE,
        cum: int | None = None,
    ) -> ReportDecision:
        """Let the venue say something that names the order's terms there."""
        return self.report(
            exec_type, order.order_id, venue_seq=venue_seq, status=status, cum=order.cum if cum is None else cum,
            details=Details(quantity * E9, price * E9),
        )  # fmt: skip

    def details(self, quantity: int, price: int, stop_price: int = 0) -> Details:
        return Details(quantity * E9, price * E9, stop_price * E9)

    def decided_again(self) -> list[bool | None]:
        """What a verifier does: decide each record anew before it is applied, from the journal alone."""
        core = Core(self.state.dedup.keys_max)
        answers = []
        for seq, now_ns, position, record in self.records:
            answers.append(core.decide_again(record, now_ns))
            core.apply(seq, now_ns, position, record)
        return answers

    def report(
        self,
        exec_type: ExecType,
        order_id: str,
        *,
        quantity: int = 0,
        price: int = 100,
        trade_id: str = "",
        venue_seq: int = 0,
        status: OrderStatus = OrderStatus.NONE,
        cum: int | None = None,
        details: Details | None = None,
    ) -> ReportDecision:
        """Let the venue say something, numbered as the gateway would; ``cum``: what it counts, if not as here."""
        venue = self.state.venues["sandbox"]
        if cum is None:
            order = self.state.orders.get(order_id) or self.state.closed.get(order_id)
            cum = quantity if order is None else order.cum + quantity
        if quantity and not trade_id:
            self.trades += 1
            trade_id = f"T{self.trades}"
        report = Report(
            venue.report_seq + 1, exec_type, order_id, "v", venue_seq, status, 0, cum * E9, self.now, trade_id,
            quantity * E9, price * E9, details=details,
        )  # fmt: skip
        decided = self.core.reports.decide_report(venue, report)
        self.apply(Reported("sandbox", Raw(_encode(report)), decided))
        return decided

    def fill(self, order: Order, quantity: int, price: int = 100) -> ReportDecision:
        return self.report(ExecType.TRADE, order.order_id, quantity=quantity, price=price)

    def control(
        self, action: ControlAction, scope: Scope = Scope.GLOBAL, key: str = "", unsent_from: int = 1 << 62
    ) -> list[Controlled]:
        records = []
        for record in self.core.controls.decide_control(action, scope, key, "op", "why", {"sandbox": unsent_from}):
            self.apply(record)
            records.append(record)
        return records

    def hash(self) -> str:
        return state_hash(self.state)

    def hash_without_keys(self) -> str:
        """The hash of all but the dedup map."""
        state, table = self.state, self.state.dedup
        state.dedup = DedupTable(1, 1)
        try:
            return state_hash(state)
        finally:
            state.dedup = table

    def replayed_hash(self) -> str:
        """The hash of a fresh core that applied the same records."""
        core = Core(self.state.dedup.keys_max)
        for record in self.records:
            core.apply(*record)
        return state_hash(core.state)
