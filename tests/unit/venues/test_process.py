"""The gateway as its own process: starts, serves, stops on SIGTERM, and says clearly why it can't start."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from protocol.codes import ExecType
from protocol.errors import ConfigError
from protocol.venue import Commands, GatewayLeave, GatewayReady
from tests.unit.venues.stage import E9, PATIENCE_S, XY, Stage, new
from venues.core.loop import read_token
from venues.core.settings import StaticBook
from venues.sandbox import SandboxVenue

MAIN = (
    "import sys, msgspec; from venues.core.loop import run; from venues.core.settings import GatewaySettings; "
    "run(msgspec.json.decode(sys.argv[1], type=GatewaySettings))"
)
ROOT = Path(__file__).parents[3]


def test_a_gateway_process_fills_on_a_static_book_and_leaves_on_sigterm(stage: Stage) -> None:
    """HELLO to fill over ipc; the book is as deep for the third order as for the first; exit code 0."""
    book = StaticBook(mid_e9=100 * E9, quantity_e9=5 * E9)
    settings = msgspec.structs.replace(stage.settings, feed_endpoint="", snapshots_endpoint="", static_book=book)
    process = subprocess.Popen([sys.executable, "-c", MAIN, msgspec.json.encode(settings).decode()], cwd=ROOT)
    try:
        engine = stage.engine
        wait(stage, lambda: engine.hellos == 1)
        stage.welcome()
        wait(stage, lambda: engine.count(GatewayReady) == 1)
        orders = [new(n, f"P-{n}", price=101, quantity=5) for n in (1, 2, 3)]
        engine.send(Commands(1, orders))
        wait(stage, lambda: len(engine.reports) == 6)

        process.send_signal(signal.SIGTERM)
        wait(stage, lambda: engine.count(GatewayLeave) == 1)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()

    trades = [r for r in stage.engine.reports if r.exec_type is ExecType.TRADE]
    assert [(t.last_quantity_e9, t.last_price_e9) for t in trades] == [(5 * E9, 101 * E9)] * 3
    assert min(t.exch_ns for t in trades) > 10**18  # the gateway's clock, for there is no feed


def wait(stage: Stage, condition: object) -> None:
    stage.until(condition, turns=False)  # type: ignore[arg-type]


def test_a_static_book_stands_around_its_middle(tmp_path: Path) -> None:
    """One tick off the middle, as many levels as told, per instrument where it has its own middle."""
    other = msgspec.structs.replace(XY, instrument="ZZ")
    book = StaticBook(mid_e9=100 * E9, mid_by_instrument_e9={"ZZ": 50 * E9}, levels=3, quantity_e9=7 * E9)

    venue = SandboxVenue([XY, other], static_book=book)

    asks = {name: listing.matcher.asks for name, listing in venue.exchange.listings.items()}
    assert {-k: q for k, q in asks["XY"].sizes.items()} == {101: 7, 102: 7, 103: 7}
    assert venue.exchange.listings["ZZ"].matcher.bids.sizes == {49: 7, 48: 7, 47: 7}


def test_settings_that_contradict_each_other_are_named(stage: Stage) -> None:
    """All faults at once, before anything starts."""
    with pytest.raises(ConfigError) as caught:
        stage.start(feed_endpoint="", instruments=())

    assert [p.split(":")[0] for p in caught.value.problems] == [
        "feed_endpoint and static_book", "snapshots_endpoint", "instruments",
    ]  # fmt: skip


def test_a_token_file_must_hold_a_token(tmp_path: Path) -> None:
    """Absent and empty files are named; white space around the token is not part of it."""
    path = tmp_path / "token"
    with pytest.raises(ConfigError):
        read_token(str(path))
    path.write_text("\n")
    with pytest.raises(ConfigError):
        read_token(str(path))
    path.write_text("abc\n")
    assert read_token(str(path)) == "abc"


def test_an_address_in_use_stops_the_start(stage: Stage) -> None:
    """The control address that can't be bound is named, and the folder is free again."""
    with pytest.raises(ConfigError) as caught:
        stage.start(control_endpoint="ipc:///nowhere/at/all/c")

    assert "/nowhere/at/all/c" in str(caught.value)
    stage.start()
