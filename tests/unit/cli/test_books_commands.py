"""``wojak books`` where the books are a file: nothing to make, what is there, and all of it anew."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from books.compare import compare
from books.sqlite import SqliteStore
from cli.books import doctor, init, rebuild
from cli.options import deployment
from tests.unit.cli.test_configuration import write
from tests.unit.journal.samples import write_batches
from tests.unit.journal.stories import Story


def test_books_are_made_anew_only_when_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --yes nothing changes; with it every row of the journal is there, and the doctor counts them."""
    config = write(tmp_path)
    paths = deployment(config).paths
    assert init(config=config) == 0
    assert doctor(config=config) == 0
    assert not paths.books.exists()
    write_batches(paths.journal, [Story(Random(1)).write(60)[n : n + 4] for n in range(0, 40, 4)])
    assert rebuild(config=config) == 1
    store = SqliteStore(paths.books)
    assert sum(store.counts()) == 0
    store.close()
    assert rebuild(yes=True, config=config) == 0
    assert compare(paths.journal, paths.books).is_equal
    assert doctor(config=config) == 0

    assert "to record" in capsys.readouterr().out
