"""``wojak journal prune``: remove the segments that nothing needs any more, and say of the others what needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from cyclopts import Parameter

from cli.kept import gather
from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.shards import Shard, one
from cli.view import grouped
from journal.errors import PruneError
from journal.retention import SNAPSHOTS_MIN, Keep, Verdict, judge, remove
from protocol.errors import ConfigError


def prune(
    *,
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would go.")] = False,
    keep_snapshots: Annotated[int, Parameter(help="Keep what so many of the newest snapshots need; at least 2.")] = 2,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Remove the journal's oldest segments, as far as nothing needs them, while the engine runs or not.

    Needed is what a start from the second newest snapshot reads, what any reader or the books have not seen, today and
    the trading day before, and what holds the first answer of an id that is remembered. Books can't be made anew from
    a pruned journal alone: keep an export, or a copy of the store. Example: `wojak journal prune --dry-run`
    """
    if keep_snapshots < SNAPSHOTS_MIN:
        raise ConfigError([f"--keep-snapshots expected at least {SNAPSHOTS_MIN}, was {keep_snapshots}"], "options")
    loaded = one(deployment(config), shard)
    folder = loaded.paths.journal
    if not folder.is_dir():
        raise ConfigError([f"{folder} expected to be a journal, is absent: nothing was ever started here"])
    keep = Keep(snapshots=keep_snapshots)
    found = gather(loaded, keep)
    for note in found.notes:
        say(note)
    verdicts = judge(found.known, keep)
    for line in lines(verdicts):
        say(line)
    going = [v.segment for v in verdicts if v.may_go]
    if not going:
        say("nothing was removed: each segment is needed" if verdicts else "nothing was removed: there is no segment")
        return 0
    total = f"{grouped(len(going))} segments, {grouped(sum(s.file_bytes for s in going))} bytes"
    if dry_run:
        say(f"would remove {total}; the journal would begin with record {grouped(going[-1].last_seq + 1)}")
        return 0
    try:
        for segment in remove(folder, verdicts):
            say(f"removed {segment.name}")
    except OSError as e:
        raise PruneError(folder, str(e)) from e
    say(f"removed {total}; the journal begins with record {grouped(going[-1].last_seq + 1)}")
    return 0


def lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield a line a segment: may go, or what needs it; a run of segments with the same reasons is one line."""
    at = 0
    while at < len(verdicts):
        end = at
        while end + 1 < len(verdicts) and verdicts[end + 1].reasons == verdicts[at].reasons:
            end += 1
        first, last = verdicts[at].segment, verdicts[end].segment
        names = first.name.removesuffix(".wal") + (f"-{last.name.removesuffix('.wal')}" if end > at else "")
        what = "; ".join(verdicts[at].reasons)
        numbers = f"records {grouped(first.first_seq)} to {grouped(last.last_seq)}"
        yield f"{names}  {numbers}: {f'stays: {what}' if what else 'may go'}"
        at = end + 1
