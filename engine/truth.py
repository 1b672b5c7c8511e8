"""Operators' words on what is so: trades, whose a fill is, a broker's positions, a venue asked anew.

Rule: nothing is taken silently. What is booked stands in the journal with the operator's name and reason; what is only
compared changes nothing.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from engine.gateways import Gateways
from engine.parts import Parts
from protocol.amends import TradeAmended
from protocol.codes import ExecType, OrderStatus, Side
from protocol.control import (
    BrokerPosition,
    ComparePositions,
    ControlReply,
    EnterBust,
    EnterFill,
    PositionDifference,
    Reconcile,
    ResolveSuspense,
    SuspenseFill,
)
from protocol.money import Adjust, CompareMoney
from protocol.records import Adjusted, FillEntered, Record
from protocol.units import INT64_MAX
from protocol.venue import Report

Body = Reconcile | EnterFill | EnterBust | ResolveSuspense | ComparePositions | Adjust | CompareMoney
FAULTS_SHOWN: Final = 5
SIDES: Final[dict[str, Side | None]] = {"": None, "BUY": Side.BUY, "SELL": Side.SELL}
_encode: Final = msgspec.msgpack.Encoder().encode


class Truth:
    """Decides what operators enter."""

    def __init__(self, parts: Parts, gateways: Gateways) -> None:
        self._core = parts.core
        self._state = parts.core.state
        self._writer = parts.writer
        self._make_room = parts.make_room
        self._gateways = gateways

    def decide(self, body: Body, operator: str, now_ns: int) -> ControlReply:
        """Answer a request. Of a Reconcile only that it began: whoever is to hear the rest waits for it."""
        if isinstance(body, EnterFill):
            return self._enter(body, operator, now_ns)
        if isinstance(body, EnterBust):
            return self._bust(body, operator, now_ns)
        if isinstance(body, ResolveSuspense):
            return self._resolve(body, operator, now_ns)
        if isinstance(body, ComparePositions):
            return self._compare(body, operator, now_ns)
        if isinstance(body, Adjust):
            return self._adjust(body, operator, now_ns)
        if isinstance(body, CompareMoney):
            return self._compare_money(body, operator, now_ns)
        refused = self._gateways.reconcile(body.venue, operator, body.reason)
        return ControlReply(not refused, refused)

    def wait(self) -> int:
        """Return a ticket for the result of the statements that were just asked for."""
        return self._gateways.statements.wait()

    def take_replies(self) -> list[tuple[int, ControlReply]]:
        """Return answers to requests of earlier turns by their tickets; to be sent after the sync."""
        return self._gateways.statements.take_replies()

    def _append(self, record: Record, now_ns: int) -> int:
        self._make_room(now_ns)
        seq = self._writer.next_seq
        self._core.apply(seq, now_ns, self._writer.append(record), record)
        return seq

    def _enter(self, body: EnterFill, operator: str, now_ns: int) -> ControlReply:
        if not (0 < body.quantity_e9 <= INT64_MAX and 0 < body.price_e9 <= INT64_MAX):
            return ControlReply(False, "fill expected a quantity and a price above 0, was one that is not")
        report = Report(
            0, ExecType.TRADE, body.order_id, "", 0, OrderStatus.NONE, 0, 0, now_ns, body.trade_id, body.quantity_e9,
            body.price_e9,
        )  # fmt: skip
        decision = self._core.reports.decide_entered(report)
        if isinstance(decision, str):
            return ControlReply(False, decision)
        venue = self._state.instruments[decision.instrument].venue
        seq = self._append(FillEntered(venue, operator, body.reason, Raw(_encode(report)), decision), now_ns)
        return ControlReply(True, f"trade {body.trade_id} is booked, the order is {decision.status.name}", seq=seq)

    def _bust(self, body: EnterBust, operator: str, now_ns: int) -> ControlReply:
        found = self._core.amends.decide_by_hand(body.order_id, body.trade_id, now_ns)
        if isinstance(found, str):
            return ControlReply(False, found)
        venue, report, (decision, amendment) = found
        record = TradeAmended(venue.name, Raw(_encode(report)), decision, amendment, operator, body.reason)
        seq = self._append(record, now_ns)
        became = f", the order is {decision.status.name}" if decision.client_order_id else ""
        return ControlReply(True, f"trade {body.trade_id} is taken back{became}", seq=seq)

    def _resolve(self, body: ResolveSuspense, operator: str, now_ns: int) -> ControlReply:
        if body.side not in SIDES:
            return ControlReply(False, f"side expected BUY or SELL, was {body.side!r}")
        if body.account and not body.strategy:
            return ControlReply(False, "strategy expected with the account, was none")
        record = self._core.suspense.decide(
            body.venue, body.trade_id, operator, body.reason, account=body.account, strategy=body.strategy,
            instrument=body.instrument, side=SIDES[body.side],
        )  # fmt: skip
        if isinstance(record, str):
            return ControlReply(False, record)
        seq = self._append(record, now_ns)
        state = self._state
        did = f"is {record.account}'s" if record.account else "is nobody's"
        left = len(state.suspense) + state.suspense_more
        more = f"{left} more in suspense" if left else "none in suspense now; lift: wojak resume --global"
        return ControlReply(True, f"trade {record.trade_id or 'beyond the ledger'} {did} · {more}", seq=seq)

    def shown_suspense(self) -> ControlReply:
        """Return the fills in suspense."""
        fills = [
            SuspenseFill(
                f.venue, f.trade_id, f.order_id, f.account, f.instrument, "" if f.side is None else f.side.name,
                f.quantity_e9, f.price_e9,
            )
            for f in self._state.suspense.values()
        ]  # fmt: skip
        return ControlReply(True, "", suspense=fills, suspense_more=self._state.suspense_more)

    def _adjust(self, body: Adjust, operator: str, now_ns: int) -> ControlReply:
        decided = self._core.moneys.decide_adjust(body, operator)
        seq = 0
        faults: list[str] = []
        for record in decided:
            if isinstance(record, str):
                faults.append(record)
            else:
                seq = self._append(record, now_ns)
        if faults:
            return ControlReply(False, _first(faults))
        return ControlReply(True, f"{len(decided)} adjusted", seq=seq)

    def _compare_money(self, body: CompareMoney, operator: str, now_ns: int) -> ControlReply:
        compared = self._core.moneys.compare(body)
        if isinstance(compared, list):
            return ControlReply(False, _first(compared))
        found, to = compared
        seq = 0
        if body.adopt and found:
            reply = self._adjust(to, operator, now_ns)
            if not reply.ok:
                return reply
            seq = reply.seq
        did = "adopted" if body.adopt else "found"
        return ControlReply(True, f"{len(found)} differences {did}", seq=seq, money=found)

    def shown_money(self) -> ControlReply:
        """Return the money of every account, and the exchange rates."""
        moneys = self._core.moneys
        return ControlReply(True, "", accounts=moneys.shown(), fx=moneys.shown_fx())

    def _compare(self, body: ComparePositions, operator: str, now_ns: int) -> ControlReply:
        if faults := self._faults(body.rows):
            return ControlReply(False, _first(faults))
        stated = {(row.account, row.instrument): row for row in body.rows}
        accounts = {row.account for row in body.rows}
        ours: dict[tuple[str, str], int] = {}
        for (account, instrument), ledger in self._state.book.ledgers.items():
            if account in accounts and (ledger.position or (account, instrument) in stated):
                ours[account, instrument] = ledger.position * self._state.instruments[instrument].quantity_step_e9
        found: list[PositionDifference] = []
        seq = 0
        for account, instrument in sorted(stated.keys() | ours.keys()):
            key = (account, instrument)
            row = stated.get(key)
            ours_e9, theirs_e9 = ours.get(key, 0), row.quantity_e9 if row is not None else 0
            if ours_e9 == theirs_e9:
                continue
            found.append(PositionDifference(account, instrument, ours_e9, theirs_e9, row is not None))
            if body.adopt:
                price_e9 = row.price_e9 if row is not None else 0
                was = str(ours_e9)
                adjusted = Adjusted(account, instrument, theirs_e9, price_e9, "", "", body.reason, operator, was)
                seq = self._append(adjusted, now_ns)
        did = "adopted" if body.adopt else "found"
        return ControlReply(True, f"{len(found)} differences {did}", seq=seq, positions=found)

    def _faults(self, rows: list[BrokerPosition]) -> list[str]:
        state = self._state
        faults: list[str] = []
        seen: set[tuple[str, str]] = set()
        for row in rows:
            where = f"{row.account} {row.instrument}"
            instrument = state.instruments.get(row.instrument)
            if row.account not in state.accounts or state.belongs_elsewhere(row.account) is not None:
                faults.append(f"{where}: expected an account of this engine")
            elif instrument is None:
                faults.append(f"{where}: expected a known instrument")
            elif row.quantity_e9 % instrument.quantity_step_e9:
                step = instrument.quantity_step_e9
                faults.append(f"{where}: expected a multiple of {step} e9, was {row.quantity_e9} e9")
            if (row.account, row.instrument) in seen:
                faults.append(f"{where}: expected once, was twice")
            seen.add((row.account, row.instrument))
        return faults


def _first(faults: list[str]) -> str:
    more = f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
    return "; ".join(faults[:FAULTS_SHOWN]) + more
