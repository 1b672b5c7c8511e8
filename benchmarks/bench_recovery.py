"""``recovery``: how long an engine's start takes at the end of a day of so many orders, from a snapshot and the tail.

The journal is written once, by the real core in this process; every run recovers it in a process of its own and must
come to the state of the core that wrote it. The floor reads the same bytes: the snapshot's blocks checked and
inflated, the tail's frames checked, nothing made of them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.conditions import conditions
from benchmarks.day import Day, write_day
from benchmarks.errors import BenchError
from benchmarks.options import Options
from benchmarks.recover_once import RecoveredOnce
from benchmarks.report import ENGINE, FLOOR, Report, interleaved
from benchmarks.stack import ROOT
from engine.restore import place_of, without_collector
from journal.scan import scan
from journal.snapshots import SnapshotReader, snapshots
from runtime.clock import monotonic_ns

ORDERS: Final = 10_000_000
SMALL_ORDERS: Final = 300_000
QUICK_ORDERS: Final = 5_000
RUNS_MAX: Final = 3
BAR_S: Final = 10.0
BYTES_AN_ORDER: Final = 1_200
NS_PER_S: Final = 1_000_000_000
MIB: Final = 1 << 20


def recovery(options: Options) -> Report:
    """Write a day's journal, then recover it again and again."""
    orders = options.orders_of_day or ORDERS
    options.folder.mkdir(parents=True, exist_ok=True)
    report = Report(
        "recovery",
        f"an engine's start at the end of a day of {orders:,} commands of W: newest snapshot and tail; "
        "floor = reading and checking the same bytes",
        str(conditions(options.folder)),
    )
    free = shutil.disk_usage(options.folder).free
    if free < orders * BYTES_AN_ORDER:
        raise BenchError(f"{options.folder} expected {orders * BYTES_AN_ORDER:,} free bytes, was {free:,}")
    place = Path(tempfile.mkdtemp(prefix="recovery-", dir=options.folder))
    try:
        began_ns = monotonic_ns()
        with without_collector():
            day = write_day(place, orders)
        took_s = (monotonic_ns() - began_ns) / NS_PER_S
        report.say(
            f"journal of {day.records:,} records written in {took_s:.0f} s, snapshot behind record "
            f"{day.snapshot_seq:,} of {day.snapshot_bytes / MIB:,.0f} MiB, {day.keys:,} ids, "
            f"{day.open_orders:,} orders open"
        )
        _measure(report, day, min(options.runs, RUNS_MAX))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    seconds = float(report.figure(ENGINE, "recovery_s", "s"))
    report.figure(ENGINE, "replayed", "records behind the snapshot, replayed")
    report.figure(ENGINE, "peak_mib", "MiB resident at most")
    report.figure(FLOOR, "recovery_s", "s (the same bytes read and checked)")
    report.ratio("engine ÷ floor", (ENGINE, "recovery_s"), (FLOOR, "recovery_s"))
    report.bar(f"recovery of {orders:,} commands, s", seconds, at_most=BAR_S)
    report.end()
    return report


def _measure(report: Report, day: Day, runs: int) -> None:
    for of in interleaved(runs):
        if of == FLOOR:
            report.add(FLOOR, recovery_s=_read(day.folder) / NS_PER_S)
            continue
        found = _recover(day)
        if found.state_hash != day.state_hash or found.replayed + found.snapshot_seq != day.records:
            raise BenchError(f"recovered {found}, expected state {day.state_hash} after {day.records} records")
        report.hold(f"{day.records} {found.keys} {found.open_orders}")
        report.add(
            ENGINE, recovery_s=found.recovery_ns / NS_PER_S, replayed=found.replayed,
            peak_mib=found.peak_kib / 1024,
        )  # fmt: skip


def _recover(day: Day) -> RecoveredOnce:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.recover_once", str(day.folder), str(day.dedup_keys_max)],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchError(f"recovery ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
    return msgspec.json.decode(done.stdout, type=RecoveredOnce)


def _read(folder: Path) -> int:
    """Read the snapshot and the tail; return how long that took, in ns."""
    began_ns = monotonic_ns()
    path = snapshots(folder)[0]
    reader = SnapshotReader(path)
    for _ in reader.blocks():
        pass
    reader.close()
    scan(folder, lambda *_: None, place_of(path, reader.head))
    return monotonic_ns() - began_ns
