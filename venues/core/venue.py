"""The venue contract: what the gateway loop asks of whatever executes orders.

    venue.wake(now_ns)       what happened on its own: ticks applied, passive fills
    venue.execute(commands)  act on new commands, in order
    note()                   what the venue wants in the log beside them
    -- the gateway logs all of it, syncs once, and only then tells anyone --

On a start the same log comes back: ``restore(checkpoint state)``, then ``replay`` of each batch after it.

Rule: a report is numbered by the venue from ``report_seq`` + 1 without gaps, and a venue forgets nothing that an
unsent report says. ``execute`` has no effect outside this process: one that talks to a venue over a wire needs its
commands synced before it is called, which the loop does not do yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from protocol.channels import Channel
from protocol.codes import Code, GatewayKind
from protocol.statement import StatedFill, StatedOrder, StatedPosition
from protocol.venue import Capabilities, Report, VenueCommand


class VenueStatement(NamedTuple):
    """What a venue has; ``positions`` None = it knows none. See ``protocol.statement`` for the rest."""

    orders: list[StatedOrder]
    fills: list[StatedFill]
    positions: list[StatedPosition] | None
    whole_positions: bool = False


class Venue(Protocol):
    """One venue behind one gateway."""

    @property
    def kind(self) -> GatewayKind:
        """What orders reach: a simulation or money."""

    @property
    def capabilities(self) -> Capabilities:
        """What the engine may ask for."""

    @property
    def open_count(self) -> int:
        """Orders that still work."""

    def channels(self) -> Sequence[Channel]:
        """Return what the loop watches to know when to ``wake``."""

    def wake(self, now_ns: int) -> list[Report]:
        """Take what came in by itself, a bounded part of it; never blocks."""

    def wait_max_ms(self) -> int:
        """Return after how long the loop must ``wake`` it though no channel has anything."""

    def execute(self, commands: Sequence[VenueCommand], now_ns: int) -> list[Report]:
        """Act on commands that were never seen before, in order."""

    def cancel_all(self, code: Code) -> list[Report]:
        """Cancel every open order on the gateway's own account."""

    def set_killed(self, *, is_killed: bool) -> None:
        """Refuse new orders from here on, or take them again."""

    def amend_trade(self, trade_id: str, quantity_e9: int, price_e9: int) -> list[Report] | str:
        """Take a trade back (quantity 0) or correct it, and return its report, or why it can't be done.

        A simulation's own business: a real venue does this by itself, and its gateway refuses.
        """

    def note(self) -> bytes:
        """Return and forget what belongs in the log beside the batch made since the last call."""

    def state(self) -> bytes:
        """Return what a checkpoint keeps of the venue."""

    def restore(self, state: bytes, report_seq: int, reports: Sequence[Report]) -> None:
        """Start from a checkpoint.

        Args:
            state: What ``state`` returned then.
            report_seq: The last report numbered before it.
            reports: Those that the engine did not hold durably then; their orders must be answered for.
        """

    def replay(self, commands: Sequence[VenueCommand], reports: Sequence[Report], note: bytes) -> None:
        """Repeat what a logged batch says happened, without acting."""

    def statement(self) -> VenueStatement | None:
        """Return what the venue has now, as of the last report it gave; None = it can't say it yet, ask again.

        Asked only of a venue whose capabilities say ``statement``, between batches: all that was executed is logged.
        """

    def facts(self) -> dict[str, int]:
        """Return counts for status and metrics."""

    def close(self) -> None:
        """Let go of sockets."""
