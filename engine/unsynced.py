"""What a sample of the clock decides and writes (RISK.md A2, TIME_CLOCK_UNSYNCED). Who samples: ``synced``."""

from __future__ import annotations

from typing import Final

from engine.state import State
from protocol.codes import Code, Scope, TradingState
from protocol.records import ClockUnsynced

NS_PER_US: Final = 1_000
NS_PER_MS: Final = 1_000_000


def decide_unsynced(state: State, offset_ns: int, age_ns: int) -> ClockUnsynced | None:
    """Return the record that reduces; None = the newest sample is good and young enough, or all is reduced already.

    Offset 10 ms at most: 10 ms pass, 11 ms do not. Age 60 s at most: 60 s pass.
    """
    bounds = state.watches.clock
    if bounds is None:
        return None
    known = state.halts.get((Scope.GLOBAL, ""))
    if known is not None and known.state >= TradingState.REDUCING:
        return None
    if abs(offset_ns) <= bounds[0] and age_ns <= bounds[1]:
        return None
    return ClockUnsynced(offset_ns, age_ns, *bounds)


def apply_unsynced(state: State, record: ClockUnsynced) -> None:
    """Write that new risk waits for an operator; exits and cancels pass."""
    state.raise_state(Scope.GLOBAL, "", TradingState.REDUCING, unsynced_text(record))


def unsynced_text(record: ClockUnsynced) -> str:
    """Return why, with both values and both limits."""
    return (
        f"{Code.TIME_CLOCK_UNSYNCED.name}: expected a clock at most {record.offset_max_ns // NS_PER_US} us off, by a "
        f"sample of the last {record.age_max_ns // NS_PER_MS} ms, was {record.offset_ns // NS_PER_US} us off, "
        f"{record.age_ns // NS_PER_MS} ms ago"
    )
