"""Workload W (issue text and DECISIONS 49): what every benchmark sends.

1,000 instruments, 100 accounts, both sides; of the commands 80 % are orders that are accepted, 15 % cancels that hit
live orders, 5 % orders refused by the last check (RATE_STRATEGY of a strategy with rate 0). A fixed number of
commands a run; the same seed gives the same commands.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from market.table_writer import TableWriter
from protocol.codes import OrderType, Scope, Side, TimeInForce
from protocol.orders import CancelOrder, Command, NewOrder
from protocol.params import (
    AccountParams,
    ChannelParams,
    ContractKind,
    InstrumentParams,
    LimitName,
    LimitRow,
    Params,
    PrincipalParams,
    StrategyParams,
)
from protocol.units import E9

INSTRUMENTS: Final = 1_000
ACCOUNTS: Final = 100
ACCEPTED_SHARE: Final = 0.80
CANCEL_SHARE: Final = 0.15
SEED: Final = 20_240_808
SOURCE: Final = "bench"
PRINCIPAL: Final = "bench"
STRATEGY: Final = "w"
REFUSED_STRATEGY: Final = "w-zero"
VENUE: Final = "sandbox"
HOUR_NS: Final = 3_600 * E9
PRICE_E9: Final = 60_000 * E9
TICK_E9: Final = E9 // 10
LOT_E9: Final = E9 // 1_000
SUBMIT_TAG: Final = 3

instruments: Final = tuple(f"W{n:03d}USDT" for n in range(INSTRUMENTS))
accounts: Final = tuple(f"account-{n:02d}" for n in range(ACCOUNTS))
_account_numbers: Final = {name: n for n, name in enumerate(accounts)}


def params() -> Params:
    """Return the gate's parameters: every check runs with a real bound, and only the last one refuses."""
    return Params(
        instruments=tuple(
            InstrumentParams(
                name, VENUE, "USDT", ContractKind.LINEAR, TICK_E9, LOT_E9, TICK_E9, LOT_E9, E9, LOT_E9, 1_000 * E9,
                1_000, HOUR_NS, taker_fee_bp_e9=5 * E9, maker_fee_bp_e9=2 * E9,
            )
            for name in instruments
        ),
        accounts=tuple(AccountParams(name, "USDT") for name in accounts),
        strategies=(StrategyParams(STRATEGY, HOUR_NS), StrategyParams(REFUSED_STRATEGY)),
        principals=(PrincipalParams(PRINCIPAL, ("*",), ("*",)),),
        channels=(ChannelParams(SOURCE, ("*",)), ChannelParams("http", ("*",))),
        limits=(
            LimitRow(LimitName.ORDER_VALUE_MAX, Scope.GLOBAL, "", 10_000_000 * E9),
            LimitRow(LimitName.OPEN_VALUE_MAX, Scope.GLOBAL, "", str(10**12 * E9)),
            LimitRow(LimitName.POSITION_MAX, Scope.GLOBAL, "", 1_000_000 * E9),
            LimitRow(LimitName.OPEN_COUNT_MAX, Scope.GLOBAL, "", 10_000_000),
            LimitRow(LimitName.QUANTITY_MAX, Scope.GLOBAL, "", 500 * E9),
            *(LimitRow(LimitName.RATE_COUNT, Scope.ACCOUNT, name, 100_000, E9) for name in accounts),
            LimitRow(LimitName.RATE_COUNT, Scope.STRATEGY, REFUSED_STRATEGY, 0, E9),
            LimitRow(LimitName.RATE_COUNT, Scope.STRATEGY, STRATEGY, 1_000_000, E9),
        ),
        order_age_max_ns=24 * HOUR_NS,
        skew_max_ns=HOUR_NS,
        send_age_max_ns=HOUR_NS,
        venue_wait_ns=30 * E9,
    )  # fmt: skip


def commands(count: int, *, marketable: bool = False, seed: int = SEED) -> list[Command]:
    """Return the commands of one run.

    Args:
        count: How many; 80 % accepted orders, 15 % cancels, 5 % refused.
        marketable: Cross the book, so that every accepted order fills; without cancels, which would find nothing.
        seed: Of the draw.
    """
    draw = random.Random(seed)
    live: deque[tuple[str, str]] = deque()
    made: list[Command] = []
    for n in range(count):
        roll = draw.random()
        client_order_id = f"w-{seed}-{n:08d}"
        account = accounts[draw.randrange(ACCOUNTS)]
        if not marketable and ACCEPTED_SHARE <= roll < ACCEPTED_SHARE + CANCEL_SHARE and len(live) > ACCOUNTS:
            made.append(CancelOrder(*live.popleft()))
            continue
        refused = roll >= ACCEPTED_SHARE + CANCEL_SHARE
        side = Side.BUY if draw.randrange(2) else Side.SELL
        away = draw.randrange(1, 100) * TICK_E9
        passive = PRICE_E9 - away if side is Side.BUY else PRICE_E9 + away
        crossing = PRICE_E9 + away + TICK_E9 if side is Side.BUY else PRICE_E9 - away - TICK_E9
        made.append(
            NewOrder(
                account, client_order_id, REFUSED_STRATEGY if refused else STRATEGY,
                instruments[draw.randrange(INSTRUMENTS)], side, OrderType.LIMIT,
                TimeInForce.IOC if marketable else TimeInForce.GTC, draw.randrange(1, 50) * LOT_E9,
                crossing if marketable else passive,
            )
        )  # fmt: skip
        if not refused:
            live.append((account, client_order_id))
    return made


def lane_of(command: Command, lanes: int) -> int:
    """Return which session sends the command: all of an account go through one, so a cancel follows its order."""
    return _account_numbers[command.account] % lanes


class ItemEncoder:
    """Encodes Submit messages of one session."""

    def __init__(self, unit: str, unit_epoch: int) -> None:
        self._unit = unit
        self._unit_epoch = unit_epoch
        self._next_seq = 0
        self._encode = msgspec.msgpack.Encoder().encode

    def submit(self, commands: Sequence[bytes], created_at_ns: int) -> bytes:
        """Return the Submit of some encoded commands, with the next numbers of the session."""
        seq = self._next_seq
        self._next_seq = seq + len(commands)
        # The wire form of session.Submit, spelled out: structs of a million items would be slow to build.
        items = [
            (
                n, self._unit, self._unit_epoch, 0, "", PRINCIPAL, n.to_bytes(16, "big"), created_at_ns,
                msgspec.Raw(command),
            )
            for n, command in enumerate(commands, seq)
        ]  # fmt: skip
        return self._encode((SUBMIT_TAG, items))


def write_table(path: Path, now_ns: int) -> None:
    """Make a last-value table in which every instrument of W has a trade and a quote."""
    table = TableWriter.create(path, instruments)
    for name in instruments:
        slot = table.slot(name)
        table.write_quote(slot, PRICE_E9 - TICK_E9, PRICE_E9 + TICK_E9, 100 * E9, 100 * E9, now_ns, now_ns)
        table.write_trade(slot, PRICE_E9, E9, now_ns, now_ns)
    table.close()
