"""The checks of the complete gate, described as ``catalogue`` describes those of the plain one."""

from __future__ import annotations

from typing import Final

from protocol.codes import Code
from protocol.contract_rows import ContractName as C
from protocol.params import LimitName as L
from risk.gate.described import EXEMPT, REFUSED, Check

FURTHER: Final[dict[Code, Check]] = {
    Code.ALGO_ID_MISSING: Check(
        "the venue needs the strategy's registered id, and it has none", REFUSED,
        "SEBI/HO/MIRSD 2025/0000013; NSE/INVG/67858 (a tag on every order of an algorithm)",
        "algo_id set: A, empty: R", "`hours.needs_algo_id`, `strategies.algo_id`",
    ),
    Code.SESSION_CLOSED: Check(
        "outside the venue's hours of the trading date, on its weekends and holidays", REFUSED, "venues",
        "09:15 to 15:30: 09:14:59.999 R, 09:15 A, 15:30 R", "`hours`",
    ),
    Code.INSTR_RESTRICTED: Check(
        "on a restricted list of everybody, an account or a strategy", "pass where the row says so",
        "SEC 15c3-5(c)(2)(ii)", "XY listed: BUY R; XZ: A", "`restrictions`",
    ),
    Code.INSTR_BAN_REDUCE_ONLY: Check(
        "underlying or instrument on the ban list", EXEMPT, "NSE market-wide position limit; SEBI 2025/79",
        "P=500: SELL 500 A, SELL 1000 R, BUY R", "`restrictions`",
    ),
    Code.INSTR_EXPIRY_CUTOFF: Check(
        "new risk on this side so near to expiry", EXEMPT, "practice: brokers' risk systems",
        "30 min before 15:30: 14:59:59 A, 15:00:00 R", contracts=(C.CUTOFF_BUY_NS, C.CUTOFF_SELL_NS),
    ),
    Code.PERM_OPTION_WRITE: Check(
        "a sale of options that could end short, without the permission", "cannot trip it",
        "house; brokers' risk systems", "P=65: SELL 65 A, SELL 130 R",
        "`accounts.option_write`, `strategies.option_write`",
    ),
    Code.PERM_SHORT_SELL: Check(
        "a sale of equity or spot of more than is held, without the permission", "cannot trip it",
        "SEBI; Regulation SHO", "held 10: SELL 10 A, SELL 11 R", "`accounts.short_sell`, `strategies.short_sell`",
    ),
    Code.PRICE_BAND: Check(
        "limit price outside the exchange's range of the day", REFUSED,
        "SEBI CIR/MRD/DP/34/2012; NSE price bands; RTS 6 art. 15(1)(a)", "24,000 ± 10 %: 26400.00 A, 26400.05 R",
        contracts=(C.BAND_LOW, C.BAND_HIGH),
    ),
    Code.PRICE_LPP: Check(
        "LIMIT worse than reference ± the exchange's width; the passive side is free", REFUSED, "NSE/FAOP/54242",
        "options, reference 50.00, width 20: BUY 70.00 A, 70.05 R; 50.05, 40 %: BUY 70.05 A, 70.10 R",
        contracts=(C.LPP_BREAK, C.LPP_ABSOLUTE, C.LPP_BP),
    ),
    Code.REF_SUSPECT: Check(
        "the reference is of a book whose best bid is not below its best ask", EXEMPT, "house; FIA (freak trades)",
        "99 to 100 A, 100 to 100 R, 101 to 100 R", contracts=(C.CHECK_CROSSED,),
    ),
    Code.QTY_FREEZE: Check(
        "more than the exchange takes in one order", REFUSED, "NSE/FAOP/67775 ch. 1.8",
        "1800, lot 65: 1755 A, 1820 R", contracts=(C.FREEZE,),
    ),
    Code.VALUE_ORDER_MIN: Check(
        "value below the venue's least notional", EXEMPT, "venues; defects NautilusTrader 4695 and 4746",
        "5: 5 A, 4.99 R; an exit of 4.99 A", contracts=(C.ORDER_VALUE_MIN,),
    ),
    Code.COUNT_DAILY_MAX: Check(
        "orders and replaces accepted on this trading date", "pass, and count", "practice: vnpy daily_limit_rule",
        "10,000: 9,999 accepted A, 10,000 R", limits=(L.DAILY_COUNT_MAX,),
    ),
    Code.RATIO_OTR: Check(
        "messages a trade of the strategy, account or venue on this trading date, from MESSAGE_FLOOR (500 without a "
        "row) messages on; those priced within OTR_BP or OTR_ABSOLUTE of the last price do not count",
        "pass, and count", "NSE order-to-trade ratio (slabs from 50; futures ±0.75 %, options ±40 % or 20 exempt)",
        "40: 500 messages for 13 trades A, 530 for 13 R", limits=(L.MESSAGE_RATIO_MAX, L.MESSAGE_FLOOR),
        contracts=(C.OTR_BP, C.OTR_ABSOLUTE), route="reject, and put the strategy into reduce-only",
    ),
    Code.DUP_ECONOMIC: Check(
        "same account, strategy, instrument, side, quantity, prices, type again within the window", REFUSED,
        "SEC 15c3-5(c)(1)(ii); practice: vnpy duplicate_order_rule",
        "1 in 500 ms: again after 499.999 ms R, after 500 ms A; one tick off A", limits=(L.DUPLICATE_COUNT,),
    ),
    Code.LOOP_INTENT: Check(
        "so often the same strategy, instrument and side within the window without a fill", "pass, and count",
        "FIA Best Practices 2024 (repeated execution throttle)", "20 in 10 s: the 20th R",
        limits=(L.INTENT_COUNT,), route="reject, and halt the strategy",
    ),
    Code.POS_UNDERLYING: Check(
        "worst-case delta on one side of an underlying", EXEMPT, "SEBI 2025/79, 2025/122",
        "+100 futures, -200 puts at -0.5, limit 200: A; one future more R", limits=(L.UNDERLYING_MAX,),
        contracts=(C.DELTA_BP,),
    ),
    Code.EXPO_GROSS: Check(
        "worst-case exposure of the account in money, if the order adds to it", EXEMPT,
        "SEC 15c3-5(c)(1)(i); RTS 6 art. 15(4)", "100 with 99 taken: 1 more A, 2 more R; 120 taken: 0 more A",
        limits=(L.GROSS_MAX,), contracts=(C.EXPOSURE_LONG, C.EXPOSURE_SHORT),
    ),
    Code.EXPO_NET: Check(
        "worst-case net delta in an underlying, on the side that grows", EXEMPT, "house",
        "100 with +95: 5 more A, 6 more R", limits=(L.NET_MAX,), contracts=(C.DELTA_BP,),
    ),
    Code.CASH_INSUFFICIENT: Check(
        "premium, purchase and fees above free cash", EXEMPT,
        "SEBI 2024/132 (premium upfront); practice: exchange-core RISK_NSF",
        "437.65 × 65 = 28,447.25: cash 28,447.25 A, 28,447.24 R", "`accounts.checks_cash`, `instruments.taker_fee_bp`",
    ),
    Code.MARGIN_ESTIMATE: Check(
        "margin of the worst case above free cash and collateral", EXEMPT, "SEBI 2020/127 (upfront margin)",
        "172,285 needed: 172,285 free A, 172,284 R", "`accounts.checks_margin`",
        contracts=(C.MARGIN_LONG, C.MARGIN_SHORT, C.MARGIN_CALENDAR),
    ),
    Code.PNL_UNKNOWN: Check(
        "an account whose losses are limited has a position without a fresh price, or profit without an exchange rate",
        EXEMPT, "house", "10 s: price of 10 s A, of 10.1 s R; flat A", "`engine.pnl_age_max_ms`",
        limits=(L.DAILY_LOSS_MAX, L.DRAWDOWN_MAX),
    ),
    Code.STP_CROSS: Check(
        "would trade with an open order of the same account; untriggered stop orders are none",
        "pass: the venue decides", "NSE self-trade prevention (by PAN); practice: venues' cancel newest",
        "own SELL at 100: BUY 99.95 A, BUY 100 R, MARKET R", "`accounts.checks_crossing`",
    ),
    Code.RATE_GLOBAL: Check(
        "orders of the whole engine in a sliding window", "`reserve_exit` more", "RTS 6 art. 15(1)(d)",
        "as RATE_ACCOUNT", limits=(L.GLOBAL_RATE_COUNT,),
    ),
    Code.RATE_VENUE: Check(
        "orders to one venue in a sliding window", "`reserve_exit` more",
        "SEBI/HO/MIRSD 2025/0000013 (10 a second and exchange segment); RTS 6 art. 15(1)(d)", "as RATE_ACCOUNT",
        limits=(L.VENUE_RATE_COUNT,),
    ),
}  # fmt: skip

