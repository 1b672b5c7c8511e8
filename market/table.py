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

import mmap
import os
import struct
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
HEAD: Final = struct.Struct("<8sIIQ")
NAMES_AT: Final = 64
_ABSENT: Final = bytes(SUPERSEDED_AT) + b"\x01"  # reads as an empty table that something will replace
_NO_WORDS: Final = memoryview(bytes(8)).cast("Q")
NOT_WATCHED: Final = -1  # no word is that
_reference: Final[type[Reference]] = Reference
_LAST_TRADE: Final = ReferenceSource.LAST_TRADE
_CROSSED: Final = ReferenceSource.CROSSED
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
        return Reference(value.last_price_e9, age_ns, _CROSSED if is_crossed(value) else _LAST_TRADE)
    age_ns = max(0, now_ns - value.written_at_ns)
    if age_ns <= tick_age_max_ns and value.bid_size_e9 > 0 and value.ask_size_e9 > 0:
        mid_e9 = (value.bid_e9 + value.ask_e9) // 2
        return Reference(mid_e9, age_ns, _CROSSED if is_crossed(value) else ReferenceSource.MID)
    return None


def is_crossed(value: LastValue) -> bool:
    """Whether both sides are there and the bid is not below the ask: a feed that errs, or no market."""
    return value.bid_size_e9 > 0 and value.ask_size_e9 > 0 and value.bid_e9 >= value.ask_e9


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
        "_data", "_inode", "_names", "_path", "_ranges", "_raw", "_starts", "_values", "_watched", "_words", "retried",
        "stale", "verified",
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
        self._words: memoryview[int] = _NO_WORDS
        self._watched: list[_Watched] = []
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
            self._watched.append(_Watched())
            self._ranges.append(self._range(instrument))
        return slot

    def read(self, slot: int) -> LastValue | None:
        """Return the newest verified value, or None: STALE.

        A write begins with the sequence of the side that is not the newest: as long as that one word is what it was,
        there is nothing newer. Bytes equal to those verified last need no second check: they are the same bytes.
        """
        data = self._data
        watched = self._watched[slot]
        if self._words[watched.word] == watched.sequence and not data[SUPERSEDED_AT]:
            self.verified += 1
            return self._values[slot]
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

    def reference(self, slot: int, now_ns: int, tick_age_max_ns: int) -> Reference | None:
        """Return what ``reference`` makes of the newest verified value; a fresh trade without reading it again."""
        watched = self._watched[slot]
        if self._words[watched.word] == watched.sequence and not self._data[SUPERSEDED_AT]:
            age_ns = now_ns - watched.traded_ns
            if age_ns <= tick_age_max_ns:
                self.verified += 1
                return _reference(watched.last_price_e9, max(0, age_ns), watched.source)
        return reference(self.read(slot), now_ns, tick_age_max_ns)

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
        opened = open_file(self._path, writable=False)
        if opened is None:
            return False
        self._data, head, self._inode = opened
        self._words = memoryview(self._data).cast("Q")
        for watched in self._watched:
            watched.sequence = NOT_WATCHED
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
            value = parse_side(raw, SIDE_BYTES if first > second else 0)
        # The value is a function of these bytes alone, so equal bytes may reuse it, None included.
        self._raw[slot] = raw
        self._values[slot] = value
        self._watch(slot, value, raw)
        if value is None:
            self.stale += 1
        else:
            self.verified += 1
        return value

    def _watch(self, slot: int, value: LastValue | None, raw: bytes) -> None:
        """Watch the side that is written next, if the newest side is whole: a torn one may be written once more."""
        watched = self._watched[slot]
        watched.sequence = NOT_WATCHED
        if value is not None:
            first, second = _sequences(raw)
            if value.sequence == max(first, second):
                start = self._ranges[slot].start
                watched.word = (start + (SIDE_BYTES if first > second else 0)) >> 3
                watched.sequence = min(first, second)
                watched.last_price_e9, watched.traded_ns = value.last_price_e9, value.last_trade_written_at_ns
                watched.source = _CROSSED if is_crossed(value) else _LAST_TRADE


class _Watched:
    """A word of the mapped file, and what it was: the sequence of the side that the next write takes.

    While it is that, the last trade is the one here.
    """

    __slots__ = ("last_price_e9", "sequence", "source", "traded_ns", "word")

    def __init__(self) -> None:
        self.source = _LAST_TRADE
        self.last_price_e9 = self.traded_ns = 0
        self.word = 0
        self.sequence = NOT_WATCHED


class Header(Struct, frozen=True):
    """What stands before the slots."""

    instruments: tuple[str, ...]
    generation: int
    slots_at: int


def _parse_newest(raw: bytes) -> LastValue | None:
    if not raw:
        return None
    first, second = _sequences(raw)
    return parse_side(raw, 0 if first > second else SIDE_BYTES)


def parse_side(raw: bytes, at: int) -> LastValue | None:
    """Return what the side at ``at`` of a slot's bytes says; None if it is not whole."""
    end = at + BODY_BYTES
    if crc32(raw[at:end]) != CRC.unpack_from(raw, end)[0]:
        return None
    return LastValue(*BODY.unpack_from(raw, at))


def slots_at(names_bytes: int) -> int:
    """Return where the slots begin behind so many bytes of names."""
    return -(-(NAMES_AT + names_bytes) // 64) * 64


def open_file(path: Path, *, writable: bool) -> tuple[mmap.mmap, Header, int] | None:
    """Return (map, header, inode) of the file at ``path``, or None if there is none."""
    try:
        fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(fd)
        if status.st_size < NAMES_AT:
            raise TableError(str(path), f"at least {NAMES_AT} bytes", str(status.st_size), "delete it")
        data = mmap.mmap(fd, status.st_size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
    finally:
        os.close(fd)
    magic, slots, names_bytes, generation = HEAD.unpack_from(data)
    names = data[NAMES_AT : NAMES_AT + names_bytes]
    begin = slots_at(names_bytes)
    whole = CRC.unpack_from(data, HEAD.size)[0] == crc32(names, crc32(data[: HEAD.size]))
    if magic != MAGIC or not whole or status.st_size != begin + SLOT_BYTES * slots:
        data.close()
        raise TableError(str(path), "a last-value table", "something else", "delete it; the feed makes a new one")
    return data, Header(tuple(names.decode().split("\0")), generation, begin), status.st_ino
