"""What is counted over time: messages a day, same orders again, intents without a fill, windows, fills, refusals.

This is state: it derives from no order that is still there. Times are those of records, in ns. Everything is bounded by
its window or its limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from protocol.codes import Scope
from risk.gate.rate import RateLog

Signature = tuple[int, int, int, int]
"""Side, order type and time in force as one number; quantity, price, stop price in 1e-9."""
FlowRow = tuple[object, ...]
ALWAYS_NS: Final = 1 << 63
FILLS_MAX: Final = 10_000
"""So many fills of a strategy in an instrument are remembered at most; the window is shorter where there are more."""
ANSWERS_MAX: Final = 10_000
_Rows = Iterable[Any]


def signature(
    side: int, order_type: int, time_in_force: int, quantity_e9: int, price_e9: int, stop_e9: int
) -> Signature:
    """Return the economic terms of an order; account, strategy and instrument are its route's."""
    return (side * 256 + order_type * 16 + time_in_force, quantity_e9, price_e9, stop_e9)


class Tally:
    """A number that only grows within a trading date."""

    __slots__ = ("count",)

    def __init__(self, count: int = 0) -> None:
        self.count = count


class Messages:
    """Messages and trades of one scope on this trading date (RATIO_OTR)."""

    __slots__ = ("sent", "trades")

    def __init__(self) -> None:
        self.sent = 0
        self.trades = 0


class Duplicates:
    """Which orders of one route were accepted within the window: at most ``most`` of the same terms (DUP_ECONOMIC).

    From ``until_ns`` on nothing of it is within the window. There are as many of these as routes, and most remember
    one order at most: only the second one within the window takes a log.
    """

    __slots__ = ("_last", "_log", "_only", "_only_ns", "most", "until_ns", "window_ns")

    def __init__(self, most: int, window_ns: int, log: Iterable[tuple[int, Signature]] = ()) -> None:
        self.most = most
        self.window_ns = window_ns
        self.until_ns = 0 if most > 0 else ALWAYS_NS
        self._only: Signature | None = None
        self._only_ns = 0
        self._log: deque[tuple[int, Signature]] | None = None
        self._last: dict[Signature, list[int]] | None = None  # made with the log
        for at_ns, signature in log:
            self.take(signature, at_ns)

    @property
    def log(self) -> list[tuple[int, Signature]]:
        """What is remembered, oldest first."""
        if self._log is not None:
            return list(self._log)
        return [] if self._only is None else [(self._only_ns, self._only)]

    def is_one_too_many(self, signature: Signature, now_ns: int) -> bool:
        """Whether as many of these terms as are allowed were accepted within the window that ends now."""
        if self.most <= 0:
            return True
        if now_ns >= self.until_ns:
            return False
        if self._last is None:
            return self.most == 1 and self._only is not None and self._only == signature
        times = self._last.get(signature)
        return times is not None and len(times) >= self.most and now_ns - times[0] < self.window_ns

    def take(self, signature: Signature, now_ns: int) -> None:
        """Remember an accepted one, forget what left the window."""
        if now_ns >= self.until_ns:
            self._only, self._only_ns = signature, now_ns
            self._log = self._last = None
        else:
            self._take_second(signature, now_ns)
        if self.most > 0:
            self.until_ns = now_ns + self.window_ns

    def _take_second(self, signature: Signature, now_ns: int) -> None:
        """Remember one more within the window of another."""
        log, last = self._log, self._last
        if log is None or last is None:
            log = self._log = deque()
            last = self._last = {}
            if self._only is not None:
                log.append((self._only_ns, self._only))
                last[self._only] = [self._only_ns]
        while log and now_ns - log[0][0] >= self.window_ns:
            at_ns, known = log.popleft()
            times = last.get(known)
            if times is not None and times[-1] <= at_ns:
                del last[known]
        log.append((now_ns, signature))
        times = last.get(signature)
        if times is None:
            last[signature] = [now_ns]
            return
        times.append(now_ns)
        if len(times) > self.most > 0:
            del times[0]


class Intents:
    """How often one (strategy, instrument, side) was accepted within the window without a fill (LOOP_INTENT).

    ``free``: with fewer in the log one more passes for certain; else ``is_full`` says.
    """

    __slots__ = ("free", "log", "most", "window_ns")

    def __init__(self, most: int, window_ns: int, log: list[int] | None = None) -> None:
        self.most = most
        self.window_ns = window_ns
        self.free = max(0, most - 1)
        # A list, not a deque: there are many of these, most with few times in them, and an empty deque takes 0.7 KB.
        self.log: list[int] = [] if log is None else log

    def is_full(self, now_ns: int) -> bool:
        """Whether one more would be the ``most``-th within the window."""
        log, before = self.log, self.most - 1
        return before <= 0 or (len(log) >= before and now_ns - log[-before] < self.window_ns)

    def take(self, now_ns: int) -> None:
        """Count one."""
        log = self.log
        log.append(now_ns)
        if len(log) > self.most or now_ns - log[0] >= self.window_ns:
            gone = max(0, len(log) - self.most)
            while now_ns - log[gone] >= self.window_ns:
                gone += 1
            del log[:gone]

    def clear(self) -> None:
        """Forget them: one had an effect."""
        self.log.clear()


