"""One line for a person about an outcome: the code, what was expected, what it was, in which scope."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Final

from protocol.codes import Code, OrderType, OutcomeKind, ReferenceSource, Scope, TimeInForce
from protocol.session import Facts, Outcome
from protocol.statement import Difference, DifferenceKind
from protocol.units import format_e9

NS_PER_MS: Final = 1_000_000
KIND_FLAGS: Final = ("post-only", "replaced")


def pack_kind(order_type: int, time_in_force: int, *, post_only: bool = False, replaced: bool = False) -> int:
    """Return what was asked for as one number, for the evidence of TYPE_UNSUPPORTED."""
    return order_type * 100 + time_in_force + 10_000 * post_only + 20_000 * replaced


def unpack_kind(packed: int) -> tuple[str, str, list[str]]:
    """Return the names of order type and time in force, and the flags that are set."""
    types, times = {int(t): t.name for t in OrderType}, {int(t): t.name for t in TimeInForce}
    flags = [flag for n, flag in enumerate(KIND_FLAGS) if packed // 10_000 >> n & 1]
    return types.get(packed % 10_000 // 100, ""), times.get(packed % 100, "") if packed < 40_000 else "", flags


def outcome_text(outcome: Outcome) -> str:
    """Return the text of an outcome; empty for a plain acceptance."""
    if outcome.code is Code.OK:
        return ""
    if outcome.kind is OutcomeKind.ACCEPTED:
        return _ACCEPTED.get(outcome.code, "")
    text = refusal_text(outcome.code, outcome.facts)
    return f"leg {outcome.facts.leg}: {text}" if outcome.facts is not None and outcome.facts.leg else text


def refusal_text(code: Code, facts: Facts | None) -> str:
    """Return ``CODE expected …, was … (scope)`` for a refusal."""
    if code in _PLAIN:
        return f"{code.name} {_PLAIN[code]}"
    if facts is None:
        return code.name
    template = _TEMPLATES.get(code)
    return f"{code.name} {template(facts)}" if template else code.name


def difference_text(d: Difference) -> str:
    """Return one line about how a venue's statement differs, with both sides."""
    where = f"{d.account or 'unknown account'} {d.instrument or 'unknown instrument'}"
    ours, theirs = format_e9(d.ours_e9), format_e9(d.theirs_e9)
    match d.kind:
        case DifferenceKind.UNKNOWN_AT_VENUE:
            what = f"order {d.order_id} works here with {ours} open, the venue does not list it; it is UNKNOWN"
        case DifferenceKind.UNKNOWN_HERE:
            what = f"order {d.order_id} works there with {theirs} open, it was never seen here"
        case DifferenceKind.CLOSED_HERE:
            what = f"order {d.order_id} works there with {theirs} open, it is over here"
        case DifferenceKind.QUANTITY:
            cum = f"filled {format_e9(d.ours_cum_e9)} here, {format_e9(d.theirs_cum_e9)} there"
            what = f"order {d.order_id} has {ours} open here, {theirs} there, {cum}"
        case DifferenceKind.FILL_MISSING:
            what = (
                f"fill {d.trade_id} of order {d.order_id}, {theirs} at {format_e9(d.price_e9)}, was never booked here"
            )
        case _:
            what = f"position is {ours} here, {theirs} there"
    scope = "everything" if d.scope is Scope.GLOBAL else f"{d.scope.name.lower()} {d.key}"
    return f"{d.kind.name} {where}: {what}; {scope} is in reduce-only"


def _scope(facts: Facts) -> str:
    if facts.scope is Scope.GLOBAL:
        return " (all accounts)"
    return f" ({facts.scope.name.lower()} {facts.key})"


def _amount(word: str) -> Callable[[Facts], str]:
    return lambda f: f"expected {word} {format_e9(int(f.expected))}, was {format_e9(int(f.actual))}{_scope(f)}"


def _count(word: str) -> Callable[[Facts], str]:
    return lambda f: f"expected {word} {f.expected}, was {f.actual}{_scope(f)}"


def _age(word: str) -> Callable[[Facts], str]:
    return lambda f: (
        f"expected {word} {int(f.expected) // NS_PER_MS} ms, was {int(f.actual) // NS_PER_MS} ms{_scope(f)}"
    )


_SOURCES: Final = {ReferenceSource.LAST_TRADE: "last trade", ReferenceSource.CROSSED: "price of a crossed book"}


def _collar(facts: Facts) -> str:
    source = _SOURCES.get(facts.reference_source, "mid")
    expected, actual = int(facts.expected), int(facts.actual)
    side = "at most" if actual > expected else "at least"
    return (
        f"expected {side} {format_e9(expected)}, was {format_e9(actual)} (instrument {facts.key}, {source} "
        f"{format_e9(facts.reference_e9)}, {facts.reference_age_ns // NS_PER_MS} ms old)"
    )


