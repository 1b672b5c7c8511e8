"""One line for a person about a record that is no order's: what the engine did, or what happened to it."""

from __future__ import annotations

from protocol.amends import SuspenseResolved, TradeAmended
from protocol.held_records import RiskChanged
from protocol.money import CollateralAdjusted, FxMarked
from protocol.records import (
    AcceptedCut,
    Clocked,
    ClockUnsynced,
    Failed,
    ParamsSet,
    Queried,
    Record,
    Started,
    StateChecked,
    VenueChanged,
)
from protocol.rolls import KeysRetired, SessionRolled
from protocol.statement import Reconciled
from protocol.texts import difference_text
from protocol.units import format_e9


def reconciled_lines(record: Reconciled) -> list[str]:
    """Return what a reconciliation found, a line for the whole and one for each difference."""
    by = f" by {record.operator}: {record.reason}" if record.operator else ""
    positions = f"{record.positions} positions" if record.positions >= 0 else "no positions"
    whole = (
        f"{record.venue} as of command {record.received_seq}, report {record.report_seq} ({record.cause}{by}): "
        f"{record.orders} open orders, {record.fills} fills, {positions} stated, "
        f"{len(record.differences) + record.more} differences"
    )
    return [whole, *map(difference_text, record.differences)]


def system_text(record: Record) -> str:
    """Return the line of any other record; empty where its name says it all."""
    match record:
        case Started():
            text = f"epoch {record.epoch}, mode {record.mode.name}, trading date {record.trading_date}"
            return text if record.accepted_cut is None else f"{text}; {_cut_text(record.accepted_cut)}"
        case ParamsSet():
            return _params_text(record)
        case SessionRolled():
            by = f"by {record.operator}: {record.reason}" if record.operator else "by the calendar"
            return f"trading date {record.from_date} is over, {record.to_date} begins, {by}"
        case KeysRetired():
            return f"order ids of earlier sessions left, part {record.part + 1} of {record.parts}"
        case VenueChanged():
            return f"venue {record.venue} {'READY' if record.ready else 'LOST'}, received {record.received_seq}"
        case Clocked():
            return f"clock jumped {record.jump_ns} ns; reduce-only until confirmed"
        case Failed():
            return f"decide failed for account {record.account}: {record.text}"
        case Queried():
            why = ", which counts other fills of them" if record.is_of_cum else ""
            return f"{len(record.queries)} orders UNKNOWN at {record.venue}{why}, queried"
        case StateChecked():
            return f"state {record.state_hash} ({record.why})"
        case TradeAmended():
            return f"a trade of {record.venue} taken back or corrected: {record.decision.effect.name}, nothing changed"
        case SuspenseResolved():
            return f"fills beyond the suspense ledger were looked at by {record.operator}: {record.reason}"
        case _:
            return _rare_text(record)


def _rare_text(record: Record) -> str:
    if isinstance(record, ClockUnsynced):
        return f"clock {record.offset_ns} ns off {record.age_ns} ns ago; reduce-only until an operator resumes"
    if isinstance(record, RiskChanged):
        return f"risk service {record.instance_epoch} {'READY' if record.ready else 'LOST'}"
    if isinstance(record, CollateralAdjusted):
        by = f"by {record.operator or 'the opening file'}: {record.reason}"
        to = f"{_amount(record.value_e9)} {record.currency}, haircut {record.haircut_bp} bp"
        return f"collateral {record.asset} of {record.account} {_amount(record.was_e9)} to {to}, {by}"
    if isinstance(record, FxMarked):
        by = f"by {record.operator or 'the opening file'}: {record.reason}"
        return f"1 {record.of} {format_e9(record.was_e9)} to {format_e9(record.rate_e9)} {record.to}, {by}"
    return ""


def _amount(e9: str) -> str:
    return format_e9(int(e9))


def _params_text(record: ParamsSet) -> str:
    changed, applied = record.changed, record.applied
    if applied is not None:
        return f"limits of {applied.file} applied by {applied.operator}: {applied.reason}"
    if changed is None:
        return f"parameters {record.content_hash.hex()}"
    value = "lifted" if changed.value is None else f"set to {changed.value}"
    where = f"{changed.scope.name.lower()} {changed.key}".rstrip()
    return f"limit {changed.name.name} of {where} {value} by {changed.operator}: {changed.reason}"


def _cut_text(cut: AcceptedCut) -> str:
    seen = ", ".join(f"{name} had seen {seq if seq >= 0 else 'what nobody can say'}" for name, seq in cut.seen)
    return f"{cut.operator} accepted that the journal was cut behind record {cut.last_seq} ({seen}): {cut.reason}"
