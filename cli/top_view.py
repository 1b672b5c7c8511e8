"""The figures of ``wojak top`` as lines of text for any width. Pure; ``kind`` of a line is for colour alone.

Rule: a process that does not answer stands in its row with the reason; nothing is shown that was not measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from cli.top_figures import Figures, Percentiles, ProcessRow
from cli.view import grouped, held, wrap

PLAIN: Final = "plain"
TITLE: Final = "title"
HEAD: Final = "head"
BAD: Final = "bad"
KEYS: Final = "keys"
NONE: Final = "–"
DEDUP_BAD_PERCENT: Final = 80
CODES_SHOWN: Final = 4


class Line(NamedTuple):
    """One line and what it is."""

    text: str
    kind: str = PLAIN


def screen(figures: Figures, width: int, keys: str = "") -> list[Line]:
    """Return everything, the most important first."""
    found = [
        *(Line(text, TITLE) for text in wrap(_title(figures), width)),
        *alerts(figures),
        *(Line(text) for text in wrap(orders(figures), width)),
        *(Line(text) for text in wrap(stores(figures), width)),
        Line(""),
        *table(("hop", "what", "per s", "p50", "p99", "p99.9", "max"), 2, map(_hop, figures.hops)),
        Line(""),
        *processes(figures, width),
        Line(""),
        *table(("batches", "what", "per s", "p50", "p99", "p99.9", "max"), 2, map(_batch, figures.batches)),
    ]  # fmt: skip
    if keys:
        found += [Line(""), Line(keys, KEYS)]
    return [Line(line.text if len(line.text) <= width else line.text[: width - 1] + "…", line.kind) for line in found]


def processes(figures: Figures, width: int) -> list[Line]:
    """Return a row a process; what waits in it goes below the table where it does not fit beside."""
    heads = ("process", "state", "up", "cpu", "memory", "loop p99", "loop max", "queues")
    rows = [_process(row) for row in figures.processes]
    wide = table(heads, 2, rows, last_left=True)
    if all(len(line.text) <= width for line in wide):
        return wide
    queues = [Line(text) for row in rows for text in wrap([row[0], *row[-1].split("  ")], width) if row[-1]]
    return [*table(heads[:-1], 2, [row[:-1] for row in rows]), Line(""), *queues]


def alerts(figures: Figures) -> list[Line]:
    """Return what a person should look at now, one line each."""
    found = [f"{p.name} {p.state}: {p.reason}" for p in figures.processes if p.reason]
    found += [f"halted: {scope}" for scope in figures.halted]
    if figures.unknown_orders:
        found.append(f"{grouped(figures.unknown_orders)} orders UNKNOWN: wojak orders unknown")
    if figures.suspense_fills:
        found.append(f"{grouped(figures.suspense_fills)} fills in suspense: wojak orders suspense")
    if figures.dedup_keys * 100 >= figures.dedup_keys_max * DEDUP_BAD_PERCENT and figures.dedup_keys_max:
        found.append(f"order ids: {_percent(figures.dedup_keys, figures.dedup_keys_max)} taken")
    return [Line(f"! {text}", BAD) for text in found]


def orders(figures: Figures) -> list[str]:
    """Return what came and what became of it."""
    codes = sorted(figures.rejected_by_code.items(), key=lambda c: -c[1])
    shown = ", ".join(f"{code} {grouped(count)}" for code, count in codes[:CODES_SHOWN])
    rest = sum(count for _, count in codes[CODES_SHOWN:])
    shown += f", others {grouped(rest)}" if rest else ""
    return [
        f"orders {_rate(figures.orders_per_s)}",
        f"accepted {grouped(figures.accepted)}",
        f"rejected {grouped(figures.rejected)}" + (f" ({shown})" if shown else ""),
        f"fills {grouped(figures.fills)}",
        f"cancels {grouped(figures.cancels)}",
        f"duplicates {grouped(figures.duplicates)}",
        f"told to retry {grouped(figures.retries)}",
        f"open {grouped(figures.open_orders)}",
        *held(figures.held_orders, risk_ready=figures.risk_ready),
    ]


def stores(figures: Figures) -> list[str]:
    """Return what fills up."""
    growth = figures.journal_bytes_per_s
    keys, keys_max = figures.dedup_keys, figures.dedup_keys_max
    return [
        f"order ids {grouped(keys)} of {grouped(keys_max)} ({_percent(keys, keys_max)})",
        f"journal seq {grouped(figures.seq)}" + ("" if growth is None else f" +{size(growth)}/s"),
        f"disk {size(figures.disk_free_bytes)} free",
        f"alarms {grouped(figures.alarms)}",
    ]


def loop(figures: Figures) -> list[str]:
    """Return how the engine's loop goes: its lag and its batches, over the last five seconds."""
    engine = next(row for row in figures.processes if row.name == "engine")
    parts = [f"loop p99 {duration(engine.loop_p99_ns)}  max {duration(engine.loop_max_ns)}"]
    return parts + [f"{b.what} p50 {grouped(b.p50)}  p99 {grouped(b.p99)}"
                    for b in figures.batches if b.process == "engine"]  # fmt: skip