NO_INTENTS: Final = Intents(1, 0)
"""Of routes where none are counted; never changed."""
NO_INTENTS.free = 1 << 62


class Churn:
    """Fills of one (strategy, instrument) within a window, and what they come to (LOOP_CHURN).

    ``log``: when, and how much, negative = sold, in quantity steps; oldest first. ``traded`` is their sum without
    signs, ``net`` with them.
    """

    __slots__ = ("log", "net", "traded")

    def __init__(self) -> None:
        self.log: deque[tuple[int, int]] = deque()
        self.traded = 0
        self.net = 0

    def take(self, signed: int, now_ns: int) -> None:
        """Count one fill."""
        self.log.append((now_ns, signed))
        self.traded += abs(signed)
        self.net += signed
        if len(self.log) > FILLS_MAX:
            self._drop()

    def forget(self, before_ns: int) -> None:
        """Forget what came at this time or earlier."""
        while self.log and self.log[0][0] <= before_ns:
            self._drop()

    def clear(self) -> None:
        """Forget all of it: a person has looked."""
        self.log.clear()
        self.traded = self.net = 0

    def _drop(self) -> None:
        signed = self.log.popleft()[1]
        self.traded -= abs(signed)
        self.net -= signed


class Answers:
    """What a venue said of the newest orders of a strategy, oldest first: whether it refused each (ERR_BUDGET)."""

    __slots__ = ("log", "refused")

    def __init__(self) -> None:
        self.log: deque[bool] = deque()
        self.refused = 0

    def take(self, is_refused: bool, most: int) -> None:
        """Count one; so many are remembered."""
        self.log.append(is_refused)
        self.refused += is_refused
        self.forget(most)

    def forget(self, most: int) -> None:
        """Forget all but the newest ones."""
        while len(self.log) > most:
            self.refused -= self.log.popleft()

    def clear(self) -> None:
        """Forget all of it: a person has looked."""
        self.log.clear()
        self.refused = 0


