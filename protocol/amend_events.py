"""Events of trades taken back, corrected, or of nobody's order, and how they are read out of the records."""

from __future__ import annotations

from msgspec import Struct

from protocol.amends import Amendment, SuspenseResolved, TradeAmended
from protocol.codes import ExecType, Liquidity, OrderStatus, Side, TradeStatus
from protocol.decisions import ReplaceAnswer
from protocol.units import INT64_MAX
from protocol.venue import Details, Report, report_decoder

_NO_DETAILS = Details()


class AmendEvent(Struct, array_like=True, tag=8, frozen=True):
    """A trade was taken back (TRADE_CANCEL) or corrected (TRADE_CORRECT); ``operator``: by hand.

    Attributes:
        trade_id: Under which the trade came first; ``correction_id`` is the venue's id of this correction.
        quantity_e9: Before, as ``price_e9``; ``last_quantity_e9`` and ``last_price_e9`` after, 0 = taken back.
        knows_order: False: the engine no longer remembers the order; status, leaves, cum and value are not said.
        value_change_e9: What the order's value changes by.
        order_quantity_e9: The order's terms where the correction says that they changed, else 0.
        fee_e9: Of the corrected trade, where ``currency`` is said.
    """

    seq: int
    n: int
    at_ns: int
    exec_type: ExecType
    account: str
    client_order_id: str
    order_id: str
    strategy: str
    instrument: str
    side: Side
    status: OrderStatus
    leaves_quantity_e9: int
    cum_quantity_e9: int
    value_e9: int
    trade_id: str
    correction_id: str
    venue: str
    quantity_e9: int
    price_e9: int
    last_quantity_e9: int
    last_price_e9: int
    value_change_e9: int
    fee_e9: int
    currency: str
    exch_ns: int
    position_e9: int
    trace_id: bytes
    knows_order: bool
    order_quantity_e9: int
    order_price_e9: int
    operator: str
    reason: str


class SuspenseEvent(Struct, array_like=True, tag=9, frozen=True):
    """A fill of an order that nobody knows came (SUSPENSE), was ASSIGNED, DISMISSED or taken back (BUSTED).

    ``side`` 0: not said. ``position_e9``: of (account, instrument) after it, where it is ASSIGNED.
    """

    seq: int
    n: int
    at_ns: int
    status: TradeStatus
    venue: str
    trade_id: str
    order_id: str
    account: str
    strategy: str
    instrument: str
    side: int
    last_quantity_e9: int
    last_price_e9: int
    liquidity: Liquidity = Liquidity.NONE
    fee_e9: int = 0
    currency: str = ""
    venue_order_id: str = ""
    exch_ns: int = 0
    position_e9: int = 0
    operator: str = ""
    reason: str = ""


def suspended_fill(seq: int, n: int, now_ns: int, venue: str, report: Report) -> SuspenseEvent | None:
    """Return the event of a fill of an unknown order; None of a report that says too little to be one."""
    if not (report.trade_id and 0 < report.last_quantity_e9 <= INT64_MAX and 0 < report.last_price_e9 <= INT64_MAX):
        return None
    details = report.details or _NO_DETAILS
    return SuspenseEvent(
        seq, n, now_ns, TradeStatus.SUSPENSE, venue, report.trade_id, report.order_id, details.account, "",
        details.instrument, int(details.side or 0), report.last_quantity_e9, report.last_price_e9, report.liquidity,
        report.fee_e9, report.currency, report.venue_order_id, report.exch_ns,
    )  # fmt: skip


def amend_events(seq: int, now_ns: int, record: TradeAmended | SuspenseResolved) -> list[AmendEvent | SuspenseEvent]:
    """Return what happened to a trade; nothing of a report that changed none."""
    if isinstance(record, SuspenseResolved):
        return [_resolved(seq, now_ns, record)] if record.trade_id else []
    if record.amendment is None:
        return []
    report = report_decoder.decode(record.report)
    if record.amendment.in_suspense:
        return [_of_suspended(seq, now_ns, record.venue, report, record.amendment)]
    return [_amended(seq, now_ns, record, report, record.amendment)]


def _amended(seq: int, now_ns: int, record: TradeAmended, report: Report, amendment: Amendment) -> AmendEvent:
    d = record.decision
    takes = d.replace_answer is ReplaceAnswer.TAKEN
    return AmendEvent(
        seq, 0, now_ns, report.exec_type, d.account, d.client_order_id, report.order_id, d.strategy, d.instrument,
        d.side, d.status, d.leaves_quantity_e9, d.cum_quantity_e9, d.value_e9, amendment.trade_id, report.trade_id,
        record.venue, amendment.quantity_e9, amendment.price_e9, amendment.to_quantity_e9, amendment.to_price_e9,
        amendment.value_e9, report.fee_e9, report.currency, report.exch_ns, d.position_e9, d.trace_id,
        amendment.knows_order, d.quantity_e9 if takes else 0, d.price_e9 if takes else 0, record.operator,
        record.reason,
    )  # fmt: skip


def _of_suspended(seq: int, now_ns: int, venue: str, report: Report, amendment: Amendment) -> SuspenseEvent:
    is_cancel = report.exec_type is ExecType.TRADE_CANCEL
    quantity_e9, price_e9 = amendment.to_quantity_e9, amendment.to_price_e9
    if is_cancel:
        quantity_e9, price_e9 = amendment.quantity_e9, amendment.price_e9
    return SuspenseEvent(
        seq, 0, now_ns, TradeStatus.BUSTED if is_cancel else TradeStatus.SUSPENSE, venue, amendment.trade_id,
        report.order_id, "", "", "", 0, quantity_e9, price_e9,
    )  # fmt: skip


def _resolved(seq: int, now_ns: int, record: SuspenseResolved) -> SuspenseEvent:
    return SuspenseEvent(
        seq, 0, now_ns, TradeStatus.ASSIGNED if record.account else TradeStatus.DISMISSED, record.venue,
        record.trade_id, "", record.account, record.strategy, record.instrument, int(record.side), record.quantity_e9,
        record.price_e9, position_e9=record.position_e9, operator=record.operator, reason=record.reason,
    )  # fmt: skip
