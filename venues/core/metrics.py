"""A gateway's metrics: their names, and the snapshot its loop publishes once a second."""

from __future__ import annotations

from typing import Final

from runtime.histogram import Histogram
from runtime.metrics import COUNTER, DURATION, GAUGE, SIZE, Board, Family, Labelled, Snapshot
from venues.core.gateway import Gateway, Phase
from venues.core.venue import Venue

DURABLE: Final = "wojak_gateway_receive_to_durable_seconds"
REPORTED: Final = "wojak_gateway_receive_to_reported_seconds"
SYNC: Final = "wojak_gateway_sync_seconds"
TURN: Final = "wojak_gateway_turn_seconds"
TURN_COMMANDS: Final = "wojak_gateway_turn_commands"
SYNC_REPORTS: Final = "wojak_gateway_sync_reports"

FAMILIES: Final = (
    Family(DURABLE, DURATION, "From taking commands to the end of their sync, once per command"),
    Family(REPORTED, DURATION, "From the start of a turn to its reports having been handed over, once per report"),
    Family(SYNC, DURATION, "One write and sync of the gateway's log"),
    Family(TURN, DURATION, "How long one turn kept the loop from its sockets: the loop's lag"),
    Family(TURN_COMMANDS, SIZE, "Commands executed in one turn"),
    Family(SYNC_REPORTS, SIZE, "Reports made durable by one sync"),
    Family("wojak_gateway_sessions", COUNTER, "Sessions with the engine so far"),
    Family(
        "wojak_gateway_refused_requests",
        COUNTER,
        "Requests at its own control that were malformed or without its token",
    ),
    Family("wojak_gateway_phase", GAUGE, "0 closed, 1 greeted, 2 welcomed, 3 ready"),
    Family("wojak_gateway_killed", GAUGE, "1 while the gateway's own kill refuses new orders"),
    Family("wojak_gateway_epoch", GAUGE, "Highest engine epoch served"),
    Family("wojak_gateway_received_seq", GAUGE, "Last command received"),
    Family("wojak_gateway_report_seq", GAUGE, "Last report made"),
    Family("wojak_gateway_kept_reports", GAUGE, "Reports that the engine's journal does not hold yet"),
    Family("wojak_gateway_unsent_reports", GAUGE, "Reports that wait to be sent"),
    Family("wojak_gateway_open_orders", GAUGE, "Orders that work at the venue"),
    Family("wojak_gateway_engine_silence_seconds", GAUGE, "Time since the engine was heard"),
    Family(
        "wojak_gateway_venue",
        GAUGE,
        "The venue's own counts; feed_gaps: how often ticks were lost between the feed and here",
        ("fact",),
    ),
)

NS_PER_S: Final = 1_000_000_000


class GatewayMeters:
    """What a gateway's loop measures; see ``FAMILIES``."""

    def __init__(self) -> None:
        self.refused = 0
        self.durable = Histogram()
        self.reported = Histogram()
        self.sync = Histogram()
        self.turn = Histogram()
        self.turn_commands = Histogram()
        self.sync_reports = Histogram()

    def publish(self, board: Board, gateway: Gateway, venue: Venue, now_ns: int) -> None:
        """Put a snapshot on the board; ``now_ns`` is monotonic."""
        state = gateway.state
        values: dict[str, float | Labelled] = {
            "wojak_gateway_sessions": gateway.sessions,
            "wojak_gateway_refused_requests": self.refused,
            "wojak_gateway_phase": int(gateway.phase),
            "wojak_gateway_killed": int(state.is_killed),
            "wojak_gateway_epoch": state.epoch,
            "wojak_gateway_received_seq": state.received_seq,
            "wojak_gateway_report_seq": state.report_seq,
            "wojak_gateway_kept_reports": state.report_seq - state.reports_durable,
            "wojak_gateway_unsent_reports": gateway.unsent_reports,
            "wojak_gateway_open_orders": venue.open_count,
            "wojak_gateway_engine_silence_seconds": (now_ns - gateway.heard_at_ns) / NS_PER_S,
            "wojak_gateway_venue": {(fact,): count for fact, count in venue.facts().items()},
        }
        histograms = {
            DURABLE: self.durable.snapshot(),
            REPORTED: self.reported.snapshot(),
            SYNC: self.sync.snapshot(),
            TURN: self.turn.snapshot(),
            TURN_COMMANDS: self.turn_commands.snapshot(),
            SYNC_REPORTS: self.sync_reports.snapshot(),
        }
        board.publish(Snapshot(now_ns, values, histograms))


def not_ready(gateway: Gateway) -> tuple[str, ...]:
    """Return why no command is taken; empty = they are."""
    if gateway.phase is Phase.READY:
        return ()
    because = f", the last ended by {gateway.ended_because}" if gateway.ended_because else ""
    return (f"no session with the engine: {gateway.phase.name}{because}",)
