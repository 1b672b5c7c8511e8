"""The engine's metrics: their names, and the snapshot its loop publishes once a second.

Rule: a snapshot costs some tens of µs whatever is open: it reads numbers that are kept anyway, never walks the orders
(but for UNKNOWN ones while there are any), and is taken after the turn's answers have left.
"""

from __future__ import annotations

from typing import Final

from engine.gateways import Gateways
from engine.parts import Parts
from engine.sidecars import Sidecars
from protocol.codes import OrderStatus
from runtime.histogram import Reading
from runtime.metrics import COUNTER, DURATION, GAUGE, SIZE, Board, Family, Labelled, Snapshot

PREFIX: Final = "wojak_engine_"
DECIDED: Final = "wojak_engine_receive_to_decided_seconds"
DURABLE: Final = "wojak_engine_receive_to_durable_seconds"
ANSWERED: Final = "wojak_engine_receive_to_answered_seconds"
SENT: Final = "wojak_engine_receive_to_sent_seconds"
SYNC: Final = "wojak_engine_sync_seconds"
TURN: Final = "wojak_engine_turn_seconds"
LATE: Final = "wojak_engine_housekeeping_late_seconds"
TURN_ITEMS: Final = "wojak_engine_turn_items"
SYNC_RECORDS: Final = "wojak_engine_sync_records"

FAMILIES: Final = (
    Family(DECIDED, DURATION, "From taking a batch off its sockets to its last decision, once per item"),
    Family(DURABLE, DURATION, "From taking a batch to the end of its sync, once per item"),
    Family(ANSWERED, DURATION, "From taking a batch to its outcomes having been handed over, once per item"),
    Family(SENT, DURATION, "From taking a batch to its venue commands having been handed over, once per batch"),
    Family(SYNC, DURATION, "One write and sync of the journal"),
    Family(TURN, DURATION, "How long one turn kept the loop from its sockets: the loop's lag"),
    Family(LATE, DURATION, "How much later than due housekeeping ran; up to 0.1 s where little comes in"),
    Family(TURN_ITEMS, SIZE, "Items decided in one turn"),
    Family(SYNC_RECORDS, SIZE, "Records made durable by one sync"),
    Family("wojak_engine_orders_accepted", COUNTER, "New orders accepted"),
    Family("wojak_engine_rejected", COUNTER, "Commands refused, by code", ("code",)),
    Family("wojak_engine_duplicates", COUNTER, "Commands answered with the first outcome of their id"),
    Family("wojak_engine_cancels", COUNTER, "Cancels taken"),
    Family("wojak_engine_fills", COUNTER, "Venue reports that filled something"),
    Family("wojak_engine_retries", COUNTER, "Items told to come back later, unjournaled"),
    Family("wojak_engine_decide_failures", COUNTER, "Commands whose decision failed here: answered INTERNAL"),
    Family("wojak_engine_trades_amended", COUNTER, "Trades that a venue took back or corrected"),
    Family("wojak_engine_suspense_fills", GAUGE, "Fills of orders that nobody knows, not yet resolved"),
    Family("wojak_engine_reports_refused", COUNTER, "Venue reports that fit no order or no state"),
    Family("wojak_engine_reports_cum_differs", COUNTER, "Venue reports that count other fills than are here"),
    Family("wojak_engine_exits_stale", COUNTER, "Exits cancelled for being of more than a position had left"),
    Family("wojak_engine_holds", COUNTER, "Orders held for the risk service and how holds ended", ("what",)),
    Family("wojak_engine_paper_orders", COUNTER, "Orders taken as paper, in the place of a refusal"),
    Family("wojak_engine_held_orders", GAUGE, "Orders that wait for the risk service"),
    Family("wojak_engine_risk_ready", GAUGE, "Whether a risk service has a session"),
    Family("wojak_engine_sessions_ended", COUNTER, "Sidecar sessions ended by the engine, by reason", ("reason",)),
    Family("wojak_engine_malformed", COUNTER, "Messages that broke the protocol of a socket", ("socket",)),
    Family("wojak_engine_alarms", COUNTER, "Times the engine called for a person"),
    Family("wojak_engine_journal_bytes", COUNTER, "Bytes appended to the journal"),
    Family("wojak_engine_table_reads", COUNTER, "Reads of the last-value table, by result", ("result",)),
    Family("wojak_engine_info", GAUGE, "1, with what this engine is", ("mode", "shard", "release")),
    Family("wojak_engine_epoch", GAUGE, "Epoch of this engine's life"),
    Family("wojak_engine_seq", GAUGE, "Number of the last record"),
    Family("wojak_engine_durable_seq", GAUGE, "Number of the last durable record"),
    Family("wojak_engine_journal_segment", GAUGE, "Number of the segment being written"),
    Family("wojak_engine_disk_free_bytes", GAUGE, "Bytes free where the journal is"),
    Family("wojak_engine_disk_reserve_bytes", GAUGE, "Bytes below which new risk is told to come back later"),
    Family("wojak_engine_dedup_keys", GAUGE, "Order ids remembered"),
    Family("wojak_engine_dedup_keys_max", GAUGE, "Order ids that can be remembered"),
    Family("wojak_engine_open_orders", GAUGE, "Orders that are not terminal"),
    Family("wojak_engine_unknown_orders", GAUGE, "Orders that were sent and nobody answered for"),
    Family("wojak_engine_halted", GAUGE, "1 for each scope that is not ACTIVE", ("scope", "key", "state")),
    Family(
        "wojak_engine_profit",
        GAUGE,
        "Profit since the day began, where losses are limited",
        ("scope", "key", "currency"),
    ),
    Family("wojak_engine_pnl_unknown", GAUGE, "What of an account's profit can't be told now", ("account",)),
    Family("wojak_engine_venue_ready", GAUGE, "Whether the venue's gateway confirmed this epoch", ("venue",)),
    Family("wojak_engine_outbox_commands", GAUGE, "Commands that wait to be sent to the gateway", ("venue",)),
    Family("wojak_engine_unacknowledged_commands", GAUGE, "Commands sent and not acknowledged", ("venue",)),
    Family("wojak_engine_unreported_commands", GAUGE, "Commands that no report has answered", ("venue",)),
    Family("wojak_engine_sessions", GAUGE, "Open sidecar sessions", ("source",)),
    Family("wojak_engine_sessions_in_retry", GAUGE, "Sessions whose new risk is told to come back", ("source",)),
    Family("wojak_engine_credits", GAUGE, "Items that one session may have unanswered, reserve included"),
    Family("wojak_engine_draining", GAUGE, "1 while the engine finishes and takes no new risk"),
    Family("wojak_engine_recovered_records", GAUGE, "Records applied by the recovery at the start"),
    Family("wojak_engine_recovery_seconds", GAUGE, "How long that took"),
)

