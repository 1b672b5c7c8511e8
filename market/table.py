"""The last-value table: what the feed knows last of each instrument, in a file that the engine maps.

One writer, any number of readers, no lock, no call. Each instrument has two sides; the writer fills the side
that is not the newest and puts its CRC-32 last, so whatever the moment of a crash one whole side remains.

Rule: a reader returns nothing whose CRC it has not seen to match. It tries ``TRIES`` times, then takes the
older side, then says None: STALE. Values age on this host's clock; nothing here refreshes them.

File, little endian:

    offset  0  8s   magic "WOJAKLV1"
            8  u32  slots
           12  u32  names_bytes
           16  u64  generation      one more than that of the file this one replaced
           24  u32  crc             CRC-32 of bytes 0..24 and of the names
           28  u8   superseded      1: another file takes this one's place; look at the path again
           64       names           UTF-8, NUL between them; the n-th name has the n-th slot
    then, from the next multiple of 64, 192 bytes a slot: two sides of 96 bytes
            0  u64  sequence        the greater one is the newer side
            8  i64  bid_e9, ask_e9, bid_size_e9, ask_size_e9, last_price_e9, last_size_e9,
                    exch_ns, last_trade_written_at_ns, written_at_ns
           80  u32  crc             CRC-32 of bytes 0..80
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

from msgspec import Struct

from market.errors import TableError
from protocol.codes import ReferenceSource
from protocol.decisions import Reference

TRIES: Final = 3
MAGIC: Final = b"WOJAKLV1"
SLOT_BYTES: Final = 192
SIDE_BYTES: Final = 96
BODY: Final = struct.Struct("<Q9q")
BODY_BYTES: Final = BODY.size
CRC: Final = struct.Struct("<I")
SUPERSEDED_AT: Final = 28
_HEAD: Final = struct.Struct("<8sIIQ")
_NAMES_AT: Final = 64
_ABSENT: Final = bytes(SUPERSEDED_AT) + b"\x01"  # reads as an empty table that something will replace
_EXCH_AT: Final = struct.Struct("<56xq").unpack_from  # of a side: exch_ns
_QUOTE_AT: Final = struct.Struct("<8x4q").unpack_from  # of a side: both prices and both sizes
_TRADE_AT: Final = struct.Struct("<40x2q8xq").unpack_from  # of a side: price, size and time of the last trade
_NO_VALUE: Final = (0, 0, 0, 0, 0, 0, 0, 0, 0)
_sequences = struct.Struct(f"<Q{SIDE_BYTES - 8}xQ").unpack_from


class LastValue(Struct, frozen=True, gc=False):
    """What is known last of an instrument. A size of 0: that side is empty; no trade yet: its time is 0.

    ``written_at_ns`` is this host's wall clock at the last write of any kind, ``last_trade_written_at_ns`` at
    the last trade, ``exch_ns`` the venue's time of the last write.
    """

    sequence: int
    bid_e9: int
    ask_e9: int
    bid_size_e9: int
    ask_size_e9: int
    last_price_e9: int
    last_size_e9: int
    exch_ns: int
    last_trade_written_at_ns: int
    written_at_ns: int


def reference(value: LastValue | None, now_ns: int, tick_age_max_ns: int) -> Reference | None:
    """Return the price to check an order against: the last trade if fresh, else the mid, else None (STALE).

    A stale trade with a fresh ``written_at_ns`` means that the last write was a quote, so one time is enough
    for both. The mid is rounded down. An age below 0 (a clock stepped back) counts as 0.
    """
    if value is None:
        return None
    age_ns = max(0, now_ns - value.last_trade_written_at_ns)
    if age_ns <= tick_age_max_ns:
        return Reference(value.last_price_e9, age_ns, ReferenceSource.LAST_TRADE)
    age_ns = max(0, now_ns - value.written_at_ns)
    if age_ns <= tick_age_max_ns and value.bid_size_e9 > 0 and value.ask_size_e9 > 0:
        return Reference((value.bid_e9 + value.ask_e9) // 2, age_ns, ReferenceSource.MID)
    return None


class TableWriter:
    """The feed's side. Make it with ``create``; a write costs about a microsecond.

    Args:
        mid_write: Called half-way through each write (a fail point); None in normal operation.
    """

    def __init__(self, data: mmap.mmap, head: _Header, lock_fd: int, mid_write: Callable[[], None] | None) -> None:
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
            old = _open(where, writable=True)
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
        new = _open(where, writable=True)
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


class TableReader:
    """The engine's side. Make it with ``open``.

    A slot number belongs to this reader and stays the instrument's when the feed replaces the file. The table
    may appear later and may lack an instrument: its value is None until it comes.

    Attributes:
        verified: Reads that returned a value whose CRC matched.
        retried: Further tries within a read, because the newest side did not match.
        stale: Reads that returned None.
    """

    __slots__ = (
        "_data", "_inode", "_names", "_path", "_ranges", "_raw", "_starts", "_values", "retried", "stale", "verified",
    )  # fmt: skip

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data: mmap.mmap | bytes = _ABSENT
        self._inode = -1
        self._names: dict[str, int] = {}
        self._starts: dict[str, int] = {}  # where the mapped file has each instrument
        self._ranges: list[slice] = []
        self._raw: list[bytes] = []
        self._values: list[LastValue | None] = []
        self.verified = 0
        self.retried = 0
        self.stale = 0

    @classmethod
    def open(cls, path: Path | str) -> TableReader:
        """Return a reader; a table that does not exist yet is looked for at each read.

        Raises:
            TableError: If the file is there but is no table.
        """
        reader = cls(Path(path))
        reader.reopen()
        return reader

    def slot(self, instrument: str) -> int:
        """Return this reader's number for the instrument, whether the table holds it now or not."""
        slot = self._names.get(instrument)
        if slot is None:
            slot = self._names[instrument] = len(self._names)
            self._raw.append(b"")
            self._values.append(None)
            self._ranges.append(self._range(instrument))
        return slot

    def read(self, slot: int) -> LastValue | None:
        """Return the newest verified value, or None: STALE.

        Bytes equal to those verified last need no second check: they are the same bytes.
        """
        data = self._data
        raw = data[self._ranges[slot]]
        if raw == self._raw[slot]:
            # Nothing new: only then can the file have been replaced.
            if not data[SUPERSEDED_AT] or not self._is_replaced():
                value = self._values[slot]
                if value is None:
                    self.stale += 1
                else:
                    self.verified += 1
                return value
            raw = self._data[self._ranges[slot]]
        return self._verify(slot, raw)

    def reopen(self) -> bool:
        """Map the file now at the path, if it is another one than the one mapped; whether it was.

        ``read`` does so by itself when a feed replaced the file. A file that someone deleted is noticed only
        here: call it about once a second.

        Raises:
            TableError: If the file is there but is no table.
        """
        try:
            inode = os.stat(self._path).st_ino
        except FileNotFoundError:
            return False
        if inode == self._inode:
            return False
        opened = _open(self._path, writable=False)
        if opened is None:
            return False
        self._data, head, self._inode = opened
        self._starts = {name: head.slots_at + SLOT_BYTES * n for n, name in enumerate(head.instruments)}
        self._ranges = [self._range(name) for name in self._names]
        return True

    def _is_replaced(self) -> bool:
        try:
            return self.reopen()
        except TableError:
            # The values known so far go on ageing until STALE; whoever calls reopen hears of the fault.
            return False

    def _range(self, instrument: str) -> slice:
        start = self._starts.get(instrument)
        return slice(0, 0) if start is None else slice(start, start + SLOT_BYTES)

    def _verify(self, slot: int, raw: bytes) -> LastValue | None:
        value = _parse_newest(raw)
        tries = 1
        while value is None and tries < TRIES:
            self.retried += 1
            tries += 1
            raw = self._data[self._ranges[slot]]
            value = _parse_newest(raw)
        if value is None and raw:
            first, second = _sequences(raw)
            value = _parse(raw, SIDE_BYTES if first > second else 0)
        # The value is a function of these bytes alone, so equal bytes may reuse it, None included.
        self._raw[slot] = raw
        self._values[slot] = value
        if value is None:
            self.stale += 1
        else:
            self.verified += 1
        return value


