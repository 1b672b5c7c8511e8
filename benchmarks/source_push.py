"""``source`` for kinds that a broker posts to: beside the same server's bare typed POST; latency; memory.

The posts are made before a run, signed as the broker signs them, over keep-alive connections. Saturated into an engine
that accepts at once; once into the real engine; then at a fixed rate, with the hops that the sidecar tells.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from benchmarks.arrivals import due_offsets_ns
from benchmarks.bench_decided import add_latencies
from benchmarks.bench_http import free_port, wait_http
from benchmarks.conditions import conditions
from benchmarks.errors import BenchError
from benchmarks.http_load import HttpAnswered, drive
from benchmarks.options import Options
from benchmarks.push_floor import PushFloorSettings
from benchmarks.report import ENGINE, FLOOR, Report, interleaved
from benchmarks.source_kinds import BrokerBench
from benchmarks.source_stack import asked, body_of, p99_ms, start_granter, start_sidecar
from benchmarks.stack import READY_NS, Stack, cpu_ns, rss_bytes
from runtime.clock import monotonic_ns

NS_PER_S: Final = 1_000_000_000
MIB: Final = 1 << 20
RATIO_MIN: Final = 0.7
LATENCY_PER_S: Final = 1_000
P99_MS_MAX: Final = 5.0
HOP_MS_MAX: Final = 1.0
HOPS: Final = ("receive_to_submit", "outcome_to_settle")
LOOK_S: Final = 0.02
IN_FLIGHT: Final = 10_000


class PushBench(BrokerBench):
    """A kind that listens, and the tests' own sender."""

    path: ClassVar[str]
    per_s: ClassVar[int] = 1_000
    changes: ClassVar[Mapping[str, Any]] = {"in_flight": IN_FLIGHT}

    @abstractmethod
    def posts(self, peer: Any, bodies: Sequence[bytes]) -> tuple[Sequence[bytes], str]:
        """Return what the broker posts of these orders, and the headers of each post."""

    def arguments(self, peer: Any) -> Sequence[str]:
        """Return nothing: there is no plain client, but a bare server."""
        return ()


def push(bench: PushBench, options: Options) -> Report:
    """Measure one kind."""
    count = options.orders(bench.per_s)
    report = Report(
        f"source {bench.kind}",
        f"{count:,} signed posts over {options.connections} keep-alive connections, verified, submitted, answered, "
        "into an engine that accepts at once; floor = the same server's bare typed POST, no signature verified",
        str(conditions(options.folder)),
    )
    bench.start()
    try:
        runner = _Runner(bench, options, report)
        for of in interleaved(options.runs):
            runner.saturate(of, count)
        runner.real(count)
        runner.paced()
    finally:
        bench.end()
    for of in (ENGINE, FLOOR):
        report.figure(of, "posts_per_s", "posts/s")
        report.figure(of, "cpu_us_post", "CPU µs a post, of the process")
    ratio = report.ratio("sidecar ÷ bare POST", (ENGINE, "posts_per_s"), (FLOOR, "posts_per_s"))
    report.bar("sidecar ÷ bare POST", ratio, at_least=RATIO_MIN)
    report.bar("resident MiB of the sidecar", max(report.values(ENGINE, "rss_mib")), at_most=bench.rss_mib_max)
    report.hold(f"{count} posts, each answered 200")
    report.end()
    return report


class _Runner:
    def __init__(self, bench: PushBench, options: Options, report: Report) -> None:
        self._bench = bench
        self._options = options
        self._report = report
        self._peer = bench.resource("push")

    def saturate(self, of: str, count: int) -> None:
        """Post as fast as the connections are answered."""
        requests = self._requests(count)
        with Stack(self._options.folder, count) as stack, stack.told("granted") as told:
            if of == FLOOR:
                port = free_port()
                pid = stack.spawn("push-floor", PushFloorSettings(port, self._bench.kind))
                wait_http(stack, port, "/")
            else:
                start_granter(stack, told, count)
                pid, port = self._start(stack)
            before_ns = cpu_ns(pid)
            posted = self._drive(port, requests)
            self._report.add(
                of, posts_per_s=count * NS_PER_S / posted.duration_ns,
                cpu_us_post=(cpu_ns(pid) - before_ns) / count / 1_000, rss_mib=rss_bytes(pid) / MIB,
            )  # fmt: skip

    def real(self, count: int) -> None:
        """Post into the real engine."""
        with Stack(self._options.folder, count) as stack:
            stack.start_engine()
            stack.start_acknowledger()
            _, port = self._start(stack)
            posted = self._drive(port, self._requests(count))
            if (done := stack.status().accepted) != count:
                raise BenchError(f"engine expected {count} accepted orders, was {done}; see {stack.folder}")
        self._report.add("real engine", posts_per_s=count * NS_PER_S / posted.duration_ns)
        self._report.figure("real engine", "posts_per_s", "posts/s, each answered when durable")

    def paced(self) -> None:
        """Post at a fixed rate; read what the sidecar says of its own last seconds."""
        rate = self._options.rate_per_s if self._options.quick else LATENCY_PER_S
        count = int(rate * max(1.0, self._options.seconds))
        requests = self._requests(count)
        with Stack(self._options.folder, count) as stack, stack.told("granted") as told:
            start_granter(stack, told, count)
            _, port = self._start(stack)
            posted = self._drive(port, requests, due_offsets_ns(count, rate, poisson=self._options.poisson))
            time.sleep(1.1)  # its figures are told once a second
            text = asked(stack, "/metrics")
        of = f"at {rate:,}/s"
        add_latencies(self._report, of, posted.latencies_ns)
        (p99_us,) = self._report.values(of, "p99_us")
        self._report.bar(f"post → answer {of}, p99 ms", p99_us / 1_000, at_most=P99_MS_MAX)
        for hop in HOPS:
            self._report.bar(f"{hop.replace('_', ' ')} {of}, p99 ms", p99_ms(text, hop), at_most=HOP_MS_MAX)

    def _requests(self, count: int) -> list[tuple[int, bytes]]:
        posts, headers = self._bench.posts(self._peer, [body_of(n) for n in range(count)])
        start = f"POST {self._bench.path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-length: "
        lanes = self._options.connections
        return [(n % lanes, f"{start}{len(post)}\r\n\r\n".encode() + post) for n, post in enumerate(posts)]

    def _start(self, stack: Stack) -> tuple[int, int]:
        settings = self._bench.settings(self._peer)
        pid = start_sidecar(stack, self._bench.kind, settings, dict(self._peer.env()))
        until_ns = monotonic_ns() + READY_NS
        while monotonic_ns() < until_ns:
            stack.require_alive()
            try:
                if asked(stack, "/readyz").startswith("HTTP/1.1 200"):
                    return pid, int(settings["port"])
            except OSError:
                pass  # not listening yet
            time.sleep(LOOK_S)  # readiness gives no event
        raise BenchError(f"sidecar expected to be ready within {READY_NS} ns; see {stack.folder}")

    def _drive(self, port: int, requests: list[tuple[int, bytes]], offsets_ns: Sequence[int] = ()) -> HttpAnswered:
        posted = drive(port, requests, self._options.connections, offsets_ns)
        bad = [answer for answer in posted.answers if answer[0] != 200]
        if bad:
            raise BenchError(f"posts expected to be answered 200, {len(bad)} were not, such as {bad[0]!r}")
        return posted
