"""Which shards to take, which to ask for, and when a lease of another is over. Pure: rows and times in, wishes out.

Rules: a shard is read only when all its parents are at their end, or forgotten by the stream: else what was sent later
could be decided earlier. A lease is over when its row has not moved for its time, on our own clock, between the arrival
of the first look and the beginning of the last one. Shares differ by one at most; who has too few asks who has most,
and gets a shard when that one has nothing unanswered in it any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from sidecars.sources.kinesis_leases import NOBODY, Lease

NS_PER_MS: Final = 1_000_000


class Watch:
    """Since when each row has been as it is."""

    def __init__(self, lease_ms: int) -> None:
        self._lease_ms = lease_ms
        self._since: dict[str, tuple[str, int, int]] = {}

    def note(self, rows: Iterable[Lease], arrived_ns: int) -> None:
        """Take rows as they were seen; monotonic nanoseconds."""
        since = self._since
        self._since = {}
        for row in rows:
            seen = since.get(row.shard)
            same = seen is not None and seen[:2] == (row.owner, row.counter)
            self._since[row.shard] = seen if seen is not None and same else (row.owner, row.counter, arrived_ns)

    def is_over(self, row: Lease, began_ns: int) -> bool:
        """Whether the row had not moved for its time when a look at it began."""
        seen = self._since.get(row.shard)
        if seen is None or seen[:2] != (row.owner, row.counter):
            return False
        return began_ns - seen[2] >= max(self._lease_ms, row.lease_ms) * NS_PER_MS


class Wishes(NamedTuple):
    """What to do about the rows."""

    take: Sequence[Lease]
    ask: Sequence[Lease]


def startable(rows: Mapping[str, Lease], listed: AbstractSet[str]) -> list[Lease]:
    """Return the rows of shards that may be read: not at their end, and all their parents are, or are forgotten.

    Args:
        rows: By shard.
        listed: The shards that the stream still knows.
    """

    def is_done(parent: str) -> bool:
        row = rows.get(parent)
        return parent not in listed if row is None else row.is_ended or parent not in listed

    return [
        row
        for row in rows.values()
        if not row.is_ended and row.shard in listed and all(is_done(parent) for parent in row.parents)
    ]


def forgotten(rows: Mapping[str, Lease], listed: AbstractSet[str]) -> list[Lease]:
    """Return the rows that nobody needs: at their end, not listed any more, and nobody's parent that is listed."""
    needed = {parent for row in rows.values() if row.shard in listed for parent in row.parents}
    return [row for row in rows.values() if row.is_ended and row.shard not in listed and row.shard not in needed]


def wishes(may: Sequence[Lease], me: str, held: AbstractSet[str], over: AbstractSet[str]) -> Wishes:
    """Return what to take and what to ask for.

    Args:
        may: Rows that may be read, in the order of preference.
        me: Our name as an owner.
        held: Shards that we read now.
        over: Shards whose row has not moved for the time of its lease.
    """
    loads = Counter({me: len(held)})
    loads.update(r.owner for r in may if r.owner not in {me, NOBODY} and r.shard not in over)
    rivals = set(loads) | {r.wanted_by for r in may if r.wanted_by != NOBODY and r.shard not in over}
    fair = -(-len(may) // len(rivals))
    free = [r for r in may if r.shard not in held and _is_free(r, me, over)]
    take = free[: max(0, fair - len(held))]
    mine = len(held) + len(take)
    if take or any(r.wanted_by == me and r.owner != NOBODY for r in may):
        return Wishes(take, ())  # asked already
    richest = max(loads, key=lambda owner: (loads[owner], owner))
    asked = [r for r in may if r.owner == richest and r.owner != me and r.wanted_by == NOBODY and r.shard not in over]
    return Wishes((), asked[:1] if loads[richest] > mine + 1 else ())


def _is_free(row: Lease, me: str, over: AbstractSet[str]) -> bool:
    if row.shard in over or row.owner == me:  # ours, but not held: our own earlier take, or given up by ourselves
        return True
    return row.owner == NOBODY and row.wanted_by in {NOBODY, me}