class _Header(Struct, frozen=True):
    """What stands before the slots."""

    instruments: tuple[str, ...]
    generation: int
    slots_at: int


def _parse_newest(raw: bytes) -> LastValue | None:
    if not raw:
        return None
    first, second = _sequences(raw)
    return _parse(raw, 0 if first > second else SIDE_BYTES)


def _parse(raw: bytes, at: int) -> LastValue | None:
    end = at + BODY_BYTES
    if crc32(raw[at:end]) != CRC.unpack_from(raw, end)[0]:
        return None
    return LastValue(*BODY.unpack_from(raw, at))


def _newest(raw: bytes) -> tuple[int, ...]:
    """Return the fields of the newest whole side, or zeros: where a writer that takes over goes on."""
    whole = [value for value in (_parse(raw, 0), _parse(raw, SIDE_BYTES)) if value is not None]
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
    head = _HEAD.pack(MAGIC, len(instruments), len(names), generation)
    head += CRC.pack(crc32(names, crc32(head)))
    content = head.ljust(_NAMES_AT, b"\0") + names
    content = content.ljust(_slots_at(len(names)) + SLOT_BYTES * len(instruments), b"\0")
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    os.replace(new, path)


def _slots_at(names_bytes: int) -> int:
    return -(-(_NAMES_AT + names_bytes) // 64) * 64


def _open(path: Path, *, writable: bool) -> tuple[mmap.mmap, _Header, int] | None:
    """Return (map, header, inode) of the file at ``path``, or None if there is none."""
    try:
        fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(fd)
        if status.st_size < _NAMES_AT:
            raise TableError(str(path), f"at least {_NAMES_AT} bytes", str(status.st_size), "delete it")
        data = mmap.mmap(fd, status.st_size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
    finally:
        os.close(fd)
    magic, slots, names_bytes, generation = _HEAD.unpack_from(data)
    names = data[_NAMES_AT : _NAMES_AT + names_bytes]
    slots_at = _slots_at(names_bytes)
    whole = CRC.unpack_from(data, _HEAD.size)[0] == crc32(names, crc32(data[: _HEAD.size]))
    if magic != MAGIC or not whole or status.st_size != slots_at + SLOT_BYTES * slots:
        data.close()
        raise TableError(str(path), "a last-value table", "something else", "delete it; the feed makes a new one")
    return data, _Header(tuple(names.decode().split("\0")), generation, slots_at), status.st_ino
