"""Every benchmark runs small and checks itself, so that none rots; what it computes is the same each time."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from benchmarks import workload
from benchmarks.arrivals import due_offsets_ns, percentiles
from benchmarks.bench_filled import expected_positions
from benchmarks.errors import BenchError
from benchmarks.generator import count_outcomes
from benchmarks.http_load import build
from benchmarks.main import benchmarks, main
from benchmarks.report import ENGINE, FLOOR, Report, interleaved
from benchmarks.source_kinds import bench_of, read_orders
from benchmarks.source_stack import body_of
from protocol.codes import Code, OrderStatus, OutcomeKind
from protocol.edge import decode_new_order, to_new_order
from protocol.errors import FieldError, RemoteProtocolError
from protocol.orders import CancelOrder, NewOrder
from protocol.session import Outcome, Outcomes

NAMES = sorted(benchmarks())


@pytest.mark.parametrize("name", NAMES)
def test_each_benchmark_runs_and_finds_its_results_right(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quick run ends well, says its conditions, writes raw figures, and its last line is a hash of results."""
    raw = tmp_path / "raw.json"
    code = main([name, "--quick", "--folder", str(tmp_path / "runs"), "--json", str(raw)])
    said = capsys.readouterr()
    assert code == 0, said.err
    lines = said.out.splitlines()
    assert "cores" in lines[1]
    assert "commit" in lines[1]
    assert lines[-1].startswith("results ")
    (written,) = json.loads(raw.read_bytes())
    assert written["benchmark"] == name
    assert {run["of"] for run in written["runs"]} >= (
        {"quiet", "feed", "killed writer"} if name == "ticks" else {ENGINE, FLOOR}
    )
    assert lines[-1] == f"results {written['results']}"
    assert list((tmp_path / "runs").iterdir()) == [], "a run leaves nothing behind"


def test_a_writer_killed_mid_write_is_seen_and_never_believed(tmp_path: Path) -> None:
    """Every death leaves a half-written row, the checksum finds it, and no value made of two writes is taken."""
    raw = tmp_path / "raw.json"
    assert main(["ticks", "--quick", "--folder", str(tmp_path), "--json", str(raw)]) == 0
    (written,) = json.loads(raw.read_bytes())
    (seen,) = [run["values"] for run in written["runs"] if run["of"] == "killed writer"]
    assert seen["kills"] > 0
    assert seen["rows_half_written"] == seen["kills"]
    assert seen["torn_accepted"] == seen["rows_stale"] == seen["reads_stale"] == 0


def test_the_help_names_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    """--help says what each measures, and shows an example."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(f"\n  {name} " in text for name in [*NAMES, "all"])
    assert "examples:" in text


def test_an_absent_recording_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its recording the ticks benchmark stops at once and says what to give it."""
    assert main(["ticks", "--quick", "--recording", str(tmp_path / "none.gz"), "--folder", str(tmp_path)]) == 1
    assert "--recording" in capsys.readouterr().err


def test_workload_w_has_its_shares() -> None:
    """Of the commands 80 % are accepted orders, 15 % cancels and 5 % refused, on every instrument and account."""
    commands = workload.commands(50_000)
    new = [c for c in commands if isinstance(c, NewOrder)]
    refused = sum(c.strategy == workload.REFUSED_STRATEGY for c in new)
    assert abs((len(commands) - len(new)) / len(commands) - 0.15) < 0.01
    assert abs(refused / len(commands) - 0.05) < 0.01
    assert {c.instrument for c in new} == set(workload.instruments)
    assert {c.account for c in new} == set(workload.accounts)
    assert len({c.side for c in new}) == 2


def test_cancels_of_w_hit_live_orders() -> None:
    """Each cancel names an order sent before through the same session, accepted, and cancelled by nothing else."""
    live: set[tuple[str, str]] = set()
    lanes: dict[str, int] = {}
    for command in workload.commands(5_000):
        lane = workload.lane_of(command, 4)
        assert lanes.setdefault(command.account, lane) == lane
        if isinstance(command, CancelOrder):
            live.remove((command.account, command.orig_client_order_id))
        elif command.strategy == workload.STRATEGY:
            live.add((command.account, command.client_order_id))


def test_the_same_seed_gives_the_same_commands() -> None:
    """A run repeats; another seed is another run."""
    assert workload.commands(500) == workload.commands(500)
    assert workload.commands(500) != workload.commands(500, seed=1)


