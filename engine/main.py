"""The engine process."""

from __future__ import annotations

from engine.loop import EngineLoop
from engine.metrics import FAMILIES
from engine.settings import EngineSettings
from engine.start import start
from runtime import logs
from runtime.exits import CLEAN, UNFINISHED
from runtime.health import served
from runtime.metrics import Board
from runtime.signals import StopSignal


def run(settings: EngineSettings) -> int:
    """Run one engine until it is told to stop; return its exit code.

    Raises what stops the start, with what to do about it.
    """
    log = logs.configure("engine")
    stop = StopSignal()
    board = Board()
    board.not_ready = ("recovering",)
    with served(settings.health, board, FAMILIES) as serve:
        started = start(settings, serve)
        for warning in started.warnings:
            log.warning("snapshot passed over", text=warning)
        state = started.core.state
        log.info(
            "started", mode=state.mode.name, shard=state.shard, epoch=state.epoch, recovered=started.recovered.records,
            snapshot_seq=started.snapshot_seq, recovery_ms=started.recovery_ns // 1_000_000,
            cut_bytes=started.recovered.cut_bytes,
        )  # fmt: skip
        for note in started.notes:
            log.warning("limit", text=note)
        if (cut := started.accepted_cut) is not None:
            log.warning("cut accepted", last_seq=cut.last_seq, seen=cut.seen, operator=cut.operator, reason=cut.reason)
        try:
            unfinished = EngineLoop(settings, started, stop, log, board).run()
            return UNFINISHED if unfinished else CLEAN
        finally:
            started.lock.close()
