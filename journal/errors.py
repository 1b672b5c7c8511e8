"""What can be wrong with a journal. Each says the file, the place, what was expected and what to do.

Rule: a damaged journal stops the start; nothing here is ever skipped over silently (DESIGN 6.1, 6.2).
"""

from __future__ import annotations

from pathlib import Path

from protocol.errors import JournalError


class JournalDamagedError(JournalError):
    """Bytes of the journal are not what was written, or what somebody saw is gone."""

    code = "JOURNAL_DAMAGED"

    def __init__(self, path: Path, offset: int, seq: int, why: str) -> None:
        self.path = path
        self.offset = offset
        self.seq = seq
        self.why = why
        super().__init__(
            f"{self.code}: record {seq} {why} (path={path}, offset={offset}); "
            "nothing was changed: look with `wojak journal verify`, restore this file from a copy, then start again"
        )


class JournalGapError(JournalError):
    """A segment that must be there is not, or does not go on where the one before ended."""

    code = "JOURNAL_GAP"

    def __init__(self, path: Path, seq_expected: int, why: str) -> None:
        self.path = path
        self.seq_expected = seq_expected
        self.why = why
        super().__init__(
            f"{self.code}: expected seq {seq_expected} in {path}, {why}; restore the missing segment, then start again"
        )


class JournalVersionError(JournalError):
    """A newer release wrote this journal."""

    code = "JOURNAL_VERSION"

    def __init__(self, path: Path, offset: int, what: str, known: str) -> None:
        self.path = path
        self.offset = offset
        self.what = what
        super().__init__(
            f"{self.code}: expected {known}, was {what} (path={path}, offset={offset}); "
            "start the release that wrote it, or a newer one"
        )


class JournalLockedError(JournalError):
    """Another engine holds this folder."""

    code = "JOURNAL_LOCKED"

    def __init__(self, folder: Path, pid: str) -> None:
        self.folder = folder
        self.pid = pid
        super().__init__(
            f"{self.code}: {folder} is held by process {pid}; one engine a journal: "
            "stop that process, or give this engine another journal folder"
        )


class JournalFullError(JournalError):
    """A batch would not fit: the caller must commit when ``JournalWriter.full`` says so."""

    code = "JOURNAL_FULL"

    def __init__(self, batch_bytes: int, batch_bytes_max: int) -> None:
        self.batch_bytes = batch_bytes
        self.batch_bytes_max = batch_bytes_max
        super().__init__(
            f"{self.code}: batch expected at most {batch_bytes_max} bytes, was {batch_bytes}; "
            "commit before this record, or raise batch_bytes_max"
        )


class JournalFailedError(JournalError):
    """A write or sync failed. Fatal: what the disk holds is unknown until recovery read it again."""

    code = "JOURNAL_FAILED"

    def __init__(self, path: Path, operation: str, cause: str) -> None:
        self.path = path
        self.operation = operation
        super().__init__(
            f"{self.code}: {operation} of {path} failed: {cause}; the engine stops, since a failed sync must never be "
            "tried again; look at the disk, then start again: recovery keeps what is whole"
        )


class JournalCutError(JournalError):
    """What this reader read is no longer in the journal: it was cut or replaced, and the reader must stop."""

    code = "JOURNAL_FENCED"

    def __init__(self, folder: Path, seq: int, crc: int, was: str) -> None:
        self.folder = folder
        self.seq = seq
        self.crc = crc
        super().__init__(
            f"{self.code}: {folder} expected to hold record {seq} with chain {crc:08x}, {was}; "
            "this reader saw a history that the journal does not have: stop it and rebuild from the journal"
        )


class SnapshotDamagedError(JournalError):
    """A snapshot is not what was written, or is of a release this one can't read: the one before it has to do."""

    code = "SNAPSHOT_DAMAGED"

    def __init__(self, path: Path, offset: int, why: str) -> None:
        self.path = path
        self.offset = offset
        self.why = why
        super().__init__(
            f"{self.code}: snapshot {path} {why} (offset={offset}); "
            "nothing is lost, the journal holds it all: the one before it, or the whole journal, is read instead"
        )


class SnapshotForeignError(JournalError):
    """A snapshot that is whole, but not of this journal: one of the two is in the wrong place."""

    code = "SNAPSHOT_FOREIGN"

    def __init__(self, path: Path, folder: Path, why: str) -> None:
        self.path = path
        self.folder = folder
        self.why = why
        super().__init__(
            f"{self.code}: snapshot {path} expected to be of journal {folder}, {why}; "
            "nothing was changed: put back the journal it belongs to, or move this snapshot away and start again"
        )


class ProjectionError(JournalError):
    """A record can't be projected: records are missing before it, or it contradicts them."""

    code = "PROJECTION"

    def __init__(self, seq: int, why: str) -> None:
        self.seq = seq
        self.why = why
        super().__init__(
            f"{self.code}: record {seq} {why}; remove the books' store, "
            "the books writer makes it anew from the journal; "
            "if it comes again, look at the journal with `wojak journal verify`"
        )


class ExportError(JournalError):
    """An export can't be written; nothing is left under the name that was asked for."""

    code = "EXPORT"

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"{self.code}: {path}: {why}")


class PruneError(JournalError):
    """A segment that nothing needs can't be removed."""

    code = "PRUNE"

    def __init__(self, folder: Path, cause: str) -> None:
        self.folder = folder
        self.cause = cause
        super().__init__(
            f"{self.code}: {folder}: a segment can't be removed: {cause}; what was named before it is gone and "
            "the rest is whole: look at the folder's rights, then run it again"
        )
