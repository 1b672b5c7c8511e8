"""``dedup``: what a key costs in the deduplication table, how fast one is found, how long a step of a roll takes."""

from __future__ import annotations

import os
import time
from typing import Final

from benchmarks.conditions import conditions
from benchmarks.errors import BenchError
from benchmarks.options import Options
from benchmarks.report import ENGINE, FLOOR, Report, interleaved
from benchmarks.stack import rss_bytes
from engine.dedup import DedupTable, KeyHash, value_of
from protocol.codes import OrderStatus

KEYS: Final = 5_000_000
QUICK_KEYS: Final = 50_000
FLOOR_KEYS: Final = 500_000
RETIRED_KEYS: Final = 1_000_000
SAMPLE: Final = 100_000
RUNS_MAX: Final = 3
BAR_BYTES: Final = 64
BAR_RATIO: Final = 1.25
SECRET: Final = b"d" * 32
NS_PER_S: Final = 1_000_000_000

_NEW: Final = OrderStatus.PENDING_NEW
Digest = tuple[int, int]


def dedup(options: Options) -> Report:
    """Fill the table to its last key; measure memory, and look-ups in its first and its last tenth."""
    keys = QUICK_KEYS if options.quick else KEYS
    retired = min(keys, RETIRED_KEYS)
    options.folder.mkdir(parents=True, exist_ok=True)  # its disk is named in the conditions
    report = Report(
        "dedup",
        f"the deduplication table at {keys:,} keys: resident memory a key, look-ups (half of them of unknown keys) "
        f"with the first tenth and with all of them in; floor = a dict of {min(keys, FLOOR_KEYS):,} of the same keys",
        str(conditions(options.folder)),
    )
    for of in interleaved(min(options.runs, RUNS_MAX)):
        if of == ENGINE:
            _measure_table(report, keys)
        else:
            _measure_dict(report, min(keys, FLOOR_KEYS))
    middle = report.figure(ENGINE, "bytes_per_key", "bytes resident a key")
    report.figure(ENGINE, "first_per_s", "look-ups/s, one tenth in")
    report.figure(ENGINE, "last_per_s", "look-ups/s, all in")
    report.figure(
        ENGINE, "retire_longest_us", f"CPU µs, the longest of the steps by which half of {retired:,} keys leave"
    )
    report.figure(ENGINE, "retire_total_ms", "CPU ms, all of these steps")
    report.figure(FLOOR, "bytes_per_key", "bytes resident a key")
    report.figure(FLOOR, "last_per_s", "look-ups/s, all in")
    report.ratio("first tenth ÷ all in", (ENGINE, "first_per_s"), (ENGINE, "last_per_s"))
    report.bar("dedup, bytes a key", middle, at_most=BAR_BYTES)
    report.end()
    return report


def _measure_table(report: Report, keys: int) -> None:
    hashes = KeyHash(SECRET)
    before = rss_bytes(os.getpid())
    table = DedupTable(keys)
    tenth = keys // 10
    fill_ns = _fill(table, hashes, 0, tenth)
    first_per_s = _find_per_s(table, hashes, tenth)
    fill_ns += _fill(table, hashes, tenth, keys)
    resident = rss_bytes(os.getpid()) - before
    last_per_s = _find_per_s(table, hashes, keys)
    if table.keys != keys or not table.is_full:
        raise BenchError(f"dedup expected a table of {keys} keys that is full, was {table.keys} keys")
    report.hold(f"{table.keys} keys, {table.content_hash().hex()}")
    longest_ns, total_ns = _retire(hashes, min(keys, RETIRED_KEYS))
    report.add(
        ENGINE, bytes_per_key=resident / keys, fill_per_s=keys * NS_PER_S / fill_ns, first_per_s=first_per_s,
        last_per_s=last_per_s, retire_longest_us=longest_ns / 1e3, retire_total_ms=total_ns / 1e6,
    )  # fmt: skip


def _retire(hashes: KeyHash, keys: int) -> tuple[int, int]:
    """Let the older half of a full table leave, as two days' ids do; return (longest step, all steps), CPU ns."""
    table = DedupTable(keys)
    for n in range(keys):
        low, high, _ = hashes.key("account", f"order-{n}")
        table.insert(-1 - table.find(low, high), low, high, n, value_of(n, OrderStatus.FILLED))
    steps: list[int] = []
    for part in range(table.parts):
        began_ns = time.thread_time_ns()  # of the processor: what else runs here is not the step's
        table.retire(part, table.parts, keys // 2)
        steps.append(time.thread_time_ns() - began_ns)
    if table.keys != keys - keys // 2:
        raise BenchError(f"dedup expected {keys - keys // 2} keys to stay, was {table.keys}")
    return max(steps), sum(steps)


def _fill(table: DedupTable, hashes: KeyHash, start: int, end: int) -> int:
    """Insert keys as orders do; return how long it took, ns, the making of the keys included."""
    find, insert, key = table.find, table.insert, hashes.key
    began_ns = time.monotonic_ns()
    for n in range(start, end):
        low, high, _ = key("account", f"order-{n}")
        insert(-1 - find(low, high), low, high, n, value_of(n, _NEW))
    return time.monotonic_ns() - began_ns


def _find_per_s(table: DedupTable, hashes: KeyHash, keys: int) -> float:
    """Look up known and unknown keys in turn; return how many a second, without the making of the keys."""
    step = max(1, keys // (SAMPLE // 2))
    known = [hashes.key("account", f"order-{n}")[:2] for n in range(0, keys, step)]
    unknown = [hashes.key("account", f"other-{n}")[:2] for n in range(len(known))]
    sample = [k for pair in zip(known, unknown, strict=True) for k in pair]
    find = table.find
    began_ns = time.monotonic_ns()
    found = [find(low, high) for low, high in sample]
    took_ns = time.monotonic_ns() - began_ns
    if any((slot >= 0) is bool(n % 2) for n, slot in enumerate(found)):
        raise BenchError("dedup expected to find every known key and no other, did not")
    return len(sample) * NS_PER_S / took_ns


def _measure_dict(report: Report, keys: int) -> None:
    hashes = KeyHash(SECRET)
    before = rss_bytes(os.getpid())
    known: dict[Digest, tuple[int, int]] = {}
    for n in range(keys):
        known[hashes.key("account", f"order-{n}")[:2]] = (n, value_of(n, _NEW))
    resident = rss_bytes(os.getpid()) - before
    sample = [hashes.key("account", f"{'order' if n % 2 else 'other'}-{n}")[:2] for n in range(min(keys, SAMPLE))]
    find = known.get
    began_ns = time.monotonic_ns()
    for digest in sample:
        find(digest)
    took_ns = time.monotonic_ns() - began_ns
    report.add(FLOOR, bytes_per_key=resident / keys, last_per_s=len(sample) * NS_PER_S / took_ns)
