"""Limits on losses and on used margin: what a mark means for them; ``decide_*`` reads, the rest writes (RISK.md A2).

LOSS_DAILY: the profit since the day began, realised and unrealised, less fees. At 80 % of the limit a person is told,
at the limit the scope is in reduce-only, at one and a half times it is halted; exits pass both. LOSS_DRAWDOWN: the fall
from the highest profit; reduce-only. Both are latched: the first until a person or the next trading date, the second
until a person. MARGIN_UTILISATION: an account that uses too much of its money as margin is in reduce-only until it uses
``LEAVE_BP`` less. Rules: what a limit here raised it alone takes back, and only to what was there before; a person's
word on a scope ends that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from engine.money import Moneys
from engine.state import ENGINE, Halt, State
from protocol.codes import Code, Scope, TradingState
from protocol.marks import LossLevel, LossTrip, Mark, Marked, trip_text
from risk.gate.loss_scopes import Amounts, LossScope, Place
from risk.gate.more import BP, UNLIMITED

PERCENT: Final = 100
ALERT_PERCENT: Final = 80  # RISK.md A2
HALT_PERCENT: Final = 150  # RISK.md A2
LEAVE_BP: Final = 500  # RISK.md A2: above 90 %, leave below 85 %
_STATES: Final = {LossLevel.REDUCING: TradingState.REDUCING, LossLevel.HALTED: TradingState.HALTED_AUTO}


def decide_trips(state: State, marks: list[Mark]) -> list[LossTrip]:
    """Return which limits these marks reach, and which accounts use too much margin now or no longer do."""
    if not state.book.money.is_booked:
        return []
    losses = state.losses
    changes = losses.changes(marks)
    trips = [trip for place in sorted(changes) for trip in _trips(state, losses.scopes[place], changes[place])]
    return [*trips, *_margin_trips(state)]


def _trips(state: State, scope: LossScope, change: Amounts) -> Iterator[LossTrip]:
    money = state.book.money
    if scope.daily_max_e9 < UNLIMITED:
        profit_e9 = scope.profit_e9(money, scope.day, change)
        level = LossLevel.LIFTED if profit_e9 is None else _level(-profit_e9, scope.daily_max_e9)
        if profit_e9 is not None and level > scope.level:
            yield _trip(scope, Code.LOSS_DAILY, level, -profit_e9, scope.daily_max_e9)
    if scope.drawdown_max_e9 < UNLIMITED and not scope.is_drawn:
        profit_e9 = scope.profit_e9(money, scope.start, change)
        if profit_e9 is not None and scope.peak_e9 - profit_e9 >= scope.drawdown_max_e9:
            fall_e9 = scope.peak_e9 - profit_e9
            yield _trip(scope, Code.LOSS_DRAWDOWN, LossLevel.REDUCING, fall_e9, scope.drawdown_max_e9)


def _level(loss_e9: int, most_e9: int) -> LossLevel:
    if loss_e9 * PERCENT >= most_e9 * HALT_PERCENT:
        return LossLevel.HALTED
    if loss_e9 >= most_e9:
        return LossLevel.REDUCING
    return LossLevel.ALERT if loss_e9 * PERCENT >= most_e9 * ALERT_PERCENT else LossLevel.LIFTED


def _trip(scope: LossScope, code: Code, level: LossLevel, value_e9: int, limit_e9: int) -> LossTrip:
    return LossTrip(scope.scope, scope.key, code, level, str(value_e9), str(limit_e9), scope.currency)


def _margin_trips(state: State) -> Iterator[LossTrip]:
    losses = state.losses
    for account, most_bp in losses.margin_max_bp.items():
        used_bp = used_margin_bp(state, account)
        if used_bp is None:
            continue
        is_over = account in losses.margined
        if not is_over and used_bp > most_bp:
            yield LossTrip(
                Scope.ACCOUNT, account, Code.MARGIN_UTILISATION, LossLevel.REDUCING, str(used_bp), str(most_bp)
            )
        elif is_over and used_bp < max(most_bp - LEAVE_BP, 0):
            leave_bp = str(max(most_bp - LEAVE_BP, 0))
            yield LossTrip(Scope.ACCOUNT, account, Code.MARGIN_UTILISATION, LossLevel.LIFTED, str(used_bp), leave_bp)


def used_margin_bp(state: State, account: str) -> int | None:
    """Return the part of its cash and collateral that an account uses, rounded up; without any, more than all of it.

    None where no margin is kept, or an exchange rate is missing.
    """
    known = state.accounts.get(account)
    if known is None or state.further is None:
        return None
    funds_e9 = Moneys(state).usable_e9(known)
    if funds_e9 is None:
        return None
    used_e9 = state.further.margin_e9(account)
    if used_e9 <= 0:
        return 0
    return -(-used_e9 * BP // funds_e9) if funds_e9 > 0 else UNLIMITED


def apply_marked(state: State, record: Marked, now_ns: int) -> None:
    """Write marks, and what they came to."""
    losses = state.losses
    losses.take(record.marks, state.book.money, now_ns)
    for trip in record.trips:
        place = trip.scope, trip.key
        if trip.code is Code.MARGIN_UTILISATION:
            if trip.level is LossLevel.LIFTED:
                losses.margined.pop(trip.key, None)
                _lift(state, place, (Code.MARGIN_UTILISATION,))
                continue
            losses.margined[trip.key] = None
        elif trip.code is Code.LOSS_DRAWDOWN:
            losses.scopes[place].is_drawn = True
        else:
            losses.scopes[place].level = trip.level
        _raise(state, place, trip)


def _raise(state: State, place: Place, trip: LossTrip) -> None:
    trading_state = _STATES.get(trip.level)
    if trading_state is None:
        return
    before = state.halts.get(place)
    state.raise_state(*place, trading_state, trip_text(trip))
    if before is not None and state.halts[place] is not before and not _is_of(before, _OURS):
        state.losses.replaced[place] = int(before.state), before.reason, before.operator


def begin_day(state: State) -> None:
    """Begin a trading date: each scope's profit counts from here, and what LOSS_DAILY stopped goes on."""
    for place, scope in state.losses.scopes.items():
        scope.begin_day()
        _lift(state, place, (Code.LOSS_DAILY,))


