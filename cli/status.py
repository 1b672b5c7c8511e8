"""``wojak status``: how a running deployment is, from outside of the supervisor."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Annotated

import msgspec
from cyclopts import Parameter

from cli.addresses import books_url
from cli.adjust import money_line
from cli.configuration import Loaded
from cli.http_client import BooksClient
from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.processes import ENGINE, process_name
from cli.sampler import ask_origin, books_lag_ms, look_at_price
from cli.scrape import Scraper
from cli.shards import Shard, ask, ask_one, chosen, together
from cli.top_figures import Figures, figures
from cli.top_view import loop, processes, stores
from cli.view import Down, Snapshot, grouped, lines, milliseconds, wrap
from protocol.control import EngineStatus, Status
from protocol.errors import WojakError
from protocol.money import ShowMoney
from runtime.clock import wall_ns

WIDTH_PLAIN = 100
NS_PER_S = 1_000_000_000


def status(
    *,
    shard: Shard = None,
    json: Annotated[bool, Parameter(negative="", help="Print everything the engine says, as JSON.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Show how the engines, their venues and the books are. Exit code 1 if an engine does not answer.

    Example: `wojak status --json`
    """
    loaded = deployment(config)
    shards = chosen(loaded, shard)
    several = len(shards) > 1
    answers = ask(loaded, shards, Status())
    if json:
        found = [a.reply.status if a.reply else {"shard": a.shard, "away": str(a.why_not)} for a in answers]
        say(msgspec.json.format(msgspec.json.encode(found if several else found[0]), indent=2).decode())
        return 0 if all(a.reply for a in answers) else 1
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_PLAIN
    books = BooksClient(books_url(loaded))
    engines = [a.reply.status if a.reply else None for a in answers]
    down = tuple(Down(process_name(ENGINE, a.shard), "does not answer") for a in answers if not a.reply)
    price, lag_ms = look_at_price(loaded, ask_origin(loaded)), books_lag_ms(books)
    books.close()
    for line in lines(Snapshot(together(engines), price, 0, None, lag_ms, down), width):
        say(line)
    for answer, engine in zip(answers, engines, strict=True):
        taken = _figures(loaded.of(answer.shard))
        for line in [*wrap(stores(taken), width), *wrap(loop(taken), width)]:
            say(line)
        for row in processes(taken, width):
            say(row.text)
        say(_engine(engine) if engine is not None else f"shard {answer.shard}   {answer.why_not}")
    for line in _money(loaded, shards):
        say(line)
    return 0 if all(engines) else 1


def _money(loaded: Loaded, shards: Sequence[int]) -> list[str]:
    """Return a line for each account that has money; nothing of an engine that does not answer."""
    lines = []
    for shard in shards:
        try:
            found = ask_one(loaded.of(shard), ShowMoney()).accounts or []
        except WojakError:
            continue
        lines += [f"money   {money_line(a)}" for a in found if a.money or a.collateral]
    return lines


def _figures(loaded: Loaded) -> Figures:
    scraper = Scraper(loaded)
    try:
        return figures(scraper.look(), {}, wall_ns() / NS_PER_S)
    finally:
        scraper.close()


def _engine(engine: EngineStatus) -> str:
    recovered = f"{grouped(engine.recovered_records)} events in {milliseconds(engine.recovery_ns)}"
    return (
        f"mode {engine.mode}   shard {engine.shard}   epoch {engine.epoch}   seq {grouped(engine.seq)}   "
        f"recovered {recovered}"
    )
