"""What the machine itself allows: bare loops that move and sync the same bytes and decide nothing.

- ``run_floor``: receive → write → sync → answer. The answer is a count: so many of this session are durable.
- ``run_chained_floor``: the same, and every item goes on to a second bare loop, ``run_venue_floor``, whose reports
  are received, written and synced here again: an engine and a venue that do nothing but hold on to bytes.
Both write into a zero-filled file in place, as the journal does.
"""

from __future__ import annotations

import gc
import os
from typing import Final

import msgspec

from journal.direct import DirectDisk
from protocol.channels import Context, Dealer, Router, Waiter
from runtime.signals import StopSignal

FILE_BYTES: Final = 64 << 20
CHUNK_BYTES: Final = 1 << 20
HWM: Final = 50_000
BATCH_MAX: Final = 1_024
FORWARDED_MAX: Final = 64  # messages of the second loop taken a turn; each stands for up to BATCH_MAX items
COUNT_BYTES: Final = 4
FILLED_BYTES: Final = 8
WAIT_MS: Final = 100
ASK: Final = b"?"
"""Asks a floor how many items came back from the second loop; answered with a count of 8 bytes, 0 without one."""


class FloorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one floor.

    Attributes:
        endpoint: Where it listens.
        path: What it writes to.
        record_bytes: Written per item.
        onward_endpoint: Of the second loop; empty = none.
        onward_bytes: Sent there per item; back from the second loop come ``report_bytes``.
        report_bytes: Written per item that came back.
        direct_io: Write past the page cache, as an engine with ``direct_io`` does (``run_floor`` only).
    """

    endpoint: str
    path: str
    record_bytes: int
    onward_endpoint: str = ""
    onward_bytes: int = 0
    report_bytes: int = 0
    direct_io: bool = False


class SyncedFile:
    """A zero-filled file, written in place from its beginning again and again."""

    def __init__(self, path: str, *, direct_io: bool = False) -> None:
        self._direct = DirectDisk() if direct_io else None
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        for at in range(0, FILE_BYTES, CHUNK_BYTES):
            os.pwrite(self._fd, bytes(CHUNK_BYTES), at)
        os.fsync(self._fd)
        self._offset = 0
        self._filler = bytes(range(256)) * (8 << 10)

    def write(self, size: int) -> None:
        """Write ``size`` bytes and sync them."""
        if self._offset + size > FILE_BYTES:
            self._offset = 0
        if self._direct is None or not self._direct.write_synced(self._fd, self._filler[:size], self._offset):
            os.pwrite(self._fd, self._filler[:size], self._offset)
            os.fdatasync(self._fd)
        self._offset += size


def run_floor(settings: FloorSettings) -> None:
    """Receive what is there, write, sync, answer."""
    stop = StopSignal()
    context = Context()
    router = Router(context, settings.endpoint, HWM)
    waiter = Waiter(router)
    waiter.add_fd(stop.fd)
    file = SyncedFile(settings.path, direct_io=settings.direct_io)
    _freeze()
    while not stop.is_set:
        if waiter.wait(WAIT_MS) and (frames := router.receive(BATCH_MAX)):
            items = _take(router, frames, 0)
            if items:
                file.write(settings.record_bytes * len(items))
                _answer(router, items)
    context.close()


def run_chained_floor(settings: FloorSettings) -> None:
    """Receive what is there from both sides, write, sync; send on, answer."""
    stop = StopSignal()
    context = Context()
    router = Router(context, settings.endpoint, HWM)
    onward = Dealer(context, settings.onward_endpoint, HWM)
    waiter = Waiter(router, onward)
    waiter.add_fd(stop.fd)
    file = SyncedFile(settings.path)
    filled = 0
    _freeze()
    while not stop.is_set:
        # The second loop's socket tells changes only: a send may have swallowed one.
        if not onward.readable and not waiter.wait(WAIT_MS):
            continue
        items = _take(router, router.receive(BATCH_MAX), filled)
        reported = sum(int.from_bytes(b[:COUNT_BYTES], "little") for b in onward.receive(FORWARDED_MAX))
        if items or reported:
            file.write(settings.record_bytes * len(items) + settings.report_bytes * reported)
            filled += reported
        if items:
            onward.socket.send(_message(len(items), settings.onward_bytes))
            _answer(router, items)
    context.close()


def run_venue_floor(settings: FloorSettings) -> None:
    """Receive what is there, write, sync, send as much back as reports have."""
    stop = StopSignal()
    context = Context()
    router = Router(context, settings.endpoint, HWM)
    waiter = Waiter(router)
    waiter.add_fd(stop.fd)
    file = SyncedFile(settings.path)
    _freeze()
    while not stop.is_set:
        if waiter.wait(WAIT_MS) and (frames := router.receive(FORWARDED_MAX)):
            counts = [int.from_bytes(body[:COUNT_BYTES], "little") for _, body in frames]
            file.write(settings.record_bytes * sum(counts))
            for (identity, _), count in zip(frames, counts, strict=True):
                router.send(identity, _message(count, settings.report_bytes))
    context.close()


def _take(router: Router, frames: list[tuple[bytes, bytes]], filled: int) -> list[bytes]:
    """Return who sent each item; whoever asks is answered at once."""
    items = [identity for identity, body in frames if body != ASK]
    if len(items) != len(frames):
        for identity, body in frames:
            if body == ASK:
                router.send(identity, filled.to_bytes(FILLED_BYTES, "little"))
    return items


def _answer(router: Router, items: list[bytes]) -> None:
    counts: dict[bytes, int] = {}
    for identity in items:
        counts[identity] = counts.get(identity, 0) + 1
    for identity, count in counts.items():
        router.send(identity, count.to_bytes(COUNT_BYTES, "little"))


def _message(count: int, item_bytes: int) -> bytes:
    return count.to_bytes(COUNT_BYTES, "little") + bytes(count * item_bytes)


def _freeze() -> None:
    gc.collect()
    gc.freeze()
    gc.disable()
