"""The decision core: a deterministic state machine over journal records.

``decide_*`` (of ``orders``, ``reports``, ``controls``) read the state; ``apply`` is its only writer.
Recovery calls ``apply`` alone; live, the loop applies what it decided before it decides the next. The core
knows no clock, I/O, logging or randomness: all that a decision needs is state or stands in the record.
"""

from __future__ import annotations

from typing import Final

from engine.amends import Amends
from engine.baskets import Baskets
from engine.controls import Controls
from engine.dedup import KeyHash
from engine.differing import apply_differing, decide_differing
from engine.exit_replaces import ExitReplaces
from engine.flatten import Flattens
from engine.holds import Held, Holds
from engine.limit_changes import decide_limit
from engine.losses import apply_marked, decide_trips
from engine.money import Moneys
from engine.oco import Ocos
from engine.orders import Breach, Defer, Orders, Replay
from engine.paper_scopes import follow_real
from engine.papers import Papers
from engine.reconciling import Reconciler
from engine.replaces import Replaces
from engine.reports import Reports
from engine.rolls import Rolls
from engine.row_changes import is_decided_again
from engine.stale_exits import StaleExits
from engine.state import ENGINE, State
from engine.suspense import Suspense
from engine.unsynced import apply_unsynced, decide_unsynced
from protocol.amends import SuspenseResolved, TradeAmended
from protocol.codes import Code, OutcomeKind, RetryReason
from protocol.decisions import BasketDecision, CancelDecision, ExitDecision, NewDecision, Reference
from protocol.held_records import HoldTimed, OrderHeld, RiskChanged, RiskDecided
from protocol.marks import Marked
from protocol.money import CollateralAdjusted, FxMarked
from protocol.oco_records import OcoDecision, OcoOrdered, OcoReleased, OcoTriggered
from protocol.orders import (
    CancelOrder,
    ExitReplace,
    NewBasket,
    NewOco,
    NewOrder,
    ReplaceOrder,
    command_decoder,
    order_of,
)
from protocol.paper import PaperOrdered
from protocol.params import params_decoder
from protocol.records import (
    Adjusted,
    BasketOrdered,
    CancelRequested,
    Clocked,
    ClockUnsynced,
    ControlAction,
    Controlled,
    DayOrdersExpired,
    ExitReleased,
    ExitRequested,
    Failed,
    FillEntered,
    Ordered,
    ParamsSet,
    Queried,
    Record,
    ReplaceRequested,
    Reported,
    SendDecided,
    Started,
    StateChecked,
    VenueChanged,
)
from protocol.replaces import ReplaceDecision, ReplaceUnsent
from protocol.rolls import KeysRetired, SessionRolled
from protocol.session import Item
from protocol.statement import Reconciled
from protocol.venue import report_decoder
from risk.gate.exposure import Route

ACCEPTED: Final = OutcomeKind.ACCEPTED


