"""``wojak ticks``: what a recording holds, and playing one into a deployment's last-value table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.view import decimal, grouped
from market.instruments import to_params
from protocol.errors import ConfigError
from protocol.params import InstrumentParams
from protocol.units import format_e9

app = App(name="ticks", help="Look into recorded market data, or play it.")
NS_PER_S = 1_000_000_000


@app.command
def info(file: Path, /, *, instrument: str = "BTCUSDT", config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Read a recording, check it, and print what is in it.

    Example: `wojak ticks info btcusdt_20240808.gz`
    """
    from market import recording

    found = recording.info(file, _instrument(instrument, config))
    span_ms = (found.last_local_ns - found.first_local_ns) // 1_000_000
    say(f"{found.path}   {grouped(found.bytes)} bytes   sha256 {found.sha256}")
    say(f"{grouped(found.lines)} lines over {span_ms // 1000}.{span_ms % 1000:03d} s   instrument {found.instrument}")
    depth, trade = found.depth, found.trade
    say(f"depth   {grouped(depth.diffs)} diffs, {grouped(depth.levels)} levels, {grouped(depth.removals)} removals, "
        f"{len(depth.gap_lines)} gaps, first kept line {depth.first_kept_line}")  # fmt: skip
    say(f"trades  {grouped(trade.trades)}, {trade.missing_ids} missing, {trade.duplicate_ids} twice, "
        f"{decimal(format_e9(trade.price_min_e9))} .. {decimal(format_e9(trade.price_max_e9))}")  # fmt: skip
    say(f"quotes  {grouped(found.quotes)}   snapshots {found.snapshots}")
    if found.book is None:
        say("book    none: no snapshot that the diffs go on from")
        return 1
    book = found.book
    say(f"book    tops equal {grouped(book.tops_equal)} of {grouped(book.tops_compared)}, crossed {book.crossed}, "
        f"at the end {decimal(format_e9(book.best_bid_e9))} / {decimal(format_e9(book.best_ask_e9))}")  # fmt: skip
    return 0


@app.command
def replay(
    file: Path,
    /,
    *,
    speed: Annotated[float, Parameter(help="1 = as recorded, 10 = ten times as fast, 0 = as fast as it goes.")] = 1.0,
    instrument: str = "BTCUSDT",
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Play a recording into the last-value table and publish its ticks, again and again, until Ctrl-C.

    This is the feed alone; `wojak up --ticks FILE` plays it with everything else.

    Example: `wojak ticks replay btcusdt_20240808.gz --speed 10`
    """
    from cli.addresses import SNAPSHOTS_SOCKET, TICKS_SOCKET
    from cli.paths import prepare
    from market.feed import Feed
    from market.feed_settings import FeedSettings
    from protocol.channels import Context
    from runtime.signals import StopSignal

    if speed < 0:
        raise ConfigError([f"--speed: expected at least 0, was {speed}"], "options")
    paths = deployment(config).paths
    prepare(paths)
    stop, context = StopSignal(), Context()
    settings = FeedSettings(
        publish_endpoint=paths.endpoint(TICKS_SOCKET),
        request_endpoint=paths.endpoint(SNAPSHOTS_SOCKET),
        table_path=str(paths.table),
        instruments=(_instrument(instrument, config),),
        recording=str(file),
        speed=speed,
    )
    try:
        feed = Feed(settings, context)
        say(f"playing {file} into {paths.table} at {speed:g} × recorded speed; Ctrl-C stops")
        feed.play(stop)
        feed.close()
        say(f"{grouped(feed.published)} ticks published")
    finally:
        context.close()
    return 0


def _instrument(name: str, config: Path) -> InstrumentParams:
    """Return the instrument from the configuration, or the demonstration's where there is none."""
    if config.exists():
        rows = deployment(config).config.instruments
    else:
        import tomllib

        from cli.example import EXAMPLE
        from cli.settings import WojakConfig
        from runtime.config import convert

        rows = convert(tomllib.loads(EXAMPLE), WojakConfig, "the built-in example").instruments
    for row in rows:
        if row.instrument == name:
            return to_params(row)
    known = ", ".join(row.instrument for row in rows)
    raise ConfigError([f"--instrument: expected one of {known}, was {name!r}; add it to {config}"], "options")