def take_word(state: State, scope: Scope, key: str, *, resumes: bool) -> None:
    """Take note that a person set a scope's state; one that resumes has seen the losses: they count from 0."""
    losses = state.losses
    losses.replaced.pop((scope, key), None)
    watched = losses.scopes.get((scope, key))
    if resumes and watched is not None:
        watched.rearm()


_OURS: Final = (Code.LOSS_DAILY, Code.LOSS_DRAWDOWN, Code.MARGIN_UTILISATION)


def _is_of(halt: Halt, codes: Iterable[Code]) -> bool:
    return halt.operator == ENGINE and any(halt.reason.startswith(f"{code.name}:") for code in codes)


def _lift(state: State, place: Place, codes: tuple[Code, ...]) -> None:
    """Take back what these codes raised; to what was there before, or what another limit here still asks for."""
    halt = state.halts.get(place)
    if halt is None or not _is_of(halt, codes):
        return
    losses = state.losses
    del state.halts[place]
    state.set_trading_state(*place, TradingState.ACTIVE)
    before = losses.replaced.pop(place, None)
    if before is not None:
        was = Halt(TradingState(before[0]), before[1], before[2])
        if not was.is_clocks or state.unconfirmed_jump:
            state.halts[place] = was
            state.set_trading_state(*place, was.state)
    scope = losses.scopes.get(place)
    if scope is not None and scope.is_drawn:
        reason = f"{Code.LOSS_DRAWDOWN.name}: nobody has looked since"
        state.raise_state(*place, TradingState.REDUCING, reason)
    elif scope is not None and scope.level > LossLevel.ALERT:
        reason = f"{Code.LOSS_DAILY.name}: nobody has looked since"
        state.raise_state(*place, _STATES[scope.level], reason)
    elif place[0] is Scope.ACCOUNT and place[1] in losses.margined:
        reason = f"{Code.MARGIN_UTILISATION.name}: more than allowed is used"
        state.raise_state(*place, TradingState.REDUCING, reason)
