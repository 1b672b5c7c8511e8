"""Decides what is said: states that begin, go on and end, and events. Pure: time and what was seen come in.

Rules: a state is said once when it has held for its rule's ``for_ms``, again after ``repeat_ms``, and when it is over;
what can't be seen now (its engine does not answer) is neither begun nor ended; at most ``ACTIVE_MAX`` states are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from msgspec import Struct

from cli.alerting.rules import Rule

NS_PER_MS: Final = 1_000_000
ACTIVE_MAX: Final = 1_000
TEXT_CHARS_MAX: Final = 500


class Key(NamedTuple):
    """What a state is of: the rule, who was asked (``engine``, ``engine-1``, ``""``: nobody), the scope."""

    rule: str
    asked: str
    scope: str


class Say(StrEnum):
    """What kind of message it is."""

    FIRING = "firing"
    AGAIN = "again"
    RESOLVED = "resolved"
    EVENT = "event"
    SUPPRESSED = "suppressed"
    TEST = "test"


class Alert(Struct, frozen=True):
    """One thing to say; ``since_ns``: when it began."""

    say: Say
    key: Key
    text: str
    at_ns: int
    since_ns: int


class Fired(Struct):
    """A state that was said."""

    rule: str
    asked: str
    scope: str
    text: str
    since_ns: int
    said_ns: int


class Judge:
    """Keeps what holds and what was said of it; times are UTC ns of one clock."""

    def __init__(self, rules: Mapping[str, Rule], repeat_ms: int, fired: Collection[Fired] = ()) -> None:
        """``fired``: what was said before this process began, and not ended since."""
        self._rules = rules
        self._repeat_ns = repeat_ms * NS_PER_MS
        self._fired = {Key(f.rule, f.asked, f.scope): f for f in fired if f.rule in rules}
        self._since: dict[Key, int] = {}
        self._gone: dict[Key, int] = {}

    @property
    def fired(self) -> list[Fired]:
        """The states that were said and hold."""
        return list(self._fired.values())

    def look(self, holds: Mapping[Key, str], blind: Collection[str], now_ns: int) -> list[Alert]:
        """Return what to say now.

        Args:
            holds: States that hold now, each with a line about it; of other rules than those enabled nothing is said.
            blind: Who was asked and did not answer.
            now_ns: Now.
        """
        alerts: list[Alert] = []
        for key, text in holds.items():
            rule = self._rules.get(key.rule)
            if rule is not None:
                alerts += self._held(key, rule, text[:TEXT_CHARS_MAX], now_ns)
        self._since = {key: since for key, since in self._since.items() if key in holds or key.asked in blind}
        for key in [k for k in self._fired if k not in holds and k.asked not in blind]:
            alerts += self._over(key, now_ns)
        return alerts

    def event(self, rule: str, asked: str, text: str, now_ns: int) -> list[Alert]:
        """Return what to say of something that happened."""
        if rule not in self._rules:
            return []
        return [Alert(Say.EVENT, Key(rule, asked, ""), text[:TEXT_CHARS_MAX], now_ns, now_ns)]

    def _held(self, key: Key, rule: Rule, text: str, now_ns: int) -> list[Alert]:
        self._gone.pop(key, None)
        fired = self._fired.get(key)
        if fired is not None:
            fired.text = text
            if not self._repeat_ns or now_ns - fired.said_ns < self._repeat_ns:
                return []
            fired.said_ns = now_ns
            return [Alert(Say.AGAIN, key, text, now_ns, fired.since_ns)]
        since_ns = self._since.setdefault(key, now_ns)
        if now_ns - since_ns < rule.for_ms * NS_PER_MS or len(self._fired) >= ACTIVE_MAX:
            return []
        self._fired[key] = Fired(*key, text, since_ns, now_ns)
        return [Alert(Say.FIRING, key, text, now_ns, since_ns)]

    def _over(self, key: Key, now_ns: int) -> list[Alert]:
        gone_ns = self._gone.setdefault(key, now_ns)
        if now_ns - gone_ns < self._rules[key.rule].for_ms * NS_PER_MS:
            return []
        del self._gone[key]
        fired = self._fired.pop(key)
        return [Alert(Say.RESOLVED, key, fired.text, now_ns, fired.since_ns)]
