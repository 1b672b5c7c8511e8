"""``wojak journal export``: the durable records as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from cyclopts import Parameter

from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.shards import Shard, one
from cli.view import grouped
from journal.export import Wanted
from journal.export import export as write
from journal.watermark import WatermarkReader
from protocol.errors import ConfigError
from protocol.records import Record

KINDS: Final = tuple(kind.__name__ for kind in get_args(Record))


def export(
    *,
    out: Annotated[Path, Parameter(help="The file to make.")],
    format: Annotated[  # noqa: A002  # the option's name
        Literal["jsonl", "parquet"], Parameter(help="JSON lines, or Parquet (takes the extra `parquet`).")
    ] = "jsonl",
    from_seq: Annotated[int, Parameter(help="First record.")] = 1,
    to_seq: Annotated[int, Parameter(help="Last record; 0 = up to what is durable now.")] = 0,
    kind: Annotated[
        list[str] | None, Parameter(negative="", help="Only this kind of record, such as Ordered; may be repeated.")
    ] = None,
    replace: Annotated[bool, Parameter(negative="", help="Replace the file if it is there.")] = False,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Write every durable record, decoded, one row a record, in bounded memory; works beside a running engine.

    The columns: docs/reference/export.md. Example: `wojak journal export --format parquet --out day.parquet`
    """
    folder = one(deployment(config), shard).paths.journal
    _require_kinds(kind or [])
    marks = WatermarkReader(folder)
    durable = marks.read().seq
    marks.close()
    last = min(to_seq, durable) if to_seq else durable
    exported = write(folder, out, format, Wanted(max(1, from_seq), last, frozenset(kind or ())), replace=replace)
    said = f"{grouped(exported.records)} records"
    if exported.records:
        said += f", seq {grouped(exported.first_seq)} to {grouped(exported.last_seq)}"
    say(f"{said} → {out}, {grouped(exported.file_bytes)} bytes; durable to seq {grouped(durable)}")
    return 0


def _require_kinds(kinds: list[str]) -> None:
    unknown = [k for k in kinds if k not in KINDS]
    if unknown:
        raise ConfigError([f"expected one of {', '.join(KINDS)}, was {k!r}" for k in unknown], "--kind")
