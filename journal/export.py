"""Write the journal's durable records into a file that other programs read: JSON lines or Parquet.

Rules: nothing behind the durable watermark of the beginning is written; memory is bounded by one batch of the journal
and one group of rows, whatever the journal's size; the file gets its name when it is complete and synced, so a full
disk or a crash leaves nothing that looks like an export.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final, Literal, NamedTuple, Protocol

import msgspec

from journal.errors import ExportError
from journal.flat import COLUMNS, REST, Column, Place, as_json_line, flat_row
from journal.format import segment_path, split_position
from journal.readable import instant_name
from journal.reader import read_batches, start_of
from journal.scan import decode_record
from protocol.frames import LENGTH

Format = Literal["jsonl", "parquet"]
GROUP_ROWS_MAX: Final = 16_384
GROUP_BYTES_MAX: Final = 16 << 20
EXTRA: Final = "parquet"
_BUFFER_BYTES: Final = 1 << 20


class Wanted(NamedTuple):
    """Which records: numbers from ``from_seq`` to ``to_seq`` (both included), of these kinds (empty = all)."""

    from_seq: int
    to_seq: int
    kinds: frozenset[str] = frozenset()


class Exported(NamedTuple):
    """What was written; ``first_seq`` 0 = no record."""

    records: int
    first_seq: int
    last_seq: int
    file_bytes: int


class RowSink(Protocol):
    """Takes rows and writes them in its format."""

    def add(self, row: dict[str, Any], size: int) -> None:
        """Take a row; ``size``: bytes of its record, to bound what is in memory."""

    def finish(self) -> None:
        """Write what is left."""

    def abandon(self) -> None:
        """Let go after a failure; what was written is worth nothing."""


class JsonLines:
    """One JSON object a line; a column that the record does not have is absent."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, row: dict[str, Any], size: int) -> None:
        """See ``RowSink.add``."""
        del size  # nothing is kept
        self._file.write(as_json_line(row))

    def finish(self) -> None:
        """See ``RowSink.finish``."""

    def abandon(self) -> None:
        """See ``RowSink.abandon``."""


class Parquet:
    """Parquet with one column each; a column that the record does not have is null.

    Amounts are decimal128(38, 9), exact; instants are timestamps in UTC with nanoseconds; ``rest`` is JSON text.

    Raises:
        ExportError: If pyarrow is not installed.
    """

    def __init__(self, file: IO[bytes], path: Path, group_rows_max: int = GROUP_ROWS_MAX) -> None:
        try:
            self._arrow: Any = importlib.import_module("pyarrow")
            writer = importlib.import_module("pyarrow.parquet").ParquetWriter
        except ImportError as e:
            why = (
                f"Parquet takes the package pyarrow, which is not installed; pip install 'wojak[{EXTRA}]', or use jsonl"
            )
            raise ExportError(path, why) from e
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._group_rows_max = group_rows_max
        self._schema = self._arrow.schema([(c.name, self._type(c)) for c in COLUMNS])
        self._writer = writer(file, self._schema, compression="zstd")

    def add(self, row: dict[str, Any], size: int) -> None:
        """See ``RowSink.add``."""
        self._rows.append(row)
        self._bytes += size
        if len(self._rows) >= self._group_rows_max or self._bytes >= GROUP_BYTES_MAX:
            self._write_group()

    def finish(self) -> None:
        """See ``RowSink.finish``."""
        if self._rows:
            self._write_group()
        self._writer.close()

    def abandon(self) -> None:
        """See ``RowSink.abandon``. Tells the writer that it is closed, so that it does not write its end later."""
        self._writer.is_open = False

    def _type(self, column: Column) -> Any:
        arrow = self._arrow
        types = {"int": arrow.int64(), "decimal": arrow.decimal128(38, 9), "bool": arrow.bool_()}
        types["time"] = arrow.timestamp("ns", tz="UTC")
        return types.get(column.kind, arrow.string())

    def _write_group(self) -> None:
        arrow, rows = self._arrow, self._rows
        arrays = [arrow.array(_cells(column, rows), self._type(column)) for column in COLUMNS]
        self._writer.write_table(arrow.Table.from_arrays(arrays, schema=self._schema), row_group_size=len(rows))
        self._rows, self._bytes = [], 0


def export(folder: Path, out: Path, form: Format, wanted: Wanted, *, replace: bool = False) -> Exported:
    """Write the wanted records to ``out``. The caller bounds ``to_seq`` by the durable watermark.

    Raises:
        ExportError: If ``out`` is there already, can't be written, or the disk is full; ``out`` is as it was.
        JournalDamagedError, JournalGapError, JournalVersionError: If the journal is not as written.
    """
    if out.exists() and not replace:
        raise ExportError(out, "expected a new file, one is there; choose another name, or say --replace")
    part = out.with_name(f"{out.name}.{os.getpid()}.part")
    try:
        with part.open("xb", buffering=_BUFFER_BYTES) as file:
            exported = _write(folder, file, out, form, wanted)
            file.flush()
            os.fsync(file.fileno())
        part.rename(out)
        return exported._replace(file_bytes=out.stat().st_size)
    except OSError as e:
        raise ExportError(out, f"can't be written: {e.strerror or e}; nothing was left behind") from e
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _write(folder: Path, file: IO[bytes], out: Path, form: Format, wanted: Wanted) -> Exported:
    sink: RowSink = JsonLines(file) if form == "jsonl" else Parquet(file, out)
    records = first_seq = last_seq = 0
    try:
        for row, size in rows(folder, wanted):
            sink.add(row, size)
            records, last_seq = records + 1, row["seq"]
            first_seq = first_seq or last_seq
        sink.finish()
    except BaseException:
        sink.abandon()
        raise
    return Exported(records, first_seq, last_seq, 0)


def rows(folder: Path, wanted: Wanted) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield (row, bytes of its record) of the wanted records, in order."""
    if wanted.from_seq > wanted.to_seq:
        return
    after_seq, after_crc = start_of(folder, wanted.from_seq)
    for batch in read_batches(folder, after_seq, after_crc, wanted.to_seq):
        header = batch.header
        segment = split_position(batch.end)[0]
        path = segment_path(folder, segment)
        for seq, position, data in batch.records:
            if not wanted.from_seq <= seq <= wanted.to_seq:
                continue
            offset = split_position(position)[1]
            record = decode_record(data, path, offset, seq)
            if wanted.kinds and type(record).__name__ not in wanted.kinds:
                continue
            yield flat_row(Place(seq, header.now_ns, header.epoch, segment, offset), record), LENGTH.size + len(data)


_INSTANT_OF: Final = {instant_name(c.name): c.name for c in COLUMNS if c.name in {"at_ns", "created_at_ns", "exch_ns"}}


def _cells(column: Column, rows: list[dict[str, Any]]) -> list[Any]:
    """Return a column of the rows as pyarrow takes it."""
    if column.name == REST:
        return [msgspec.json.encode(row[REST]).decode() for row in rows]
    name = _INSTANT_OF[column.name] if column.kind == "time" else column.name
    found = [row.get(name) for row in rows]
    return [v and Decimal(v) for v in found] if column.kind == "decimal" else found
