"""kill -9 at every named place, ten times each, under 2,000 orders a second: nothing lost, nothing twice.

Each test arms one fail point of one process through the environment, lets the supervisor restart what died, waits
until the place was hit ten times, stops the flow and lets ``wojak verify`` count the promises from the durable files.
The flow retries the same id until it is answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.failpoints import POINTS
from tests.processes.stack import Stack, wait_until
from tests.unit.market.recorded import LINEAR, recorded

KILLS = 10
RATE = 2_000
HITS_PER_LIFE = {"engine": 60, "sidecar": 60, "gateway": 60, "books": 20, "feed": 200, "follower": 20}
HITS_OF = {"follower.in_snapshot": 90, "follower.after_snapshot": 2}  # there are fewer of these than of records
WITHIN_S = 150.0


def _fast_flow(text: str) -> str:
    text = text.replace("rate = 200 ", f"rate = {RATE} ")
    text = text.replace("[feed]", "[follower]\nsnapshot_records = 2000\n\n[feed]", 1)
    return text.replace("value = 500\n", "value = 20000\n")


def _past_the_page_cache(text: str) -> str:
    return _fast_flow(text).replace("[engine]\n", "[engine]\ndirect_io = true\n", 1)


def _kills(log: Path, point: str) -> int:
    return sum(line.startswith(f"{point} ") for line in log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize("point", sorted(POINTS))
def test_ten_kills_lose_nothing_and_repeat_nothing(tmp_path: Path, point: str) -> None:
    """Every order has one outcome, the venue has each order once, journal, books and venue agree."""
    _kill_ten_times(tmp_path, point, _fast_flow)


def test_ten_kills_of_an_engine_that_writes_past_the_page_cache(tmp_path: Path) -> None:
    """The same of a journal that readers, follower and books read from the disk."""
    _kill_ten_times(tmp_path, "engine.after_sync", _past_the_page_cache)


def _kill_ten_times(tmp_path: Path, point: str, edit: Callable[[str], str]) -> None:
    log = tmp_path / "kills.log"
    hits = HITS_OF.get(point) or HITS_PER_LIFE[point.partition(".")[0]]
    env = {"WOJAK_FAIL_POINT": f"{point}:{hits}:{KILLS}", "WOJAK_FAIL_LOG": str(log)}
    with Stack(tmp_path, flow=True, ticks=recorded(LINEAR), env=env, edit=edit) as stack:
        stack.start(wait=False)

        wait_until(lambda: _kills(log, point) >= KILLS, WITHIN_S, f"{KILLS} kills at {point}, had {stack.said()}")
        stack.wait_ready()
        before = stack.status().accepted
        wait_until(lambda: stack.status().accepted > before + RATE // 2, WITHIN_S, "orders to flow again")
        verified = stack.wojak("verify", within_s=120.0)
        assert stack.stop() == 0, stack.said()

    print(verified.stdout)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert _kills(log, point) == KILLS
    counted = re.search(r"sent ([\d,]+) = outcomes ([\d,]+) · lost 0 · twice 0", verified.stdout)
    assert counted is not None, verified.stdout
    assert int(counted[1].replace(",", "")) > 1_000
