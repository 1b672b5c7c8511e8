"""What a set of seeds asked for: every kind of command and of terms, taken and refused, and every operator's deed.

Read from the journal's records alone. What the protocol has and no seed asks for stands in ``NOT_DRAWN`` with the test
that does; all else must be there, or the run says so and fails. A command that is new in the protocol is required too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from protocol.codes import Code, ExecType, OrderStatus, OrderType, OutcomeKind, TimeInForce
from protocol.decisions import OrderClass, ReportEffect
from protocol.held_records import HoldEffect, HoldTimed, OrderHeld, RiskDecided
from protocol.oco_records import OcoOrdered, OcoReleased, OcoTriggered
from protocol.orders import Command, NewBasket, NewOrder, TermedOrder, command_decoder
from protocol.records import (
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
)
from protocol.venue import report_decoder
from tests.simulation.checkers import Watch

Asked = Counter[str]
TAKEN, REFUSED = "taken", "refused"
ENDS = (ExecType.REJECTED, ExecType.EXPIRED, ExecType.TRIGGERED, ExecType.REPLACED, ExecType.REPLACE_REJECT)
# "What, how": why no seed asks for it, and who does.
NOT_DRAWN = {
    "operator RESOLVE": "an operator's word in the place of the venue's: tests/unit/engine, tests/processes",
    "operator DISCONNECT": "needs a source that is away for long: tests/unit/engine/test_disconnect.py",
}
Decided = Ordered | CancelRequested | ReplaceRequested | BasketOrdered | ExitRequested | OcoOrdered


def _required() -> Iterator[str]:
    for kind in get_args(Command):
        yield from (f"{kind.__name__} {how}" for how in (TAKEN, REFUSED))
    for name in (*OrderType, *TimeInForce):
        yield f"{name.name} {TAKEN}"
    for name in ("post-only", "reduce-only", "exit"):
        yield from (f"{name} {how}" for how in (TAKEN, REFUSED) if (name, how) != ("exit", REFUSED))
    yield from (f"operator {action.name}" for action in ControlAction)
    yield from ("limit changed", "basket of exits", "released", "nothing left", "stop order ended")
    yield from ("group triggered", "group sent", "group filled", "group of exits")
    yield from (f"venue {what.name}" for what in ENDS)
    yield "sum differs"
    yield from (f"hold {effect.name}" for effect in HoldEffect)
    yield from ("held", "hold trimmed")


REQUIRED = tuple(what for what in _required() if what not in NOT_DRAWN)


def missing(asked: Asked) -> list[str]:
    """Return what should have been asked for and was not."""
    return [what for what in REQUIRED if not asked[what]]


def asked_of(watch: Watch) -> Asked:
    """Count what the journal of one run says was asked for."""
    asked: Asked = Counter()
    for *_, record in watch.records:
        asked.update(_of_record(record, watch))
    return asked


def _of_record(record: Record, watch: Watch) -> Iterator[str]:
    match record:
        case Ordered() | CancelRequested() | ReplaceRequested() | BasketOrdered() | ExitRequested() | OcoOrdered():
            yield from _of_command(record)
        case OcoTriggered():
            yield "group triggered"
        case OcoReleased():
            yield "group sent" if record.cancel is None else "group filled" if record.code is Code.OCO_FILLED else ""
        case Controlled():
            yield f"operator {record.action.name}"
        case ParamsSet() if record.changed is not None:
            yield "limit changed"
        case ExitReleased():
            yield "released" if record.cancel is None else "nothing left" if record.code is Code.NOTHING_LEFT else ""
        case Reported():
            report = report_decoder.decode(record.report)
            yield f"venue {report.exec_type.name}"
            yield "sum differs" if record.decision.effect is ReportEffect.CUM_DIFFERS else ""
            order = watch.accepted.get(report.order_id)
            if order is not None and order.order_type in {OrderType.STOP, OrderType.STOP_LIMIT}:
                yield "stop order ended" if record.decision.status is OrderStatus.FILLED else ""
        case OrderHeld():
            yield "held"
        case RiskDecided() | HoldTimed():
            yield f"hold {record.decision.effect.name}"
            yield "hold trimmed" if record.decision.code is Code.RISK_TRIMMED else ""


def _of_command(record: Decided) -> Iterator[str]:
    command = command_decoder.decode(record.item.command)
    how = TAKEN if record.decision.kind is OutcomeKind.ACCEPTED else REFUSED
    yield f"{type(command).__name__} {how}"
    if isinstance(command, NewOrder):
        assert isinstance(record, Ordered)
        yield from (f"{command.order_type.name} {how}", f"{command.time_in_force.name} {how}")
        if command.reduce_only:
            yield f"reduce-only {how}"
        if isinstance(command, TermedOrder) and command.post_only:
            yield f"post-only {how}"
        if record.decision.order_class is OrderClass.EXIT:
            yield f"exit {how}"
    if isinstance(command, NewBasket):
        assert isinstance(record, BasketOrdered)
        if any(leg.order_class is OrderClass.EXIT for leg in record.decision.legs):
            yield "basket of exits"
    if isinstance(record, OcoOrdered) and all(leg.order_class is OrderClass.EXIT for leg in record.decision.legs):
        yield "group of exits" if record.decision.legs else ""
