"""Orders, positions and exposure as RISK.md A1 defines them, folded from the journal's records alone.

Nothing of the core's code is used: every number is made again from what was asked and what the venue said, then
compared with what the core holds.
Refuses an EXIT that is none, and an order that could lead past the position limit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from engine.state import State
from protocol.amends import SuspenseResolved, TradeAmended
from protocol.codes import TERMINAL, ExecType, OrderStatus, OrderType, Side
from protocol.decisions import EngineCancel, NewDecision, OrderClass, Reference, ReplaceAnswer, ReportEffect
from protocol.oco_records import OcoReleased
from protocol.orders import NewOrder, TermedOrder
from protocol.records import Adjusted, ExitReleased, FillEntered, Reported
from protocol.venue import Report, report_decoder
from risk.gate.exposure import Ledger

Key = tuple[str, str]
E9 = 10**9
COLLAR_BP = 1000
BP = 10_000
STOPS = (OrderType.STOP, OrderType.STOP_LIMIT)
STALE_RECORDS = 64
"""Until a stale exit is cancelled: a report's own batch may be full, and an engine that died says more before it."""
SUMMED = (ExecType.TRADE, ExecType.CANCELED, ExecType.EXPIRED)


class Folded:
    """One accepted order."""

    def __init__(self, order: NewOrder, order_id: str, price_e9: int) -> None:
        self.order = order
        self.order_id = order_id
        self.price_e9 = price_e9  # what its reservation is valued at
        self.limit_e9 = 0 if order.order_type is OrderType.STOP else order.price_e9
        self.stop_e9 = order.stop_price_e9 if isinstance(order, TermedOrder) and order.order_type in STOPS else 0
        self.quantity_e9 = order.quantity_e9
        self.asked: tuple[int, int, int] | None = None  # other terms: quantity, limit, stop price, not yet answered
        self.leaves_e9 = order.quantity_e9
        self.cum_e9 = 0
        self.status = OrderStatus.PENDING_NEW
        self.closed_at = 0
        self.waits: list[str] = []  # of an exit in the place of others
        self.ahead: Folded | None = None  # of the second order of an OCO group: the first
        self.is_exit = False  # it was taken as one
        self.is_cancelled = False  # once, by whomever
        self.asks_flip = False  # other terms that were asked for add what is no exit

    def count(self) -> None:
        """Leave what could still trade: of the larger total while other terms are unanswered."""
        most = max(self.quantity_e9, self.asked[0] if self.asked else 0)
        self.leaves_e9 = most - self.cum_e9
        assert self.leaves_e9 >= 0, f"{self.order_id} filled more than it is"

    @property
    def left_e9(self) -> int:
        """Of the second order of an OCO group: what the fills of the first have left of it."""
        assert self.ahead is not None
        return max(0, self.quantity_e9 - self.ahead.cum_e9)

    @property
    def is_behind(self) -> bool:
        return self.ahead is not None and self.status is OrderStatus.SUSPENDED

    @property
    def reserved_e9(self) -> int:
        """What the order adds to B or S: behind another of its group only what it may fill beyond that one."""
        if self.ahead is None or not self.is_behind:
            return self.leaves_e9
        return max(0, self.left_e9 - self.ahead.leaves_e9)

    @property
    def value_e9(self) -> int:
        """What the order adds to the open value, likewise."""
        if self.ahead is None or not self.is_behind:
            return self.leaves_e9 * self.worst_e9 // E9
        return max(0, self.left_e9 * self.price_e9 // E9 - self.ahead.value_e9)

    @property
    def worst_e9(self) -> int:
        """The price at which it is reserved."""
        return max(self.price_e9, self._priced(*self.asked[1:]) if self.asked else 0)

    def _priced(self, limit_e9: int, stop_e9: int) -> int:
        return limit_e9 if self.order.order_type is not OrderType.STOP else collar_e9(self.order.side, stop_e9)

    def take_terms(self) -> None:
        """Work under what was asked for."""
        assert self.asked is not None
        self.quantity_e9, self.limit_e9, self.stop_e9 = self.asked
        self.is_exit = self.is_exit and not self.asks_flip
        self.price_e9 = self._priced(self.limit_e9, self.stop_e9)

    @property
    def key(self) -> Key:
        return self.order.account, self.order.instrument

    @property
    def sign(self) -> int:
        return 1 if self.order.side is Side.BUY else -1


class Exposure:
    """P, B, S of one key, orders open and their value, all in 1e-9."""

    def __init__(self) -> None:
        self.position = self.buy = self.sell = 0

    def as_tuple(self) -> tuple[int, int, int]:
        return self.position, self.buy, self.sell


class Ledgers:
    """Every order ever accepted, and the position of every (account, instrument)."""

    def __init__(self, position_max_e9: int) -> None:
        self.position_max_e9 = position_max_e9
        self.is_venue_honest = True  # else what it reports is no truth to hold the engine to
        self.positions: dict[Key, int] = defaultdict(int)
        self.own: dict[tuple[str, str, str], int] = defaultdict(int)
        self.orders: dict[str, Folded] = {}
        self.open: dict[str, Folded] = {}
        self.trades: dict[str, Report] = {}
        self.counted: dict[str, int] = {}  # what of each trade counts now: 0 = it was taken back
        self.first_ids: dict[str, str] = {}  # of corrections, the trade that each is of
        self.stale: dict[str, int] = {}  # exits of more than is left, and since which record they are to be cancelled
        self.ever_stale: set[str] = set()
        self.miscounted = 0  # reports whose sum was not that of the trades
        self.drifted_e9 = 0  # how much was ever taken back or corrected: no limit stands before that

    def accept(self, legs: Sequence[tuple[NewOrder, NewDecision, Reference | None]]) -> None:
        """Take one order, or all legs of a basket together; say so if one should not have been, the others in it."""
        taken = [(Folded(o, d.order_id, _price_e9(o, ref)), d) for o, d, ref in legs]
        for folded, decision in taken:
            assert decision.order_id not in self.orders, f"{decision.order_id} is two orders"
            self.orders[decision.order_id] = self.open[decision.order_id] = folded
        for folded, decision in taken:
            order = folded.order
            folded.is_exit = decision.order_class is OrderClass.EXIT
            reach = self.positions[folded.key] * folded.sign + sum(
                o.reserved_e9 for o in self.open.values() if (o.key, o.order.side) == (folded.key, order.side)
            )
            if decision.order_class is OrderClass.EXIT:
                assert self.positions[folded.key] * folded.sign < 0, f"{order} is no exit: nothing to exit from"
                assert reach <= 0, f"{order} is no exit: with all pending it reaches {reach}"
            else:
                assert reach <= self.position_max_e9, f"{order} reaches {reach}, the limit is {self.position_max_e9}"
                assert not order.reduce_only, f"{order} promised to reduce only"

    def accept_group(self, legs: Sequence[tuple[NewOrder, NewDecision]], reference: Reference | None) -> None:
        """Take the two orders of an OCO group: each as if it were alone, for only one of them can fill."""
        (order, decision), (behind, waits) = legs
        second = Folded(behind, waits.order_id, _price_e9(behind, reference))
        self.accept([(behind, waits, reference)])
        del self.orders[waits.order_id], self.open[waits.order_id]
        self.accept([(order, decision, reference)])
        second.ahead = self.orders[decision.order_id]
        second.is_exit = waits.order_class is OrderClass.EXIT
        second.leaves_e9, second.status = 0, OrderStatus.SUSPENDED
        self.orders[waits.order_id] = self.open[waits.order_id] = second

    def release_group(self, record: OcoReleased) -> None:
        """Take what goes out of a group; say so if the other order is open, or if it is more than may go."""
        second = self.orders[record.order_id]
        assert second.is_behind, f"{record} lets out an order that is {second.status.name}"
        assert second.ahead is not None
        assert second.ahead.order_id not in self.open, f"{record} goes out before the other is over"
        held = -self.positions[second.key] * second.sign
        pending = sum(
            o.reserved_e9
            for o in self.open.values()
            if o is not second and (o.key, o.order.side) == (second.key, second.order.side)
        )
        left, quantity = second.left_e9, record.quantity_e9
        assert 0 < quantity <= left, f"{record} of {left}"
        if not second.is_exit or left + pending <= held:
            assert quantity == left, f"{record} of {left}, held {held}, pending {pending}"
        else:
            assert quantity <= held, f"{record} of a position of {held}"
            assert not second.order.reduce_only or quantity + pending <= held, f"{record}, pending {pending} of {held}"
        second.quantity_e9 = second.leaves_e9 = quantity
        second.status = OrderStatus.PENDING_NEW

    def suspend(self, order: NewOrder, order_id: str, waits: list[str]) -> None:
        """Take an exit that waits for others: open, with nothing that could trade."""
        assert order_id not in self.orders, f"{order_id} is two orders"
        folded = Folded(order, order_id, 0)
        folded.leaves_e9, folded.status, folded.waits = 0, OrderStatus.SUSPENDED, waits
        folded.is_exit = True
        self.orders[order_id] = self.open[order_id] = folded

    def release(self, record: ExitReleased, *, is_own: bool) -> None:
        """Take what goes out of it; say so if something it waits for is open, or if it is no exit now.

        ``is_own``: its strategy may only reduce, so the strategy's own part of the position bounds it too.
        """
        folded = self.orders[record.order_id]
        assert folded.status is OrderStatus.SUSPENDED, f"{record} lets out an order that is {folded.status.name}"
        still = [i for i in folded.waits if i in self.open]
        assert not still, f"{record} goes out before {still} are over"
        pending = sum(
            o.reserved_e9 for o in self.open.values() if (o.key, o.order.side) == (folded.key, folded.order.side)
        )  # fmt: skip
        position = self.positions[folded.key] * folded.sign
        left = min(folded.quantity_e9, -position - pending)
        if is_own:
            own = (*folded.key, folded.order.strategy)
            mine = sum(
                o.reserved_e9
                for o in self.open.values()
                if (*o.key, o.order.strategy, o.order.side) == (*own, folded.order.side)
            )
            left = min(left, -self.own[own] * folded.sign - mine)
        assert record.quantity_e9 == left > 0, f"{record} of a position {position}, pending {pending}"
        folded.quantity_e9 = folded.leaves_e9 = left
        folded.price_e9 = _price_e9(folded.order, record.reference)
        folded.status = OrderStatus.PENDING_NEW

    def set_status(self, order_id: str, status: OrderStatus, seq: int) -> None:
        """Take what was decided about an order."""
        folded = self.orders[order_id]
        if status in TERMINAL:
            folded.leaves_e9 = 0
            self.open.pop(order_id, None)
            self.stale.pop(order_id, None)
            if folded.status not in TERMINAL:
                folded.closed_at = seq
        folded.status = status

    def report(self, record: Reported | FillEntered, seq: int) -> None:
        """Take what the venue said."""
        report = report_decoder.decode(record.report)
        folded = self.orders.get(report.order_id)
        if folded is None or not self.is_venue_honest:
            return
        if isinstance(record, Reported):
            self._require_noticed(report, record.decision.effect, folded)
        drifts = report.order_id not in self.open or report.order_id in self.ever_stale
        if report.exec_type is ExecType.TRADE and report.trade_id not in self.counted:
            self.trades[report.trade_id] = report
            self.counted[report.trade_id] = report.last_quantity_e9
            self.positions[folded.key] += report.last_quantity_e9 * folded.sign
            self.own[(*folded.key, folded.order.strategy)] += report.last_quantity_e9 * folded.sign
            folded.cum_e9 += report.last_quantity_e9
        if folded.asked and record.decision.replace_answer is ReplaceAnswer.TAKEN:
            folded.take_terms()
        if record.decision.replace_answer is not ReplaceAnswer.NONE:
            folded.asked = None
        if folded.leaves_e9:
            folded.count()
        self.set_status(report.order_id, record.decision.status, seq)
        assert record.decision.cum_quantity_e9 == folded.cum_e9, f"{report} counted as {record.decision}"
        if report.last_quantity_e9 and (drifts or isinstance(record, FillEntered)):
            self._drift(folded.key, seq)

    def _drift(self, key: Key, seq: int) -> None:
        """A position moved outside its open exits: note which of them, newest first, exceed what is left."""
        for sign in (1, -1):
            exits = [o for o in self.open.values() if (o.key, o.sign) == (key, sign) and o.is_exit and o.leaves_e9]
            exits = [o for o in exits if o.status is not OrderStatus.SUSPENDED]
            excess_e9 = sum(o.leaves_e9 for o in exits) - max(0, -sign * self.positions[key])
            while excess_e9 > 0:
                newest = exits.pop()
                excess_e9 -= newest.leaves_e9
                if not newest.is_cancelled and newest.order_id not in self.ever_stale:
                    self.stale[newest.order_id] = seq
                self.ever_stale.add(newest.order_id)

    def require_none_stale(self, seq: int) -> None:
        """An exit of more than is left is cancelled at once, or it may carry the position past zero."""
        late = [order_id for order_id, since in self.stale.items() if seq - since > STALE_RECORDS]
        assert not late, f"{late} are exits of more than is left since record {self.stale[late[0]]}, and work on"

    def _require_noticed(self, report: Report, effect: ReportEffect, folded: Folded) -> None:
        """A fill, or an end, that says another sum than the trades that count come to is told apart, and no other."""
        is_again = report.trade_id != "" and report.trade_id in self.counted
        if report.exec_type not in SUMMED or is_again or effect is ReportEffect.REFUSED:
            return
        counts_e9 = folded.cum_e9 + report.last_quantity_e9
        differs = report.cum_quantity_e9 not in {0, counts_e9}
        self.miscounted += differs
        assert (effect is ReportEffect.CUM_DIFFERS) == differs, (
            f"{report} says another sum than {counts_e9}: {effect!r}"
        )

    def amend(self, record: TradeAmended, seq: int) -> None:
        """Take that the venue took a trade back, or corrected it: once, and exactly what it counted."""
        report = report_decoder.decode(record.report)
        assert report.details is not None
        named = report.details.original_trade_id
        trade_id = self.first_ids.get(named, named)
        effect = record.decision.effect
        if trade_id not in self.trades:
            assert effect is ReportEffect.TRADE_UNKNOWN, f"{report} is of no trade, and was {effect.name}"
            self.counted.setdefault(trade_id, 0)
            return
        before_e9 = self.counted[trade_id]
        is_again = not before_e9 or report.trade_id in self.first_ids
        assert (effect is ReportEffect.APPLIED) != is_again, f"{report} counted {before_e9}, and was {effect.name}"
        if is_again:
            return
        to_e9 = 0 if report.exec_type is ExecType.TRADE_CANCEL else report.last_quantity_e9
        if to_e9:
            self.first_ids[report.trade_id] = trade_id
        self.counted[trade_id] = to_e9
        folded = self.orders[report.order_id]
        self.positions[folded.key] += (to_e9 - before_e9) * folded.sign
        self.own[(*folded.key, folded.order.strategy)] += (to_e9 - before_e9) * folded.sign
        self.drifted_e9 += abs(to_e9 - before_e9)
        folded.cum_e9 += to_e9 - before_e9
        if report.order_id in self.open:
            folded.count()
        self.set_status(report.order_id, record.decision.status, seq)
        assert record.decision.cum_quantity_e9 == folded.cum_e9, f"{report} counted as {record.decision}"
        self._drift(folded.key, seq)

    def ask(self, order_id: str, quantity_e9: int, price_e9: int, stop_e9: int) -> None:
        """Take other terms that were asked for: until they are answered the worst of both is reserved."""
        folded = self.orders[order_id]
        added_e9 = max(0, quantity_e9 - folded.quantity_e9)
        pending_e9 = sum(
            o.reserved_e9 for o in self.open.values() if (o.key, o.order.side) == (folded.key, folded.order.side)
        )  # fmt: skip
        held_e9 = -self.positions[folded.key] * folded.sign
        folded.asks_flip = added_e9 > 0 and not (held_e9 > 0 and pending_e9 + added_e9 <= held_e9)
        folded.asked = quantity_e9, price_e9, stop_e9
        folded.count()

    def unask(self, order_id: str, status: OrderStatus, seq: int) -> None:
        """Take that other terms never went out."""
        folded = self.orders[order_id]
        folded.asked = None
        folded.count()
        self.set_status(order_id, status, seq)

    def cancel(self, order_id: str) -> None:
        """Take that a cancel of it was decided: whoever it was, it is not needed twice."""
        self.orders[order_id].is_cancelled = True
        self.stale.pop(order_id, None)

    def cancel_unsent(self, cancel: EngineCancel, seq: int) -> None:
        """Take an order that never went out."""
        self.set_status(cancel.order_id, OrderStatus.CANCELED, seq)

    def adjust(self, record: Adjusted | SuspenseResolved, seq: int) -> None:
        """Take account truth from outside, or whose a fill is that nobody knew."""
        if isinstance(record, SuspenseResolved):
            if record.account:
                signed_e9 = record.quantity_e9 if record.side is Side.BUY else -record.quantity_e9
                self.positions[record.account, record.instrument] += signed_e9
                self.own[record.account, record.instrument, record.strategy] += signed_e9
                self._drift((record.account, record.instrument), seq)
        elif record.instrument:
            self.positions[record.account, record.instrument] = record.quantity_e9
            self._drift((record.account, record.instrument), seq)

    # From scratch

    def exposure(self) -> dict[Key, tuple[int, int, int]]:
        """Return (P, B, S) by key, where any is not 0."""
        found: dict[Key, Exposure] = defaultdict(Exposure)
        for key, position in self.positions.items():
            found[key].position = position
        for order in self.open.values():
            _reserve(found[order.key], order)
        return {k: e.as_tuple() for k, e in found.items() if any(e.as_tuple())}

    def own_exposure(self) -> dict[tuple[str, str, str], tuple[int, int, int]]:
        """Return (P, B, S) by (account, instrument, strategy), where any is not 0."""
        found: dict[tuple[str, str, str], Exposure] = defaultdict(Exposure)
        for key, position in self.own.items():
            found[key].position = position
        for order in self.open.values():
            _reserve(found[(*order.key, order.order.strategy)], order)
        return {k: e.as_tuple() for k, e in found.items() if any(e.as_tuple())}

    def open_value_e9(self, account: str) -> tuple[int, int]:
        """Return how many orders of the account are open, and what they are worth."""
        orders = [o for o in self.open.values() if o.order.account == account]
        return len(orders), sum(o.value_e9 for o in orders)


def _reserve(exposure: Exposure, order: Folded) -> None:
    if order.sign > 0:
        exposure.buy += order.reserved_e9
    else:
        exposure.sell += order.reserved_e9


def _price_e9(order: NewOrder, reference: Reference | None) -> int:
    """Return the worst price the order may trade at: its limit, or the collar, around its stop price if it has one."""
    if order.order_type is OrderType.STOP:
        assert isinstance(order, TermedOrder)
        return collar_e9(order.side, order.stop_price_e9)
    if order.order_type is not OrderType.MARKET:
        return order.price_e9
    assert reference is not None, f"{order} was accepted without a reference"
    return collar_e9(order.side, reference.price_e9)


def collar_e9(side: Side, around_e9: int) -> int:
    """Return the worst price inside the collar, rounded inward."""
    if side is Side.BUY:
        return around_e9 * (BP + COLLAR_BP) // BP // E9 * E9
    return -(-around_e9 * (BP - COLLAR_BP) // BP // E9) * E9


def require_same_exposure(state: State, ledgers: Ledgers) -> None:
    """What the engine holds of exposure, counts, values and order states is what the records add up to."""
    steps = {name: i.quantity_step_e9 for name, i in state.instruments.items()}
    book = {k: _in_e9(v, steps[k[1]]) for k, v in state.book.ledgers.items()}
    assert {k: v for k, v in book.items() if any(v)} == ledgers.exposure(), "exposure is not that of the records"
    own = {(a, i, s): _in_e9(route.own, steps[i]) for (a, s, i), route in state.routes.items()}
    assert {k: v for k, v in own.items() if any(v)} == ledgers.own_exposure(), "a strategy's is not that of the records"
    for name, account in state.accounts.items():
        reserved = account.open_count, account.open_value_e9
        assert reserved == ledgers.open_value_e9(name), f"{name} has {reserved} open, not as the records say"
    statuses = {o.order_id: o.status for o in state.orders.values()}
    assert statuses == {o.order_id: o.status for o in ledgers.open.values()}, "an order's state is not its records'"


def _in_e9(ledger: Ledger, step_e9: int) -> tuple[int, int, int]:
    return ledger.position * step_e9, ledger.buy * step_e9, ledger.sell * step_e9
