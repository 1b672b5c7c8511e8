"""The demonstration flow's own record of what it sent and what it was told, so that ``wojak verify`` can count.

Rule: an order stands here, synced, before it is sent (DECISIONS 51). Entries have a fixed size and a CRC; a torn
last one was never sent. A segment is ``SEGMENT_BYTES`` long and the newest ``SEGMENTS_MAX`` are kept: verify covers
what is kept and says from which number on.

Entry, little endian, 48 bytes:

    u64 number, u8 kind, u8 side, u8 order type, u8 time in force, u16 code, u16 HTTP status,
    i64 quantity_e9, i64 price_e9, u64 target (a cancel's order), u32 zero, u32 crc of the 44 bytes before
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

_BODY: Final = struct.Struct("<QBBBBHHqqQI")
_CRC: Final = struct.Struct("<I")
ENTRY_BYTES: Final = _BODY.size + _CRC.size
SEGMENT_BYTES: Final = ENTRY_BYTES * 1_000_000
SEGMENTS_MAX: Final = 6
ID_PREFIX: Final = "flow-"


class Kind(IntEnum):
    """What an entry says."""

    ORDER = 1
    CANCEL = 2
    ANSWER = 3


class Entry(NamedTuple):
    """One entry; an ANSWER carries the number it answers, the code and the HTTP status."""

    number: int
    kind: Kind
    side: int = 0
    order_type: int = 0
    time_in_force: int = 0
    code: int = 0
    status: int = 0
    quantity_e9: int = 0
    price_e9: int = 0
    target: int = 0


def client_order_id(number: int) -> str:
    """Return the id of the flow's order ``number``."""
    return f"{ID_PREFIX}{number}"


def number_of(identifier: str) -> int:
    """Return the number in one of the flow's ids; 0 for anybody else's."""
    digits = identifier.removeprefix(ID_PREFIX)
    return int(digits) if identifier.startswith(ID_PREFIX) and digits.isdigit() else 0


def encode(entry: Entry) -> bytes:
    """Return an entry's bytes."""
    body = _BODY.pack(*entry, 0)
    return body + _CRC.pack(crc32(body))


def decode(data: bytes) -> Iterator[Entry]:
    """Yield whole entries up to the first torn one."""
    for at in range(0, len(data) - ENTRY_BYTES + 1, ENTRY_BYTES):
        body = data[at : at + _BODY.size]
        if _CRC.unpack_from(data, at + _BODY.size)[0] != crc32(body):
            return
        number, kind, *rest, _ = _BODY.unpack(body)
        yield Entry(number, Kind(kind), *rest)


def segments(folder: Path) -> list[Path]:
    """Return the kept segments, oldest first."""
    return sorted(folder.glob("sent-*.log")) if folder.is_dir() else []


def read(folder: Path) -> Iterator[Entry]:
    """Yield every kept entry, oldest first."""
    for path in segments(folder):
        yield from decode(path.read_bytes())


class SendLog:
    """The one writer."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        kept = segments(folder)
        self._index = int(kept[-1].stem.removeprefix("sent-")) + 1 if kept else 1
        self._fd = -1
        self._bytes = 0
        self._open()

    def append(self, entries: Iterable[Entry], *, durable: bool) -> None:
        """Write entries; ``durable`` returns after the sync."""
        data = b"".join(map(encode, entries))
        written = 0
        while written < len(data):
            written += os.write(self._fd, data[written:])
        if durable:
            os.fdatasync(self._fd)
        self._bytes += len(data)
        if self._bytes >= SEGMENT_BYTES:
            self._index += 1
            self._open()

    def close(self) -> None:
        """Sync and close."""
        os.fdatasync(self._fd)
        os.close(self._fd)

    def _open(self) -> None:
        if self._fd >= 0:
            self.close()
        path = self._folder / f"sent-{self._index:08d}.log"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._bytes = 0
        for old in segments(self._folder)[:-SEGMENTS_MAX]:
            old.unlink()


def unanswered(entries: Iterable[Entry]) -> Sequence[Entry]:
    """Return what was sent and has no answer, oldest first: it has to be sent again under the same number."""
    open_: dict[int, Entry] = {}
    for entry in entries:
        if entry.kind is Kind.ANSWER:
            open_.pop(entry.number, None)
        else:
            open_[entry.number] = entry
    return list(open_.values())