BEYOND: Final[dict[Code, Check]] = {
    Code.TIME_CLOCK_UNSYNCED: Check(
        "new risk while the kernel says that the clock is too far off, or has said nothing good of it for "
        "CLOCK_AGE_MAX_MS (60,000 without a row); orders are `STATE_REDUCING`",
        EXEMPT, "RTS 25 (clock synchronisation)",
        "10,000 us: 10 ms off A, 11 ms off R; a sample of 60 s ago A, of 61 s R",
        limits=(L.CLOCK_OFFSET_MAX_US, L.CLOCK_AGE_MAX_MS), route="put everything into reduce-only",
    ),
    Code.VENUE_DOWN: Check(
        "the venue was away for `engine.venue_wait_ms`", REFUSED, "practice: NautilusTrader STREAM_RECONCILING",
        "away 4.9 s: waits, 5 s: R", "`engine.venue_wait_ms`",
    ),
    Code.LOOP_EXECUTIONS: Check(
        "so many fills of a strategy since a person last resumed it; the next order is `STATE_HALTED`",
        "pass, and count", "RTS 6 art. 15(3) (repeated automated execution throttle)",
        "100: after 99 fills A, after 100 R; resumed A", limits=(L.EXECUTION_COUNT,), route="halt the strategy",
    ),
    Code.LOSS_DAILY: Check(
        "loss since the day began: realised and unrealised, with fees; the next order is `STATE_REDUCING`, from 1.5 "
        "times the limit on `STATE_HALTED`", EXEMPT, "FIA Best Practices 2024; house",
        "50,000: -49,999 A, -50,000 reduce-only, back at -10,000 still; -75,000 halted", limits=(L.DAILY_LOSS_MAX,),
        route="reduce-only, then halt the scope until a person or the next day",
    ),
    Code.LOSS_DRAWDOWN: Check(
        "fall from the highest profit since a person last resumed the scope; the next order is `STATE_REDUCING`",
        EXEMPT, "house", "peak 110, limit 10: 100.01 A, 100 reduce-only", limits=(L.DRAWDOWN_MAX,),
        route="reduce-only until a person",
    ),
    Code.MARGIN_UTILISATION: Check(
        "part of an account's cash and collateral that its worst case needs as margin; the next order is "
        "`STATE_REDUCING`", EXEMPT, "NSE risk-reduction mode (enter 90 %, leave below 85 %)",
        "90 %: 90.0 % used A, 90.1 % reduce-only, 84.9 % A", "`accounts.checks_margin`",
        limits=(L.MARGIN_USED_MAX_BP,), route="reduce-only of the account until 5 % less is used",
    ),
    Code.ERR_BUDGET: Check(
        "so many orders of a strategy refused by a venue one after another, or such a share of its newest "
        "REJECT_SHARE_ORDERS (50 without a row); the next order is `STATE_HALTED`",
        "pass, and count", "house; FIA Best Practices 2024",
        "5: 4 refused, 1 taken, 4 refused A; 5 refused R; 30 % of 50: 14 refused A, 15 R",
        limits=(L.REJECT_COUNT, L.REJECT_SHARE_BP, L.REJECT_SHARE_ORDERS), route="halt the strategy",
    ),
    Code.LOOP_CHURN: Check(
        "so many fills of a strategy in one instrument within the window that come to little: all they traded is more "
        "than CHURN_RATIO (8 without a row) times what they changed; the next order is `STATE_HALTED`",
        "pass, and count", "FIA Best Practices 2024 (repeated execution throttle)",
        "10 in 60 s, 8 times: BUY 1, SELL 1 by turns R at the 10th fill; 10 times BUY 1 A",
        limits=(L.CHURN_COUNT, L.CHURN_RATIO), route="halt the strategy",
    ),
}  # fmt: skip
"""What new orders are refused with, or why their strategy is halted, outside the gate."""
