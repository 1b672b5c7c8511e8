"""Parameters: what the gate is told about instruments, accounts, strategies, principals and limits.

They come from files; the engine journals their content whenever its hash changed (DECISIONS 26), so a
decision can be repeated from the journal alone. Amounts in 1e-9, rates in basis points, durations in ns.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from protocol.codes import Code, Scope
from protocol.contract_rows import ContractClass, ContractRow, RestrictionRow, VenueRow, counts_on
from protocol.orders import Name


class ContractKind(IntEnum):
    """How value follows price: LINEAR and SPOT q·p·multiplier; INVERSE q·multiplier/p."""

    LINEAR = 0
    INVERSE = 1
    SPOT = 2


class InstrumentStatus(IntEnum):
    """Whether orders are taken."""

    OPEN = 0
    SUSPENDED = 1


class InstrumentParams(Struct, array_like=True, frozen=True):
    """One instrument.

    Attributes:
        price_step_e9: Immutable unit the engine counts prices in; the tick is a multiple of it.
        quantity_step_e9: Immutable unit the engine counts quantities in; the lot is a multiple of it.
        expiry_ns: UTC nanoseconds; 0 = never.
        taker_fee_bp_e9: Basis points of the value, in 1e-9; negative is a rebate. Likewise maker.
        underlying: Positions of one underlying are limited together; empty = none.
    """

    instrument: Name
    venue: Name
    currency: str
    kind: ContractKind
    price_step_e9: int
    quantity_step_e9: int
    tick_e9: int
    lot_e9: int
    multiplier_e9: int
    quantity_min_e9: int
    quantity_max_e9: int
    collar_bp: int
    tick_age_max_ns: int
    status: InstrumentStatus = InstrumentStatus.OPEN
    expiry_ns: int = 0
    taker_fee_bp_e9: int = 0
    maker_fee_bp_e9: int = 0
    underlying: str = ""
    contract_class: ContractClass = ContractClass.NONE


class AccountParams(Struct, array_like=True, frozen=True):
    """One account.

    Attributes:
        shard: -1 = where the rendezvous hash says (``protocol.shards``).
        disconnect_ns: As of ``ChannelParams``, for this account's orders; -1 = as the source says, 0 = never.
        checks_cash: Premiums, spot purchases and fees have to be covered by cash: CASH_INSUFFICIENT.
        checks_margin: The margin of the worst case has to be covered: MARGIN_ESTIMATE.
        option_write: Options may be sold beyond what is held: PERM_OPTION_WRITE. Likewise short_sell.
        checks_crossing: Its orders may not trade with each other: STP_CROSS.
    """

    account: Name
    currency: str
    shard: int = -1
    disconnect_ns: int = -1
    checks_cash: bool = False
    checks_margin: bool = False
    option_write: bool = True
    short_sell: bool = True
    checks_crossing: bool = False


class StrategyParams(Struct, array_like=True, frozen=True):
    """One strategy; ``ttl_ns`` 0 = orders of it are never TIME_MESSAGE_STALE.

    ``algo_id``: what the exchange registered it under, where a venue needs one. Permissions: as of ``AccountParams``.
    """

    strategy: Name
    ttl_ns: int = 0
    algo_id: str = ""
    option_write: bool = True
    short_sell: bool = True


class PrincipalParams(Struct, array_like=True, frozen=True):
    """Who may trade what. ``"*"`` stands for all."""

    principal: Name
    accounts: tuple[str, ...]
    strategies: tuple[str, ...]


class ChannelParams(Struct, array_like=True, frozen=True):
    """A message source that may open sessions.

    Attributes:
        principals: It may speak for these; ``"*"`` stands for all.
        disconnect_ns: Open orders that came through it are cancelled once it is away for so long; 0 = never.
        keep_exits: Exits stay then (RISK.md A6).
    """

    source: Name
    principals: tuple[str, ...]
    disconnect_ns: int = 0
    keep_exits: bool = True


class LimitName(IntEnum):
    """Limits of the gate (RISK.md A8). Every scope with a row is checked, the tightest binds."""

    ORDER_VALUE_MAX = 1
    OPEN_VALUE_MAX = 2
    POSITION_MAX = 3
    OPEN_COUNT_MAX = 4
    RATE_COUNT = 5
    QUANTITY_MAX = 6
    DAILY_COUNT_MAX = 7  # orders and replaces accepted in one trading date
    GROSS_MAX = 8  # worst-case exposure in money over all instruments of an account
    NET_MAX = 9  # worst-case delta of an account in one underlying, either side
    UNDERLYING_MAX = 10  # worst-case long or short delta of an account in one underlying, pending orders not netted
    CONCENTRATION_MAX_BP = 11  # exposure in one underlying over GROSS_MAX
    DAILY_LOSS_MAX = 12
    DRAWDOWN_MAX = 13
    DUPLICATE_COUNT = 14  # same economic terms within the window
    INTENT_COUNT = 15  # same strategy, instrument, side within the window, without a fill between
    REJECT_COUNT = 16  # the venue's rejections one after another
    GLOBAL_RATE_COUNT = 17  # of the whole engine
    VENUE_RATE_COUNT = 18  # of one venue
    MESSAGE_RATIO_MAX = 19  # messages a trade, of a trading date
    EXECUTION_COUNT = 20  # fills of a strategy since a person last looked
    MARGIN_USED_MAX_BP = 21
    CHURN_COUNT = 31  # so many fills of a strategy in an instrument within the window, and CHURN_RATIO times their net
    CHURN_RATIO = 32
    REJECT_SHARE_BP = 33  # of the newest REJECT_SHARE_ORDERS orders of a strategy that a venue answered
    REJECT_SHARE_ORDERS = 34
    CLOCK_OFFSET_MAX_US = 36  # of the engine's clock, as the kernel says
    CLOCK_AGE_MAX_MS = 37  # of the sample that says so
    MESSAGE_FLOOR = 35  # below it MESSAGE_RATIO_MAX refuses nothing


WINDOWED: Final = frozenset(
    {
        LimitName.RATE_COUNT,
        LimitName.DUPLICATE_COUNT,
        LimitName.INTENT_COUNT,
        LimitName.GLOBAL_RATE_COUNT,
        LimitName.VENUE_RATE_COUNT,
        LimitName.CHURN_COUNT,
    }
)
"""Limits that hold within any interval of ``window_ns``."""

COUNTED: Final = WINDOWED | {
    LimitName.OPEN_COUNT_MAX,
    LimitName.DAILY_COUNT_MAX,
    LimitName.CONCENTRATION_MAX_BP,
    LimitName.REJECT_COUNT,
    LimitName.MESSAGE_RATIO_MAX,
    LimitName.EXECUTION_COUNT,
    LimitName.MARGIN_USED_MAX_BP,
    LimitName.CHURN_RATIO,
    LimitName.REJECT_SHARE_BP,
    LimitName.REJECT_SHARE_ORDERS,
    LimitName.MESSAGE_FLOOR,
    LimitName.CLOCK_OFFSET_MAX_US,
    LimitName.CLOCK_AGE_MAX_MS,
}
"""Limits whose value is a plain number; the others are in 1e-9."""


class LimitRow(Struct, array_like=True, frozen=True):
    """One limit. ``value`` in 1e-9 for money and quantities, a plain count for counts; as text beyond int64.

    ``window_ns`` belongs to RATE_COUNT: at most ``value`` in any interval of that length (RISK.md A5), with
    ``reserve_exit`` more for exits. ``value_max``: the loosest value an operator may set; None = any.
    ``soft``: above it an order is forwarded, where that route exists (RISK.md A0); None = none. The dates are trading
    dates, as of ``contract_rows``; ``source`` and ``version`` say where the row comes from.
    """

    name: LimitName
    scope: Scope
    key: str
    value: int | str
    window_ns: int = 0
    reserve_exit: int = 0
    value_max: int | str | None = None
    soft: int | str | None = None
    effective_from: int = 0
    effective_to: int = 0
    source: str = ""
    version: str = ""


class LimitChange(Struct, array_like=True, frozen=True):
    """An operator's word on one limit: it stands in the place of the file's row. ``value`` None = no longer."""

    name: LimitName
    scope: Scope
    key: str
    value: int | None
    operator: str
    reason: str
    at_ns: int
    window_ns: int = 0
    reserve_exit: int = 0


class OnDeadline(IntEnum):
    """What happens to a held order that nobody judged in time (RISK.md B1). An exit is always sent (DECISIONS 33)."""

    REJECT = 0
    HOLD = 1  # it waits on, up to ``hold_max_ns``, and is refused then
    PASS = 2  # it goes out, if it is worth ``pass_value_max_e9`` at most


class RiskParams(Struct, array_like=True, frozen=True):
    """Where breaches go that are not just refused.

    Attributes:
        forward: Codes of the checks that the risk service judges.
        deadline_ns: An order is held so long; an exit ``exit_hold_ns``.
        held_max: Held orders of one account.
        away_ns: An engine that just started waits so long for a service, before it counts as away.
        on_deadline: By code; the strictest of an order's codes counts, REJECT where there is no row.
        pass_value_max_e9: Orders of at most this value may PASS.
        halt: Codes of the checks whose breach also halts the scope of their limit.
        sandbox: Codes of the checks whose breach makes an order paper.
    """

    forward: tuple[Code, ...]
    deadline_ns: int = 250_000_000
    exit_hold_ns: int = 2_000_000_000
    hold_max_ns: int = 30_000_000_000
    held_max: int = 8
    away_ns: int = 2_000_000_000
    on_deadline: tuple[tuple[Code, OnDeadline], ...] = ()
    pass_value_max_e9: int = 0
    halt: tuple[Code, ...] = ()
    sandbox: tuple[Code, ...] = ()


class RowsApplied(Struct, array_like=True, frozen=True):
    """Who put the rows of a file in the place of the running ones, why, and which file it was."""

    operator: str
    reason: str
    file: str
    at_ns: int


class Params(Struct, array_like=True, frozen=True):
    """Everything the gate is told.

    ``shards``: among so many engines the accounts are divided. ``changes``: what operators set while the engine ran
    (``engine.limit_changes``); never from a file. ``risk``: None = every breach is refused here.
    """

    instruments: tuple[InstrumentParams, ...]
    accounts: tuple[AccountParams, ...]
    strategies: tuple[StrategyParams, ...]
    principals: tuple[PrincipalParams, ...]
    channels: tuple[ChannelParams, ...]
    limits: tuple[LimitRow, ...]
    order_age_max_ns: int
    skew_max_ns: int
    send_age_max_ns: int
    exit_slots: int = 5
    venue_wait_ns: int = 5_000_000_000
    shards: int = 1
    changes: tuple[LimitChange, ...] = ()
    contracts: tuple[ContractRow, ...] = ()
    venues: tuple[VenueRow, ...] = ()
    restrictions: tuple[RestrictionRow, ...] = ()
    risk: RiskParams | None = None

    @property
    def is_dated(self) -> bool:
        """Whether another trading date may mean other rows (RISK.md A7.14)."""
        dates = [(row.effective_from, row.effective_to) for row in self.limits]
        dates += [(row.effective_from, row.effective_to) for row in self.contracts]
        dates += [(row.effective_from, row.effective_to) for row in self.restrictions]
        return bool(self.venues) or any(map(any, dates))

    def limits_on(self, trading_date: int) -> tuple[LimitRow, ...]:
        """Return the rows in force on a trading date: an operator's in the place of the file's, its soft value kept."""
        rows = [row for row in self.limits if counts_on(row.effective_from, row.effective_to, trading_date)]
        if not self.changes:
            return tuple(rows)
        changed = {(c.name, c.scope, c.key) for c in self.changes}
        soft = {(r.name, r.scope, r.key): r.soft for r in rows if r.soft is not None}
        rows = [row for row in rows if (row.name, row.scope, row.key) not in changed]
        for c in self.changes:
            assert c.value is not None
            kept = soft.get((c.name, c.scope, c.key))
            rows.append(LimitRow(c.name, c.scope, c.key, c.value, c.window_ns, c.reserve_exit, None, kept))
        return tuple(rows)


_encoder = msgspec.msgpack.Encoder()
params_decoder: msgspec.msgpack.Decoder[Params] = msgspec.msgpack.Decoder(Params)


def encode_params(params: Params) -> bytes:
    """Return the canonical bytes of the parameters."""
    return _encoder.encode(params)


def params_hash(content: bytes) -> bytes:
    """Return the 16-byte hash that tells whether parameters changed."""
    return blake2b(content, digest_size=16).digest()
