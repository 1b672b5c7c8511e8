"""Loads ``wojak.toml`` and turns it into what the processes are told (parameters of the gate, opening positions).

Rule: what this returns was checked as a whole; nothing downstream has to doubt it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from msgspec import structs

from cli.limit_files import configured_rows, known_to, own_rows
from cli.limit_wire import to_risk_rows
from cli.opening_rows import OpeningFile
from cli.paths import Paths, paths_of
from cli.problems import VENUES, problems
from cli.risk_rows import to_risk_params
from cli.settings import AccountRow, SourceRow, StrategyRow, WojakConfig
from engine.settings import Opening, OpeningCash, OpeningPosition
from market.instruments import to_params
from protocol import params as wire
from protocol.errors import ConfigError, FieldError
from protocol.money import CollateralRow, FxRow, parse_money_e9
from protocol.shards import ShardMap
from protocol.units import parse_e9
from runtime.config import load_toml, read_text
from runtime.toml_lines import TomlLines

MS_NS: Final = 1_000_000


class Loaded(NamedTuple):
    """A configuration that was checked, where it came from, and where its deployment keeps things.

    ``incomplete``: what its presets have no row for.
    """

    config: WojakConfig
    path: Path
    paths: Paths
    incomplete: tuple[str, ...] = ()

    @property
    def shards(self) -> range:
        """The numbers of the shards, as ``of`` takes them."""
        return range(self.config.wojak.shards)

    @property
    def shard_map(self) -> ShardMap:
        """The rule that says which shard an account belongs to."""
        return ShardMap(self.config.wojak.shards, account_shards(self.config))

    def of(self, shard: int) -> Loaded:
        """Return the same with the paths of one shard."""
        return self._replace(paths=self.paths.of(shard))

    def resolve(self, name: str) -> Path:
        """Return a file named in the configuration; relative names are relative to it."""
        return self.path.parent / name


def load(path: Path, ticks: Path | None = None) -> Loaded:
    """Return the checked configuration; ``ticks`` is a recording to replay instead of what the file says.

    Raises:
        ConfigError: Naming every fault.
    """
    path = Path(path).absolute()
    config = load_toml(path, WojakConfig)
    if ticks is not None:
        feed = structs.replace(config.feed, source="binance", path=str(ticks.absolute()))
        config = structs.replace(config, feed=feed)
    if faults := problems(config, path.parent):
        raise ConfigError(faults, str(path), TomlLines(read_text(path)).of_faults(faults))
    rows = configured_rows(config, path, known_to(config, VENUES))
    file = rows.file
    config = structs.replace(
        config, limits=file.limits, contracts=file.contracts, hours=file.hours, restrictions=file.restrictions
    )
    return Loaded(config, path, paths_of(path.parent / config.wojak.state_dir), rows.incomplete)


def account_shards(config: WojakConfig) -> dict[str, int]:
    """Return the accounts that the file gives a shard."""
    return {r.account: r.shard for r in config.accounts if r.shard is not None}


def to_wire_params(config: WojakConfig) -> wire.Params:
    """Return what the gate is told, in exact integers."""
    rows = to_risk_rows(own_rows(config))
    return wire.Params(
        instruments=tuple(to_params(r) for r in config.instruments),
        accounts=tuple(_account(r) for r in config.accounts),
        strategies=tuple(_strategy(r) for r in config.strategies),
        principals=tuple(wire.PrincipalParams(r.principal, r.accounts, r.strategies) for r in config.principals),
        channels=tuple(_channel(r) for r in config.sources),
        limits=rows.limits,
        order_age_max_ns=config.engine.order_age_max_ms * MS_NS,
        skew_max_ns=config.engine.skew_max_ms * MS_NS,
        send_age_max_ns=config.engine.send_age_max_ms * MS_NS,
        exit_slots=config.engine.exit_slots,
        venue_wait_ns=config.engine.venue_wait_ms * MS_NS,
        shards=config.wojak.shards,
        contracts=rows.contracts,
        venues=rows.venues,
        restrictions=rows.restrictions,
        risk=to_risk_params(config.routes, config.risk_service),
    )


def _account(row: AccountRow) -> wire.AccountParams:
    wait_ms = row.cancel_on_disconnect_ms
    shard = -1 if row.shard is None else row.shard
    return wire.AccountParams(
        row.account, row.currency, shard, wait_ms * MS_NS if wait_ms >= 0 else -1, row.checks_cash, row.checks_margin,
        row.option_write, row.short_sell, row.checks_crossing,
    )  # fmt: skip


def _strategy(row: StrategyRow) -> wire.StrategyParams:
    return wire.StrategyParams(row.strategy, row.ttl_ms * MS_NS, row.algo_id, row.option_write, row.short_sell)


def _channel(row: SourceRow) -> wire.ChannelParams:
    return wire.ChannelParams(row.source, row.principals, row.cancel_on_disconnect_ms * MS_NS, row.keep_exits)


def to_opening(loaded: Loaded) -> Opening:
    """Return what this shard's accounts had before its journal began, and the exchange rates.

    Raises:
        ConfigError: If the file can't be used; every row's fault is named.
    """
    name = loaded.config.wojak.opening_file
    if not name:
        return Opening()
    path = loaded.resolve(name)
    rows = load_toml(path, OpeningFile)
    accounts = {r.account for r in loaded.config.accounts}
    instruments = {r.instrument for r in loaded.config.instruments}
    faults = [
        f"{at}.account: expected one of {', '.join(sorted(accounts))}, was {account!r}"
        for at, account in rows.named()
        if account not in accounts
    ]
    faults += [
        f"positions[{n}].instrument: expected one of {', '.join(sorted(instruments))}, was {row.instrument!r}"
        for n, row in enumerate(rows.positions)
        if row.instrument not in instruments
    ]
    if faults:
        raise ConfigError(faults, str(path))
    shard_of, shard = loaded.shard_map.shard_of, loaded.paths.shard
    try:
        return Opening(
            positions=tuple(
                OpeningPosition(p.account, p.instrument, parse_e9(p.quantity, "quantity"), parse_e9(p.price, "price"))
                for p in rows.positions
                if shard_of(p.account) == shard
            ),
            cash=tuple(
                OpeningCash(c.account, c.currency, parse_money_e9(c.cash, "cash"))
                for c in rows.cash
                if shard_of(c.account) == shard
            ),
            collateral=tuple(
                CollateralRow(c.account, c.asset, str(parse_money_e9(c.value, "value")), c.currency, c.haircut_bp)
                for c in rows.collateral
                if shard_of(c.account) == shard
            ),
            fx=tuple(FxRow(f.of, f.to, parse_e9(f.rate, "rate")) for f in rows.fx),
        )
    except FieldError as e:
        raise ConfigError([f"{e.field}: expected {e.expected}, was {e.value!r}"], str(path)) from e
