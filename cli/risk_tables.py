"""The figures of ``wojak risk report`` as tables in the terminal."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from rich.console import Console
from rich.table import Table

from protocol.units import E9
from risk.portfolio.report import MarginRow, Report
from risk.portfolio.rows import ParamsFile, Row, sources_of
from risk.portfolio.stress import Cell

DAY_NS: Final = 86_400 * E9
WIDTH_MIN: Final = 96  # narrower, figures would be cut
MOVES: Final = ("0", "+1/3", "−1/3", "+2/3", "−2/3", "+1", "−1")
SHOWN_CELLS: Final = 5
MARGIN_LINES: Final[tuple[tuple[str, Callable[[MarginRow], str]], ...]] = (
    ("scan risk", lambda m: money(m.scan)),
    ("  of scenario", lambda m: str(m.worst_scenario)),
    ("calendar charge", lambda m: money(m.calendar)),
    ("inter-commodity credit", lambda m: money(-m.credit)),
    ("short-option minimum", lambda m: money(m.minimum)),
    ("net option value", lambda m: money(m.nov)),
    ("span", lambda m: money(m.span)),
    ("exposure", lambda m: money(m.exposure)),
    ("add-ons", lambda m: money(m.addons)),
    ("total", lambda m: money(m.total)),
    ("worst case of open orders", lambda m: money(m.worst_case)),
)


def tables(figures: Report, file: ParamsFile, day: dt.date) -> None:
    """Write every section of the report."""
    console = Console(highlight=False, soft_wrap=False)
    if console.width < WIDTH_MIN:
        console = Console(highlight=False, width=WIDTH_MIN)
    head = f"[bold]{figures.account}[/] · {day.isoformat()} · margin {money(figures.total)} {figures.currency}"
    console.print(f"{head}, funds {money(figures.funds)}")
    for name in figures.unpriced:
        console.print(f"[bold red]not priced, not in these figures:[/] {name}")
    for title, table in _sections(figures, file, day):
        console.print(f"\n[bold]{title}[/]")
        console.print(table)


def _sections(figures: Report, file: ParamsFile, day: dt.date) -> Iterable[tuple[str, Table]]:
    yield (
        f"Margin, {figures.currency}",
        _table(
            "|".join(["", *(m.underlying for m in figures.margins)]),
            ([name, *(text(m) for m in figures.margins)] for name, text in MARGIN_LINES),
        ),
    )
    yield (
        f"Exposure: units; gamma per 1 %; {figures.currency} a point of volatility, a day; worst of scan",
        _table(
            "underlying|expiry|strategy|net|delta|gamma|vega|theta|premium|scan",
            (
                [e.underlying, date(e.expiry_ns), e.strategy or "–", number(e.net), number(e.delta, 1),
                 number(e.gamma, 1), *map(money, (e.vega, e.theta, e.premium_at_risk, e.margin_share))]
                for e in figures.exposures
            ),
            text=3,
        ),
    )  # fmt: skip
    yield "P&L of the 16 scenarios: price in scan ranges, volatility ↑ ↓", _scenarios(figures)
    yield f"Stress: the worst {SHOWN_CELLS} of {len(figures.stress)}", _stress(figures)
    yield (
        f"When it expires, {figures.currency}",
        _table(
            "underlying|expiry|trading days|margin then|most to pay|near a strike",
            (
                [x.underlying, date(x.expiry_ns), str(x.trading_days), money(x.margin), money(x.settlement),
                 " ".join(x.pinned) or "–"]
                for x in figures.expiries
            ),
            text=2,
        ),
    )  # fmt: skip
    yield (
        "Limits used, open orders counted",
        _table(
            "limit|is|may be|used",
            ([row.name, money(row.actual), money(row.allowed), share(row.used)] for row in figures.limits),
        ),
    )
    yield (
        "Parameters",
        _table(
            "underlying|name|value|from|source",
            (
                [underlying, row.name, unit(row), row.effective_from.isoformat(), row.source]
                for underlying in figures.scenarios
                for row in sources_of(file, underlying, day).values()
            ),
            text=5,
        ),
    )


def money(value: float) -> str:
    """Return an amount without its fraction: these are for reading."""
    return f"{round(value) or 0:,}".replace("-", "−")


def number(value: float, digits: int = 0) -> str:
    """Return a figure with thousands grouped."""
    return f"{value:,.{digits}f}".replace("-", "−")


def share(value: float) -> str:
    """Return a share in percent."""
    return "no room at all" if value == float("inf") else f"{100 * value:,.0f} %"


def date(at_ns: int) -> str:
    """Return the day of an instant, UTC; of what never expires a word."""
    return dt.datetime.fromtimestamp(at_ns / E9, dt.UTC).date().isoformat() if at_ns else "never"


def unit(row: Row) -> str:
    """Return a row's value with its unit."""
    return row.value if row.unit in {"yes/no", "count"} else f"{row.value} {row.unit}"


def scenario_names() -> list[str]:
    """Return the 16 scenarios in words: the price's move in scan ranges, and whether volatility is up or down."""
    return [*(f"{move} {side}" for move in MOVES for side in ("↑", "↓")), "+2 ×35 %", "−2 ×35 %"]


def cell_name(cell: Cell) -> str:
    """Return a cell of the stress grid in words."""
    when = "now" if cell.time_ns == 0 else "at expiry" if cell.time_ns < 0 else f"in {cell.time_ns / DAY_NS:g} d"
    return f"price {cell.spot_bp / 100:+g} %, volatility {cell.vol_bp / 100:+g} %, {when}"


def _scenarios(figures: Report) -> Table:
    rows = (
        [f"{n + 1:>2} {name}", *(money(pnl[n]) for pnl in figures.scenarios.values())]
        for n, name in enumerate(scenario_names())
    )
    return _table("|".join(["scenario", *figures.scenarios]), rows)


def _stress(figures: Report) -> Table:
    worst = sorted(figures.stress, key=lambda cell: cell[1])[:SHOWN_CELLS]
    return _table("move|P&L", ([cell_name(cell), money(pnl)] for cell, pnl in worst))


def _table(columns: str, rows: Iterable[Sequence[str]], text: int = 1) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for n, name in enumerate(columns.split("|")):
        is_last_of_text = n == text - 1 and text > 2
        side: Literal["left", "right"] = "left" if n < text else "right"
        table.add_column(
            name, justify=side, no_wrap=not is_last_of_text, header_style="dim", overflow="fold"
        )  # fmt: skip
    for row in rows:
        table.add_row(*row)
    return table
