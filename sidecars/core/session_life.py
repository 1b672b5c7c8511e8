"""Where the session with an engine is, after which good-bye it begins anew, and how long it waits before it greets."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Protocol

from protocol.codes import ByeReason, Mode
from protocol.session import Outcome
from sidecars.core.lease import NS_PER_MS
from sidecars.core.pending import Entry
from sidecars.core.source import Settlement, Verb, Why

# After these the engine does not know the session (any more): greet again, submit again. FENCED is among them because
# the unit is this instance's own id, which nobody else can own; it comes back under a new one.
GREET_AGAIN: Final = frozenset({ByeReason.SLOW, ByeReason.UNIT_NOT_CLAIMED, ByeReason.FENCED})
BACKOFF_DOUBLINGS_MAX: Final = 5


class State(IntEnum):
    """Where the session is."""

    AWAY = 0  # no session; a Hello is due at ``_hello_due_ns``
    GREETED = 1  # Hello sent
    CLAIMING = 2  # welcomed, what it owns asked for
    OPEN = 3
    REFUSED = 4  # a zombie engine answered: nothing goes to it and nothing of it counts


class Fence(Protocol):
    """Remembers the newest engine (``epochs.EpochFile``)."""

    def require_newest(self, shard: int, epoch: int, instance: bytes) -> None:
        """Raise FencedError for an older one."""


def backoff_ns(hello_ms: int, faults: int, jitter: float) -> int:
    """Return how long to wait after so many faults in a row; ``jitter`` 0 to 1 adds up to a half."""
    wait_ns = (hello_ms * NS_PER_MS) << min(max(0, faults - 1), BACKOFF_DOUBLINGS_MAX)
    return wait_ns + int(wait_ns * jitter / 2)


def settled(
    entry: Entry, verb: Verb, outcome: Outcome, mode: Mode, now_ns: int, durable_after_ns: int = 0
) -> Settlement:
    """End a delivery by the engine's outcome; return how it is settled. ``now_ns`` is monotonic."""
    entry.is_ended = True
    return Settlement(
        entry.delivery, verb, outcome, mode=mode, durable_after_ns=durable_after_ns,
        submitted_mono_ns=entry.submitted_ns, answered_mono_ns=now_ns,
    )  # fmt: skip


def given_up(entry: Entry, verb: Verb, why: Why, mode: Mode) -> Settlement:
    """Return how a delivery without a final outcome ends: as HELD if it waited so, else without an outcome.

    It is given back only if the engine has certainly not taken it.
    """
    if entry.held is not None:
        return settled(entry, Verb.ACCEPT, entry.held, mode, entry.held_ns)
    unknown = entry.in_flight or entry.is_unknown
    return Settlement(entry.delivery, Verb.ABANDON if unknown else verb, why=why, is_unknown=unknown)
