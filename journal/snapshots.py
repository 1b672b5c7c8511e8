"""Files that hold a whole state at one place of the journal: container, names, pruning. The state is the engine's.

    <journal>/snapshots/<seq, 20 digits>.snap

Rules: a file under its final name is whole and durable (written under another name, synced, renamed, folder synced);
whoever reads one checks every block before it uses it, and the last block says that it is the last. The chain of
checksums runs through all blocks: a block that is missing, moved or of another file breaks it.

File, little endian: 16 bytes "WOJAKSNP", u32 version, u32 CRC-32 of the 12 bytes before; then blocks:

    u32 tag, u32 stored_bytes, u32 raw_bytes (0 = stored as it is, else deflated), u32 crc, stored bytes

``crc`` is the CRC-32 of the block's first 12 bytes and its stored bytes, begun with the crc before. The first block is
the ``SnapshotHead``, the last has tag END and no bytes.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final
from zlib import crc32

import msgspec
from msgspec import Struct

from journal.disk import Disk, write_all
from journal.errors import SnapshotDamagedError
from journal.holders import Held

VERSION: Final = 1
MAGIC: Final = b"WOJAKSNP"
TAG_HEAD: Final = 0
TAG_END: Final = 0xFFFF_FFFF
BLOCK_BYTES_MAX: Final = 64 << 20
SYNC_EVERY_BYTES: Final = 4 << 20
_PREFIX: Final = struct.Struct("<8sI")
_CRC: Final = struct.Struct("<I")
_BLOCK: Final = struct.Struct("<III")
_PREFIX_BYTES: Final = _PREFIX.size + _CRC.size
_BLOCK_BYTES: Final = _BLOCK.size + _CRC.size
_NAME: Final = re.compile(r"(\d{20})\.snap")
_DEFLATE_LEVEL: Final = 1  # 220 MB/s in, 540 MB/s out over a dedup table a third full, at 0.27 of its size
_PARTIAL: Final = ".part"


class SnapshotHead(Struct, array_like=True, frozen=True):
    """Which state of which journal a snapshot holds.

    Attributes:
        seq: The last record in it, the end of a batch; so many records it stands for.
        crc: The chain there.
        segment: Index of the segment that batch is in.
        offset: Behind that batch.
        epoch_max: Highest epoch up to there.
        now_ns: Clock read of that batch, UTC.
        shard: Of the journal.
        journal_id: Hash of the secret in the journal's first record: which journal this is.
        state_hash: Of the state in it, as the release that wrote it computes it.
        layout: Of the classes in it; a hash is comparable under the same layout only.
        release: That wrote it.
    """

    seq: int
    crc: int
    segment: int
    offset: int
    epoch_max: int
    now_ns: int
    shard: int
    journal_id: bytes
    state_hash: str
    layout: str
    release: str = ""


_encode: Final = msgspec.msgpack.Encoder().encode
_head_decoder: Final[msgspec.msgpack.Decoder[SnapshotHead]] = msgspec.msgpack.Decoder(SnapshotHead)


def snapshots_folder(folder: Path) -> Path:
    """Return where the snapshots of a journal are."""
    return folder / "snapshots"


def snapshots(folder: Path) -> list[Path]:
    """Return the snapshots of the journal, newest first; whether they are whole shows when they are read."""
    place = snapshots_folder(folder)
    return sorted((p for p in place.iterdir() if _NAME.fullmatch(p.name)), reverse=True) if place.is_dir() else []


def snapshot_seq(path: Path) -> int:
    """Return the last record that a snapshot holds, from its name."""
    match = _NAME.fullmatch(path.name)
    assert match is not None, path
    return int(match[1])


def write_snapshot(
    folder: Path, head: SnapshotHead, blocks: Iterable[tuple[int, bytes]], disk: Disk | None = None
) -> Iterator[int]:
    """Write one snapshot, block by block: yields the bytes written so far, so that the caller can do something else.

    It is there and durable when the iterator has ended, and not before. Synced every few MiB: one sync of all of it
    would hold up the engine's own.

    Args:
        folder: The journal.
        head: What it is of.
        blocks: (tag, bytes) in order; those of 64 KiB and more are deflated.
        disk: What changes go through.

    Raises:
        OSError: If it can't be written; nothing stands under the final name.
    """
    disk = disk or Disk()
    place = snapshots_folder(folder)
    disk.make_folder(place)
    final = place / f"{head.seq:020d}.snap"
    temporary = final.with_suffix(_PARTIAL)
    fd = disk.open(temporary, create=True)
    try:
        prefix = _PREFIX.pack(MAGIC, VERSION)
        crc = crc32(prefix)
        write_all(disk, fd, prefix + _CRC.pack(crc), 0)
        at, synced = _PREFIX_BYTES, 0
        for tag, raw in _framed(head, blocks):
            data, crc = _block(tag, raw, crc)
            write_all(disk, fd, data, at)
            at += len(data)
            if at - synced >= SYNC_EVERY_BYTES:
                disk.fdatasync(fd)
                synced = at
            yield at
        disk.fdatasync(fd)
    except BaseException:
        disk.remove(temporary)
        raise
    finally:
        disk.close(fd)
    disk.rename(temporary, final)
    disk.fsync_folder(place)


def _framed(head: SnapshotHead, blocks: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    yield TAG_HEAD, _encode(head)
    yield from blocks
    yield TAG_END, b""


def _block(tag: int, raw: bytes, crc: int) -> tuple[bytes, int]:
    """Return a block as it is stored, and its checksum."""
    assert len(raw) <= BLOCK_BYTES_MAX
    deflated = len(raw) >= 1 << 16
    stored = zlib.compress(raw, _DEFLATE_LEVEL) if deflated else raw
    front = _BLOCK.pack(tag, len(stored), len(raw) if deflated else 0)
    crc = crc32(stored, crc32(front, crc))
    return b"".join((front, _CRC.pack(crc), stored)), crc


def prune_snapshots(folder: Path, keep: int, disk: Disk | None = None) -> list[Path]:
    """Remove all but the newest ``keep`` snapshots, and what a dead writer left half done; return what went."""
    disk = disk or Disk()
    place = snapshots_folder(folder)
    gone = [*snapshots(folder)[keep:], *(place.glob(f"*{_PARTIAL}") if place.is_dir() else ())]
    for path in gone:
        disk.remove(path)
    if gone:
        disk.fsync_folder(place)
    return gone


def held_by_snapshots(folder: Path) -> tuple[list[Held], list[Held]]:
    """Return what the snapshots hold of the journal: with the chain there, and those with a damaged head by name."""
    known: list[Held] = []
    unread: list[Held] = []
    for path in snapshots(folder):
        name, seq = f"snapshot {path.name}", snapshot_seq(path)
        try:
            reader = SnapshotReader(path)
        except SnapshotDamagedError:
            unread.append(Held(name, seq))
        else:
            reader.close()
            known.append(Held(name, seq, reader.head.crc))
    return known, unread


def drop_snapshots_behind(folder: Path, seq: int, disk: Disk) -> None:
    """Remove the snapshots of records that the journal no longer has: an operator accepted that."""
    gone = [path for path in snapshots(folder) if snapshot_seq(path) > seq]
    for path in gone:
        disk.remove(path)
    if gone:
        disk.fsync_folder(snapshots_folder(folder))


class SnapshotReader:
    """Reads one snapshot from its beginning to its end, checking as it goes.

    Attributes:
        path: Of the file.
        head: What it is of.

    Raises:
        SnapshotDamagedError: If it is not as written, or of a version that this release does not know.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as e:
            raise SnapshotDamagedError(path, 0, f"can't be opened: {e.strerror}") from e
        try:
            self.head = self._read_head()
        except BaseException:
            self._file.close()
            raise

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Yield (tag, bytes) of every block behind the head; ends only at the whole end of the file.

        Raises:
            SnapshotDamagedError: If a block is not as written, or the end is missing.
        """
        while True:
            tag, raw = self._read_block()
            if tag == TAG_END:
                if self._file.read(1):
                    raise SnapshotDamagedError(self.path, self._at, "has bytes behind its end")
                return
            yield tag, raw

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _read_head(self) -> SnapshotHead:
        prefix = self._file.read(_PREFIX_BYTES)
        if len(prefix) < _PREFIX_BYTES or _CRC.unpack_from(prefix, _PREFIX.size)[0] != crc32(prefix[: _PREFIX.size]):
            raise SnapshotDamagedError(self.path, 0, "does not begin as a snapshot does")
        magic, version = _PREFIX.unpack_from(prefix)
        if magic != MAGIC or version > VERSION:
            raise SnapshotDamagedError(self.path, 0, f"expected version {VERSION} at most, was {version}")
        self._crc = crc32(prefix[: _PREFIX.size])
        self._at = _PREFIX_BYTES
        tag, raw = self._read_block()
        try:
            if tag != TAG_HEAD:
                raise SnapshotDamagedError(self.path, _PREFIX_BYTES, f"head expected tag {TAG_HEAD}, was {tag}")
            head = _head_decoder.decode(raw)
        except msgspec.DecodeError as e:
            raise SnapshotDamagedError(self.path, _PREFIX_BYTES, f"head can't be read: {e}") from e
        if head.seq != snapshot_seq(self.path):
            raise SnapshotDamagedError(
                self.path, _PREFIX_BYTES, f"holds record {head.seq}, which its name does not say"
            )
        return head

    def _read_block(self) -> tuple[int, bytes]:
        front = self._file.read(_BLOCK_BYTES)
        if len(front) < _BLOCK_BYTES:
            raise SnapshotDamagedError(self.path, self._at, "ends before its last block")
        tag, stored_bytes, raw_bytes = _BLOCK.unpack_from(front)
        (crc,) = _CRC.unpack_from(front, _BLOCK.size)
        if stored_bytes > BLOCK_BYTES_MAX + (1 << 16) or raw_bytes > BLOCK_BYTES_MAX:
            raise SnapshotDamagedError(self.path, self._at, f"has a block of {max(stored_bytes, raw_bytes)} bytes")
        stored = self._file.read(stored_bytes)
        if len(stored) < stored_bytes or crc32(stored, crc32(front[: _BLOCK.size], self._crc)) != crc:
            raise SnapshotDamagedError(self.path, self._at, "has a block that does not match its checksum")
        self._crc = crc
        self._at += _BLOCK_BYTES + stored_bytes
        raw = zlib.decompress(stored, bufsize=raw_bytes) if raw_bytes else stored
        return tag, raw
