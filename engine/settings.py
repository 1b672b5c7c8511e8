"""What an engine process is told at its start. Made from wojak.toml by the command line."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocol.codes import Mode
from protocol.money import CollateralRow, FxRow
from protocol.params import Params
from runtime.health import HealthSettings
from runtime.sessions import SessionRules

Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]


class OpeningPosition(Struct, frozen=True, forbid_unknown_fields=True):
    """A position held before the journal began; signed, in 1e-9."""

    account: str
    instrument: str
    quantity_e9: int
    price_e9: int


class OpeningCash(Struct, frozen=True, forbid_unknown_fields=True):
    """Cash held before the journal began, in 1e-9 of the currency."""

    account: str
    currency: str
    cash_e9: int


class Opening(Struct, frozen=True, forbid_unknown_fields=True):
    """Account truth at the journal's first start; journaled then, and never read again."""

    positions: tuple[OpeningPosition, ...] = ()
    cash: tuple[OpeningCash, ...] = ()
    collateral: tuple[CollateralRow, ...] = ()
    fx: tuple[FxRow, ...] = ()


class RemoteControl(Struct, frozen=True, forbid_unknown_fields=True):
    """Control over tcp: with CURVE, and for keys of a folder only (``runtime.keys``)."""

    endpoint: str
    key_file: str
    allowed_dir: str


class EngineSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one engine.

    Attributes:
        credits: Items one session may have unanswered; ``reserved_credits`` more for cancels and reduce-only orders.
        batch_max: Items, about, that are decided per batch; one sync per batch.
        dedup_keys_max: Keys the window can hold; when full, new risk gets RETRY.
        huge_pages: Have the table of keys in pages of 2 MiB: faster, and in memory as a whole from the first orders on.
        direct_io: Write the journal past the page cache (``journal.direct``), where the file system takes it.
        disk_reserve_bytes: Free space below which new risk gets RETRY while cancels and exits go on.
        lease_ms: A venue whose gateway has not confirmed the epoch for this long takes no new order.
        venue_window: Commands to one gateway that may be unacknowledged.
        spin_us: Busy-wait this long before blocking; 0 on few cores (MEASURED finding 6).
        session: When trading days end; None = only an operator ends one.
        drain_ms: Time to leave in after SIGTERM.
        risk_endpoint: Where a risk service may say Hello; empty = nowhere.
        health: Where the engine tells how it is.
        remote: Control over tcp; None = over ipc only.
        pnl_age_max_ms: Profit that was valued at an older price is unknown (PNL_UNKNOWN).
    """

    mode: Mode
    shard: NotNegative
    journal_dir: str
    sidecars_endpoint: str
    venues_endpoint: str
    events_endpoint: str
    control_endpoint: str
    risk_endpoint: str = ""
    token_file: str
    table_path: str
    params: Params
    opening: Opening = Opening()
    release: str = "0.1.0"
    credits: Positive = 4096
    reserved_credits: NotNegative = 256
    batch_max: Positive = 1024
    segment_bytes: Positive = 64 << 20
    dedup_keys_max: Positive = 4_000_000
    huge_pages: bool = False
    direct_io: bool = False
    disk_reserve_bytes: NotNegative = 256 << 20
    lease_ms: Positive = 1000
    venue_window: Positive = 8192
    session: SessionRules | None = None
    spin_us: NotNegative = 0
    drain_ms: Positive = 10_000
    health: HealthSettings = HealthSettings()
    remote: RemoteControl | None = None
    pnl_age_max_ms: Positive = 10_000
