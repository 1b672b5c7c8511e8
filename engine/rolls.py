"""SESSION_ROLL: the trading date moves on, DAY orders expire, old keys leave; ``decide_*`` reads, ``apply_*`` writes.

What a key's retention is (DESIGN 6.4): a key leaves at the second roll after it was taken, trading day + 1; never
while its order is open, and never sooner after the first of the two than half a day, or than a message may be late
(``order_age_max`` + ``skew_max``), however quickly rolls follow each other: who asks again by HTTP is as old as his
request. Ids of orders hold the trading date of acceptance, so a date never comes again.

The roll itself costs what the open orders are; the rest are steps of bounded work, one a turn, each journaled
(docs/decisions/0012).
"""

from __future__ import annotations

from typing import Final

from engine.controls import Controls
from engine.losses import begin_day
from engine.orders import Orders
from engine.state import State
from protocol.codes import Code, TimeInForce
from protocol.records import DayOrdersExpired
from protocol.rolls import KeysRetired, SessionRolled

EXPIRED_MAX: Final = 512
"""DAY orders looked at in one step."""
DAY: Final = TimeInForce.DAY
KEPT_MIN_NS: Final = 12 * 3_600 * 1_000_000_000
"""Between two ends of days; an early close leaves more, two rolls by mistake less."""
EARLIER_MAX: Final = 2 * 64
NEVER_SENT: Final = 1 << 62

Step = DayOrdersExpired | KeysRetired


class Rolls:
    """Decides and applies rolls over one State."""

    __slots__ = ("_controls", "_orders", "_state")

    def __init__(self, state: State, orders: Orders, controls: Controls) -> None:
        self._state = state
        self._orders = orders
        self._controls = controls

    def decide_roll(self, to_date: int, operator: str, reason: str, due_ns: int) -> SessionRolled | str:
        """Return the record of a roll, or why it can't be."""
        from_date = self._state.trading_date
        if to_date <= from_date:
            return f"session roll expected a trading date after {from_date}, was {to_date}; a date never comes again"
        return SessionRolled(from_date, to_date, operator, reason, due_ns)

    def apply(self, record: SessionRolled | Step, position: int, now_ns: int) -> None:
        """Write one record of a roll, which stands at ``position``."""
        if isinstance(record, SessionRolled):
            self.apply_roll(record, position, now_ns)
        elif isinstance(record, DayOrdersExpired):
            self.apply_expired(record, now_ns)
        else:
            self.apply_retired(record)

    def apply_roll(self, record: SessionRolled, position: int, now_ns: int) -> None:
        """Write a roll: the date at once, the rest as steps to do."""
        state = self._state
        day, params = state.day, state.params
        assert params is not None
        state.trading_date = record.to_date
        if day.began_ns:
            day.earlier += (day.began_ns, day.position)
            self._choose_retired(now_ns - max(params.order_age_max_ns + params.skew_max_ns, KEPT_MIN_NS))
        day.began_ns = now_ns
        day.position = position
        # TODAY's own orders come behind all of these: a dict keeps the order of acceptance.
        day.expiring.clear()
        day.expiring.extend([o.order_id for o in state.orders.values() if o.time_in_force is DAY])
        day.past_dates = self._orders.dates_of(state.orders)
        state.flow.roll()
        begin_day(state)
        if params.is_dated:
            state.set_params(params, state.params_hash)

    def _choose_retired(self, before_ns: int) -> None:
        """Let go of the keys that were taken before the newest roll that is old enough."""
        day = self._state.day
        for at in range(len(day.earlier) - 2, -1, -2):
            if day.earlier[at] < before_ns:
                day.retire_before = day.earlier[at + 1]
                day.part, day.parts = 0, self._state.dedup.parts
                del day.earlier[: at + 2]
                break
        del day.earlier[EARLIER_MAX:]  # what is dropped is the newest: its keys leave with a later roll

    def decide_step(self, unsent_from: dict[str, int]) -> Step | None:
        """Return the next step of a roll, None when all is done. Each must be applied before the next is asked for.

        ``unsent_from``: per venue, the first number that surely was never sent (a fact of the loop).
        """
        day = self._state.day
        if day.expiring:
            return self._decide_expired(min(EXPIRED_MAX, len(day.expiring)), unsent_from)
        if day.part < day.parts:
            return KeysRetired(day.part, day.parts, day.retire_before)
        return None

    def _decide_expired(self, looked_at: int, unsent_from: dict[str, int]) -> DayOrdersExpired:
        orders, expiring = self._state.orders, self._state.day.expiring
        doomed = []
        for index in range(looked_at):
            order = orders.get(expiring[index])
            if order is not None and not order.cancel_seq:
                doomed.append(order)
        return DayOrdersExpired(looked_at, self._controls.cancels_of(doomed, unsent_from, Code.DAY_OVER))

    def apply_expired(self, record: DayOrdersExpired, now_ns: int) -> None:
        """Write one step: what was at the venue is cancelled there, what was not is over."""
        expiring = self._state.day.expiring
        for _ in range(record.looked_at):
            expiring.popleft()
        self._controls.apply_cancels(record.cancels, now_ns)

    def apply_retired(self, record: KeysRetired) -> None:
        """Write one step: the keys of one part of the table that are over and old leave."""
        day = self._state.day
        self._state.dedup.retire(record.part, record.parts, record.before)
        day.part, day.parts = record.part + 1, record.parts

    def decide_again(self, record: SessionRolled | Step) -> bool:
        """Return whether the recorded decision is what would be decided now."""
        if isinstance(record, SessionRolled):
            decided = self.decide_roll(record.to_date, record.operator, record.reason, record.due_ns)
            return decided == record
        if isinstance(record, KeysRetired):
            return self.decide_step({}) == record
        if not 0 < record.looked_at <= len(self._state.day.expiring):
            return False
        unsent_from: dict[str, int] = {}  # what was never sent was the loop's to know: it stands in the cancels
        for cancel in record.cancels:
            order = self._state.orders.get(cancel.order_id)
            if cancel.voids_seq and order is not None:
                venue = order.route.instrument.venue
                unsent_from[venue] = min(unsent_from.get(venue, NEVER_SENT), cancel.voids_seq)
        return self._decide_expired(record.looked_at, unsent_from) == record
