"""``wojak bench``: the benchmarks, each with its floor measured in the same run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from benchmarks.bench_recovery import QUICK_ORDERS, SMALL_ORDERS, recovery
from benchmarks.conditions import Conditions, conditions
from benchmarks.errors import BenchError
from benchmarks.options import Options
from benchmarks.report import Report, Run, table
from benchmarks.source_kinds import KINDS
from benchmarks.stack import ROOT
from protocol.errors import WojakError

RECORDING: Final = "btcusdt_20240808.gz"
HTTP_RATE_PER_S: Final = 2_000
ALL_RUNS: Final = 3
ALL_SECONDS: Final = 3.0
QUICK_SECONDS: Final = 0.2
QUICK_RATE_PER_S: Final = 1_000

EPILOG: Final = """\
examples:
  wojak bench                          everything in small, and a table of it
  wojak bench latency                  seven interleaved runs of ten seconds at 5,000 orders/s
  wojak bench decided --json out.json  raw figures of every run as well

Every figure is a median of interleaved runs with the lowest and the highest, beside a floor measured between them:
trust ratios of one run, never an absolute figure across runs. The last line is a hash of what was computed.
Exit code 1 means that a result was wrong or a process died, not that a bar was missed.
"""


class Benchmark(NamedTuple):
    """One subcommand."""

    run: Callable[[Options], Report]
    what: str
    rate_per_s: int = 5_000
    is_in_all: bool = True


class Written(Struct, frozen=True):
    """What ``--json`` writes: all raw figures of one benchmark."""

    benchmark: str
    conditions: Conditions
    options: dict[str, str]
    runs: list[Run]
    summary: list[tuple[str, str]]
    results: str


def benchmarks() -> dict[str, Benchmark]:
    """Return every benchmark by name; imports what they need."""
    from benchmarks.bench_core import core
    from benchmarks.bench_decided import decided, latency
    from benchmarks.bench_dedup import dedup
    from benchmarks.bench_filled import filled
    from benchmarks.bench_gate import gate
    from benchmarks.bench_http import http_end_to_end
    from benchmarks.bench_idle import idle
    from benchmarks.bench_kill import kill
    from benchmarks.bench_risk import risk
    from benchmarks.bench_source import source
    from benchmarks.bench_ticks import ticks

    return {
        "core": Benchmark(core, "engine alone, in process, over a day: decode, decide, apply, encode; no I/O"),
        "dedup": Benchmark(dedup, "the deduplication table: bytes a key, look-ups a second while it fills"),
        "gate": Benchmark(gate, "the gate alone: µs an order, plain and complete, at W and at ten times its size"),
        "decided": Benchmark(decided, "through ZeroMQ, one order a message, saturated, durable before answered"),
        "latency": Benchmark(
            latency, "submit to durable outcome at a fixed rate, from the due time: p50 p99 p99.9 max"
        ),
        "filled": Benchmark(
            filled, "new, acknowledged, filled: with a real gateway process, the sandbox, durable logs"
        ),
        "http": Benchmark(http_end_to_end, "HTTP client to answer through the sidecar and the engine", HTTP_RATE_PER_S),
        "ticks": Benchmark(ticks, "whether ticks slow orders, and a table writer killed mid-write once a second"),
        "kill": Benchmark(kill, "operator's kill: 1,000 open orders' cancels durable and handed to the gateway"),
        "recovery": Benchmark(recovery, "an engine's start from snapshot and tail, after ten million orders"),
        "source": Benchmark(
            source, "sidecar of a broker beside the plain client of its library (needs the broker)", is_in_all=False
        ),
        "risk": Benchmark(risk, "portfolio risk: a book of 5,000 option positions, and one order more on it"),
        "idle": Benchmark(idle, "memory of an engine that does nothing"),
    }


def main(argv: list[str]) -> int:
    """Run what the arguments ask for; return the exit code."""
    known = benchmarks()
    arguments = _parser(known).parse_args(argv)
    names = [n for n in known if known[n].is_in_all] if arguments.benchmark == "all" else [arguments.benchmark]
    written: list[Written] = []
    reports: list[Report] = []
    try:
        for name in names:
            options = _options(arguments, known[name])
            at = conditions(options.folder)
            report = known[name].run(options)
            reports.append(report)
            told = {field: str(getattr(options, field)) for field in Options.__struct_fields__}
            written.append(Written(name, at, told, report.runs, report.summary, report.digest))
    except (WojakError, BenchError) as e:
        print(e, file=sys.stderr)
        return 1
    if len(reports) > 1:
        table(reports)
        print("results", " ".join(f"{report.name}:{report.digest[:12]}" for report in reports))
    if arguments.json:
        Path(arguments.json).write_bytes(msgspec.json.format(msgspec.json.encode(written)))
    return 0


def _parser(known: dict[str, Benchmark]) -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:<8} {benchmark.what}" for name, benchmark in known.items())
    parser = argparse.ArgumentParser(
        prog="wojak bench",
        description=f"Measure this machine with workload W.\n\n{lines}\n  all      all of these in small (default)",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("benchmark", nargs="?", default="all", choices=[*known, "all"], metavar="BENCHMARK", help="one of the above")
    add("kind", nargs="?", default=Options().kind, choices=sorted(KINDS), metavar="KIND", help="of a source")
    add("--runs", type=_positive, help="interleaved pairs of runs (7; all: 3)")
    add("--seconds", type=float, help="length of a run: fixes the number of orders (10; all: 3)")
    add("--rate", type=_positive, help="orders a second of an open loop (5,000; http: 2,000)")
    add("--batch", type=_positive, default=1, help="orders a message, of decided (%(default)s)")
    add("--poisson", action="store_true", help="random arrivals instead of even ones")
    add("--direct-io", action="store_true", help="decided, latency: the journal is written past the page cache")
    add("--direct-floor", action="store_true", help="decided, latency: what the floor writes too")
    add("--connections", type=_positive, default=50, help="of the HTTP client (%(default)s)")
    add("--orders", type=_positive, help="of the day of core and recovery (10,000,000; all: 300,000)")
    add("--ticks-rate", type=_positive, default=25_000, help="messages a second of the recording (%(default)s)")
    add("--recording", type=Path, default=_recording(), help="the recorded session (%(default)s)")
    add("--folder", type=Path, default=Path(".wojak/bench"), help="on the disk to measure (%(default)s)")
    add("--json", metavar="FILE", help="write the raw figures of every run")
    add("--quick", action="store_true", help="see that it works, in seconds; the figures mean nothing")
    return parser


def _options(arguments: argparse.Namespace, benchmark: Benchmark) -> Options:
    quick, small = arguments.quick, arguments.benchmark == "all"
    return Options(
        runs=arguments.runs or (1 if quick else ALL_RUNS if small else Options().runs),
        seconds=arguments.seconds or (QUICK_SECONDS if quick else ALL_SECONDS if small else Options().seconds),
        rate_per_s=arguments.rate or (QUICK_RATE_PER_S if quick else benchmark.rate_per_s),
        batch=arguments.batch,
        poisson=arguments.poisson,
        direct_io=arguments.direct_io,
        direct_floor=arguments.direct_floor,
        quick=quick,
        folder=arguments.folder,
        recording=arguments.recording,
        ticks_per_s=arguments.ticks_rate,
        connections=arguments.connections,
        kind=arguments.kind,
        orders_of_day=arguments.orders or (QUICK_ORDERS if quick else SMALL_ORDERS if small else 0),
    )


def _recording() -> Path:
    folder = os.environ.get("WOJAK_TEST_DATA")
    return (Path(folder) if folder else ROOT.parent / "shared" / "data") / RECORDING


def _positive(text: str) -> int:
    value = int(text.replace(",", "").replace("_", ""))
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, was {value}")
    return value
