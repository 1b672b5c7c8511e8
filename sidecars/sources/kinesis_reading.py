"""One shard that this process holds: its lease, how far it is read, how far that is answered. No I/O here.

Rules: what is handed out has the shard's lease, which every renewal moves; once the lease is over or lost, nothing of
it counts any more, and whoever holds the shard then begins at the checkpoint. What was read and not handed out is
forgotten when it must be read again: the shard keeps it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from sidecars.core.window import Receipt, Window
from sidecars.sources.kinesis_leases import Lease
from sidecars.sources.kinesis_link import Read

FROM_THE_OLDEST = -1


class ShardWindow(Window):
    """A window that knows its shard."""

    __slots__ = ("reading",)

    def __init__(self, reading: Reading, after: int) -> None:
        super().__init__(0, after + 1 if after >= 0 else FROM_THE_OLDEST)
        self.reading = reading


class Reading:
    """See the module; times are monotonic nanoseconds."""

    def __init__(self, lease: Lease, taken_ns: int) -> None:
        """Hold a shard since then; ``extend`` says for how long."""
        self.lease = lease
        self.taken_ns = self.renewed_ns = self.until_ns = taken_ns
        self.saved_ns = 0  # the last checkpoint
        self.writing = asyncio.Lock()  # one write of its row at a time: each needs the counter of the one before
        self.failed_writes = 0
        self.window = ShardWindow(self, int(lease.checkpoint or FROM_THE_OLDEST))
        self.buffer: deque[dict[str, Any]] = deque()
        self.iterator = ""
        self.asked = 0  # by the read under way
        self.turn = 0  # a read that was begun in an earlier one is not wanted any more
        self.due_ns = 0
        self.failures = 0
        self.fault = ""
        self.behind_ms = 0
        self.is_lost = False
        self.is_read = False  # to its end
        self.is_yielding = False  # another one has asked for it
        self.yielding_since_ns = 0
        self._after = self._handed_out = self.window.watermark - 1 if lease.checkpoint else FROM_THE_OLDEST

    @property
    def shard(self) -> str:
        """Its id."""
        return self.lease.shard

    @property
    def after(self) -> int:
        """The number of the last record that was read; negative = none."""
        return self._after

    @property
    def checkpoint(self) -> str:
        """The number up to which all is answered; empty = nothing yet."""
        return str(self.window.watermark - 1) if self.window.watermark > 0 else ""

    @property
    def is_done(self) -> bool:
        """Whether all of the shard was read and is answered."""
        return self.is_read and not self.buffer and not len(self.window)

    # Reading

    def begin_read(self, asked: int) -> int:
        """Note that a read of so many is under way; return its turn."""
        self.asked = asked
        return self.turn

    def end_read(self) -> None:
        """Note that it has ended."""
        self.asked = 0

    def take_read(self, read: Read, turn: int) -> bool:
        """Take what a read brought; return whether it was still wanted."""
        if turn != self.turn or self.is_lost:
            return False
        self.failures, self.fault = 0, ""
        self.behind_ms = read.behind_ms
        self.iterator = read.iterator
        self.is_read = not read.iterator
        if read.records:
            self._after = int(read.records[-1]["SequenceNumber"])
            self.buffer.extend(read.records)
        return True

    def hand_out(self, record: dict[str, Any]) -> Receipt:
        """Give a record of the buffer to the loop."""
        self._handed_out = int(record["SequenceNumber"])
        return self.window.hand_out(self._handed_out, record)

    def forget_buffer(self) -> None:
        """Read again, later, what was not handed out."""
        self._read_after(self._handed_out)

    def read_again(self) -> None:
        """Read again from the oldest unanswered record: the stream has no other way to give back."""
        before = self.window
        after = before.watermark - 1 if before.watermark > 0 else FROM_THE_OLDEST
        before.fence()
        self.window = ShardWindow(self, after)
        self.window.committed = before.committed
        self._handed_out = after
        self._read_after(after)

    def _read_after(self, after: int) -> None:
        self.turn += 1
        self.buffer.clear()
        self.iterator = ""
        self.is_read = False
        self._after = after

    # The lease

    def extend(self, lease: Lease, began_ns: int, until_ns: int, saved: int) -> None:
        """Take a renewal that began then, and that wrote a checkpoint."""
        self.lease, self.renewed_ns, self.until_ns = lease, began_ns, until_ns
        self.window.committed = max(self.window.committed, saved)
        self.window.extend(until_ns)

    def lose(self) -> None:
        """End: what is under way is given up."""
        self.is_lost = True
        self.turn += 1
        self.buffer.clear()
        self.window.fence()


def asked_of(readings: Sequence[Reading]) -> int:
    """Return how many records were read, or are asked for, and not handed out."""
    return sum(len(r.buffer) + r.asked for r in readings)
