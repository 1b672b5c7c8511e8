"""Repair the journal's end by an operator's hand, while no engine runs: cut what is torn, accept what is lost.

Rules (DESIGN 6.2, DECISIONS 4): a torn tail that nobody has seen is what a start cuts by itself, and ``repair_tail``
does just that. What somebody has seen is cut by ``accept_cut`` alone: it says durably, before it changes anything, who
had seen how much; the next START record carries that, and only then the note goes. Damage that is no tail is neither's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from journal.disk import Disk, write_all
from journal.errors import JournalDamagedError
from journal.format import JournalSettings, segment_path
from journal.holders import Held, forget, holders
from journal.recovery import Recovered, Tail, pruned_to, recover
from journal.snapshots import drop_snapshots_behind
from protocol.frames import FrameHeader, read_header
from protocol.records import AcceptedCut

NOTE: Final = "accepted-cut"
_decode = msgspec.json.Decoder(AcceptedCut).decode


def torn_header(folder: Path, tail: Tail) -> FrameHeader | None:
    """Return what the header of the torn frame says of it, if that much of it is there; it may be wrong too."""
    if not tail.cut_bytes:
        return None
    with segment_path(folder, tail.end.segment).open("rb") as file:
        file.seek(tail.end.offset)
        return read_header(file.read(1024))


def repair_tail(folder: Path, settings: JournalSettings, tail: Tail, also: Sequence[Held] = ()) -> Recovered:
    """Cut a torn tail that nobody has seen, as a start would. The caller holds the FolderLock.

    Raises:
        JournalDamagedError, JournalGapError, JournalVersionError: If somebody has seen it, or it is no tail;
            nothing was changed.
    """
    return recover(folder, None, settings, shard=tail.end.shard, also=also, start=pruned_to(folder))


def accept_cut(
    folder: Path,
    settings: JournalSettings,
    tail: Tail,
    cut: AcceptedCut,
    also: Sequence[Held] = (),
    disk: Disk | None = None,
) -> Recovered:
    """Let the journal end behind its last whole frame, whoever has seen more. The caller holds the FolderLock.

    May be killed at any step and run again: what was noted first stays noted.

    Args:
        folder: The journal.
        settings: Sizes of its segments.
        tail: From ``look_at_tail``, under the same lock.
        cut: What is accepted, from ``cut_of``.
        also: What others have seen who keep no holder file here.
        disk: What changes go through.

    Raises:
        JournalDamagedError, JournalGapError, JournalVersionError: If something else than its end is wrong.
    """
    disk = disk or Disk()
    _note(folder, _with_earlier(cut, noted_cut(folder)), disk)
    recovered = recover(
        folder, None, settings, shard=tail.end.shard, also=also, accept_cut=True, disk=disk, start=pruned_to(folder)
    )
    local = {held.name for held in holders(folder)}
    if past := [held.name for held in tail.past if held.name in local]:
        forget(folder, past, disk)
    drop_snapshots_behind(folder, recovered.next_seq - 1, disk)
    return recovered


def cut_of(tail: Tail, reason: str, operator: str, at_ns: int) -> AcceptedCut:
    """Return what accepting this tail's loss means, for the journal."""
    seen = [(held.name, -1 if held.seq is None else held.seq) for held in tail.past]
    return AcceptedCut(tail.end.link.next_seq - 1, tail.cut_bytes, seen, reason, operator, at_ns)


def noted_cut(folder: Path) -> AcceptedCut | None:
    """Return the accepted cut that no START record carries yet.

    Raises:
        JournalDamagedError: If the note is there and can't be read.
    """
    path = folder / NOTE
    try:
        return _decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as e:
        raise JournalDamagedError(path, 0, 0, f"of an accepted cut can't be read: {e}") from e


def drop_note(folder: Path, disk: Disk) -> None:
    """Forget the note: the journal has it, durably."""
    disk.remove(folder / NOTE)
    disk.fsync_folder(folder)


def _with_earlier(cut: AcceptedCut, earlier: AcceptedCut | None) -> AcceptedCut:
    """Keep what an attempt before this one saw: it may have changed what now says less."""
    if earlier is None:
        return cut
    now = {name for name, _ in cut.seen}
    seen = [*cut.seen, *((name, seq) for name, seq in earlier.seen if name not in now)]
    return msgspec.structs.replace(cut, seen=seen, cut_bytes=max(cut.cut_bytes, earlier.cut_bytes))


def _note(folder: Path, cut: AcceptedCut, disk: Disk) -> None:
    temporary = folder / f"{NOTE}.tmp"
    fd = disk.open(temporary, create=True)
    try:
        write_all(disk, fd, msgspec.json.encode(cut), 0)
        disk.fdatasync(fd)
    finally:
        disk.close(fd)
    disk.rename(temporary, folder / NOTE)
    disk.fsync_folder(folder)
