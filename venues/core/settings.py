"""What a gateway process is told at its start. Made from wojak.toml by the command line."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocol.orders import Name
from protocol.params import InstrumentParams
from runtime.health import HealthSettings
from runtime.sessions import SessionRules

Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]


class StaticBook(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A constant book per instrument whose liquidity is back at once: benchmarks and demonstrations, no market.

    Attributes:
        mid_e9: Price in the middle of every instrument's book, in 1e-9.
        mid_by_instrument_e9: Where an instrument has another one.
        levels: Levels a side, one tick apart, the best one tick from the middle.
        quantity_e9: Size of each level, in 1e-9.
    """

    mid_e9: Positive
    mid_by_instrument_e9: dict[str, int] = {}
    levels: Annotated[int, Meta(ge=1, le=1000)] = 20
    quantity_e9: Positive = 10**15


class GatewaySettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one gateway.

    Attributes:
        feed_endpoint: The feed's PUB; empty together with ``snapshots_endpoint`` for a static book.
        control_endpoint: The gateway's own kill; ``token_file`` holds what a request must carry.
        session: When the venue's trading days end, so that DAY orders expire; None = they never do.
        cancel_on_engine_loss_ms: Cancel what is open when the engine was not heard for so long; 0 = keep it.
        commands_max: Messages taken from the engine a turn; one sync a turn.
        ticks_max: Ticks applied a turn, so that orders never wait behind a long run of them.
        reports_kept_max: Reports the engine does not hold; at this bound no command is taken until it does.
        segments_kept: Log segments on disk; the newest alone is needed for a start.
        health: Where the gateway tells how it is.
    """

    venue: Name
    gateway: Name
    engine_endpoint: str
    control_endpoint: str
    token_file: str
    log_dir: str
    instruments: tuple[InstrumentParams, ...]
    feed_endpoint: str = ""
    snapshots_endpoint: str = ""
    static_book: StaticBook | None = None
    session: SessionRules | None = None
    cancel_on_engine_loss_ms: NotNegative = 0
    commands_max: Annotated[int, Meta(ge=1, le=1024)] = 1024
    ticks_max: Positive = 64
    reports_kept_max: Positive = 1_000_000
    closed_max: Positive = 100_000
    segment_bytes: Positive = 64 << 20
    segments_kept: Annotated[int, Meta(ge=2)] = 16
    health: HealthSettings = HealthSettings()

    def problems(self) -> list[str]:
        """Return what the types can't say, one line a fault."""
        found = []
        if (self.static_book is None) != bool(self.feed_endpoint):
            found.append("feed_endpoint and static_book: expected exactly one, was both or none")
        if bool(self.feed_endpoint) != bool(self.snapshots_endpoint):
            found.append("snapshots_endpoint: expected beside feed_endpoint, and absent without it")
        if not self.instruments:
            found.append("instruments: expected at least one, was none")
        return found
