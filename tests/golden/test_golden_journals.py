"""A journal of any release is read by this one, comes to the same state, and is decided the same again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.core import Core
from engine.state import state_hash
from journal.recovery import recover
from protocol.records import Record
from tests.golden.write import HERE, KEYS_MAX, SIZES

RELEASES = sorted(p.name for p in HERE.iterdir() if (p / "expected").exists())


def test_there_is_a_journal_of_the_first_release() -> None:
    """An empty folder would prove nothing."""
    assert "0.1.0" in RELEASES


@pytest.mark.parametrize("release", RELEASES)
def test_a_releases_journal_comes_to_the_state_it_had(tmp_path: Path, release: str) -> None:
    """Fields are only ever appended: what was written stays readable and means the same."""
    journal = tmp_path / "journal"
    shutil.copytree(HERE / release, journal, ignore=shutil.ignore_patterns("expected"))
    core = Core(KEYS_MAX)
    again: list[bool] = []

    def apply(seq: int, now_ns: int, position: int, record: Record) -> None:
        same = core.decide_again(record, now_ns)
        if same is not None:
            again.append(same)
        core.apply(seq, now_ns, position, record)

    recovered = recover(journal, apply, SIZES)

    records, expected = (HERE / release / "expected").read_text().split()
    assert recovered.records == int(records)
    assert state_hash(core.state) == expected
    assert len(again) > 10
    assert all(again)
