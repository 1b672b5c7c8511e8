"""``wojak journal ls``: the segments, how far the journal is durable, and how far everybody who reads it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from cli.configuration import Loaded
from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.shards import Shard, chosen
from cli.view import grouped
from cli.witnesses import books_held
from journal.holders import Held
from journal.survey import SegmentRow, Survey, survey
from journal.times import format_ns, format_s
from protocol.errors import ConfigError

HEAD = ("segment", "first seq", "last seq", "records", "epochs", "used bytes", "first record", "last record", "state")
MARKS = {"whole": "whole", "open": "open", "torn": "TORN", "damaged": "DAMAGED"}


def list_segments(
    *,
    json: Annotated[bool, Parameter(negative="", help="Print everything as one JSON object.")] = False,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """List the journal's segments, how far it is durable, and how far each of its readers is.

    Reads every byte and checks every checksum, some seconds per GB; works beside a running engine and on a
    damaged journal. Exit code 1 if anything is torn, damaged or gone. Example: `wojak journal ls --json`
    """
    loaded = deployment(config)
    shards = chosen(loaded, shard)
    surveys = [_survey(loaded.of(n)) for n in shards]
    if json:
        shown = [_as_json(found, books) for found, books in surveys]
        of_all = shown[0] if len(shards) == 1 else {"shards": dict(zip(map(str, shards), shown, strict=True))}
        say(msgspec.json.format(msgspec.json.encode(of_all), indent=2).decode())
    else:
        for number, (found, books) in zip(shards, surveys, strict=True):
            if len(shards) > 1:
                say(f"shard {number}   {loaded.of(number).paths.journal}")
            for line in lines(found, books):
                say(line)
    return 0 if all(found.is_sound for found, _ in surveys) else 1


def _survey(loaded: Loaded) -> tuple[Survey, Held | None]:
    paths = loaded.paths
    if not paths.journal.is_dir():
        raise ConfigError([f"{paths.journal} expected to be a journal, is absent: nothing was ever started here"])
    books = books_held(loaded)
    return survey(paths.journal), books


def lines(found: Survey, books: Held | None) -> Iterator[str]:
    """Yield the table and what is said about it."""
    yield from _table([HEAD, *(_cells(row) for row in found.segments)])
    for row in found.segments:
        if row.why:
            yield f"{row.name} {MARKS[row.state]}: {row.why}"
    engine = f"engine running (pid {found.engine_pid})" if found.engine_pid else "no engine runs here"
    yield f"durable to seq {grouped(found.durable.seq)}, epoch {found.durable.epoch}; {engine}"
    if found.last_seq < found.durable.seq:
        yield f"LOST: the journal ends at seq {grouped(found.last_seq)}, more was durable; restore it from a copy"
    for held in found.holders:
        yield f"holder {held.name}: {_seen(found, held)}"
    yield f"books store: {_seen(found, books)}" if books else "books store: absent"


def _cells(row: SegmentRow) -> tuple[str, ...]:
    epochs = str(row.epoch_last) if row.epoch_first == row.epoch_last else f"{row.epoch_first}-{row.epoch_last}"
    return (
        row.name.removesuffix(".wal"), grouped(row.first_seq), grouped(row.last_seq) if row.records else "-",
        grouped(row.records), epochs if row.records else "-", f"{grouped(row.used_bytes)} of {grouped(row.file_bytes)}",
        format_s(row.first_ns), format_s(row.last_ns), MARKS[row.state],
    )  # fmt: skip


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEAD))]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _seen(found: Survey, held: Held) -> str:
    """Return how far a reader is, where that is, and how much is left for it."""
    if held.seq is None:
        return "its file can't be read; it counts as having seen everything"
    if held.seq > found.last_seq:
        return f"saw to seq {grouped(held.seq)}, PAST the journal's end by {grouped(held.seq - found.last_seq)}"
    segment = found.segment_of(held.seq)
    where = f" in segment {segment.name.removesuffix('.wal')}" if segment else ""
    return f"saw to seq {grouped(held.seq)}{where}, {grouped(max(0, found.durable.seq - held.seq))} behind"


def _as_json(found: Survey, books: Held | None) -> dict[str, Any]:
    return {
        "segments": [_segment_json(row) for row in found.segments],
        "durable": {**found.durable._asdict(), "crc": f"{found.durable.crc:08x}"},
        "holders": [_held_json(h) for h in found.holders],
        "books": _held_json(books) if books else None,
        "engine_pid": found.engine_pid,
        "last_seq": found.last_seq,
        "sound": found.is_sound,
    }


def _segment_json(row: SegmentRow) -> dict[str, Any]:
    times = {"first_at": format_ns(row.first_ns), "last_at": format_ns(row.last_ns)}
    return {**msgspec.structs.asdict(row), "crc": f"{row.crc:08x}", **times}


def _held_json(held: Held) -> dict[str, Any]:
    return {"name": held.name, "seq": held.seq, "crc": f"{held.crc:08x}"}
