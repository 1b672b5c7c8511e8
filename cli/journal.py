"""``wojak journal``: what the journal holds, and whether deciding it again gives the same."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from cli.configuration import Loaded
from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.shards import Shard, chosen, one
from cli.view import grouped
from journal.reader import read_batches, start_of
from journal.recovery import pruned_to
from journal.watermark import WatermarkReader
from protocol.events import events_of
from protocol.records import record_decoder
from protocol.units import format_e9

app = App(name="journal", help="Read the journal: what was decided, in order, durably.")
NS_PER_S = 1_000_000_000


app.command("cli.journal_ls:list_segments", name="ls")
app.command("cli.journal_export:export", name="export")
app.command("cli.journal_follow:follow", name="follow")
app.command("cli.tail:repair_tail", name="repair-tail")
app.command("cli.journal_prune:prune", name="prune")


@app.command
def cat(
    *,
    after: Annotated[int, Parameter(help="Only events of records behind this number.")] = 0,
    last: Annotated[int, Parameter(help="Only the newest so many records.")] = 0,
    account: Annotated[str, Parameter(help="Only events of this account.")] = "",
    json: Annotated[bool, Parameter(negative="", help="One JSON object a line.")] = False,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Print what happened, one event a line.

    Example: `wojak journal cat --last 20`
    """
    folder = one(deployment(config), shard, account).paths.journal
    if last:
        reader = WatermarkReader(folder)
        after = max(after, reader.read().seq - last)
        reader.close()
    for batch in read_batches(folder, *start_of(folder, after + 1)):
        if batch.last_seq <= after:
            continue
        for seq, _, data in batch.records:
            if seq <= after:
                continue
            for event in events_of(seq, batch.header.now_ns, record_decoder.decode(data)):
                if account and getattr(event, "account", "") != account:
                    continue
                fields = event_fields(event)
                if json:
                    say(msgspec.json.encode({"event": type(event).__name__, **fields}).decode())
                else:
                    say(event_line(type(event).__name__, fields))
    return 0


@app.command
def verify(*, shard: Shard = None, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Decide every recorded input again and compare with what was recorded. Exit code 1 on any difference.

    Example: `wojak journal verify`
    """
    loaded = deployment(config)
    compared = 0
    ok = True
    for number in chosen(loaded, shard):
        if len(loaded.shards) > 1:
            say(f"shard {number}")
        decided, differ = _verify(loaded.of(number))
        compared += decided
        ok &= not differ
    if not compared:
        say("nothing was compared, which proves nothing: send an order first")
    return 0 if ok and compared else 1


def _verify(loaded: Loaded) -> tuple[int, int]:
    if (begins := pruned_to(loaded.paths.journal)) is not None:
        say(f"pruned: the journal begins with {begins.name}; decided again behind the oldest whole snapshot")
    compared, differing, total, state_hash = decide_again(loaded.paths.journal, loaded.config.engine.dedup_keys_max)
    for line in differing[:20]:
        say(f"DIFFERS  {line}")
    counts = ", ".join(f"{name} {grouped(count)}" for name, count in sorted(compared.items()))
    decided = sum(compared.values())
    say(f"{grouped(total)} records, decided again {grouped(decided)} ({counts})")
    say(f"{'✘' if differing or not decided else '✔'} {grouped(len(differing))} differ   state {state_hash}")
    return decided, len(differing)


def decide_again(folder: Path, dedup_keys_max: int) -> tuple[Counter[str], list[str], int, str]:
    """Return (decisions compared by kind, those that differ, records read, hash of the state at the end)."""
    from cli.kept import beginning
    from engine.state import state_hash

    core, after_seq, after_crc = beginning(folder, dedup_keys_max)
    compared: Counter[str] = Counter()
    differing: list[str] = []
    total = 0
    for batch in read_batches(folder, after_seq, after_crc):
        now_ns = batch.header.now_ns
        for seq, position, data in batch.records:
            record = record_decoder.decode(data)
            same = core.decide_again(record, now_ns)
            core.repeat(seq, now_ns, position, record)
            total += 1
            if same is None:
                continue
            compared[type(record).__name__] += 1
            if not same:
                differing.append(f"seq {seq} {type(record).__name__}: {record}")
    return compared, differing, total, state_hash(core.state)


def event_fields(event: msgspec.Struct) -> dict[str, object]:
    """Return a Struct's fields as people read them: names for numbers, decimals for amounts in 1e-9."""
    fields: dict[str, object] = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, bytes):
            value = value.hex()
        elif isinstance(value, IntEnum):
            value = value.name
        elif isinstance(value, msgspec.Struct):
            value = event_fields(value)
        elif isinstance(value, int) and name.endswith("_e9"):
            value = format_e9(value)
        fields[name.removesuffix("_e9")] = value
    return fields


def event_line(kind: str, fields: dict[str, object]) -> str:
    """Return one line for a person."""
    at_ns = int(str(fields.pop("at_ns")))
    at = dt.datetime.fromtimestamp(at_ns // NS_PER_S, dt.UTC)
    when = f"{at:%Y-%m-%d %H:%M:%S}.{at_ns % NS_PER_S:09d}"
    seq, n = fields.pop("seq"), fields.pop("n")
    shown = " ".join(f"{k}={_shown(v)}" for k, v in fields.items() if v not in ("", None, 0, "0"))
    return f"{seq}.{n} {when} {kind.removesuffix('Event')} {shown}"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "(" + " ".join(f"{k}={v}" for k, v in value.items() if v not in ("", None)) + ")"
    return str(value)