def test_expected_positions_are_the_signed_sum() -> None:
    """What fills whole adds up per account and instrument, refused orders aside."""
    commands = workload.commands(2_000, marketable=True)
    found: Counter[tuple[str, str]] = Counter()
    for c in commands:
        assert isinstance(c, NewOrder)
        if c.strategy != workload.REFUSED_STRATEGY:
            found[c.account, c.instrument] += (1 if c.side.name == "BUY" else -1) * c.quantity_e9 // workload.LOT_E9
    assert expected_positions(commands) == {k: v for k, v in found.items() if v}


def test_http_requests_carry_the_commands() -> None:
    """The body of a prebuilt request is the command again, with the account's own connection."""
    commands = workload.commands(400)
    for command, (lane, request) in zip(commands, build(commands, 50), strict=True):
        assert lane == workload.lane_of(command, 50)
        head, _, body = request.partition(b"\r\n\r\n")
        if isinstance(command, NewOrder):
            assert to_new_order(decode_new_order(body), command.client_order_id) == command
            assert f"content-length: {len(body)}".encode() in head
        else:
            assert head.startswith(f"DELETE /v1/orders/{command.account}/".encode())


def test_even_arrivals_are_even() -> None:
    """Message n of an even open loop is due n intervals after the first."""
    assert due_offsets_ns(4, 1_000) == [0, 1_000_000, 2_000_000, 3_000_000]


def test_poisson_arrivals_keep_the_rate() -> None:
    """Random arrivals never go back and reach the rate on the average."""
    offsets = due_offsets_ns(20_000, 1_000, poisson=True)
    assert offsets == sorted(offsets)
    assert abs(offsets[-1] / 20e9 - 1) < 0.05


def test_percentiles_are_those_of_the_latencies() -> None:
    """The histogram's percentiles are right to three digits."""
    found = percentiles(range(1_000, 1_001_000, 1_000))
    assert found.samples == 1_000
    assert abs(found.p50 / 500_000 - 1) < 0.002
    assert abs(found.p99 / 990_000 - 1) < 0.002
    assert abs(found.max / 1_000_000 - 1) < 0.002


def test_pairs_alternate() -> None:
    """Each next pair runs the other way round, so that a drift meets both alike."""
    assert list(interleaved(3)) == [ENGINE, FLOOR, FLOOR, ENGINE, ENGINE, FLOOR]


def test_different_results_of_the_same_commands_are_refused() -> None:
    """A benchmark whose runs computed different things gives no figure."""
    report = Report("x", "a planted fault", "")
    report.hold("one")
    report.hold("other")
    with pytest.raises(BenchError):
        report.end()


def test_a_lost_outcome_is_refused() -> None:
    """A submit without an outcome, or with two, is no result."""

    def answers(*seqs: int) -> list[list[bytes]]:
        items = [Outcome(s, OutcomeKind.ACCEPTED, Code.OK, "P-1", s + 1, OrderStatus.PENDING_NEW) for s in seqs]
        return [[msgspec.msgpack.encode(Outcomes(items))]]

    assert count_outcomes(answers(0, 1, 2)).kinds == {"ACCEPTED": 3}
    for wrong in (answers(0, 2), answers(0, 1, 1)):
        with pytest.raises(RemoteProtocolError):
            count_outcomes(wrong)


def test_the_figures_are_medians_with_their_spread(capsys: pytest.CaptureFixture[str]) -> None:
    """A figure is a median between its lowest and highest run, a ratio that of medians beside that of pairs."""
    report = Report("x", "three runs", "")
    for engine, floor in ((10, 5), (30, 10), (20, 40)):
        report.add(ENGINE, us=engine)
        report.add(FLOOR, us=floor)
    assert report.figure(ENGINE, "us", "µs") == 20
    assert report.ratio("r", (ENGINE, "us"), (FLOOR, "us"), 1.5) == 2.0
    said = capsys.readouterr().out
    assert "20 [10–30]" in said
    assert "2.000 [0.500–3.000], bar ≤ 1.5: NOT met" in said


def test_a_source_without_its_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without a broker's client: which, and how it is had."""
    monkeypatch.setitem(sys.modules, "benchmarks.source_kafka", None)
    with pytest.raises(BenchError, match=r"kafka expected its packages .* pip install 'wojak\[kafka\]'"):
        bench_of("kafka")


def test_a_plain_client_of_a_source_decodes_what_it_reads() -> None:
    """The floor of ``source`` reads each body as an order; what is none stops it."""
    read_orders([body_of(0), body_of(1)])
    with pytest.raises(FieldError, match="account"):
        read_orders([body_of(0), b"{}"])
