"""``idle``: what an engine that does nothing holds in memory."""

from __future__ import annotations

from typing import Final

from benchmarks.conditions import conditions
from benchmarks.generator import Generator
from benchmarks.options import Options
from benchmarks.report import ENGINE, FLOOR, Report, interleaved
from benchmarks.stack import Stack, rss_bytes

BAR_MIB: Final = 64
MIB: Final = 1 << 20
FLOOR_RECORD_BYTES: Final = 256


def idle(options: Options) -> Report:
    """Measure the resident memory of an idle engine with W's instruments and accounts, ready for orders."""
    report = Report(
        "idle",
        "resident memory of an engine that is READY and idle: 1,000 instruments, 100 accounts, an empty dedup table "
        "of the default four million keys; floor = the bare loop's process",
        str(conditions(options.folder)),
    )
    for of in interleaved(min(options.runs, 3)):
        with Stack(options.folder, 2_000_000) as stack:
            if of == ENGINE:
                pid = stack.start_engine()
                stack.start_acknowledger()
                status = stack.status(with_hash=False)
                report.hold(f"{status.dedup_keys_max} keys, {status.open_orders} open, {status.accepted} accepted")
            else:
                endpoint = stack.start_floor(FLOOR_RECORD_BYTES)
                pid = stack.pid("floor")
                Generator(endpoint, floor=True, sessions=1).close()  # it has answered: it is up
            report.add(of, rss_mib=rss_bytes(pid) / MIB)
    middle = report.figure(ENGINE, "rss_mib", "MiB resident")
    report.figure(FLOOR, "rss_mib", "MiB resident")
    report.ratio("engine ÷ floor", (ENGINE, "rss_mib"), (FLOOR, "rss_mib"))
    report.bar("idle engine, MiB resident", middle, at_most=BAR_MIB)
    report.end()
    return report
