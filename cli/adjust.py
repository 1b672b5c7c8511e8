"""``wojak adjust`` sets account truth by hand, journaled with name and reason; ``wojak accounts`` shows it."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from cli.options import DEFAULT_CONFIG, ConfigPath, Reason, deployment, say
from cli.shards import Shard, ask, ask_one, chosen, each
from cli.view import grouped
from protocol.control import ControlReply
from protocol.errors import ConfigError
from protocol.money import (
    AccountMoney,
    Adjust,
    CashRow,
    CollateralRow,
    FxRow,
    HeldRow,
    ShowMoney,
    ShownFx,
    parse_money_e9,
)
from protocol.units import format_e9, parse_e9

app = App(name="adjust", help="Set cash, collateral, a position or an exchange rate by hand, with a reason.")


@app.command
def cash(
    account: str,
    currency: str,
    /,
    *,
    reason: Reason,
    to: Annotated[str, Parameter(help="It is this, a decimal; negative is owed.")] = "",
    by: Annotated[str, Parameter(help="It is this much more, or less.")] = "",
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Set an account's cash in a currency, or change it by an amount.

    --by counts again if it is given again: after a time-out look first (`wojak accounts`).

    Example: `wojak adjust cash demo USDT --by 250000 --reason "deposit 4711"`
    """
    if bool(to) == bool(by):
        raise ConfigError([f"expected either --to or --by, was {'both' if to else 'neither'}"], "options")
    row = CashRow(account, currency, str(parse_money_e9(to or by, "cash")), adds=bool(by))
    return _adjust(account, Adjust(reason, cash=[row]), config)


@app.command
def collateral(
    account: str,
    asset: str,
    value: str,
    currency: str,
    /,
    *,
    reason: Reason,
    haircut_bp: Annotated[int, Parameter(help="What is taken off, basis points.")] = 0,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Set what an account has pledged of an asset: its value in a currency, 0 = nothing any more.

    Example: `wojak adjust collateral demo GSEC-2030 5000000 INR --haircut-bp 1000 --reason "pledge of today"`
    """
    row = CollateralRow(account, asset, str(parse_money_e9(value, "value")), currency, haircut_bp)
    return _adjust(account, Adjust(reason, collateral=[row]), config)


@app.command
def position(
    account: str,
    instrument: str,
    quantity: str,
    /,
    *,
    reason: Reason,
    price: Annotated[str, Parameter(help="What it is carried at; needed where it is not 0.")] = "0",
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Set a position: signed quantity, and the price it is carried at.

    Example: `wojak adjust position demo BTCUSDT -1.5 --price 61800 --reason "transfer in"`
    """
    row = HeldRow(account, instrument, parse_e9(quantity, "quantity"), parse_e9(price, "price"))
    return _adjust(account, Adjust(reason, positions=[row]), config)


@app.command
def fx(
    of: str,
    to: str,
    rate: str,
    /,
    *,
    reason: Reason,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Set an exchange rate: one unit of the first currency is so many of the second; 0 = not known any more.

    Every shard takes it. Example: `wojak adjust fx EUR USDT 1.0833 --reason "fixing of today"`
    """
    loaded = deployment(config)
    body = Adjust(reason, fx=[FxRow(of, to, parse_e9(rate, "rate"))])
    return each(loaded, chosen(loaded, shard), lambda where: _done(ask_one(where, body)))


def _adjust(account: str, body: Adjust, config: ConfigPath) -> int:
    loaded = deployment(config)
    return each(loaded, chosen(loaded, None, account), lambda where: _done(ask_one(where, body)))


def _done(reply: ControlReply) -> str:
    return f"{reply.text} · durable at seq {grouped(reply.seq)} · see: wojak accounts"


def accounts(
    *,
    account: Annotated[str, Parameter(help="Only this account.")] = "",
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Show the money of accounts: cash, fees, what contracts paid and got, collateral, exchange rates.

    Cash is what was loaded and adjusted less what SPOT trades paid and fees. Contracts: what their trades paid (-) and
    got (+), which with what their positions would close for is their profit. Exit code 1 if an engine does not answer.

    Example: `wojak accounts --account demo`
    """
    loaded = deployment(config)
    answers = ask(loaded, chosen(loaded, shard, account), ShowMoney())
    marks: dict[tuple[str, str], ShownFx] = {}
    for answer in answers:
        if answer.reply is None:
            say(f"shard {answer.shard}: {answer.why_not}")
            continue
        for found in answer.reply.accounts or []:
            is_here = len(answers) == 1 or answer.shard in chosen(loaded, None, found.account)
            if is_here and account in {"", found.account}:
                for line in account_lines(found):
                    say(line)
        marks |= {(mark.of, mark.to): mark for mark in answer.reply.fx or []}
    for mark in marks.values():
        say(f"1 {mark.of} = {format_e9(mark.rate_e9)} {mark.to}")
    return 0 if all(answer.reply for answer in answers) else 1


def account_lines(found: AccountMoney) -> list[str]:
    """Return the lines of one account."""
    usable = "unknown: an exchange rate is missing" if found.usable_e9 is None else _amount(found.usable_e9)
    lines = [f"{found.account}   usable {usable} {found.currency}".rstrip()]
    lines += [
        f"  {row.currency}: cash {_amount(row.cash_e9)}   fees {_amount(row.fees_e9)}   "
        f"contracts {_amount(row.contracts_e9)}"
        for row in found.money
    ]
    lines += [
        f"  {row.asset}: {_amount(row.value_e9)} {row.currency} less {row.haircut_bp} bp = {_amount(row.usable_e9)}"
        for row in found.collateral
    ]
    return lines


def money_line(found: AccountMoney) -> str:
    """Return the money of an account in a line: what is usable, and what each currency has."""
    usable = "unknown, an exchange rate is missing" if found.usable_e9 is None else _amount(found.usable_e9)
    each_currency = "".join(f"   {row.currency} {_amount(row.cash_e9)}" for row in found.money)
    return f"{found.account} usable {usable} {found.currency}{each_currency}"


def _amount(e9: str) -> str:
    return format_e9(int(e9))
