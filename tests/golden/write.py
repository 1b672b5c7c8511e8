"""Writes the golden journal of a release, once and never again: ``python -m tests.golden.write 0.1.0``."""

from __future__ import annotations

import sys
from pathlib import Path

from engine.core import Core
from engine.state import state_hash
from journal.format import JournalSettings
from journal.lock import FolderLock
from journal.recovery import recover
from journal.writer import JournalWriter
from protocol.codes import ExecType, OrderStatus, OrderType, Scope, Side, TimeInForce
from protocol.records import Clocked, ControlAction
from tests.unit.engine.desk import Desk

HERE = Path(__file__).parent
SIZES = JournalSettings(segment_bytes=32_768, batch_bytes_max=8_192, prepare_ahead=False)
KEYS_MAX = 256


def story() -> Desk:
    """Return a desk on which one of everything has happened."""
    desk = Desk(position=10, keys_max=KEYS_MAX)
    resting = desk.accept(desk.order("rest", Side.BUY, 3, 99))
    desk.report(ExecType.NEW, resting.order_id, venue_seq=1, status=OrderStatus.NEW)
    desk.fill(resting, 1, 99)
    taken = desk.accept(desk.order("take", Side.SELL, 2, 100, time_in_force=TimeInForce.IOC))
    desk.report(ExecType.NEW, taken.order_id, venue_seq=2, status=OrderStatus.NEW)
    desk.fill(taken, 2, 100)
    market = desk.accept(desk.order("market", Side.BUY, 1, order_type=OrderType.MARKET, time_in_force=TimeInForce.IOC))
    desk.report(ExecType.REJECTED, market.order_id, venue_seq=3, status=OrderStatus.REJECTED)
    desk.submit(desk.order("far", Side.BUY, 1, 100_000))
    desk.submit(desk.order("nobody", account="nobody"))
    desk.cancel("rest")
    desk.report(ExecType.CANCELED, resting.order_id, venue_seq=4, status=OrderStatus.CANCELED, cum=1)
    desk.cancel("never-seen")
    desk.submit(desk.order("never-seen"))
    desk.accept(desk.order("killed", Side.SELL, 1, 101))
    desk.control(ControlAction.KILL, Scope.ACCOUNT, "a1")
    desk.control(ControlAction.RESUME, Scope.ACCOUNT, "a1")
    desk.apply(Clocked(6_000_000_000))
    return desk


def main() -> None:
    """Write the journal and what it must come to."""
    folder = HERE / sys.argv[1]
    desk = story()
    lock = FolderLock(folder)
    writer = JournalWriter(folder, recover(folder, None, SIZES), SIZES, lambda: desk.now)
    writer.start(1)
    for seq, now_ns, _, record in desk.records:
        writer.append(record)
        if seq % 5 == 0:
            writer.commit(now_ns)
    writer.commit(desk.now)
    writer.close()
    lock.close()
    core = Core(KEYS_MAX)
    recovered = recover(folder, core.apply, SIZES)
    for left in ("lock", "durable", "next.tmp"):
        (folder / left).unlink(missing_ok=True)
    (folder / "expected").write_text(f"{recovered.records} {state_hash(core.state)}\n")


if __name__ == "__main__":
    main()
