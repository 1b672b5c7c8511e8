"""The ``wojak journal`` commands as a person runs them, on journals made in the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from books.sqlite import SqliteStore
from books.store import StoreMark
from cli.example import EXAMPLE
from cli.journal_export import export
from cli.journal_ls import HEAD, list_segments
from cli.main import main
from cli.options import deployment
from cli.tail import recover, repair_tail
from journal.errors import JournalDamagedError, JournalLockedError
from journal.holders import Holder
from journal.lock import FolderLock
from journal.projection import NothingStored, Projection
from journal.repair import noted_cut
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


def _torn_journal(config: Path) -> Path:
    journal = deployment(config).paths.journal
    write_batches(journal, [clocked(1, 2), clocked(3)])
    tear(journal)
    return journal


def test_repair_tail_shows_first_and_cuts_only_with_yes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first run says where, how much and what it was; the second does it; the third has nothing to do."""
    journal = _torn_journal(config)
    before = (journal / "000001.wal").read_bytes()

    shown, said = repair_tail(config=config), capsys.readouterr().out
    unchanged = (journal / "000001.wal").read_bytes() == before
    done, cut = repair_tail(yes=True, config=config), capsys.readouterr().out
    again, nothing = repair_tail(config=config), capsys.readouterr().out

    assert (shown, unchanged, done, again) == (1, True, 0, 0)
    assert "the journal ends with record 2 (" in said
    assert "its header says: records 3 to 3, epoch 1" in said
    assert "nothing was changed" in said
    assert "the next record is 3" in cut
    assert "nothing is torn" in nothing


def test_repair_tail_refuses_what_the_books_have_seen(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A holder past the cut is named, --yes or not."""
    journal = _torn_journal(config)
    Holder(journal, "books").advance(3, 1)
    with pytest.raises(JournalDamagedError) as refused:
        repair_tail(yes=True, config=config)

    assert "books has seen record 3" in refused.value.why
    assert "PAST THE END: books has seen to record 3" in capsys.readouterr().out


def test_repair_tail_asks_the_store_itself(config: Path) -> None:
    """The store's own watermark counts also where its holder file is gone."""
    _torn_journal(config)
    store = SqliteStore(deployment(config).paths.books)
    store.apply(StoreMark(), Projection(NothingStored()).take(), StoreMark(3, 1, 1))
    store.close()
    with pytest.raises(JournalDamagedError) as refused:
        repair_tail(yes=True, config=config)

    assert "the books' store has seen record 3" in refused.value.why


def test_neither_repair_runs_beside_an_engine(config: Path) -> None:
    """The engine's lock is theirs too."""
    journal = _torn_journal(config)
    lock = FolderLock(journal)
    try:
        with pytest.raises(JournalLockedError):
            repair_tail(yes=True, config=config)
        with pytest.raises(JournalLockedError):
            recover(accept_cut=True, reason="why not", config=config)
    finally:
        lock.close()


def test_recover_says_what_may_be_lost_and_does_it_only_when_told(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --accept-cut it shows; with it, and a reason, the journal ends where it is whole."""
    journal = _torn_journal(config)
    Holder(journal, "books").advance(9, 1)

    shown, said = recover(config=config), capsys.readouterr().out
    with pytest.raises(ConfigError):
        recover(accept_cut=True, config=config)
    done, accepted = recover(accept_cut=True, reason="the cache lied", config=config), capsys.readouterr().out
    again, nothing = recover(config=config), capsys.readouterr().out

    assert (shown, done, again) == (1, 0, 0)
    assert "may be lost: records 3 to 9 at least" in said
    assert "nothing was changed" in said
    assert "accepted: the next record is 3" in accepted
    assert "the books hold what the journal lacks: remove " in accepted
    assert "nobody has seen more" in nothing
    note = noted_cut(journal)
    assert note is not None
    assert (note.reason, note.seen) == ("the cache lied", [("books", 9)])


@pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens")
@pytest.mark.parametrize("words", [["journal"], ["journal", "--help"], ["--help"], ["engine", "-h"]])
def test_a_list_of_commands_says_what_each_is_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Also those that are imported only when they are used."""
    monkeypatch.setattr("sys.argv", ["wojak", *words])
    monkeypatch.setenv("COLUMNS", "200")

    assert main() == 0

    said = capsys.readouterr().out
    rows = [line.strip("│ ").split(None, 1) for line in said.splitlines() if line.startswith("│")]
    assert rows
    assert [row for row in rows if len(row) < 2] == []
