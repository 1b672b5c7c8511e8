"""What the gateway's log says happened at the venue, against what the engine's records say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from protocol.codes import ExecType, OrderStatus, Side
from protocol.venue import (
    Commands,
    Report,
    SendCancel,
    SendNew,
    engine_venue_decoder,
    report_decoder,
)
from tests.simulation.checkers import Watch
from venues.core.log import Batch, Checkpoint, KillChanged, TradeChanged, read_log


class VenueSide:
    """What the gateway's log says happened at the venue."""

    def __init__(self, folder: Path) -> None:
        self.sent: dict[str, SendNew] = {}
        self.times_sent = Counter[str]()
        self.cancels: set[str] = set()
        self.reports: list[Report] = []
        received = 0
        for _, _, record in read_log(folder):
            if isinstance(record, Checkpoint):
                assert record.received_seq == received, "a checkpoint forgot commands"
            if isinstance(record, Batch):
                for body in record.messages:
                    received = self._take(body, received, record.received_seq)
                assert received == record.received_seq
            if isinstance(record, Batch | KillChanged | TradeChanged):
                self.reports += [report_decoder.decode(raw) for raw in record.reports]

    def _take(self, body: bytes, received: int, until: int) -> int:
        message = engine_venue_decoder.decode(body)
        assert isinstance(message, Commands)
        for command in message.items:
            if command.venue_seq == received + 1 <= until:
                received += 1
                if isinstance(command, SendNew):
                    self.sent[command.order_id] = command
                    self.times_sent[command.order_id] += 1
                elif isinstance(command, SendCancel):
                    self.cancels.add(command.order_id)
        return received

    def positions(self) -> Counter[tuple[str, str]]:
        """Sum the fills by (venue, trade_id)."""
        total = Counter[tuple[str, str]]()
        for order_id, quantity_e9 in self.counting().values():
            order = self.sent[order_id]
            total[order.account, order.instrument] += quantity_e9 * (1 if order.side is Side.BUY else -1)
        return total

    def counting(self) -> dict[str, tuple[str, int]]:
        """Return order and quantity of each trade as the venue said it last; 0 = it took it back."""
        found: dict[str, tuple[str, int]] = {}
        for r in self.reports:
            if r.exec_type is ExecType.TRADE:
                found[r.trade_id] = r.order_id, r.last_quantity_e9
            elif r.exec_type in {ExecType.TRADE_CANCEL, ExecType.TRADE_CORRECT}:
                assert r.details is not None
                is_cancel = r.exec_type is ExecType.TRADE_CANCEL
                found[r.details.original_trade_id] = r.order_id, 0 if is_cancel else r.last_quantity_e9
        return found

    def verify(self, watch: Watch) -> None:
        """Each order at most once at the venue, and each accepted one there or cancelled before it was sent."""
        assert [r.report_seq for r in self.reports] == list(range(1, len(self.reports) + 1))
        born = Counter(r.order_id for r in self.reports if r.exec_type in {ExecType.NEW, ExecType.REJECTED})
        assert not [o for o, n in born.items() if n > 1], "the venue has an order twice"
        ids = Counter(r.venue_order_id for r in self.reports if r.exec_type is ExecType.NEW)
        assert all(n == 1 for n in ids.values())
        # Once keys have left, an id may be another order's on another date, which its order id ends with.
        by_content = Counter(
            (watch.accepted[o].account, watch.accepted[o].client_order_id, o[-7:] if watch.retired else "")
            for o in self.sent
        )
        assert all(n == 1 for n in by_content.values()), "one client order reached the venue under two ids"
        behind = {o.order_id for o in watch.ledgers.open.values() if o.is_behind}  # wait for a price
        lost = set(watch.accepted) - set(self.sent) - watch.unsent - behind
        assert not lost, f"accepted, neither at the venue nor cancelled unsent: {sorted(lost)}"
        both = set(born) & watch.unsent  # one that the venue forgot was not there
        assert not both, f"cancelled unsent and at the venue: {sorted(both)}"
        missing = Counter(r.order_id for r in self.reports if r.exec_type is ExecType.NOT_FOUND)
        again = {o: n for o, n in self.times_sent.items() if n > 1 + missing[o]}
        assert not again, f"sent again without a word of the venue that it is not there: {again}"
        self._verify_ends(watch)

    def _verify_ends(self, watch: Watch) -> None:
        """Every order is with the engine what it is at the venue."""
        last: dict[str, OrderStatus] = {}
        cum = Counter[str]()
        for order_id, quantity_e9 in self.counting().values():
            cum[order_id] += quantity_e9
        for r in self.reports:
            if r.exec_type in {
                ExecType.TRADE,
                ExecType.CANCELED,
                ExecType.REJECTED,
                ExecType.EXPIRED,
                ExecType.NEW,
                ExecType.REPLACED,
                ExecType.TRADE_CANCEL,
                ExecType.TRADE_CORRECT,
            }:
                last[r.order_id] = r.status
        for order_id, status in last.items():
            folded = watch.ledgers.orders[order_id]
            assert (folded.status, folded.cum_e9) == (status, cum[order_id]), (
                f"{order_id} is {status.name} with {cum[order_id]} at the venue, {folded.status.name} with "
                f"{folded.cum_e9} with the engine"
            )


def verify_positions(venue: VenueSide, ours: dict[tuple[str, str], int]) -> None:
    """The engine's positions are the sum of the fills."""
    theirs = {key: quantity for key, quantity in venue.positions().items() if quantity}
    assert {k: v for k, v in ours.items() if v} == theirs
