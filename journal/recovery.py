"""Start on what a journal holds: validate all of it, cut what nobody saw, rewrite the tail, set the watermark.

Rules (DESIGN 6.1, 6.2; DECISIONS 4): whole frames are kept, synced or not; only a torn last frame is cut, and
only if neither the watermark nor a holder has seen past the cut. The surviving tail is rewritten into a new
file with the same offsets and synced with its folder before anything derived from it goes out: what was read
back from the page cache may not be on the medium. Damage anywhere else stops the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from journal.chain import Link
from journal.disk import CHUNK_BYTES, Disk, fill_zeros, write_all
from journal.errors import JournalDamagedError, JournalGapError
from journal.format import (
    SEGMENT_HEADER_BYTES,
    JournalSettings,
    SegmentHeader,
    decode_segment_header,
    encode_segment_header,
    position_of,
    segment_index,
    segment_path,
    segments,
)
from journal.holders import Held, holders
from journal.scan import End, OnFrame, Place, decode_record, frame_records, scan
from journal.snapshots import held_by_snapshots, snapshots
from journal.watermark import WatermarkWriter, watermark_path
from protocol.frames import FrameHeader
from protocol.records import Record

Apply = Callable[[int, int, int, Record], None]
"""Called with (seq, now_ns, position, record), in order."""


class Recovered(NamedTuple):
    """What the journal holds, and where the writer goes on.

    Attributes:
        next_seq: Number of the next record; 1 in a new journal.
        crc: Chain at the end; 0 in a new journal.
        epoch_max: Highest epoch in it; the next engine takes a higher one.
        now_ns: Clock read of the last batch; the next one is not below.
        records: How many were applied.
        segment: Index of the segment the writer goes on in.
        offset: Where in it.
        shard: Which shard's journal this is.
        cut_bytes: Size of the torn frame that was cut, up to the last byte written; 0 = none.
        cut_why: What was wrong with it.
    """

    next_seq: int
    crc: int
    epoch_max: int
    now_ns: int
    records: int
    segment: int
    offset: int
    shard: int
    cut_bytes: int = 0
    cut_why: str = ""


def recover(
    folder: Path,
    apply: Apply | None,
    settings: JournalSettings,
    *,
    shard: int = 0,
    disk: Disk | None = None,
    also: Sequence[Held] = (),
    accept_cut: bool = False,
    start: Place | None = None,
) -> Recovered:
    """Hand every record to ``apply`` and leave the journal ready for a writer. The caller holds the FolderLock.

    Args:
        folder: The journal; made if absent.
        apply: Called for each record in order; None validates frames without decoding records.
        settings: Sizes of new segments.
        shard: Stands in a new journal; an existing one of another shard is refused.
        disk: What changes go through.
        also: What others have seen who keep no holder file here.
        accept_cut: Cut also what somebody has seen: an operator's decision (repair.py), never a start's.
        start: Where a snapshot stands: only what is behind it is read and handed over.

    Raises:
        JournalDamagedError, JournalGapError, JournalVersionError: Nothing was changed. Also where the journal ends
            before ``start``: what a snapshot holds was seen (DESIGN 6.2).
    """
    disk = disk or Disk()
    disk.make_folder(folder)
    seen = _Seen(folder, also, start)
    end = scan(folder, seen.watch(apply), start)
    if end.segment and end.shard != shard:
        raise JournalDamagedError(segment_path(folder, end.segment), 12, 1, f"is of shard {end.shard}, not {shard}")
    if accept_cut:
        seen.require_same_history(end)
    else:
        seen.require_nothing_lost(end)
    cut_bytes = _written_bytes(folder, end) if end.torn else 0
    for left_over in folder.glob("*.tmp"):
        disk.remove(left_over)
    end = _rewrite_tail(disk, folder, end, settings) if end.segment else _first_segment(disk, folder, settings, shard)
    recovered = Recovered(
        end.link.next_seq, end.link.crc, end.epoch_max, end.now_ns, end.records, end.segment, end.offset, end.shard,
        cut_bytes, end.torn,
    )  # fmt: skip
    watermark = WatermarkWriter(folder)
    watermark.publish(
        recovered.next_seq - 1, position_of(end.segment, end.offset), recovered.crc, recovered.epoch_max, 0
    )
    watermark.close()
    return recovered


class _Seen:
    """What others have seen of this journal, compared with what it holds."""

    def __init__(self, folder: Path, also: Sequence[Held] = (), start: Place | None = None) -> None:
        self._folder = folder
        self._held = [*holders(folder), *also]
        if watermark_path(folder).exists():
            writer = WatermarkWriter(folder)
            self._held.append(Held("the durable watermark", writer.last.seq, writer.last.crc))
            writer.close()
        snapshots_held, unread = held_by_snapshots(folder)
        self._held += snapshots_held
        self._unchecked: dict[int, list[Held]] = {}
        for held in self._held:
            if start is not None and held.seq == start.link.next_seq - 1 and held.crc != start.link.crc:
                why = f"was seen by {held.name} with chain {held.crc:08x}, {start.name} has {start.link.crc:08x} there"
                raise JournalDamagedError(segment_path(folder, start.segment), start.offset, held.seq, why)
            # Who stands before the place finds another history himself, when he reads on.
            if held.seq and (start is None or held.seq >= start.link.next_seq):
                self._unchecked.setdefault(held.seq, []).append(held)
        self._held += unread

    def watch(self, apply: Apply | None) -> OnFrame:
        """Return the callback that applies records and compares the chain where somebody stood."""
        unchecked, folder = self._unchecked, self._folder

        def on_frame(segment: int, offset: int, header: FrameHeader, frame: bytes) -> None:
            for held in unchecked.pop(header.first_seq + header.records - 1, ()):
                if held.crc != header.crc:
                    why = f"was seen by {held.name} with chain {held.crc:08x}, is {header.crc:08x}: another history"
                    raise JournalDamagedError(segment_path(folder, segment), offset, header.first_seq, why)
            path, seq = segment_path(folder, segment), header.first_seq
            base = position_of(segment, offset)
            for at, data in frame_records(path, offset, header, frame):
                if apply is not None:
                    # A copy: a Raw that is kept must not keep the whole batch.
                    record = decode_record(bytes(data), path, offset + at, seq)
                    apply(seq, header.now_ns, base + at, record)
                seq += 1

        return on_frame

    def past(self, end: End) -> list[Held]:
        """Return who has seen records behind the end, or may have and can't be asked."""
        last_seq = end.link.next_seq - 1
        return [h for h in self._held if (h.seq is None and end.torn) or (h.seq is not None and h.seq > last_seq)]

    def require_nothing_lost(self, end: End) -> None:
        """Refuse a journal that ends before what somebody saw, or that lacks the batch end they stood at."""
        for held in self.past(end):
            raise lost(self._folder, end, held)
        self.require_same_history(end)

    def require_same_history(self, end: End) -> None:
        """Refuse a journal where somebody stood at the end of a batch and none ends."""
        path = segment_path(self._folder, max(end.segment, 1))
        for seq, left in self._unchecked.items():
            if seq >= end.link.next_seq:
                continue
            why = f"was seen by {left[0].name} as the end of a batch, here it is none: another history"
            raise JournalDamagedError(path, end.offset, seq, why)


