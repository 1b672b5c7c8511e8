"""``wojak status``: how a running deployment is, from outside of the supervisor."""

from __future__ import annotations

import shutil
import sys
from typing import Annotated

import msgspec
from cyclopts import Parameter

from cli.engine_client import EngineClient
from cli.http_client import BooksClient
from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.sampler import ask_origin, books_lag_ms, look_at_price
from cli.scrape import Scraper
from cli.top_figures import figures
from cli.top_view import loop, processes, stores
from cli.view import Snapshot, grouped, lines, milliseconds, wrap
from cli.wiring import books_url
from runtime.clock import wall_ns

WIDTH_PLAIN = 100
NS_PER_S = 1_000_000_000


def status(
    *,
    json: Annotated[bool, Parameter(negative="", help="Print everything the engine says, as JSON.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Show how the engine, its venue and the books are. Exit code 1 if the engine does not answer.

    Example: `wojak status --json`
    """
    loaded = deployment(config)
    client = EngineClient(loaded.paths)
    try:
        engine = client.status()
    finally:
        client.close()
    if json:
        say(msgspec.json.format(msgspec.json.encode(engine), indent=2).decode())
        return 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_PLAIN
    books = BooksClient(books_url(loaded))
    snapshot = Snapshot(engine, look_at_price(loaded, ask_origin(loaded)), 0, None, books_lag_ms(books))
    books.close()
    scraper = Scraper(loaded)
    now = scraper.look()
    scraper.close()
    taken = figures(now, {}, wall_ns() / NS_PER_S)
    for line in lines(snapshot, width):
        say(line)
    for line in [*wrap(stores(taken), width), *wrap(loop(taken), width)]:
        say(line)
    for row in processes(taken, width):
        say(row.text)
    recovered = f"{grouped(engine.recovered_records)} events in {milliseconds(engine.recovery_ns)}"
    say(f"mode {engine.mode}   shard {engine.shard}   epoch {engine.epoch}   seq {grouped(engine.seq)}   "
        f"recovered {recovered}")  # fmt: skip
    return 0
