"""``source``: the sidecar of a broker beside the plain client of the same library, on the same preloaded messages.

Messages a second: the sidecar into an engine that accepts at once (its own cost), then into the real engine. Latency it
adds, at a fixed rate: from the broker's delivery to the submit, and from the outcome to the settle call; beside it, to
the broker's answer to that call. Memory.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any, Final

import msgspec

from benchmarks.conditions import conditions
from benchmarks.errors import BenchError
from benchmarks.granter import Granted
from benchmarks.options import Options
from benchmarks.report import ENGINE, FLOOR, Report, interleaved
from benchmarks.source_kinds import SourceBench, bench_of
from benchmarks.source_push import PushBench, push
from benchmarks.source_stack import asked, body_of, p99_ms, start_granter, start_sidecar
from benchmarks.stack import READY_NS, ROOT, Stack, rss_bytes
from benchmarks.told import Told
from runtime.clock import monotonic_ns

LATENCY_PER_S: Final = 1_000
NS_PER_S: Final = 1_000_000_000
MIB: Final = 1 << 20
SLICE_S: Final = 0.005
RATIO_MIN: Final = 0.7
HOP_MS_MAX: Final = 1.0
HOPS: Final = ("receive_to_submit", "outcome_to_settle")  # what the sidecar adds
SETTLED: Final = "settle_latency"  # and the broker's answer


def source(options: Options) -> Report:
    """Measure one kind of source."""
    bench = bench_of(options.kind)
    if isinstance(bench, PushBench):
        return push(bench, options)
    count = options.orders(bench.per_s)
    report = Report(
        f"source {options.kind}",
        f"{count:,} preloaded orders read, decoded, submitted, answered, settled, into an engine that accepts at once; "
        "floor = the plain client of the same library: receive in batches, decode each body, settle in batches",
        str(conditions(options.folder)),
    )
    bench.start()
    try:
        runner = _Runner(bench, options, report)
        for of in interleaved(options.runs):
            runner.saturate(of, count)
        runner.real(count)
        runner.hops()
    finally:
        bench.end()
    for of in (ENGINE, FLOOR):
        report.figure(of, "messages_per_s", "messages/s")
    ratio = report.ratio("sidecar ÷ plain client", (ENGINE, "messages_per_s"), (FLOOR, "messages_per_s"))
    report.bar("sidecar ÷ plain client", ratio, at_least=RATIO_MIN)
    report.bar("resident MiB of the sidecar", max(report.values(ENGINE, "rss_mib")), at_most=bench.rss_mib_max)
    report.hold(f"{count} orders, each settled once")
    report.end()
    return report


class _Runner:
    def __init__(self, bench: SourceBench, options: Options, report: Report) -> None:
        self._bench = bench
        self._options = options
        self._report = report
        self._number = 0

    def saturate(self, of: str, count: int) -> None:
        """Read a full queue once, by the sidecar or plainly."""
        peer = self._loaded(count)
        try:
            with Stack(self._options.folder, count) as stack:
                if of == FLOOR:
                    self._report.add(of, messages_per_s=_rate(count, self._plain(stack, peer, count)))
                    return
                with stack.told("granted") as told:
                    start_granter(stack, told, count)
                    pid = self._start_sidecar(stack, peer)
                    granted = _granted(stack, told)
                rss_mib = rss_bytes(pid) / MIB
                stack.stop("sidecar")
            _require_empty(peer)
            self._report.add(of, messages_per_s=_rate(count, granted), rss_mib=rss_mib)
        finally:
            peer.close()

    def real(self, count: int) -> None:
        """Read a full queue into the real engine."""
        peer = self._loaded(count)
        try:
            with Stack(self._options.folder, count) as stack:
                stack.start_engine()
                with stack.told("acknowledged") as told:
                    stack.start_acknowledger(str(told.path), count)
                    began_ns = monotonic_ns()
                    self._start_sidecar(stack, peer)
                    last_ns = _granted(stack, told).last_ns
                if (done := stack.status().accepted) != count:
                    raise BenchError(f"engine expected {count} accepted orders, was {done}; see {stack.folder}")
                stack.stop("sidecar")
            _require_empty(peer)
        finally:
            peer.close()
        self._report.add("real engine", orders_per_s=count * NS_PER_S / (last_ns - began_ns))
        self._report.figure(
            "real engine", "orders_per_s", "orders/s until the venue has the last, start of the sidecar included"
        )

    def hops(self) -> None:
        """Publish at a fixed rate, and read what the sidecar says of its own last seconds."""
        rate = self._options.rate_per_s if self._options.quick else LATENCY_PER_S
        seconds = max(1.0, self._options.seconds)
        peer = self._bench.resource("hops")
        count = int(rate * seconds)
        try:
            with Stack(self._options.folder, count) as stack:
                with stack.told("granted") as told:
                    start_granter(stack, told, count)
                    self._start_sidecar(stack, peer)
                    _publish_paced(peer, count, rate)
                    _granted(stack, told)
                time.sleep(1.1)  # its figures are told once a second
                text = asked(stack, "/metrics")
                values = {f"{hop}_p99_ms": p99_ms(text, hop) for hop in (*HOPS, SETTLED)}
                stack.stop("sidecar")
        finally:
            peer.close()
        self._report.add(f"hops at {rate:,}/s", **values)
        for hop in HOPS:
            self._report.bar(f"{hop.replace('_', ' ')}, p99 ms", values[f"{hop}_p99_ms"], at_most=HOP_MS_MAX)

    def _loaded(self, count: int) -> Any:
        self._number += 1
        peer = self._bench.resource(f"run-{self._number}")
        _publish(peer, 0, count)
        return peer

    def _plain(self, stack: Stack, peer: Any, count: int) -> Granted:
        path = stack.folder / "plain"
        argv, env = self._bench.plain(peer, count, path)
        subprocess.run(argv, check=True, timeout=READY_NS / NS_PER_S, cwd=ROOT, env={**_environ(), **env})
        return msgspec.json.decode(path.read_bytes(), type=Granted)

    def _start_sidecar(self, stack: Stack, peer: Any) -> int:
        return start_sidecar(stack, self._bench.kind, self._bench.settings(peer), dict(peer.env()))


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _publish(peer: Any, first: int, count: int) -> None:
    from tests.conformance.peer import Message

    peer.send([Message(body=body_of(n), message_id=f"m{n}") for n in range(first, first + count)])


def _publish_paced(peer: Any, count: int, rate_per_s: int) -> None:
    """Publish a few at a time, evenly: the hops are measured inside the sidecar, so small bursts only worsen them."""
    per_slice = max(1, int(rate_per_s * SLICE_S))
    began = time.monotonic()
    for at in range(0, count, per_slice):
        wait_s = began + at / rate_per_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        _publish(peer, at, min(per_slice, count - at))


def _rate(count: int, granted: Granted) -> float:
    return count * NS_PER_S / max(1, granted.last_ns - granted.first_ns)


def _granted(stack: Stack, told: Told) -> Granted:
    return msgspec.json.decode(stack.hear(told, 2 * READY_NS), type=Granted)


def _require_empty(peer: Any) -> None:
    left = len(peer.left())
    if left:
        raise BenchError(f"source expected every message to be settled, {left} were not")
