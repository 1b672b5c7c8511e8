"""The ``wojak journal`` commands as a person runs them, on journals made in the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from cli.example import EXAMPLE
from cli.journal_export import export
from cli.journal_ls import HEAD, list_segments
from cli.options import deployment
from journal.holders import Holder
from protocol.errors import ConfigError
from tests.unit.journal.damage import crc_behind, flip, tear
from tests.unit.journal.samples import clocked, ordered, write_batches


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a deployment that was never started."""
    path = tmp_path / "wojak.toml"
    path.write_text(EXAMPLE)
    return path


def test_ls_shows_segments_watermark_and_readers(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row a segment, then how far it is durable and how far each reader is."""
    journal = deployment(config).paths.journal
    write_batches(journal, [[ordered(f"{n}-{k}") for k in range(3)] for n in range(20)])
    Holder(journal, "books").advance(3, crc_behind(journal / "000001.wal", 0))

    code = list_segments(config=config)

    said = capsys.readouterr().out.splitlines()
    assert code == 0
    assert [word for word in HEAD if word in said[0]] == list(HEAD)
    assert said[1].split()[:2] == ["000001", "1"]
    assert said[1].split()[-1] == "whole"
    assert "durable to seq 60, epoch 1; no engine runs here" in said
    assert "holder books: saw to seq 3 in segment 000001, 57 behind" in said
    assert "books store: absent" in said


def test_ls_in_json_says_the_same(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get numbers, chains as hex and times twice."""
    journal = deployment(config).paths.journal
    write_batches(journal, [[ordered(f"{n}") for n in range(3)]])

    code = list_segments(json=True, config=config)

    said = json.loads(capsys.readouterr().out)
    assert code == 0
    assert said["sound"] is True
    assert said["durable"]["seq"] == said["last_seq"] == said["segments"][0]["last_seq"] == 3
    assert said["segments"][0]["crc"] == f"{crc_behind(journal / '000001.wal', 0):08x}"
    assert (said["segments"][0]["first_ns"], said["segments"][0]["first_at"]) == (1, "1970-01-01T00:00:00.000000001Z")


@pytest.mark.parametrize("how", ["torn", "damaged"])
def test_ls_says_what_is_wrong_and_so_does_its_exit_code(
    config: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    """A script needs no more than the exit code; a person reads which file, record and offset."""
    journal = deployment(config).paths.journal
    write_batches(journal, [clocked(1, 2), clocked(3)])
    if how == "torn":
        tear(journal)
    else:
        flip(journal / "000001.wal")

    code = list_segments(config=config)

    said = capsys.readouterr().out
    assert code == 1
    assert f"000001.wal {how.upper()}: record " in said
    assert "(offset " in said


def test_ls_names_a_reader_that_is_past_the_end(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A holder ahead of the journal is the sign that something was lost."""
    journal = deployment(config).paths.journal
    write_batches(journal, [clocked(1, 2)])
    Holder(journal, "books").advance(9, 5)

    code = list_segments(config=config)

    assert code == 1
    assert "holder books: saw to seq 9, PAST the journal's end by 7" in capsys.readouterr().out


def test_ls_of_nothing_says_so(config: Path) -> None:
    """Before the first start there is no journal, and no folder is made by looking."""
    with pytest.raises(ConfigError):
        list_segments(config=config)
    assert not deployment(config).paths.journal.exists()


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_export_says_what_it_wrote(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: Literal["jsonl", "parquet"]
) -> None:
    """Records, numbers, file and watermark in one line."""
    write_batches(deployment(config).paths.journal, [[ordered(f"{n}"), *clocked(n)] for n in range(10)])
    out = tmp_path / f"out.{form}"

    code = export(out=out, format=form, from_seq=3, to_seq=99, kind=["Clocked"], config=config)

    said = capsys.readouterr().out
    assert code == 0
    assert said.startswith(f"9 records, seq 4 to 20 → {out}, {out.stat().st_size:,} bytes; durable to seq 20")


def test_export_names_the_kinds_there_are(config: Path, tmp_path: Path) -> None:
    """A kind that no record has is a typing error, not an empty export."""
    with pytest.raises(ConfigError) as refused:
        export(out=tmp_path / "out", kind=["Order"], config=config)

    assert "Ordered" in str(refused.value)
    assert not (tmp_path / "out").exists()
