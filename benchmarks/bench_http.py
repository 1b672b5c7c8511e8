"""``http``: an order over HTTP, end to end: client → real sidecar → real engine, durable → answer.

The floor is the same framework's typed POST into write + sync, one process, behind the same client.
"""

from __future__ import annotations

import http.client
import socket
import time
from statistics import median
from typing import Final

from msgspec import Struct

from benchmarks import workload
from benchmarks.arrivals import due_offsets_ns
from benchmarks.bench_decided import add_latencies
from benchmarks.conditions import conditions
from benchmarks.errors import BenchError
from benchmarks.http_floor import HttpFloorSettings
from benchmarks.http_load import HttpAnswered, build, digest, drive
from benchmarks.options import Options
from benchmarks.replay import replay
from benchmarks.report import ENGINE, FLOOR, Report, interleaved
from benchmarks.stack import READY_NS, Stack, cpu_ns, rss_bytes
from protocol.errors import RemoteProtocolError
from protocol.orders import Command
from runtime.clock import monotonic_ns
from sidecars.sources.http import HttpSettings

NS_PER_S: Final = 1_000_000_000
SATURATED_PER_S: Final = 5_000
REQUEST_MS: Final = 30_000
LOOK_S: Final = 0.02
RATIO_MIN: Final = 0.7
RESIDENT_MIB_MAX: Final = 80
P99_RATE_PER_S: Final = 1_000
P99_US_MAX: Final = 5_000
SATURATED: Final = " saturated"
GOOD: Final = frozenset({201, 202, 422})


def http_end_to_end(options: Options) -> Report:
    """Measure HTTP end to end: latency at a fixed rate, then requests a second, saturated."""
    report = Report(
        "http",
        f"client → HTTP sidecar → engine → answer, {options.connections} keep-alive connections; open loop at "
        f"{options.rate_per_s:,}/s from the due time, then saturated; floor = the same framework's typed POST into "
        "write + sync",
        str(conditions(options.folder)),
    )
    paced = workload.commands(options.orders(options.rate_per_s))
    offsets_ns = due_offsets_ns(len(paced), options.rate_per_s, poisson=options.poisson)
    saturated = workload.commands(options.orders(SATURATED_PER_S), seed=workload.SEED + 1)
    runner = _Runner(options, report)
    for of in interleaved(options.runs):
        ran = runner.run(of, paced, offsets_ns, saturated)
        add_latencies(report, of, ran.paced.latencies_ns)
        report.add(
            of + SATURATED, requests_per_s=len(saturated) * NS_PER_S / ran.saturated.duration_ns,
            cpu_us_request=ran.cpu_ns / len(saturated) / 1_000, resident_mib=ran.resident_bytes / (1 << 20),
        )  # fmt: skip
    report.say(runner.said)
    for of in (ENGINE, FLOOR):
        for key in ("p50", "p99", "p99_9", "max"):
            report.figure(of, f"{key}_us", f"{key.replace('_', '.')} µs")
        report.figure(of + SATURATED, "requests_per_s", "requests/s")
        report.figure(of + SATURATED, "cpu_us_request", "CPU µs a request, HTTP process")
        report.figure(of + SATURATED, "resident_mib", "MiB resident, HTTP process")
    report.ratio("p50 engine ÷ floor", (ENGINE, "p50_us"), (FLOOR, "p50_us"))
    report.ratio("p99 engine ÷ floor", (ENGINE, "p99_us"), (FLOOR, "p99_us"))
    key = "requests_per_s"
    least = report.ratio("saturated, engine ÷ floor", (ENGINE + SATURATED, key), (FLOOR + SATURATED, key))
    report.bar("saturated, engine ÷ floor", least, at_least=RATIO_MIN)
    resident = max(report.values(ENGINE + SATURATED, "resident_mib"))
    report.bar("MiB resident, most of any run", resident, at_most=RESIDENT_MIB_MAX)
    if options.rate_per_s == P99_RATE_PER_S:
        p99_us = median(report.values(ENGINE, "p99_us"))
        report.bar(f"p99 µs at {P99_RATE_PER_S:,}/s", p99_us, at_most=P99_US_MAX)
    report.end()
    return report


class Ran(Struct, frozen=True):
    """One run: what both loads were answered; what the HTTP process used for the saturated one, and holds after it."""

    paced: HttpAnswered
    saturated: HttpAnswered
    cpu_ns: int
    resident_bytes: int


class _Runner:
    def __init__(self, options: Options, report: Report) -> None:
        self._options = options
        self._report = report
        self._record_bytes = 0
        self.said = ""

    def run(self, of: str, paced: list[Command], offsets_ns: list[int], saturated: list[Command]) -> Ran:
        """Run both loads against the engine or the floor once."""
        count = len(paced) + len(saturated)
        port = free_port()
        with Stack(self._options.folder, count) as stack:
            if of == ENGINE:
                self._start_engine(stack, port)
            else:
                path = str(stack.folder / "floor.dat")
                stack.spawn("http-floor", HttpFloorSettings(port, path, self._record_bytes))
            wait_http(stack, port, "/readyz" if of == ENGINE else "/")
            connections = self._options.connections
            pid = stack.pid("http" if of == ENGINE else "http-floor")
            first = drive(port, build(paced, connections), connections, offsets_ns)
            requests = build(saturated, connections)
            before_ns = cpu_ns(pid)
            second = drive(port, requests, connections)
            ran = Ran(first, second, cpu_ns(pid) - before_ns, rss_bytes(pid))
            both = (first, second)
            _require_good(both)
            if of == ENGINE:
                self._check(stack, both, count)
        return ran

    def _start_engine(self, stack: Stack, port: int) -> None:
        stack.start_engine()
        stack.start_acknowledger()
        stack.spawn(
            "http",
            HttpSettings(
                engine_endpoint=stack.sidecars, state_file=str(stack.folder / "http-epoch"), port=port,
                loopback_principal=workload.PRINCIPAL, request_ms=REQUEST_MS,
            ),
        )  # fmt: skip

    def _check(self, stack: Stack, both: tuple[HttpAnswered, HttpAnswered], count: int) -> None:
        status = stack.status(with_hash=True)
        stack.stop()
        replayed = replay(stack.journal, status)
        self._record_bytes = replayed.bytes // count
        kinds, hashed = digest(both[0].answers + both[1].answers)
        self._report.hold(hashed)
        told = ", ".join(f"{name} {number:,}" for name, number in sorted(kinds.items()))
        self.said = (
            f"last run: {count:,} requests, one outcome each ({told}); the journal replays to the engine's state hash "
            f"{status.state_hash}"
        )


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_http(stack: Stack, port: int, path: str) -> None:
    """Wait until the server answers; the sidecar says 200 on its readiness once its engine session is open."""
    until_ns = monotonic_ns() + READY_NS
    while monotonic_ns() < until_ns:
        stack.require_alive()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status in {200, 404, 405}:
                return
        except OSError:
            pass  # not listening yet
        finally:
            connection.close()
        time.sleep(LOOK_S)  # a port that is not bound yet gives no event
    raise BenchError(f"port {port} expected an HTTP server within {READY_NS} ns, was none; see {stack.folder}")


def _require_good(both: tuple[HttpAnswered, HttpAnswered]) -> None:
    for status, body in (*both[0].answers, *both[1].answers):
        if status not in GOOD:
            raise RemoteProtocolError("HTTP server", f"a status of {sorted(GOOD)}", f"{status} {body[:200]!r}")