NS_PER_S: Final = 1_000_000_000
E9: Final = 10**9


class EngineReadings:
    """Takes the engine's snapshots. Called by the decision thread alone.

    Attributes:
        free_bytes: Where the journal is, as last looked at.
        recovered: (records, ns) of the start.
    """

    def __init__(self, parts: Parts, sidecars: Sidecars, gateways: Gateways, recovered: tuple[int, int]) -> None:
        self._settings = parts.settings
        self._state = parts.core.state
        self._writer = parts.writer
        self._table = parts.table
        self._meters = parts.meters
        self._sidecars = sidecars
        self._gateways = gateways
        self.free_bytes = 0
        self.recovered = recovered

    def publish(self, board: Board, now_ns: int, *, draining: bool) -> None:
        """Put a snapshot on the board; ``now_ns`` is monotonic."""
        values = {**self._counters(), **self._gauges(draining=draining), **self._sessions_and_venues()}
        board.publish(Snapshot(now_ns, values, self._histograms()))

    def not_ready(self, *, draining: bool) -> tuple[str, ...]:
        """Return why no new risk is taken; empty = it is."""
        reasons = [f"venue {v.name}: no gateway has confirmed this epoch" for v in self._state.venues.values()
                   if not v.ready]  # fmt: skip
        if self.free_bytes < self._settings.disk_reserve_bytes:
            reasons.append(f"disk: {self.free_bytes} bytes free, reserve {self._settings.disk_reserve_bytes}")
        if draining:
            reasons.append("draining")
        return tuple(reasons)

    def _histograms(self) -> dict[str, Reading]:
        meters = self._meters
        return {
            DECIDED: meters.decided.snapshot(),
            DURABLE: meters.durable.snapshot(),
            ANSWERED: meters.answered.snapshot(),
            SENT: meters.sent.snapshot(),
            SYNC: meters.sync.snapshot(),
            TURN: meters.turn.snapshot(),
            LATE: meters.late.snapshot(),
            TURN_ITEMS: meters.turn_items.snapshot(),
            SYNC_RECORDS: meters.sync_records.snapshot(),
        }

    def _counters(self) -> dict[str, float | Labelled]:
        meters, table = self._meters, self._table
        return {
            "wojak_engine_orders_accepted": meters.accepted,
            "wojak_engine_rejected": {(code.name,): count for code, count in meters.rejected.items()},
            "wojak_engine_duplicates": meters.duplicates,
            "wojak_engine_cancels": meters.cancels,
            "wojak_engine_fills": meters.fills,
            "wojak_engine_retries": meters.retries,
            "wojak_engine_decide_failures": meters.failed,
            "wojak_engine_trades_amended": meters.trades_amended,
            "wojak_engine_reports_refused": meters.reports_refused,
            "wojak_engine_reports_cum_differs": meters.reports_differing,
            "wojak_engine_exits_stale": meters.exits_stale,
            "wojak_engine_paper_orders": meters.papers,
            "wojak_engine_holds": {
                ("held",): meters.held, ("sent",): meters.holds_sent, ("refused",): meters.holds_refused,
                ("overdue",): meters.holds_overdue, ("late",): meters.risk_late,
            },
            "wojak_engine_sessions_ended": {(reason.name,): count for reason, count in meters.ended.items()},
            "wojak_engine_malformed": {
                ("sidecars",): meters.malformed_sidecars, ("venues",): meters.malformed_venues,
                ("control",): meters.malformed_control, ("risk",): meters.malformed_risk,
            },
            "wojak_engine_alarms": meters.alarms,
            "wojak_engine_journal_bytes": meters.journal_bytes,
            "wojak_engine_table_reads": {
                ("verified",): table.verified, ("retried",): table.retried, ("stale",): table.stale
            },
        }  # fmt: skip

    def _gauges(self, *, draining: bool) -> dict[str, float | Labelled]:
        state, writer, settings = self._state, self._writer, self._settings
        records, recovery_ns = self.recovered
        return {
            "wojak_engine_info": {(state.mode.name.lower(), str(state.shard), settings.release): 1},
            "wojak_engine_epoch": state.epoch,
            "wojak_engine_seq": writer.next_seq - 1,
            "wojak_engine_durable_seq": writer.durable_seq,
            "wojak_engine_journal_segment": writer.segment,
            "wojak_engine_disk_free_bytes": self.free_bytes,
            "wojak_engine_disk_reserve_bytes": settings.disk_reserve_bytes,
            "wojak_engine_dedup_keys": state.dedup.keys,
            "wojak_engine_dedup_keys_max": state.dedup.keys_max,
            "wojak_engine_suspense_fills": len(state.suspense) + state.suspense_more,
            "wojak_engine_open_orders": len(state.orders),
            "wojak_engine_held_orders": len(state.risk.holds),
            "wojak_engine_risk_ready": int(state.risk.ready),
            "wojak_engine_unknown_orders": self._unknown_orders(),
            "wojak_engine_halted": {
                (scope.name.lower(), key, halt.state.name): 1 for (scope, key), halt in state.halts.items()
            },
            "wojak_engine_profit": self._profits(),
            "wojak_engine_pnl_unknown": {(p.account,): len(p.unknown) for p in state.losses.pnls.values()},
            "wojak_engine_credits": settings.credits + settings.reserved_credits,
            "wojak_engine_draining": int(draining),
            "wojak_engine_recovered_records": records,
            "wojak_engine_recovery_seconds": recovery_ns / NS_PER_S,
        }

    def _sessions_and_venues(self) -> dict[str, float | Labelled]:
        open_sessions: dict[tuple[str, ...], float] = {}
        in_retry: dict[tuple[str, ...], float] = {}
        for session in self._sidecars.sessions:
            source = (session.source,)
            open_sessions[source] = open_sessions.get(source, 0) + 1
            in_retry[source] = in_retry.get(source, 0) + session.in_retry
        venues = self._state.venues.values()
        queues = self._gateways.queues()
        return {
            "wojak_engine_sessions": open_sessions,
            "wojak_engine_sessions_in_retry": in_retry,
            "wojak_engine_venue_ready": {(v.name,): int(v.ready) for v in venues},
            "wojak_engine_outbox_commands": {(v.name,): queues.get(v.name, (0, 0))[0] for v in venues},
            "wojak_engine_unacknowledged_commands": {(v.name,): queues.get(v.name, (0, 0))[1] for v in venues},
            "wojak_engine_unreported_commands": {(v.name,): len(v.awaiting) for v in venues},
        }

    def _profits(self) -> dict[tuple[str, ...], float]:
        money = self._state.book.money
        found: dict[tuple[str, ...], float] = {}
        for scope in self._state.losses.scopes.values():
            profit_e9 = scope.profit_e9(money, scope.day, {})
            if profit_e9 is not None:
                found[scope.scope.name.lower(), scope.key, scope.currency] = profit_e9 / E9
        return found

    def _unknown_orders(self) -> int:
        meters = self._meters
        if not meters.may_have_unknown:
            return 0
        count = sum(order.status is OrderStatus.UNKNOWN for order in self._state.orders.values())
        meters.may_have_unknown = count > 0
        return count