class Core:
    """State and everything that may change it."""

    def __init__(self, dedup_keys_max: int) -> None:
        self.state = State(dedup_keys_max)
        # Whether the dedup table is laid out as the journal alone would: not after a snapshot of another size.
        self.is_as_replayed = True
        self.orders = Orders(self.state)
        self.holds = Holds(self.state, self.orders)
        self.papers = Papers(self.state, self.orders)
        self.reports = Reports(self.state, self.orders)
        self.suspense = Suspense(self.state)
        self.amends = Amends(self.state, self.reports, self.suspense)
        self.replaces = Replaces(self.state, self.orders)
        self.baskets = Baskets(self.state, self.orders)
        self.exit_replaces = ExitReplaces(self.state, self.orders, self.reports)
        self.ocos = Ocos(self.state, self.orders, self.reports)
        self.controls = Controls(self.state, self.orders, self.reports)
        self.stale_exits = StaleExits(self.state, self.controls)
        self.reconciler = Reconciler(self.state)
        self.moneys = Moneys(self.state)
        self.rolls = Rolls(self.state, self.orders, self.controls)
        self.flattens = Flattens(self.state, self.orders, self.controls)

    def take_restored(self) -> None:
        """Derive what the parts keep of the state, after a snapshot was put there."""
        self.orders.take_identity()
        follow_real(self.state.paper_routes, self.state.accounts, self.state.strategies)
        if self.state.params is not None:
            self.orders.take_params()

    def repeat(self, seq: int, now_ns: int, position: int, record: Record) -> None:
        """Apply a record of the past. Nothing is sent of it, so nothing waits to be: else each order would stay."""
        self.apply(seq, now_ns, position, record)
        for venue in self.state.venues.values():
            venue.fresh.clear()

    def apply(self, seq: int, now_ns: int, position: int, record: Record) -> None:
        """Write one record. Any exception here is fatal: state and journal would part."""
        del seq  # the number of a record is no input of the state
        self.state.last_ns = now_ns
        match record:
            case Ordered():
                order = command_decoder.decode(record.item.command)
                assert isinstance(order, NewOrder)
                self.orders.apply_ordered(record, order, position, now_ns)
                if record.source == ENGINE:
                    self.flattens.apply_child(order)
            case Reported():
                venue = self.state.venues[record.venue]
                self.reports.apply_report(venue, report_decoder.decode(record.report), record.decision, now_ns)
            case CancelRequested():
                cancel = command_decoder.decode(record.item.command)
                assert isinstance(cancel, CancelOrder)
                self.orders.apply_cancel(record, cancel, position, now_ns)
            case _:
                self._apply_rare(now_ns, position, record)

    def _apply_rare(self, now_ns: int, position: int, record: Record) -> None:
        match record:
            case SendDecided():
                self.reports.apply_send(record, now_ns)
            case Queried() if record.is_of_cum:
                apply_differing(self.state, record, now_ns)
            case Queried():
                self.reports.apply_queried(record, now_ns)
            case VenueChanged():
                self.reports.apply_venue(record, now_ns)
            case Controlled():
                self.controls.apply_controlled(record, now_ns)
                self.flattens.apply(record, now_ns)
            case Clocked():
                self.controls.apply_clocked(record)
            case ClockUnsynced():
                apply_unsynced(self.state, record)
            case Failed():
                self.controls.apply_failed(record, position)
            case Adjusted():
                self.controls.apply_adjusted(record)
            case Started() | ParamsSet():
                self._apply_start(now_ns, record)
            case SessionRolled() | DayOrdersExpired() | KeysRetired():
                self.rolls.apply(record, position, now_ns)
            case _:
                self._apply_rarest(now_ns, position, record)

    def _apply_rarest(self, now_ns: int, position: int, record: Record) -> None:
        match record:
            case Reconciled():
                self.reconciler.apply(record, now_ns)
            case FillEntered():
                venue = self.state.venues[record.venue]
                self.reports.apply_entered(venue, report_decoder.decode(record.report), record.decision, now_ns)
            case Marked():
                apply_marked(self.state, record, now_ns)
            case CollateralAdjusted() | FxMarked():
                self.moneys.apply(record, now_ns)
            case StateChecked():
                pass  # said of the state, changes nothing
            case TradeAmended():
                self.amends.apply(record, report_decoder.decode(record.report))
            case SuspenseResolved():
                self.suspense.apply(record)
            case _:
                self._apply_replaces(now_ns, position, record)

    def _apply_replaces(self, now_ns: int, position: int, record: Record) -> None:
        match record:
            case ReplaceRequested():
                replace = command_decoder.decode(record.item.command)
                assert isinstance(replace, ReplaceOrder)
                self.replaces.apply_replace(record, replace, position, now_ns)
            case ReplaceUnsent():
                self.reports.apply_unsent_replace(record)
            case BasketOrdered():
                basket = command_decoder.decode(record.item.command)
                assert isinstance(basket, NewBasket)
                self.baskets.apply_basket(record, basket, position, now_ns)
            case ExitRequested():
                exit_replace = command_decoder.decode(record.item.command)
                assert isinstance(exit_replace, ExitReplace)
                self.exit_replaces.apply_exit(record, exit_replace, position, now_ns)
            case ExitReleased():
                self.exit_replaces.apply_release(record, now_ns)
            case _:
                self._apply_groups(now_ns, position, record)

    def _apply_groups(self, now_ns: int, position: int, record: Record) -> None:
        match record:
            case OcoOrdered():
                oco = command_decoder.decode(record.item.command)
                assert isinstance(oco, NewOco)
                self.ocos.apply_oco(record, oco, position, now_ns)
            case OcoTriggered():
                self.ocos.apply_trigger(record, now_ns)
            case OcoReleased():
                self.ocos.apply_release(record, now_ns)
            case _:
                self._apply_holds(now_ns, position, record)

    def _apply_holds(self, now_ns: int, position: int, record: Record) -> None:
        match record:
            case OrderHeld():
                order = command_decoder.decode(record.item.command)
                assert isinstance(order, NewOrder)
                self.holds.apply_held(record, order, position, now_ns)
            case RiskDecided():
                self.holds.apply_answer(record, now_ns)
            case HoldTimed():
                self.holds.apply_timer(record, now_ns)
            case RiskChanged():
                self.holds.apply_changed(record)
            case PaperOrdered():
                order = command_decoder.decode(record.item.command)
                assert isinstance(order, NewOrder)
                self.papers.apply(record, order, position, now_ns)
            case _:
                raise AssertionError(f"record {type(record).__name__} has no apply")

    def _apply_start(self, now_ns: int, record: Started | ParamsSet) -> None:
        if isinstance(record, Started):
            self._apply_started(now_ns, record)
            return
        had_forwards = bool(self.state.risk.forwards)
        self.state.set_params(params_decoder.decode(record.content), record.content_hash)
        if self.state.risk.forwards and not had_forwards:
            self.state.risk.changed_ns = now_ns  # a service has this long to come
        for venue in self.state.venues.values():
            venue.changed_ns = venue.changed_ns or now_ns  # a new venue's wait begins here
        self.orders.take_params()

    def _apply_started(self, now_ns: int, record: Started) -> None:
        state = self.state
        state.epoch = record.epoch
        state.instance = record.instance
        state.mode = record.mode
        state.shard = record.shard
        if not state.trading_date:
            state.trading_date = record.trading_date
        if record.order_id_key:
            state.order_id_key = record.order_id_key
            state.keys = KeyHash(record.order_id_key)
        if record.books_money:
            state.book.money.is_booked = True
        for venue in state.venues.values():
            venue.ready = False
            venue.changed_ns = now_ns
        state.losses.forget_prices()
        if state.risk.is_used:
            state.risk.ready, state.risk.changed_ns = False, now_ns
        self.orders.take_identity()

    def decide_again(self, record: Record, now_ns: int) -> bool | None:
        """Return whether the recorded decision is what the core decides now; None where nothing is decided.

        Call it before ``apply`` of the same record. What only the loop knew (why new risk was deferred, a poison
        input) never stands in a record of these kinds.
        """
        state = self.state
        match record:
            case Ordered():
                order = command_decoder.decode(record.item.command)
                assert isinstance(order, NewOrder)
                if record.source == ENGINE:
                    child = self.flattens.decide_child(order, record.item, now_ns, record.reference)
                    return child == record.decision
                route = self.orders.find_route(state.permit(record.source, record.item.principal), order)
                decided = self.decide_new(order, record.item, route, now_ns, record.reference, None)
                return isinstance(decided, NewDecision) and decided == record.decision
            case CancelRequested():
                cancel = command_decoder.decode(record.item.command)
                assert isinstance(cancel, CancelOrder)
                permit = state.permit(record.source, record.item.principal)
                answered = self.orders.decide_cancel(cancel, permit)
                return isinstance(answered, CancelDecision) and answered == record.decision
            case ReplaceRequested() | BasketOrdered() | ExitRequested() | ExitReleased():
                return self._decide_change_again(record, now_ns)
            case Reported():
                venue = state.venues[record.venue]
                return self.reports.decide_report(venue, report_decoder.decode(record.report)) == record.decision
            case Queried():
                venue = state.venues[record.venue]
                if record.is_of_cum:
                    return decide_differing(state, venue) == record
                return self.reports.decide_unknown(venue, venue.received_seq) == record
            case Controlled():
                return self._decide_control_again(record, now_ns)
            case ParamsSet() if record.changed is not None:
                return decide_limit(state, record.changed) == record
            case ParamsSet() if record.applied is not None:
                return is_decided_again(state, record)
            case _:
                return self._decide_rare_again(record, now_ns)

    def _decide_control_again(self, record: Controlled, now_ns: int) -> bool | None:
        if record.action is ControlAction.EXIT_CANCEL:
            return self.exit_replaces.decide_cancels() == record
        if record.action is ControlAction.EXIT_STALE:
            return self.stale_exits.decide_again(record)
        if record.flatten is not None:
            return self.flattens.is_decided_again(record, now_ns)
        return self.controls.is_decided_again(record)

    def _decide_rare_again(self, record: Record, now_ns: int) -> bool | None:
        match record:
            case SessionRolled() | DayOrdersExpired() | KeysRetired():
                return self.rolls.decide_again(record)
            case Reconciled():
                return self.reconciler.decide_again(record)
            case FillEntered():
                return self.reports.decide_entered(report_decoder.decode(record.report)) == record.decision
            case OcoOrdered():
                return self._decide_oco_again(record, now_ns)
            case OcoTriggered() | OcoReleased():
                return self.ocos.decide_again(record, now_ns)
            case TradeAmended():
                return self.amends.decide_again(record, report_decoder.decode(record.report))
            case SuspenseResolved():
                return self.suspense.decide_again(record)
            case Adjusted() | CollateralAdjusted() | FxMarked():
                return self.moneys.decide_again(record)
            case RiskDecided() | HoldTimed():
                return self.holds.decide_again(record, now_ns)
            case OrderHeld() | PaperOrdered():
                return self._decide_breach_again(record, now_ns)
            case _:
                return self._decide_watched_again(record)

    def _decide_watched_again(self, record: Record) -> bool | None:
        """Decide again what only the loop looks at: clocks, prices."""
        match record:
            case ClockUnsynced():
                return decide_unsynced(self.state, record.offset_ns, record.age_ns) == record
            case Marked():
                return decide_trips(self.state, record.marks) == record.trips
            case _:
                return None

    def decide_new(
        self,
        order: NewOrder,
        item: Item,
        route: Route | Code,
        now_ns: int,
        reference: Reference | None,
        defer: RetryReason | None,
    ) -> NewDecision | Replay | Defer | Held:
        """Say what happens to a new order: to the end, where ``Orders.decide_new`` leaves a breach."""
        decided = self.orders.decide_new(order, item, route, now_ns, reference, defer)
        if isinstance(decided, Breach):
            return self.decide_breach(decided, order, item, now_ns, reference, defer)
        return decided

    def decide_breach(
        self,
        breach: Breach,
        order: NewOrder,
        item: Item,
        now_ns: int,
        reference: Reference | None,
        defer: RetryReason | None,
    ) -> NewDecision | Defer | Held:
        """Say whether a breach is paper, held, or refused after all."""
        if self.papers.takes(breach.code):
            return self.papers.decide(breach, order, item.created_at_ns, now_ns, reference, defer)
        return self.holds.decide_hold(breach.code, breach.view, order, breach.id_key)

    def _decide_breach_again(self, record: OrderHeld | PaperOrdered, now_ns: int) -> bool:
        order = command_decoder.decode(record.item.command)
        assert isinstance(order, NewOrder)
        route = self.orders.find_route(self.state.permit(record.source, record.item.principal), order)
        decided = self.decide_new(order, record.item, route, now_ns, record.reference, None)
        if isinstance(record, PaperOrdered):
            return isinstance(decided, NewDecision) and decided == record.decision
        return decided == Held(record.decision, tuple(record.codes), record.deadline_ns)

    def _decide_change_again(
        self, record: ReplaceRequested | BasketOrdered | ExitRequested | ExitReleased, now_ns: int
    ) -> bool:
        match record:
            case ReplaceRequested():
                return self._decide_replace_again(record, now_ns)
            case BasketOrdered():
                return self._decide_basket_again(record, now_ns)
            case ExitRequested():
                return self._decide_exit_again(record, now_ns)
            case ExitReleased():
                return self.exit_replaces.decide_again(record, now_ns)

    def _decide_replace_again(self, record: ReplaceRequested, now_ns: int) -> bool:
        command = command_decoder.decode(record.item.command)
        assert isinstance(command, ReplaceOrder)
        permit = self.state.permit(record.source, record.item.principal)
        decided = self.replaces.decide_replace(command, record.item, permit, now_ns, record.reference, None)
        return isinstance(decided, ReplaceDecision) and decided == record.decision

    def _decide_basket_again(self, record: BasketOrdered, now_ns: int) -> bool:
        command = command_decoder.decode(record.item.command)
        assert isinstance(command, NewBasket)
        routes = self.baskets.find_routes(self.state.permit(record.source, record.item.principal), command)
        decided = self.baskets.decide_basket(command, record.item, routes, now_ns, record.references, None)
        return isinstance(decided, BasketDecision) and decided == record.decision

    def _decide_exit_again(self, record: ExitRequested, now_ns: int) -> bool:
        command = command_decoder.decode(record.item.command)
        assert isinstance(command, ExitReplace)
        permit = self.state.permit(record.source, record.item.principal)
        route = self.orders.find_route(permit, order_of(command))
        decided = self.exit_replaces.decide_exit(command, record.item, route, now_ns, record.reference)
        return isinstance(decided, ExitDecision) and decided == record.decision

    def _decide_oco_again(self, record: OcoOrdered, now_ns: int) -> bool:
        command = command_decoder.decode(record.item.command)
        assert isinstance(command, NewOco)
        route = self.orders.find_route(self.state.permit(record.source, record.item.principal), command.legs[0])
        decided = self.ocos.decide_oco(command, record.item, route, now_ns, record.reference, None)
        return isinstance(decided, OcoDecision) and decided == record.decision
