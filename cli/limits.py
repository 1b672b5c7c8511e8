"""``wojak limits``: what binds now, and one limit changed while the engine runs, with a name and a reason on it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter

from cli.configuration import Loaded
from cli.control import Account, Everything, Instrument, Strategy, one_scope
from cli.engine_client import EngineClient, client_of
from cli.limit_files import Rows, configured_rows, known_to, over_on, read_limits
from cli.limit_rows import LimitKind
from cli.limit_text import Row, all_rows, differences, limit_value, line_of_row
from cli.options import DEFAULT_CONFIG, ConfigPath, Reason, deployment, say
from cli.problems import VENUES
from cli.shards import Shard, ask, ask_one, chosen, each
from cli.view import grouped
from protocol.codes import Scope
from protocol.contract_rows import counts_on
from protocol.control import ApplyRows, SetLimit, ShowLimits, ShownLimit, ShowRows
from protocol.errors import ConfigError, FieldError
from protocol.params import COUNTED, WINDOWED, LimitName, LimitRow
from protocol.units import parse_e9
from runtime.clock import wall_ns

app = App(name="limits", help="Check, show, change and explain what binds orders.")
app.command("cli.explain:explain")
NO_LIMITS: Final = "no limit has a row: nothing but the contracts and the gate's own rules bind"
MS_NS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
Underlying = Annotated[str, Parameter(help="Only what has this underlying.")]
Venue = Annotated[str, Parameter(help="Only this venue.")]


@app.command
def check(
    file: Annotated[Path | None, Parameter(help="A limits file; without it what the configuration says.")] = None,
    /,
    *,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Check a limits file, or the configuration's rows: every fault with file, line and reason. No engine is asked.

    Example: `wojak limits check limits.toml`
    """
    rows, path = rows_in(deployment(config), file)
    counts = [
        f"{len(table)} {name}"
        for name, table in (
            ("limits", rows.file.limits),
            ("contract parameters", rows.file.contracts),
            ("venue hours", rows.file.hours),
            ("restrictions", rows.file.restrictions),
        )
    ]  # fmt: skip
    today = dt.datetime.fromtimestamp(wall_ns() // NS_PER_S, dt.UTC).date()
    for line in (*rows.incomplete, *over_on(rows.file, today)):
        say(line)
    say(f"✔ {path.name}: {', '.join(counts)}")
    return 0


def rows_in(loaded: Loaded, file: Path | None) -> tuple[Rows, Path]:
    """Return the rows of a limits file, or of the deployment's own configuration, and the file they stand in.

    Raises:
        ConfigError: Naming every fault, its file and line.
    """
    config, known = loaded.config, known_to(loaded.config, VENUES)
    own = loaded.resolve(config.risk.limits_file) if config.risk.limits_file else loaded.path
    if file is None or file.absolute() == loaded.path:
        return configured_rows(config, loaded.path, known), own
    return read_limits(file, known), file


@app.command
def diff(
    file: Annotated[Path | None, Parameter(help="A limits file; without it what the configuration says.")] = None,
    /,
    *,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Compare a limits file, or the configuration's rows, with what the engine runs: + new, - gone, ~ changed.

    Exit code 1 if anything differs. Operators' values of single limits: `wojak limits show`.

    Example: `wojak limits diff limits.toml`
    """
    loaded = deployment(config)
    rows, path = rows_in(loaded, file)
    differs: list[int] = []

    def diff_one(of: Loaded) -> str:
        running = ask_one(of, ShowRows()).rows
        assert running is not None
        lines = differences(running, rows.wire)
        differs.append(len(lines))
        return "\n".join(lines) or f"the engine runs what {path.name} says"

    failed = each(loaded, chosen(loaded, shard), diff_one)
    return 1 if failed or any(differs) else 0


@app.command
def apply(
    file: Annotated[Path | None, Parameter(help="A limits file; without it what the configuration says.")] = None,
    /,
    *,
    reason: Reason,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Put the rows of a file in the place of those that the engine runs, from the next order on; journaled.

    All or none: each engine is asked first whether it can take them. What a running row guards with value_max is not
    loosened so. A start reads the configuration again.

    Example: `wojak limits apply limits.toml --reason "new quarter"`
    """
    loaded = deployment(config)
    rows, path = rows_in(loaded, file)
    shards = chosen(loaded, shard)
    trial, change = (ApplyRows(rows.wire, path.name, is_trial, reason) for is_trial in (True, False))
    if len(shards) > 1:
        for answer in ask(loaded, shards, trial):
            if answer.why_not is not None:
                raise answer.why_not

    def apply_one(of: Loaded) -> str:
        reply = ask_one(of, change)
        return "\n".join([f"{reply.text} · durable at seq {grouped(reply.seq)}", *(reply.lines or [])])

    for line in rows.incomplete:
        say(line)
    done = each(loaded, shards, apply_one)
    own = rows_in(loaded, None)[1]
    if path.absolute() != own.absolute():
        say(f"the next start reads {own.name} again: to keep these rows, put them there")
    return done


@app.command(name="set")
def set_limit(  # noqa: PLR0913 - one option a field of a row
    limit: LimitKind,
    value: str,
    /,
    *,
    reason: Reason,
    account: Account = "",
    strategy: Strategy = "",
    instrument: Instrument = "",
    underlying: Underlying = "",
    venue: Venue = "",
    everything: Everything = False,
    window_ms: Annotated[int, Parameter(help="Of limits within a time; 0 = as the row in force says.")] = 0,
    reserve_exit: Annotated[int, Parameter(help="Of rates; -1 = as the row in force says.")] = -1,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Set one limit from the next order on. It holds over restarts until `wojak limits lift`.

    VALUE is a decimal for money and quantities, a whole number for counts. More than the file's value_max is refused.

    Example: `wojak limits set POSITION_MAX 3 --account demo --reason "volatile"`
    """
    scope, key = _scope_of(account, strategy, instrument, underlying, venue, everything=everything)
    name = LimitName[limit]
    exact = _parse(limit, value)
    loaded = deployment(config)

    def set_one(of: Loaded) -> str:
        client = client_of(of)
        try:
            window_ns, reserve = window_ms * MS_NS, max(0, reserve_exit)
            if name in WINDOWED:
                shown = next((s for s in _ask(client) if (s.name, s.scope, s.key) == (name, scope, key)), None)
                now = (shown.change or shown.row) if shown is not None else None
                if now is not None:
                    window_ns = window_ns or now.window_ns
                    reserve = now.reserve_exit if reserve_exit < 0 else reserve_exit
            reply = client.ask(SetLimit(name, scope, key, exact, reason, window_ns, reserve))
        finally:
            client.close()
        lifted = f"lift: wojak limits lift {limit} …"
        return f"{reply.text} to {value} · durable at seq {grouped(reply.seq)} · {lifted}"

    return each(loaded, chosen(loaded, shard, key if scope is Scope.ACCOUNT else ""), set_one)


@app.command
def lift(  # noqa: PLR0913 - one option a scope
    limit: LimitKind,
    /,
    *,
    reason: Reason,
    account: Account = "",
    strategy: Strategy = "",
    instrument: Instrument = "",
    underlying: Underlying = "",
    venue: Venue = "",
    everything: Everything = False,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Go back to what the file says of one limit.

    Example: `wojak limits lift POSITION_MAX --account demo --reason "calm again"`
    """
    scope, key = _scope_of(account, strategy, instrument, underlying, venue, everything=everything)
    loaded = deployment(config)

    def lift_one(of: Loaded) -> str:
        client = client_of(of)
        try:
            reply = client.ask(SetLimit(LimitName[limit], scope, key, None, reason))
        finally:
            client.close()
        return f"{reply.text}, the file's value binds · durable at seq {grouped(reply.seq)}"

    return each(loaded, chosen(loaded, shard, key if scope is Scope.ACCOUNT else ""), lift_one)


def _scope_of(
    account: str, strategy: str, instrument: str, underlying: str, venue: str, *, everything: bool
) -> tuple[Scope, str]:
    keys = {Scope.ACCOUNT: account, Scope.STRATEGY: strategy, Scope.INSTRUMENT: instrument,
            Scope.UNDERLYING: underlying, Scope.VENUE: venue}  # fmt: skip
    return one_scope(keys, everything=everything)


@app.command
def show(*, shard: Shard = None, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Show every limit in force, and what the file says where an operator said otherwise; then all other rows.

    Example: `wojak limits show`
    """
    loaded = deployment(config)

    def show_one(of: Loaded) -> str:
        client = client_of(of)
        try:
            shown = _ask(client)
            rows = client.ask(ShowRows())
        finally:
            client.close()
        assert rows.rows is not None
        lines = [line_of(s) for s in shown]
        lines += [line for row in all_rows(rows.rows) if (line := other_line(row, rows.trading_date))]
        return "\n".join(lines) or NO_LIMITS

    return each(loaded, chosen(loaded, shard), show_one)


def other_line(row: Row, trading_date: int) -> str:
    """Return the line of a row that is no limit in force: contract parameters, hours, and limits of other dates."""
    if counts_on(row.effective_from, row.effective_to, trading_date):
        return "" if isinstance(row, LimitRow) else line_of_row(row)
    return f"{line_of_row(row)}   not on {trading_date}"


def line_of(shown: ShownLimit) -> str:
    """Return one limit as a line: what is in force first."""
    where = f"{shown.scope.name.lower()} {shown.key}".rstrip()
    text = f"{shown.name.name:<16} {where:<24}"
    row, change = shown.row, shown.change
    in_file = "no row" if row is None else limit_value(shown.name, row.value, row.window_ns, row.reserve_exit)
    if row is not None and row.soft is not None:
        in_file += f", soft {limit_value(shown.name, row.soft)}"
    most = "" if row is None or row.value_max is None else f" (at most {limit_value(shown.name, row.value_max)})"
    if change is None:
        return f"{text} {in_file}{most}   as the file says"
    assert change.value is not None
    value = limit_value(shown.name, change.value, change.window_ns, change.reserve_exit)
    when = dt.datetime.fromtimestamp(change.at_ns // NS_PER_S, dt.UTC)
    return (
        f"{text} {value}   set by {change.operator} {when:%Y-%m-%d %H:%M:%S}: {change.reason}   "
        f"the file says {in_file}{most}"
    )


def _ask(client: EngineClient) -> list[ShownLimit]:
    return client.ask(ShowLimits()).limits or []


def _parse(limit: str, value: str) -> int:
    if LimitName[limit] in COUNTED:
        if value.isascii() and value.isdecimal():
            return int(value)
        raise ConfigError([f"VALUE expected a whole number for {limit}, was {value!r}"], "options")
    try:
        exact = parse_e9(value, "VALUE")
    except FieldError as e:
        raise ConfigError([f"VALUE expected {e.expected}, was {e.value!r}"], "options") from e
    if exact < 0:
        raise ConfigError([f"VALUE expected at least 0, was {value!r}"], "options")
    return exact