def _instant(ns: int | str) -> str:
    return dt.datetime.fromtimestamp(int(ns) // 10**9, dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _side(facts: Facts) -> str:
    return "at most" if int(facts.actual) > int(facts.expected) else "at least"


def _unsupported(facts: Facts) -> str:
    kind, time, flags = unpack_kind(int(facts.actual))
    what = f"{kind} {time}".strip() or "this order"
    more = "".join(f" {flag}" for flag in flags)
    return f"the venue does not take {what}{more}{_scope(facts)}"


_ACCEPTED: Final[dict[Code, str]] = {
    Code.TOMBSTONE: "no order of this id yet; one that comes later will be refused",
}

_PLAIN: Final[dict[Code, str]] = {
    Code.AUTH_NOT_PERMITTED: "the key may not trade this account with this strategy",
    Code.ID_CONFLICT: "client_order_id is already taken by an order with other content; use a new one",
    Code.CANCELLED_BEFORE_ARRIVAL: "a cancel of this client_order_id came first",
    Code.ORDER_TERMINAL: "the order is already finished",
    Code.INTERNAL: "the engine failed on this command, which had no effect; operators were alarmed and its account, "
    "where known, was put into reduce-only; an earlier command of the same id stands",
    Code.ORDER_UNKNOWN: "no order of this id works here",
    Code.ORDER_IN_DOUBT: "the venue has not said whether it has the order; wait for its answer, or cancel",
    Code.CANCEL_PENDING: "a cancel of the order is on its way",
    Code.REPLACE_PENDING: "another replace of the order is not answered yet",
    Code.POST_ONLY: "the order would have taken from the book, and was to add to it only",
    Code.CANCELS_UNRELATED: "an exit replaces orders of its own account, instrument and side only",
    Code.ORDER_SUSPENDED: "the order waits for others to end and has no terms at a venue yet; cancel it instead",
    Code.ORDER_HELD: "the order waits for the risk service and has no terms at a venue yet; cancel it instead",
    Code.PAPER_KEY: (
        "account, strategy and instrument have a paper position or order: single orders of them are paper until it is "
        "flat, and nothing else of them is taken"
    ),
    Code.PAPER_UNSUPPORTED: "a paper order takes no other terms; cancel it instead",
    Code.RISK_REJECTED: "the risk service refused the order",
    Code.RISK_DEADLINE: "the risk service did not answer in time",
    Code.RISK_TRIMMED: "the risk service let fewer lots go than were asked for",
    Code.RISK_DECISION_LATE: "the risk service answered when the order had left already",
    Code.RISK_TRIM_REFUSED: "the risk service would take fewer lots, and the order does not allow that",
    Code.RISK_DECISION_STALE: "the risk service's approval was too old, twice",
    Code.HELD_CANCELLED: "the order was cancelled while it waited for the risk service",
    Code.RISK_UNAVAILABLE: "the order needs the risk service, which does not answer",
    Code.INSTR_NOT_TRADABLE: "the instrument is suspended",
    Code.DAY_OVER: "its session is over; a DAY order works for one trading day",
    Code.OCO_LEGS: (
        "an OCO group is a LIMIT order and, at a stop price behind it, a STOP or STOP_LIMIT order; both may rest, and "
        "are of one strategy, instrument and side"
    ),
    Code.OCO_FILLED: "the other order of its OCO group filled",
    Code.OCO_TRIGGERED: "the stop price of the other order of its OCO group was reached",
    Code.EXIT_STALE: "the position shrank outside its exits, and this one is of more than is left",
    Code.NOTHING_LEFT: "the position was closed before the exit could go out",
    Code.VENUE_DOWN: "the venue is not connected; try again later",
    Code.MARGIN_AT_EXPIRY: "the funds bear its margin today, not on the day its contract expires",
    Code.RISK_IMPROVES: "a limit is exceeded, and the order makes nothing worse",
    Code.REDUCE_ONLY_VIOLATION: "expected an order that only reduces the position, was one that could open or flip it",
}

_TEMPLATES: Final[dict[Code, Callable[[Facts], str]]] = {
    Code.WRONG_SHARD: lambda f: f"account {f.key} belongs to shard {f.expected}, this is shard {f.actual}",
    Code.ACCOUNT_UNKNOWN: lambda f: f"expected a known account, was {f.key!r}",
    Code.STRATEGY_UNKNOWN: lambda f: f"expected a known strategy, was {f.key!r}",
    Code.INSTR_UNKNOWN: lambda f: f"expected a known instrument, was {f.key!r}",
    Code.MESSAGE_EXPIRED: _age("an order at most this old:"),
    Code.TIME_MESSAGE_STALE: _age("an order at most this old:"),
    Code.TIME_MESSAGE_FUTURE: _age("created_at_ns at most this far ahead:"),
    Code.STATE_HALTED: lambda f: f"trading is halted{_scope(f)}; an operator lifts it: wojak resume",
    Code.STATE_REDUCING: lambda f: f"only orders that reduce the position are taken{_scope(f)}",
    Code.INSTR_EXPIRED: lambda f: f"the contract has expired{_scope(f)}",
    Code.PRICE_NOT_POSITIVE: _amount("a price above"),
    Code.PRICE_TICK: _amount("a multiple of tick"),
    Code.PRICE_COLLAR: _collar,
    Code.REF_STALE: lambda f: f"expected a price at most {int(f.expected) // NS_PER_MS} ms old, was none{_scope(f)}",
    Code.TYPE_UNSUPPORTED: _unsupported,
    Code.PRICE_STOP_SIDE: _amount("a limit no better than the stop price"),
    Code.TIME_EXPIRE_PAST: lambda f: f"expected expire_at_ns after {f.expected}, was {f.actual}",
    Code.QTY_BELOW_FILLED: _amount("a quantity of at least what has filled:"),
    Code.QTY_LOT: _amount("a multiple of lot"),
    Code.QTY_MIN: _amount("at least"),
    Code.QTY_MAX: _amount("at most"),
    Code.VALUE_ORDER_MAX: _amount("an order value of at most"),
    Code.VALUE_OPEN_MAX: _amount("an open order value of at most"),
    Code.COUNT_OPEN_MAX: _count("open orders of at most"),
    Code.RATE_STRATEGY: _count("orders per window of at most"),
    Code.RATE_ACCOUNT: _count("orders per window of at most"),
    Code.REF_SUSPECT: lambda f: f"the best bid is not below the best ask, so no price can be trusted{_scope(f)}",
    Code.TIME_CLOCK_UNSYNCED: _count("microseconds that the clock is off of at most"),
    Code.RATIO_OTR: _count("messages of today for its trades of at most"),
    Code.PAPER_OPEN_MAX: _count("open paper orders in all of at most"),
    Code.RISK_PENDING_MAX: _count("orders of an account that wait for the risk service of at most"),
    Code.POS_LIMIT: _amount("a worst-case position of at most"),
    Code.ALGO_ID_MISSING: lambda f: f"the venue needs the registered algo_id of each strategy, was none{_scope(f)}",
    Code.SESSION_CLOSED: lambda f: (
        f"expected an order {'from' if int(f.actual) < int(f.expected) else 'before'} {_instant(f.expected)}, the "
        f"venue's hours, was at {_instant(f.actual)}{_scope(f)}"
    ),
    Code.INSTR_RESTRICTED: lambda f: f"it is on a restricted list{_scope(f)}",
    Code.INSTR_BAN_REDUCE_ONLY: lambda f: f"its underlying is on the ban list: only exits are taken{_scope(f)}",
    Code.INSTR_EXPIRY_CUTOFF: lambda f: (
        f"expected new risk on this side before {_instant(f.expected)}, for its expiry is near, was at "
        f"{_instant(f.actual)}{_scope(f)}"
    ),
    Code.PERM_OPTION_WRITE: _amount("no permission to write options: a sale of at most what is held,"),
    Code.PERM_SHORT_SELL: _amount("no permission to sell short: a sale of at most what is held,"),
    Code.PRICE_BAND: lambda f: (
        f"expected {_side(f)} {format_e9(int(f.expected))}, the day's price band, was "
        f"{format_e9(int(f.actual))}{_scope(f)}"
    ),
    Code.PRICE_LPP: _collar,
    Code.QTY_FREEZE: _amount("at most the freeze quantity"),
    Code.VALUE_ORDER_MIN: _amount("an order value of at least"),
    Code.COUNT_DAILY_MAX: _count("accepted orders today of at most"),
    Code.DUP_ECONOMIC: _count("orders of the same terms within the window of at most"),
    Code.LOOP_INTENT: lambda f: (
        f"expected fewer than {f.expected} orders on one side of an instrument without a fill, was {f.actual}; the "
        f"strategy is halted{_scope(f)}; an operator lifts it: wojak resume"
    ),
    Code.LOOP_EXECUTIONS: _count("fills before a person resumes the strategy of fewer than"),
    Code.STP_CROSS: _amount("no price that meets an own open order of the other side, which is at"),
    Code.ERR_BUDGET: _count("orders refused by the venue one after another of fewer than"),
    Code.POS_UNDERLYING: _amount("a worst-case delta on one side of the underlying of at most"),
    Code.LOOP_CHURN: _count("fills that trade little more than they change of fewer than"),
    Code.EXPO_GROSS: _amount("a worst-case exposure of at most"),
    Code.EXPO_NET: _amount("a worst-case net delta in the underlying of at most"),
    Code.CASH_INSUFFICIENT: _amount("cash to be taken of at most"),
    Code.MARGIN_ESTIMATE: _amount("more margin of at most"),
    Code.LOSS_DAILY: _amount("a loss since the day began of less than"),
    Code.LOSS_DRAWDOWN: _amount("a fall from the highest profit of less than"),
    Code.PNL_UNKNOWN: lambda f: (
        "expected a fresh price of every position and each exchange rate, for losses are limited, was without "
        f"{f.actual} of them{_scope(f)}; see the feed, or: wojak adjust"
    ),
    Code.MARGIN_UTILISATION: _count("basis points of the funds used as margin of at most"),
    Code.RATE_GLOBAL: _count("orders per window of at most"),
    Code.RATE_VENUE: _count("orders per window of at most"),
}