class Tail(NamedTuple):
    """How a journal ends, and who has seen past that; nothing was changed.

    Attributes:
        end: Behind the last whole frame; ``torn`` says what is wrong with what is behind it.
        cut_bytes: Size of that, up to the last byte written.
        past: Everybody who has seen, or may have seen, records behind the end.
    """

    end: End
    cut_bytes: int
    past: tuple[Held, ...]


def pruned_to(folder: Path) -> Place | None:
    """Return where a pruned journal begins: at its oldest segment, as far as a snapshot stands in for what is gone.

    None where the journal begins with its first record, or where nothing stands in for what is missing.
    """
    paths = segments(folder)
    if not paths or segment_index(paths[0]) == 1 or not snapshots(folder):
        return None
    with paths[0].open("rb") as file:
        header = decode_segment_header(file.read(SEGMENT_HEADER_BYTES), paths[0])
    link = Link(header.first_seq, header.prev_crc)
    return Place(f"segment {paths[0].name}", link, header.segment, SEGMENT_HEADER_BYTES, 0, 0)


def look_at_tail(folder: Path, also: Sequence[Held] = ()) -> Tail:
    """Validate the whole journal and return how it ends. The caller holds the FolderLock.

    Raises:
        JournalDamagedError, JournalGapError, JournalVersionError: If something else than its end is wrong.
    """
    start = pruned_to(folder)
    seen = _Seen(folder, also, start)
    end = scan(folder, seen.watch(None), start)
    if not end.segment:
        seen.require_nothing_lost(end)
    seen.require_same_history(end)
    return Tail(end, _written_bytes(folder, end) if end.torn else 0, tuple(seen.past(end)))


def lost(folder: Path, end: End, held: Held) -> JournalDamagedError | JournalGapError:
    """Return the error that names the place and who has seen, or may have seen, what is behind it."""
    path, next_seq = segment_path(folder, max(end.segment, 1)), end.link.next_seq
    if held.seq is None:
        why = f"{end.torn}, and what holder {held.name} has seen can't be read from its file"
    elif not end.segment:
        return JournalGapError(path, 1, f"which is absent, but {held.name} has seen record {held.seq}")
    else:
        why = f"{end.torn or 'is not there'}, but {held.name} has seen record {held.seq}"
    return JournalDamagedError(path, end.offset, next_seq, why)


def _written_bytes(folder: Path, end: End) -> int:
    """Return how many bytes behind the end were ever written."""
    with segment_path(folder, end.segment).open("rb") as file:
        file.seek(end.offset)
        return len(file.read().rstrip(b"\0"))


def _rewrite_tail(disk: Disk, folder: Path, end: End, settings: JournalSettings) -> End:
    path = segment_path(folder, end.segment)
    size = max(settings.segment_bytes, end.offset)
    with path.open("rb") as file:
        _write_segment(disk, folder, path, _chunks(file, end.offset), size)
    return end._replace(file_bytes=size)


def _first_segment(disk: Disk, folder: Path, settings: JournalSettings, shard: int) -> End:
    head = encode_segment_header(SegmentHeader(shard, 1, 1, 0))
    _write_segment(disk, folder, segment_path(folder, 1), [head], settings.segment_bytes)
    return End(segment=1, offset=SEGMENT_HEADER_BYTES, file_bytes=settings.segment_bytes, shard=shard)


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    for at in range(0, size, CHUNK_BYTES):
        yield file.read(min(CHUNK_BYTES, size - at))


def _write_segment(disk: Disk, folder: Path, path: Path, content: Iterable[bytes], size: int) -> None:
    """Replace ``path`` by ``content`` and zeros, durable before the old file is gone."""
    temporary = path.with_suffix(".tmp")
    fd = disk.open(temporary, create=True)
    try:
        at = 0
        for chunk in content:
            write_all(disk, fd, chunk, at)
            at += len(chunk)
        fill_zeros(disk, fd, at, size)
        disk.fdatasync(fd)
    finally:
        disk.close(fd)
    disk.rename(temporary, path)
    disk.fsync_folder(folder)
