"""``wojak reconcile``: what venues and a broker's statement say, against what the engine holds. Differing is exit 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cli.money_file import is_money
from cli.options import DEFAULT_CONFIG, ConfigPath, Reason, deployment, say
from cli.reconcile_money import compare_money
from cli.shards import Answer, Shard, ask, chosen
from cli.statement_file import Position, read_statement
from cli.view import grouped
from protocol.control import BrokerPosition, ComparePositions, PositionDifference, Reconcile, VenueReconciled
from protocol.units import format_e9

ANSWER_MS = 15_000
app = App(name="reconcile", help="Compare open orders, fills and positions with venues, positions with a broker.")


@app.default
def reconcile(
    *,
    venue: Annotated[str, Parameter(help="Only this venue.")] = "",
    reason: Reason = "asked by operator",
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Ask the venues for open orders, fills of the day and positions, and compare.

    What differs is journaled, alarms and sets reduce-only; no position changes. The rules: docs/reconcile.md.

    Example: `wojak reconcile`
    """
    loaded = deployment(config)
    answers = ask(loaded, chosen(loaded, shard), Reconcile(venue, reason), timeout_ms=ANSWER_MS)
    ok = True
    for answer in answers:
        where = f"shard {answer.shard}: " if len(answers) > 1 else ""
        if answer.reply is None:
            say(f"{where}not compared: {answer.why_not}")
            ok = False
        for result in (answer.reply.reconciled if answer.reply else None) or []:
            ok = _say_result(where, result) and ok
    return 0 if ok else 1


def _say_result(where: str, result: VenueReconciled) -> bool:
    if result.failed:
        say(f"{where}not compared: {result.failed}")
        return False
    for line in result.differences:
        say(f"{where}{line}")
    if result.more:
        say(f"{where}and {grouped(result.more)} more")
    count = len(result.differences) + result.more
    positions = f"{grouped(result.positions)} positions" if result.positions >= 0 else "no positions"
    stated = f"{grouped(result.orders)} open orders, {grouped(result.fills)} fills, {positions} stated"
    say(f"{where}{result.venue} · {stated} · {grouped(count)} differences · durable at seq {grouped(result.seq)}")
    return count == 0


@app.command
def statement(
    file: Path,
    /,
    *,
    adopt: Annotated[bool, Parameter(negative="", help="Journal the broker's position where it differs.")] = False,
    reason: Reason = "broker statement",
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Compare with a broker's statement, a CSV file: account,instrument,quantity[,price] for positions.

    For cash the columns are account,currency,cash, for collateral account,asset,value,currency[,haircut_bp]. Of each
    account that the file names all positions (currencies, assets) are compared: one that it lacks is 0. --adopt takes
    them as the file says them; positions then need a price where the quantity is not 0.

    Example: `wojak reconcile statement broker.csv --adopt --reason "start of day"`
    """
    loaded = deployment(config)
    accounts = {r.account for r in loaded.config.accounts}
    if is_money(file):
        return compare_money(loaded, file, shard, reason, adopt=adopt)
    instruments = {r.instrument: r.quantity_step for r in loaded.config.instruments}
    rows = read_statement(file, accounts, instruments, needs_price=adopt)
    by_shard: dict[int, list[Position]] = {}
    for row in rows:
        (home,) = chosen(loaded, None, row.account)
        if shard is None or home == shard:
            by_shard.setdefault(home, []).append(row)
    found = 0
    ok = True
    text = f"{reason} ({file.name})"[:256]
    for home in sorted(by_shard):
        (answer,) = ask(loaded, [home], ComparePositions([_wire(row) for row in by_shard[home]], adopt, text))
        ok = _say_positions(answer, by_shard[home]) and ok
        found += len((answer.reply.positions if answer.reply else None) or [])
    did = "adopted" if adopt else "to adopt them: --adopt"
    say(f"{grouped(len(rows))} rows of {file.name} · {grouped(found)} differences" + (f" · {did}" if found else ""))
    return 0 if ok and (adopt or not found) else 1


def _wire(row: Position) -> BrokerPosition:
    return BrokerPosition(row.account, row.instrument, row.quantity_e9, row.price_e9)


def _say_positions(answer: Answer, rows: Sequence[Position]) -> bool:
    if answer.reply is None:
        say(f"shard {answer.shard} not compared: {answer.why_not}")
        return False
    lines = {(row.account, row.instrument): row.line for row in rows}
    for d in answer.reply.positions or []:
        say(_difference(d, lines.get((d.account, d.instrument), 0)))
    return True


def _difference(d: PositionDifference, line: int) -> str:
    theirs = f"{format_e9(d.theirs_e9)} in line {line}" if d.is_stated else "absent, so 0"
    return f"{d.account} {d.instrument}: held here {format_e9(d.ours_e9)}, stated {theirs}"
