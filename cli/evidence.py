"""What each holder says of the same orders: the sender's log, the journal, the gateway's log. Reads, decides nothing.

Rule: each holder is read from its own durable file, so a process that lies about itself can't hide it here.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from cli.flow_log import Entry, Kind, client_order_id, read, unanswered
from journal.reader import read_batches
from protocol.amends import TradeAmended
from protocol.codes import Code, ExecType, OutcomeKind
from protocol.decisions import BOOKED
from protocol.orders import NewOrder, command_decoder
from protocol.paper import PaperOrdered
from protocol.records import FillEntered, Ordered, Reported, record_decoder
from protocol.venue import Report, SendNew, report_decoder
from venues.core.log import Batch, Checkpoint, KillChanged, TradeChanged, read_log
from venues.core.state import new_commands


class Sent(NamedTuple):
    """The flow's log: what was sent, and the code each answered order was told."""

    orders: dict[str, Code | None]
    cancels: int
    first_number: int


class Journaled(NamedTuple):
    """The journal: outcomes of the flow's ids, every accepted order id, and what came back from the venue."""

    records: int
    last_seq: int
    outcomes: dict[str, list[Code]]
    accepted: set[str]
    trades: Counter[str]
    trade_reports: dict[str, int]
    report_seq: int


class AtVenue(NamedTuple):
    """The gateway's log: orders it was sent, orders the venue made of them, fills by trade id with their report."""

    sent: Counter[str]
    made: Counter[str]
    trades: dict[str, int]
    report_seq: int
    complete: bool


def sent_by_flow(folder: Path) -> Sent:
    """Return what the demonstration flow's kept segments say."""
    orders: dict[str, Code | None] = {}
    cancels = 0
    first = 0
    for entry in read(folder):
        first = first or entry.number
        if entry.kind is Kind.CANCEL:
            cancels += 1
        elif entry.kind is Kind.ORDER:
            orders.setdefault(client_order_id(entry.number), None)
        elif client_order_id(entry.number) in orders:
            orders[client_order_id(entry.number)] = Code(entry.code)
    return Sent(orders, cancels, first)


def unanswered_now(folder: Path) -> list[Entry]:
    """Return what the flow sent and has no answer for."""
    return list(unanswered(read(folder)))


TAKEN: Final = (OutcomeKind.ACCEPTED, OutcomeKind.PAPER)


def journaled(folder: Path, account: str, ids: set[str]) -> Journaled:
    """Return what the journal says, up to its durable end of now."""
    outcomes: dict[str, list[Code]] = {}
    accepted: set[str] = set()
    trades: Counter[str] = Counter()
    trade_reports: dict[str, int] = {}
    records = last_seq = report_seq = 0
    for batch in read_batches(folder):
        for seq, _, data in batch.records:
            record = record_decoder.decode(data)
            records, last_seq = records + 1, seq
            match record:
                case Ordered() | PaperOrdered():
                    order = command_decoder.decode(record.item.command)
                    assert isinstance(order, NewOrder)
                    if record.decision.kind in TAKEN:
                        accepted.add(record.decision.order_id)
                    if order.account == account and order.client_order_id in ids and record.decision.takes_key:
                        outcomes.setdefault(order.client_order_id, []).append(record.decision.code)
                case Reported():
                    report = report_decoder.decode(record.report)
                    report_seq = max(report_seq, report.report_seq)
                    if report.last_quantity_e9 and record.decision.effect in BOOKED:
                        trades[report.trade_id] += 1
                        trade_reports[report.trade_id] = report.report_seq
                case TradeAmended():
                    report_seq = max(report_seq, report_decoder.decode(record.report).report_seq)
                case FillEntered():  # by hand: the venue's own report of it may come, and is then a duplicate
                    trades[report_decoder.decode(record.report).trade_id] += 1
    return Journaled(records, last_seq, outcomes, accepted, trades, trade_reports, report_seq)


def at_venue(folder: Path) -> AtVenue:
    """Return what the gateway's kept log segments say."""
    sent: Counter[str] = Counter()
    made: Counter[str] = Counter()
    trades: dict[str, int] = {}
    received = reported = 0
    complete = True
    is_first = True
    for _, _, record in read_log(folder):
        if isinstance(record, Checkpoint):
            if is_first:
                received, reported = record.received_seq, record.report_seq
                complete = received == 0 and reported == 0
            is_first = False
        if isinstance(record, Batch):
            for command in new_commands(record.messages, received, record.received_seq):
                if isinstance(command, SendNew):
                    sent[command.order_id] += 1
            received = record.received_seq
        if isinstance(record, Batch | KillChanged | TradeChanged):
            for raw in record.reports:
                report: Report = report_decoder.decode(raw)
                if report.report_seq <= reported:
                    continue
                reported = report.report_seq
                made[report.order_id] += report.exec_type is ExecType.NEW
                if report.trade_id and report.exec_type is ExecType.TRADE:
                    trades[report.trade_id] = report.report_seq
    return AtVenue(sent, made, trades, reported, complete)
