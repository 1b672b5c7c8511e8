"""The feed's side of the last-value table: fills one side of a slot after the other (``market.table`` has the format).

One writer at a time holds the table's lock. A writer that takes over goes on from the newest whole side of each slot.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from zlib import crc32

from market.errors import TableError
from market.table import (
    BODY,
    BODY_BYTES,
    CRC,
    HEAD,
    MAGIC,
    NAMES_AT,
    SIDE_BYTES,
    SLOT_BYTES,
    SUPERSEDED_AT,
    Header,
    LastValue,
    open_file,
    parse_side,
    slots_at,
)  # fmt: skip

_EXCH_AT: Final = struct.Struct("<56xq").unpack_from  # of a side: exch_ns
_QUOTE_AT: Final = struct.Struct("<8x4q").unpack_from  # of a side: both prices and both sizes
_TRADE_AT: Final = struct.Struct("<40x2q8xq").unpack_from  # of a side: price, size and time of the last trade
_NO_VALUE: Final = (0, 0, 0, 0, 0, 0, 0, 0, 0)


class TableWriter:
    """The feed's side. Make it with ``create``; a write costs about a microsecond.

    Args:
        mid_write: Called half-way through each write (a fail point); None in normal operation.
    """

    def __init__(self, data: mmap.mmap, head: Header, lock_fd: int, mid_write: Callable[[], None] | None) -> None:
        self.instruments = head.instruments
        self.generation = head.generation
        self._slots = {name: slot for slot, name in enumerate(head.instruments)}
        self._data = data
        self._lock_fd = lock_fd
        self._mid_write = mid_write
        self._slots_at = head.slots_at
        # The rest of a row is read from the map itself: values kept beside it would be cold memory twice.
        self._sequence: list[int] = []
        for slot in range(len(head.instruments)):
            start = head.slots_at + SLOT_BYTES * slot
            last = _newest(data[start : start + SLOT_BYTES])
            self._sequence.append(last[0])
            if not last[0]:
                data[start : start + BODY_BYTES] = bytes(BODY_BYTES)  # what a crash left is no value to go on from

    @classmethod
    def create(
        cls, path: Path | str, instruments: Sequence[str], mid_write: Callable[[], None] | None = None
    ) -> TableWriter:
        """Take over the table at ``path``: the same file if it holds the same instruments, else a new one.

        Raises:
            TableError: If another feed writes it, a name can't be stored, or its folder is missing.
        """
        where = Path(path)
        _require_names(where, instruments)
        lock_fd = _lock(where)
        try:
            old = open_file(where, writable=True)
        except TableError:
            old = None  # A damaged header: nothing in it is worth keeping.
        if old is not None and old[1].instruments == tuple(instruments) and not old[0][SUPERSEDED_AT]:
            return cls(*old[:2], lock_fd, mid_write)
        generation = 1
        if old is not None:
            generation = old[1].generation + 1
            # Before the rename: a crash in between leaves readers looking, never with a file nobody writes.
            old[0][SUPERSEDED_AT] = 1
            old[0].close()
        _create_file(where, instruments, generation)
        new = open_file(where, writable=True)
        assert new is not None
        return cls(*new[:2], lock_fd, mid_write)

    def slot(self, instrument: str) -> int:
        """Return the slot to write; KeyError if the table was created without the instrument."""
        return self._slots[instrument]

    def last_exch_ns(self) -> int:
        """Return the greatest exchange time in the table, 0 if nothing was ever written."""
        times: list[int] = []
        for slot, sequence in enumerate(self._sequence):
            times += _EXCH_AT(self._data, self._side(slot, sequence))
        return max(times)

    def write_quote(
        self,
        slot: int,
        bid_e9: int,
        ask_e9: int,
        bid_size_e9: int,
        ask_size_e9: int,
        exch_ns: int,
        written_at_ns: int,
    ) -> None:
        """Store the best bid and ask; the last trade stays."""
        price, size, traded_at_ns = _TRADE_AT(self._data, self._side(slot, self._sequence[slot]))
        self._put(slot, bid_e9, ask_e9, bid_size_e9, ask_size_e9, price, size, exch_ns, traded_at_ns, written_at_ns)

    def write_trade(self, slot: int, price_e9: int, size_e9: int, exch_ns: int, written_at_ns: int) -> None:
        """Store the last trade; the quote stays."""
        bid, ask, bid_size, ask_size = _QUOTE_AT(self._data, self._side(slot, self._sequence[slot]))
        self._put(slot, bid, ask, bid_size, ask_size, price_e9, size_e9, exch_ns, written_at_ns, written_at_ns)

    def write(self, slot: int, fields: tuple[int, ...]) -> None:
        """Store all nine values of ``LastValue`` after ``sequence``, in its order."""
        self._put(slot, *fields)

    def _put(  # noqa: PLR0913, PLR0917 (a tuple would be made and taken apart again at each tick)
        self,
        slot: int,
        bid_e9: int,
        ask_e9: int,
        bid_size_e9: int,
        ask_size_e9: int,
        price_e9: int,
        size_e9: int,
        exch_ns: int,
        traded_at_ns: int,
        written_at_ns: int,
    ) -> None:
        sequence = self._sequence[slot] + 1
        at = self._side(slot, sequence)
        packed = BODY.pack(
            sequence, bid_e9, ask_e9, bid_size_e9, ask_size_e9, price_e9, size_e9, exch_ns, traded_at_ns, written_at_ns
        )
        if self._mid_write is None:
            self._data[at : at + BODY_BYTES] = packed
        else:
            half = BODY_BYTES // 2
            self._data[at : at + half] = packed[:half]
            self._mid_write()
            self._data[at + half : at + BODY_BYTES] = packed[half:]
        CRC.pack_into(self._data, at + BODY_BYTES, crc32(packed))
        self._sequence[slot] = sequence

    def close(self) -> None:
        """Let another feed take the table; what is in it stays, and ages."""
        self._data.close()
        os.close(self._lock_fd)

    def _side(self, slot: int, sequence: int) -> int:
        """Return where the side with that sequence begins."""
        return self._slots_at + SLOT_BYTES * slot + SIDE_BYTES * (sequence & 1)


def _newest(raw: bytes) -> tuple[int, ...]:
    """Return the fields of the newest whole side, or zeros: where a writer that takes over goes on."""
    whole = [value for value in (parse_side(raw, 0), parse_side(raw, SIDE_BYTES)) if value is not None]
    if not whole:
        return (0, *_NO_VALUE)
    value = max(whole, key=lambda v: v.sequence)
    return tuple(getattr(value, name) for name in LastValue.__struct_fields__)


def _require_names(path: Path, instruments: Sequence[str]) -> None:
    for name in instruments:
        if not name or "\0" in name:
            raise TableError(str(path), "instrument names without NUL, not empty", repr(name), "rename it")
    if len(set(instruments)) != len(instruments) or not instruments:
        raise TableError(str(path), "at least one instrument, each once", repr(list(instruments)), "correct the list")


def _lock(path: Path) -> int:
    try:
        fd = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise TableError(str(path), "a folder that can be written", str(e.strerror), "create it") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(fd)
        raise TableError(str(path), "no other feed", "locked by one that runs", "stop that feed first") from e
    return fd


def _create_file(path: Path, instruments: Sequence[str], generation: int) -> None:
    names = "\0".join(instruments).encode()
    head = HEAD.pack(MAGIC, len(instruments), len(names), generation)
    head += CRC.pack(crc32(names, crc32(head)))
    content = head.ljust(NAMES_AT, b"\0") + names
    content = content.ljust(slots_at(len(names)) + SLOT_BYTES * len(instruments), b"\0")
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    os.replace(new, path)
