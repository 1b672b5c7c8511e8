"""The follower beside a real engine: snapshots to recover from, the state compared, the event stream without gaps."""

from __future__ import annotations

import json
from pathlib import Path

from cli.scrape import Scraper
from journal.snapshots import snapshot_seq, snapshots
from tests.processes.stack import Stack, wait_until

RECORDS = 500


def _small(text: str) -> str:
    return text.replace("[feed]", f"[follower]\nsnapshot_records = {RECORDS}\n\n[feed]", 1)


def _said(stack: Stack, process: str, event: str) -> list[dict[str, object]]:
    """Return what a process logged under one name, over all its lives."""
    lines = (stack.deployment.paths.logs / f"{process}.log").read_text("utf-8").splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [line for line in found if line["event"] == event]


def test_an_engine_recovers_from_the_followers_snapshot_and_both_agree(tmp_path: Path) -> None:
    """Killed under load it starts behind a snapshot; its state's hash is the follower's; who asks gets every event."""
    with Stack(tmp_path, flow=True, edit=_small) as stack:
        stack.start()
        journal = stack.deployment.paths.journal
        wait_until(lambda: len(snapshots(journal)) == 2, 60.0, "two snapshots")
        pid = stack.kill("engine")
        stack.wait_restarted("engine", pid)
        stack.wait_ready()
        newest = snapshot_seq(snapshots(journal)[0])
        started = _said(stack, "engine", "started")[-1]
        assert isinstance(started["snapshot_seq"], int)
        assert 0 < started["snapshot_seq"] <= newest + RECORDS * 100

        checked = stack.wojak("engine", "check", "--reason", "test")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        scraper = Scraper(stack.deployment)
        wait_until(lambda: scraper.ask("follower").value("wojak_follower_hashes_total") >= 1, 30.0, "the hash compared")
        follower = scraper.ask("follower")
        scraper.close()
        assert follower.reason == ""
        assert follower.value("wojak_follower_parted") == 0
        assert follower.value("wojak_follower_decided_again_total") > 100

        last = stack.status().durable_seq
        followed = stack.wojak("journal", "follow", "--after", "0", "--until", str(last), "--json")
        assert followed.returncode == 0, followed.stderr
        seqs = [json.loads(line)["seq"] for line in followed.stdout.splitlines()]
        assert seqs == sorted(seqs)
        assert set(range(1, last + 1)) <= set(seqs)

        assert stack.stop() == 0, stack.said()
        alarms = _said(stack, "follower", "alarm")
    assert alarms == []
    assert snapshots(journal)
