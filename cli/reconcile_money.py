"""``wojak reconcile statement`` for a file of cash or collateral."""

from __future__ import annotations

from pathlib import Path

from cli.configuration import Loaded
from cli.money_file import MoneyRow, read_money
from cli.options import say
from cli.shards import ask, chosen
from cli.view import grouped
from protocol.money import CashRow, CollateralRow, CompareMoney, MoneyDifference
from protocol.units import format_e9

REASON_CHARS_MAX = 256


def compare_money(loaded: Loaded, file: Path, shard: int | None, reason: str, *, adopt: bool) -> int:
    """Compare cash or collateral with a broker's statement, and say what differs; return the exit code.

    Raises:
        ConfigError: If the file can't be used; every fault with its line.
    """
    rows = read_money(file, {r.account for r in loaded.config.accounts})
    by_shard: dict[int, list[MoneyRow]] = {}
    for found in rows:
        (home,) = chosen(loaded, None, found.row.account)
        if shard is None or home == shard:
            by_shard.setdefault(home, []).append(found)
    ok, count = True, 0
    for home, mine in sorted(by_shard.items()):
        cash = [r.row for r in mine if isinstance(r.row, CashRow)]
        collateral = [r.row for r in mine if isinstance(r.row, CollateralRow)]
        text = f"{reason} ({file.name})"[:REASON_CHARS_MAX]
        (answer,) = ask(loaded, [home], CompareMoney(cash, collateral, adopt, text))
        if answer.reply is None:
            say(f"shard {answer.shard} not compared: {answer.why_not}")
            ok = False
            continue
        for difference in answer.reply.money or []:
            count += 1
            say(_difference(difference, mine))
    did = "adopted" if adopt else "to adopt them: --adopt"
    say(f"{grouped(len(rows))} rows of {file.name} · {grouped(count)} differences" + (f" · {did}" if count else ""))
    return 0 if ok and (adopt or not count) else 1


def _difference(d: MoneyDifference, rows: list[MoneyRow]) -> str:
    name = d.asset or d.currency
    lines = [r.line for r in rows if (r.row.account, _name(r.row)) == (d.account, name)]
    ours, theirs = _amount(d.ours_e9, d.our_haircut_bp), _amount(d.theirs_e9, d.their_haircut_bp)
    stated = f"{theirs} in line {lines[0]}" if d.is_stated and lines else "absent, so 0"
    currency = f" ({d.currency})" if d.asset else ""
    return f"{d.account} {name}{currency}: held here {ours}, stated {stated}"


def _name(row: CashRow | CollateralRow) -> str:
    return row.currency if isinstance(row, CashRow) else row.asset


def _amount(e9: str, haircut_bp: int) -> str:
    return format_e9(int(e9)) + (f" less {haircut_bp} bp" if haircut_bp else "")
