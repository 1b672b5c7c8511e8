"""A held order's hold, and what is known of the risk service: what the engine keeps while it asks."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from protocol.codes import Code
from protocol.params import RiskParams

ENDS_MAX: Final = 4096
"""Holds that are over and remembered, so that a repeated delivery hears how its hold ended."""


class HoldEnd(NamedTuple):
    """How a hold ended. ``is_late``: an answer came after it, and was recorded; a second one is not."""

    code: Code
    is_sent: bool
    is_late: bool = False


class Hold:
    """Why an order waits and until when.

    ``codes``: what would have refused it. ``asked``: how often the service was to judge it anew. ``is_extended``: it
    waits for longer than its deadline already.
    """

    __slots__ = ("allows_trim", "asked", "codes", "deadline_ns", "held_ns", "is_extended", "order_id")

    def __init__(self, order_id: str, codes: tuple[Code, ...], held_ns: int, deadline_ns: int) -> None:
        self.order_id = order_id
        self.codes = codes
        self.held_ns = held_ns
        self.deadline_ns = deadline_ns
        self.asked = 1
        self.is_extended = False
        self.allows_trim = False


class RiskState:
    """Held orders by id, how the newest holds ended, and the risk service as the journal knows it.

    ``forwards``: breaches that the service judges, ``halts``: those that halt, ``sandboxes``: those that make
    an order paper, ``routed``: of whom others than the gate decide; all from the parameters.
    ``changed_ns``: when the service may have begun to be away; 0 = it is.
    """

    __slots__ = (
        "changed_ns", "ends", "forwards", "halts", "holds", "instance_epoch", "ready", "routed", "sandboxes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.forwards: frozenset[Code] = frozenset()
        self.halts: frozenset[Code] = frozenset()
        self.sandboxes: frozenset[Code] = frozenset()
        self.routed: frozenset[Code] = frozenset()
        self.holds: dict[str, Hold] = {}
        self.ends: dict[str, HoldEnd] = {}
        self.ready = False
        self.instance_epoch = 0
        self.changed_ns = 0

    def take_params(self, params: RiskParams | None) -> None:
        """Take where breaches go."""
        self.forwards = frozenset(params.forward) if params is not None else frozenset()
        self.halts = frozenset(params.halt) if params is not None else frozenset()
        self.sandboxes = frozenset(params.sandbox) if params is not None else frozenset()
        self.routed = self.forwards | self.sandboxes

    @property
    def is_used(self) -> bool:
        """Whether anything of this is state: without it hash and snapshot are as before there was any."""
        return bool(self.forwards or self.holds or self.ends or self.instance_epoch)

    def is_away(self, now_ns: int, wait_ns: int) -> bool:
        """Whether nobody answers; an engine that just started waits ``wait_ns`` for a service to come."""
        return not self.ready and now_ns - self.changed_ns >= wait_ns

    def end(self, order_id: str, code: Code, *, is_sent: bool = False) -> None:
        """Let a held order leave; what is reserved for it is the caller's to set. ``code``: how it ended."""
        del self.holds[order_id]
        self.ends[order_id] = HoldEnd(code, is_sent)
        if len(self.ends) > ENDS_MAX:
            del self.ends[next(iter(self.ends))]

    def hashed(self) -> bytes:
        """Return all of it that is state, for its hash; nothing where there never was any."""
        if not self.is_used:
            return b""
        holds = [
            (h.order_id, h.codes, h.held_ns, h.deadline_ns, h.asked, h.is_extended, h.allows_trim)
            for h in self.holds.values()
        ]
        ends = [(order_id, *end) for order_id, end in self.ends.items()]
        return msgspec.msgpack.encode((holds, ends, self.ready, self.instance_epoch, self.changed_ns))
