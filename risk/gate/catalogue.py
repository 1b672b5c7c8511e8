"""What every check is: its parameters, where its rule comes from, what it does to exits, a worked example.

One row a code. docs/risk.md is written of it, ``wojak limits explain`` finds the rows of a check by it, and a limits
file takes no row that no check here reads. Regulations were read through secondary quotations; *house* = a decision of
this project that no rule asks for, *practice* = what others do.
"""

from __future__ import annotations

from typing import Final

from protocol.codes import Code
from protocol.contract_rows import ContractName as C
from protocol.params import LimitName as L
from risk.gate.described import EXEMPT, NONE, REFUSED, Check
from risk.gate.further_catalogue import BEYOND, FURTHER

PLAIN: Final[dict[Code, Check]] = {
    Code.AUTH_NOT_PERMITTED: Check(
        "principal may not trade this account and strategy through this source", REFUSED,
        "SEC 15c3-5(c)(2)(iii); RTS 6 art. 15(5)", "principal with account demo: demo A, flow R",
        "`principals`, `sources`",
    ),
    Code.WRONG_SHARD: Check(
        "the account belongs to another engine, which the text names", REFUSED, "house: one engine owns an account",
        "account of shard 1 sent to shard 0 R", "`accounts.shard`, else a hash",
    ),
    Code.ACCOUNT_UNKNOWN: Check(
        "account is not configured", REFUSED, "SEC 15c3-5(c)(2)(iii)", "an account that no row names R",
        "`accounts`",
    ),
    Code.STRATEGY_UNKNOWN: Check(
        "strategy is not configured", REFUSED, "RTS 6 art. 15(5)", "a strategy that no row names R", "`strategies`",
    ),
    Code.INSTR_UNKNOWN: Check(
        "instrument is not configured", REFUSED, "practice: NautilusTrader INSTRUMENT_NOT_FOUND",
        "an instrument that no row names R", "`instruments`",
    ),
    Code.ID_CONFLICT: Check(
        "known client_order_id with other content", REFUSED, "SEC 15c3-5(c)(1)(ii)",
        "id1 buys 65 at 100 twice: one order, one answer; id1 then buys 130 R",
    ),
    Code.CANCELLED_BEFORE_ARRIVAL: Check(
        "its cancel came first", REFUSED, "house: cancels may overtake", "cancel of id1, then id1 R",
    ),
    Code.MESSAGE_EXPIRED: Check(
        "made too long ago", REFUSED,
        "house: an id older than the window of duplicates can't be told from a new one",
        "60 s: 60.000000000 s A, 60.000000001 s R", "`engine.order_age_max_ms`",
    ),
    Code.TIME_MESSAGE_STALE: Check(
        "older than its strategy allows", REFUSED, "house; NautilusTrader checks GTD likewise",
        "ttl 2 s: 2.000000000 s A, 2.000000001 s R", "`strategies.ttl_ms`",
    ),
    Code.TIME_MESSAGE_FUTURE: Check(
        "made later than now plus the skew", REFUSED, "RTS 25; SEBI CIR/MRD/DP/09/2012 (clock synchronisation)",
        "skew 1 s: +1 s A, +1.000000001 s R", "`engine.skew_max_ms`",
    ),
    Code.INSTR_NOT_TRADABLE: Check(
        "suspended, or no longer configured", REFUSED, "SEBI; venues", "suspended R", "`instruments.status`",
    ),
    Code.INSTR_EXPIRED: Check(
        "past its expiry", REFUSED, "contract", "expiry 15:30: 15:29:59.999 A, 15:30:00 R",
        "`instruments.expiry_ns`",
    ),
    Code.STATE_HALTED: Check(
        "a scope is halted", "pass an automatic halt, not an operator's", "RTS 6 art. 12 (kill functionality)",
        "halt of account demo: cancel A, order R", "operator, or the engine",
    ),
    Code.STATE_REDUCING: Check(
        "a scope is in reduce-only", EXEMPT, "RTS 6 art. 12; NSE risk-reduction mode",
        "P=-65: BUY 65 A, BUY 130 R, SELL 65 R", "operator, or the engine",
    ),
    Code.TYPE_UNSUPPORTED: Check(
        "a type, time in force, post-only or replace that the venue does not take; MARKET good till cancelled",
        REFUSED, "venues", "stop order at a venue without them R", "what the venue's gateway says",
    ),
    Code.TIME_EXPIRE_PAST: Check(
        "GTD whose `expire_at_ns` is over", REFUSED, "practice: NautilusTrader EXPIRE_TIME_IN_PAST",
        "now + 1 ns A, now R", "the order",
    ),
    Code.PRICE_NOT_POSITIVE: Check(
        "limit or stop price of 0 or less", REFUSED, "practice: NautilusTrader", "0.05 A, 0 R", "the order",
    ),
    Code.PRICE_TICK: Check(
        "price off the tick", REFUSED, "venues; practice: exchange-core INVALID_PRICE_STEP",
        "tick 0.05: 437.65 A, 437.67 R", "`instruments.tick`", contracts=(C.TICK,),
    ),
    Code.PRICE_STOP_SIDE: Check(
        "STOP_LIMIT whose limit its own stop price has passed", REFUSED, "practice: NautilusTrader",
        "BUY stop 100: limit 105 A, limit 99 R", "the order",
    ),
    Code.REF_STALE: Check(
        "no fresh price to check against", "LIMIT exits pass, MARKET exits do not",
        "house; FIA Best Practices 2024 (stale data)", "5 s: reference of 5.000 s A, of 5.001 s R",
        "`instruments.tick_age_max_ms`",
    ),
    Code.PRICE_COLLAR: Check(
        "worse than reference ± collar; the passive side is free", EXEMPT,
        "RTS 6 art. 15(1)(a); SEC 15c3-5(c)(1)(ii); FIA price tolerance",
        "reference 100, 25 %: BUY 125 A, 125.05 R", "`instruments.collar_bp`",
        contracts=(C.COLLAR_BP, C.COLLAR_SOFT_BP),
    ),
    Code.QTY_LOT: Check(
        "off the lot", REFUSED, "venues", "lot 65: 65 A, 100 R", "`instruments.lot`", contracts=(C.LOT,),
    ),
    Code.QTY_MIN: Check(
        "below the contract's least quantity", "an exit of the whole position passes", "practice: NautilusTrader",
        "minimum 65: 65 A, 30 R; SELL 30 of P=30 A", "`instruments.quantity_min`", contracts=(C.QUANTITY_MIN,),
    ),
    Code.QTY_MAX: Check(
        "above the contract's largest quantity, or your own limit", "pass your own limit, not the contract's",
        "RTS 6 art. 15(1)(c)", "650: 650 A, 715 R", "`instruments.quantity_max`", (L.QUANTITY_MAX,),
        (C.QUANTITY_MAX,),
    ),
    Code.MSG_MALFORMED: Check(
        "value of the order leaves int64 in 1e-9", REFUSED, "house: exact integers",
        "value of 9,223,372,036 A, one more R",
    ),
    Code.VALUE_ORDER_MAX: Check(
        "value of one order", EXEMPT, "SEBI CIR/MRD/DP/34/2012; RTS 6 art. 15(1)(b)", "100: 100 A, 100.01 R",
        limits=(L.ORDER_VALUE_MAX,),
    ),
    Code.VALUE_OPEN_MAX: Check(
        "value of all open orders of the account with this one", "pass, and count",
        "SEBI CIR/MRD/DP/09/2012 (cumulative open order value of a client)", "100: 60 + 40 A, 60 + 41 R",
        limits=(L.OPEN_VALUE_MAX,),
    ),
    Code.COUNT_OPEN_MAX: Check(
        "open orders of the account", EXEMPT, "FIA Best Practices 2024", "50: 49 open A, 50 open R",
        limits=(L.OPEN_COUNT_MAX,),
    ),
    Code.REDUCE_ONLY_VIOLATION: Check(
        "reduce-only that could open or flip", NONE, "practice: NautilusTrader",
        "P=10: SELL 10 A, SELL 11 R; with SELL 5 open: SELL 6 R", "the order",
    ),
    Code.POS_LIMIT: Check(
        "worst-case position with all pending orders of its side", EXEMPT,
        "RTS 6 art. 15(2); FIA position limits; SEBI", "650: P=585 BUY 65 A; with BUY 65 open R; P=-780 BUY 65 A",
        limits=(L.POSITION_MAX,),
    ),
    Code.RATE_ACCOUNT: Check(
        "orders of the account in a sliding window", "`reserve_exit` more",
        "SEBI/HO/MIRSD 2025/0000013 (10 a second); RTS 6 art. 15(1)(d)",
        "10 in 1 s: the 11th at 0.999999999 s R, at 1.000000000 s A", limits=(L.RATE_COUNT,),
    ),
    Code.RATE_STRATEGY: Check(
        "likewise of the strategy", "`reserve_exit` more", "RTS 6 art. 15(1)(d)", "as RATE_ACCOUNT",
        limits=(L.RATE_COUNT,),
    ),
}  # fmt: skip
"""The checks of every new order; those of the complete gate: ``further_catalogue``."""

CATALOGUE: Final = {**PLAIN, **FURTHER, **BEYOND}
CHECKED_LIMITS: Final = frozenset(name for check in CATALOGUE.values() for name in check.limits)
CHECKED_CONTRACTS: Final = frozenset(name for check in CATALOGUE.values() for name in check.contracts)
