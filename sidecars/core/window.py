"""What one assignment of one partition of a log has handed out, and how far all of it is answered.

Rules: an offset is committed when everything handed out before it is answered; what was handed out is counted, never
offsets, because offsets have gaps (aborted transactions, compaction; numbers of a shard are no count at all). A window
belongs to one assignment: once the partition is taken away or read again from an earlier place it is fenced, and
nothing of it is committed any more, also when the partition comes back (an old window would move the group's offset
back). No I/O here.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from sidecars.core.source import Delivery

LONG_AGO_NS: Final = 1


class Receipt:
    """One record handed out. ``record`` and ``delivery`` are dropped when it is answered: the window may be long."""

    __slots__ = ("delivery", "is_answered", "offset", "record", "window")

    def __init__(self, window: Window, offset: int, record: Any) -> None:
        self.window = window
        self.offset = offset
        self.record = record
        self.delivery: Delivery | None = None
        self.is_answered = False


class Window:
    """See the module."""

    __slots__ = ("_receipts", "committed", "is_fenced", "partition", "unanswered", "watermark")

    def __init__(self, partition: int, start: int = -1) -> None:
        """Begin an assignment; ``start``: the offset that is read first, -1 = not known, and none is committed yet."""
        self.partition = partition
        self.watermark = start
        self.committed = start
        self.is_fenced = False
        self.unanswered = 0
        self._receipts: deque[Receipt] = deque()

    def __len__(self) -> int:
        """Return how many are kept: unanswered ones, and what is answered behind one that is not."""
        return len(self._receipts)

    @property
    def is_due(self) -> bool:
        """Whether there is something to commit."""
        return self.watermark > self.committed and not self.is_fenced

    def hand_out(self, offset: int, record: Any) -> Receipt:
        """Take a record, in the order received."""
        receipt = Receipt(self, offset, record)
        self._receipts.append(receipt)
        self.unanswered += 1
        return receipt

    def answer(self, receipt: Receipt) -> None:
        """Mark as answered for good; again is no error. Moves the watermark if it was the oldest."""
        if receipt.is_answered:
            return
        receipt.is_answered = True
        receipt.record = receipt.delivery = None
        self.unanswered -= 1
        receipts = self._receipts
        while receipts and receipts[0].is_answered:
            self.watermark = receipts.popleft().offset + 1

    def oldest(self) -> Receipt | None:
        """Return the oldest unanswered one."""
        return self._receipts[0] if self._receipts else None

    def extend(self, until_mono_ns: int) -> None:
        """Move the lease of everything that is unanswered: where the partition as a whole has one."""
        for receipt in self._receipts:
            if receipt.delivery is not None:
                receipt.delivery.lease_until_mono_ns = until_mono_ns

    def fence(self) -> None:
        """End the assignment: the loop gives up what is under way, the broker hands it out anew (R2)."""
        self.is_fenced = True
        for receipt in self._receipts:
            if receipt.delivery is not None:
                receipt.delivery.lease_until_mono_ns = LONG_AGO_NS
                receipt.delivery = None
        self._receipts.clear()
        self.unanswered = 0
