"""The journal's commands beside a running deployment, and a torn journal between two of its lives."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from journal.watermark import WatermarkReader
from tests.processes.stack import START_S, Stack, wait_until
from tests.unit.journal.damage import frame_offsets


def _journal(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return stack.wojak("journal", *arguments)


def _durable(journal: Path) -> int:
    reader = WatermarkReader(journal)
    seq = reader.read().seq
    reader.close()
    return seq


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_they_run_beside_an_engine_that_writes(tmp_path: Path) -> None:
    """Ls finds it sound, export holds exactly what was durable, repair-tail is refused, prune removes nothing."""
    with Stack(tmp_path, flow=True) as stack:
        stack.start()
        journal = stack.deployment.paths.journal
        wait_until(lambda: _durable(journal) > 500, START_S, "500 records of the flow")

        listed = _journal(stack, "ls", "--json")
        before = _durable(journal)
        exported = _journal(stack, "export", "--out", str(tmp_path / "all.jsonl"))
        after = _durable(journal)
        repair = _journal(stack, "repair-tail", "--yes")
        pruned = _journal(stack, "prune")

    found = json.loads(listed.stdout)
    assert (listed.returncode, found["sound"]) == (0, True)
    assert found["engine_pid"] > 0
    assert {h["name"] for h in found["holders"]} >= {"books"}
    assert exported.returncode == 0
    seqs = [row["seq"] for row in _rows(tmp_path / "all.jsonl")]
    assert seqs == list(range(1, len(seqs) + 1))
    assert before <= len(seqs) <= after
    assert {"Started", "Ordered", "Reported"} <= {row["kind"] for row in _rows(tmp_path / "all.jsonl")}
    assert repair.returncode == 1
    assert "JOURNAL_LOCKED" in repair.stderr
    assert pruned.returncode == 0
    assert "nothing was removed" in pruned.stdout
    assert (journal / "000001.wal").exists()


def test_a_loss_that_was_accepted_stands_in_the_journal(tmp_path: Path) -> None:
    """The engine refuses a journal that ends before what was durable; an accepted cut lets it start, on record."""
    with Stack(tmp_path) as stack:
        stack.start()
        stack.wojak("order", "buy", "BTCUSDT", "0.01", "--limit", "1000")
        assert stack.stop() == 0
        journal = stack.deployment.paths.journal
        path = max(journal.glob("*.wal"))
        data, last = path.read_bytes(), frame_offsets(path)[-2]
        path.write_bytes(data[:last] + bytes(len(data) - last))

        shown = stack.wojak("engine", "recover")
        refused = _journal(stack, "repair-tail", "--yes")
        accepted = stack.wojak("engine", "recover", "--accept-cut", "--reason", "the cache lied")
        for store in stack.deployment.paths.books.parent.glob("books.sqlite*"):
            store.unlink()
        stack.start(wait=False)
        wait_until(lambda: "accepted that" in stack.wojak("journal", "cat").stdout, START_S, "the START with the cut")
        stack.wait_ready("engine", "books")
        told = stack.wojak("journal", "cat")
        listed = _journal(stack, "ls", "--json")

    assert shown.returncode == 1
    assert "PAST THE END: " in shown.stdout
    assert refused.returncode == 1
    assert "JOURNAL_DAMAGED" in refused.stderr
    assert "accepted: the next record is " in accepted.stdout
    assert "accepted that the journal was cut behind record" in told.stdout
    assert "the cache lied" in told.stdout
    assert json.loads(listed.stdout)["sound"] is True