class Flow:
    """All counters, by what they are of; made when first asked for."""

    __slots__ = (
        "answers",
        "churns",
        "days",
        "duplicates",
        "executions",
        "intents",
        "last_prices",
        "messages",
        "rates",
        "rejects",
    )

    def __init__(self) -> None:
        self.days: dict[tuple[int, str], Tally] = {}
        self.duplicates: dict[tuple[str, str, str], Duplicates] = {}
        self.intents: dict[tuple[str, str, int], Intents] = {}
        self.rates: dict[tuple[int, str], RateLog] = {}
        self.executions: dict[str, Tally] = {}
        self.rejects: dict[tuple[str, str], Tally] = {}
        self.churns: dict[tuple[str, str], Churn] = {}
        self.answers: dict[tuple[str, str], Answers] = {}
        self.messages: dict[tuple[int, str], Messages] = {}
        self.last_prices: dict[str, Tally] = {}

    def day(self, scope: Scope, key: str) -> Tally:
        """Return what was accepted today of a scope."""
        found = self.days.get((int(scope), key))
        if found is None:
            found = self.days[int(scope), key] = Tally()
        return found

    def duplicates_of(self, key: tuple[str, str, str], most: int, window_ns: int) -> Duplicates:
        """Return the log of one (account, strategy, instrument) under these parameters, with what it remembers."""
        known = self.duplicates.get(key)
        if known is None or (known.most, known.window_ns) != (most, window_ns):
            known = self.duplicates[key] = Duplicates(most, window_ns, () if known is None else known.log)
        return known

    def intents_of(self, key: tuple[str, str, int], most: int, window_ns: int) -> Intents:
        """Return the log of one (strategy, instrument, side) under these parameters, with what it remembers."""
        known = self.intents.get(key)
        if known is None or (known.most, known.window_ns) != (most, window_ns):
            known = self.intents[key] = Intents(most, window_ns, None if known is None else known.log)
        return known

    def rate(self, scope: Scope, key: str, row: tuple[int, int, int]) -> RateLog:
        """Return the log of one scope under (count, window, more for exits), with what it was charged."""
        known = self.rates.get((int(scope), key))
        if known is not None and (known.count, known.window_ns, known.reserve_exit) == row:
            return known
        made = RateLog(*row)
        if known is not None:
            made.remember(known)
        self.rates[int(scope), key] = made
        return made

    def executions_of(self, strategy: str) -> Tally:
        """Return the fills of a strategy since a person last resumed it."""
        return self.executions.setdefault(strategy, Tally())

    def rejects_of(self, strategy: str, venue: str) -> Tally:
        """Return the orders of a strategy that a venue refused since it last took one."""
        return self.rejects.setdefault((strategy, venue), Tally())

    def churn_of(self, strategy: str, instrument: str) -> Churn:
        """Return the newest fills of a strategy in an instrument."""
        return self.churns.setdefault((strategy, instrument), Churn())

    def answers_of(self, strategy: str, venue: str) -> Answers:
        """Return what a venue said of a strategy's newest orders."""
        return self.answers.setdefault((strategy, venue), Answers())

    def messages_of(self, scope: Scope, key: str) -> Messages:
        """Return what a scope sent today, and what came of it."""
        return self.messages.setdefault((int(scope), key), Messages())

    def last_price_of(self, instrument: str) -> Tally:
        """Return the newest price of an instrument, in steps, where messages are counted by it."""
        return self.last_prices.setdefault(instrument, Tally())

    def rearm(self, strategy: str) -> None:
        """Count a strategy's fills and refusals from 0: a person has looked."""
        if strategy in self.executions:
            self.executions[strategy].count = 0
        for (name, _), tally in self.rejects.items():
            if name == strategy:
                tally.count = 0
        for (name, _), churn in self.churns.items():
            if name == strategy:
                churn.clear()
        for (name, _), answers in self.answers.items():
            if name == strategy:
                answers.clear()

    def roll(self) -> None:
        """Begin a trading date: what is counted by the day starts at 0."""
        for tally in self.days.values():
            tally.count = 0
        for messages in self.messages.values():
            messages.sent = messages.trades = 0

    def row(self) -> FlowRow:
        """Return everything that is not empty, in canonical order: for the state's hash and the snapshot.

        Fills and refusals only if there are any: without them the row is what it was before they were counted. So with
        the newest of them.
        """
        executions = [(key, tally.count) for key, tally in sorted(self.executions.items()) if tally.count]
        rejects = [(*key, tally.count) for key, tally in sorted(self.rejects.items()) if tally.count]
        churns = [(*key, list(churn.log)) for key, churn in sorted(self.churns.items()) if churn.log]
        answers = [(*key, list(each.log)) for key, each in sorted(self.answers.items()) if each.log]
        messages = [(*key, m.sent, m.trades) for key, m in sorted(self.messages.items()) if m.sent or m.trades]
        prices = [(key, price.count) for key, price in sorted(self.last_prices.items()) if price.count]
        more: list[object] = []
        for group in ((messages, prices), (churns, answers), (executions, rejects)):
            if more or any(group):
                more = [*group, *more]
        return (
            [(*key, tally.count) for key, tally in sorted(self.days.items()) if tally.count],
            [(*key, d.most, d.window_ns, list(d.log)) for key, d in sorted(self.duplicates.items()) if d.log],
            [(*key, i.most, i.window_ns, list(i.log)) for key, i in sorted(self.intents.items()) if i.log],
            [
                (*key, log.count, log.window_ns, log.reserve_exit, list(log.times))
                for key, log in sorted(self.rates.items())
                if log.times
            ],
            *more,
        )

    def load(self, days: _Rows, duplicates: _Rows, intents: _Rows, rates: _Rows, *since: _Rows) -> None:
        """Take what ``row`` returned. Counters that others hold already are filled, not replaced."""
        for scope, key, count in days:
            self.day(Scope(scope), key).count = count
        for account, strategy, instrument, most, window_ns, log in duplicates:
            found = self.duplicates_of((account, strategy, instrument), most, window_ns)
            for at_ns, signature in log:
                found.take(tuple(signature), at_ns)
        for strategy, instrument, side, most, window_ns, log in intents:
            self.intents_of((strategy, instrument, side), most, window_ns).log.extend(log)
        for scope, key, count, window_ns, reserve_exit, times in rates:
            self.rate(Scope(scope), key, (count, window_ns, reserve_exit)).times.extend(times)
        if since:
            self._load_tallies(*since[:2])
        if len(since) > 2:
            self._load_newest(*since[2:4])
        if len(since) > 4:
            self._load_messages(*since[4:6])

    def _load_tallies(self, executions: _Rows, rejects: _Rows) -> None:
        for strategy, count in executions:
            self.executions_of(strategy).count = count
        for strategy, venue, count in rejects:
            self.rejects_of(strategy, venue).count = count

    def _load_newest(self, churns: _Rows, answers: _Rows) -> None:
        for strategy, instrument, log in churns:
            for at_ns, signed in log:
                self.churn_of(strategy, instrument).take(signed, at_ns)
        for strategy, venue, log in answers:
            for is_refused in log:
                self.answers_of(strategy, venue).take(is_refused, ANSWERS_MAX)

    def _load_messages(self, messages: _Rows, prices: _Rows) -> None:
        for scope, key, sent, trades in messages:
            counted = self.messages_of(Scope(scope), key)
            counted.sent, counted.trades = sent, trades
        for instrument, price in prices:
            self.last_price_of(instrument).count = price

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted."""
        return not any(self.row())
