"""``wojak risk``: what a whole account would lose, from files or from the books of a run."""

from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from protocol.errors import ConfigError
from protocol.units import parse_e9

if TYPE_CHECKING:
    from risk.portfolio.book import Book
    from risk.portfolio.report import Report
    from risk.portfolio.rows import ParamsFile

app = App(name="risk", help="Margin, Greeks, scenarios and stress of an account.")
PAGE = 500


@app.command
def report(
    book: Annotated[
        Path | None, Parameter(help="JSON file of the account; without it, its positions in the books.")
    ] = None,
    /,
    *,
    params: Annotated[Path, Parameter(help="TOML file of contracts and dated parameters.")],
    market: Annotated[Path, Parameter(help="JSON file of prices and volatilities.")],
    account: Annotated[str, Parameter(help="Whose positions are taken from the books.")] = "",
    funds: Annotated[str, Parameter(help="What margin may use, where positions come from the books.")] = "0",
    html: Annotated[Path | None, Parameter(help="Write a page with plots; it needs no network.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Show margin, exposures, scenarios, stress and limits used; `--html` writes them as one page with plots.

    Exit code 1: something of the account has no price, or a limit is exceeded.

    Example: `wojak risk report examples/risk/book.json --params examples/risk/params.toml --market
    examples/risk/market.json --html risk.html`
    """
    try:
        from risk.portfolio.catalogue import Catalogue
        from risk.portfolio.report import report as figures_of
        from risk.portfolio.standing import Desk, Standing
        from risk.portfolio.valuation import Valued
    except ImportError as e:
        raise ConfigError(
            ["expected numpy and scipy, was an environment without; pip install 'wojak[risk]'"], "risk"
        ) from e
    from cli.risk_tables import tables
    from risk.portfolio.files import parse_book, parse_market
    from risk.portfolio.rows import day_of, parse_params, resolve

    file = parse_params(_read(params), str(params))
    snapshot = parse_market(_read(market), str(market))
    asked = parse_book(_read(book), str(book)) if book is not None else _from_books(config, account, funds)
    day = day_of(file, snapshot.at_ns)
    figures = figures_of(Standing(asked, Desk(Valued(snapshot, Catalogue(resolve(file, day))))))
    tables(figures, file, day)
    if html is not None:
        _write_page(html, figures, file, day)
        say(f"{html}: {html.stat().st_size / 1e6:.1f} MB, opens without a network")
    return 1 if figures.unpriced or any(row.used > 1 for row in figures.limits) else 0


def _write_page(path: Path, figures: Report, file: ParamsFile, day: dt.date) -> None:
    try:
        from cli.risk_page import page
    except ImportError as e:
        raise ConfigError(["expected plotly, was an environment without; pip install 'wojak[risk]'"], "--html") from e
    path.write_text(page(figures, file, day), "utf-8")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise ConfigError([f"expected a file that can be read, was {e.strerror}"], str(path)) from e


def _from_books(config: Path, account: str, funds: str) -> Book:
    """Return an account's positions as the books have them, page by page."""
    from cli.books_rows import stores_of
    from journal.rows import PositionRow
    from risk.portfolio.book import Book, Position

    if not account:
        raise ConfigError(["expected a book file, or --account to take its positions from the books"], "risk report")
    loaded = deployment(config)
    row = next((a for a in loaded.config.accounts if a.account == account), None)
    if row is None:
        known = ", ".join(sorted(a.account for a in loaded.config.accounts))
        raise ConfigError([f"--account expected one of {known}, was {account!r}"], str(config))
    stores = stores_of(loaded.of(loaded.shard_map.shard_of(account)))
    if stores.path is not None and not stores.path.exists():
        raise ConfigError([f"expected the books at {stores.path}, were none; wojak up writes them"], str(config))
    positions: list[Position] = []
    with contextlib.closing(stores), contextlib.closing(stores.reader()) as books:
        found = books.list_rows("positions", {"account": account}, PAGE)
        rows = found.rows
        while found.cursor:
            found = books.list_rows("positions", {"account": account}, PAGE, found.cursor)
            rows += found.rows
    for position in rows:
        assert isinstance(position, PositionRow)
        if position.quantity_e9:
            positions.append(Position(position.instrument, position.quantity_e9))
    return Book(account, row.currency, parse_e9(funds, "--funds"), tuple(positions), book_seq=found.as_of_seq)