def table(heads: Sequence[str], left: int, rows: Iterable[Sequence[str]], *, last_left: bool = False) -> list[Line]:
    """Return rows under their heads in columns; the first ``left`` are set left, numbers right."""
    cells = [list(heads), *(list(row) for row in rows)]
    if len(cells) == 1:
        return []
    widths = [max(len(row[n]) for row in cells) for n in range(len(heads))]

    def joined(row: Sequence[str]) -> str:
        count = len(row)
        return "  ".join(
            cell.ljust(widths[n]) if n < left or (last_left and n == count - 1) else cell.rjust(widths[n])
            for n, cell in enumerate(row)
        ).rstrip()

    return [Line(joined(row), HEAD if n == 0 else PLAIN) for n, row in enumerate(cells)]


def duration(ns: int | None) -> str:
    """Return a duration with three digits and its unit."""
    if ns is None:
        return NONE
    for unit, per_unit in (("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1_000)):
        if ns >= per_unit or unit == "µs":
            tenths = ns * 10 // per_unit
            return f"{tenths // 10}.{tenths % 10} {unit}" if tenths < 1_000 else f"{grouped(tenths // 10)} {unit}"
    raise AssertionError


def size(count: int) -> str:
    """Return a number of bytes with its unit."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << shift:
            tenths = count * 10 >> shift
            return f"{tenths // 10}.{tenths % 10} {unit}" if tenths < 1_000 else f"{grouped(tenths // 10)} {unit}"
    return f"{count} B"


def _title(figures: Figures) -> list[str]:
    bad = any(p.reason for p in figures.processes)
    state = "DEGRADED" if bad else "halted" if figures.halted else "running"
    engine = [f"mode {figures.mode}", f"shard {figures.shard}", f"epoch {figures.epoch}"] if figures.mode else []
    return ["wojak top", *engine, f"[{state}]"]


def _hop(hop: Percentiles) -> tuple[str, ...]:
    return hop.process, hop.what, _number(hop.per_s), *(duration(ns) for ns in (hop.p50, hop.p99, hop.p999, hop.max))


def _batch(batch: Percentiles) -> tuple[str, ...]:
    figures = (batch.p50, batch.p99, batch.p999, batch.max)
    return batch.process, batch.what, _number(batch.per_s), *(grouped(n) for n in figures)


def _process(row: ProcessRow) -> tuple[str, ...]:
    if row.state == "DOWN":
        return row.name, row.state, NONE, NONE, NONE, NONE, NONE, row.reason
    waiting = "  ".join(f"{name} {grouped(count)}" for name, count in row.queues.items())
    cpu = NONE if row.cpu_percent is None else f"{row.cpu_percent} %"
    up = f"{row.up_s // 3600}:{row.up_s // 60 % 60:02d}:{row.up_s % 60:02d}"
    return (
        row.name, row.state, up, cpu, size(row.memory_bytes), duration(row.loop_p99_ns), duration(row.loop_max_ns),
        waiting,
    )  # fmt: skip


def _rate(per_s: int | None) -> str:
    return f"{_number(per_s)}/s"


def _number(number: int | None) -> str:
    return NONE if number is None else grouped(number)


def _percent(part: int, whole: int) -> str:
    tenths = part * 1_000 // whole if whole else 0
    return f"{tenths // 10}.{tenths % 10} %"
