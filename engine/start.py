"""The start of an engine: lock, recover, take a new epoch, journal parameters and opening positions.

Order of DECISIONS 7. Nothing leaves this process before the START record is durable.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from engine.core import Core
from engine.days import due_roll
from engine.limit_changes import carry_over
from engine.money import opening_faults
from engine.restore import recover_core
from engine.settings import EngineSettings
from journal.direct import DirectDisk, can_write_directly
from journal.disk import Disk
from journal.format import JournalSettings
from journal.lock import FolderLock
from journal.recovery import Recovered
from journal.repair import drop_note, noted_cut
from journal.writer import JournalWriter
from protocol.errors import ConfigError
from protocol.paper import real_name
from protocol.params import encode_params, params_hash
from protocol.records import FORMAT_VERSION, AcceptedCut, Adjusted, ParamsSet, Record, Started
from protocol.session import INSTANCE_BYTES
from protocol.shards import ShardMap
from runtime import failpoints
from runtime.clock import EngineClock, wall_ns
from runtime.sessions import SessionCalendar, utc_date

ORDER_ID_KEY_BYTES: Final = 32
HELD_SHOWN: Final = 3


class FailpointDisk(Disk):
    """A disk that can die between the write of a batch and its sync."""

    def fdatasync(self, fd: int) -> None:
        """Sync, unless this is where a test ends the process."""
        failpoints.hit("engine.after_write")
        super().fdatasync(fd)


class StartedEngine(NamedTuple):
    """What the loop needs of the start.

    ``notes``: limits that are not as the file says, a line each. ``snapshot_seq``: what recovery read is behind it;
    ``warnings``: the snapshots it passed over.
    """

    core: Core
    writer: JournalWriter
    lock: FolderLock
    clock: EngineClock
    recovered: Recovered
    recovery_ns: int
    notes: tuple[str, ...] = ()
    accepted_cut: AcceptedCut | None = None
    snapshot_seq: int = 0
    warnings: tuple[str, ...] = ()


def start(settings: EngineSettings, when_locked: Callable[[], None] | None = None) -> StartedEngine:
    """Lock the journal, bring the core to where it ended, take the next epoch.

    ``when_locked`` is called once no other engine can have the folder, before the recovery.

    Raises:
        JournalLockedError: If another engine has the folder.
        JournalDamagedError, JournalGapError, SnapshotForeignError: If the journal can't be trusted, or a snapshot is
            not of it; nothing was changed.
        ConfigError: If mode, shard or parameters do not fit what the journal holds.
    """
    disk, refused = _disk(settings)
    lock = FolderLock(Path(settings.journal_dir), disk)
    try:
        if when_locked is not None:
            when_locked()
        return _start(settings, disk, lock, refused)
    except BaseException:
        lock.close()  # a start that stops leaves the folder to the next one
        raise


def _disk(settings: EngineSettings) -> tuple[Disk, list[str]]:
    """Return the disk that the settings ask for, and why it is not that one."""
    if os.environ.get(failpoints.ENV_POINT, "").startswith("engine.after_write:"):
        return FailpointDisk(), []
    if not settings.direct_io:
        return Disk(), []
    folder = Path(settings.journal_dir)
    Disk().make_folder(folder)
    if why := can_write_directly(folder):
        return Disk(), [f"engine.direct_io expected a file system that takes it, was one without ({why}): page cache"]
    return DirectDisk(), []


def _start(settings: EngineSettings, disk: Disk, lock: FolderLock, warnings: list[str]) -> StartedEngine:
    folder = Path(settings.journal_dir)
    sizes = JournalSettings(
        segment_bytes=settings.segment_bytes, batch_bytes_max=min(8 << 20, settings.segment_bytes // 2)
    )
    began_ns = time.monotonic_ns()
    restored, recovered = recover_core(folder, settings.dedup_keys_max, sizes, shard=settings.shard, disk=disk)
    core = restored.core
    recovery_ns = time.monotonic_ns() - began_ns
    state = core.state
    if recovered.next_seq > 1 and state.mode is not settings.mode:
        began, asked = state.mode.name.lower(), settings.mode.name.lower()
        raise ConfigError([f"wojak.mode expected {began}, as journal {folder} began, was {asked}"])
    _check_params(core, settings)
    warnings = [*restored.warnings, *warnings]
    if settings.huge_pages and not state.dedup.use_huge_pages():
        warnings.append("engine.huge_pages expected a kernel with transparent huge pages, was one without: small pages")
    writer = JournalWriter(folder, recovered, sizes, wall_ns, disk)
    clock = EngineClock(recovered.now_ns)
    now_ns = clock.read().now_ns
    writer.start(recovered.epoch_max + 1)
    accepted_cut = noted_cut(folder)
    notes = _journal_start(core, writer, settings, recovered, now_ns, accepted_cut)
    writer.commit(now_ns)
    if accepted_cut is not None:
        drop_note(folder, disk)
    for venue in state.venues.values():
        venue.fresh.clear()
    return StartedEngine(
        core, writer, lock, clock, recovered, recovery_ns, tuple(notes), accepted_cut, restored.seq,
        tuple(warnings),
    )  # fmt: skip


def _journal_start(
    core: Core,
    writer: JournalWriter,
    settings: EngineSettings,
    recovered: Recovered,
    now_ns: int,
    accepted_cut: AcceptedCut | None,
) -> list[str]:
    is_new = recovered.next_seq == 1
    calendar = None if settings.session is None else SessionCalendar(settings.session)
    trading_date = core.state.trading_date or (calendar.trading_date(now_ns) if calendar else utc_date(now_ns))
    _append(
        core,
        writer,
        now_ns,
        Started(
            epoch=recovered.epoch_max + 1,
            instance=secrets.token_bytes(INSTANCE_BYTES),
            mode=settings.mode,
            shard=settings.shard,
            trading_date=trading_date,
            format_version=FORMAT_VERSION,
            release=settings.release,
            order_id_key=secrets.token_bytes(ORDER_ID_KEY_BYTES) if is_new else b"",
            accepted_cut=accepted_cut,
            books_money=True,
        ),
    )
    params, notes = carry_over(settings.params, core.state.params)
    content = encode_params(params)
    content_hash = params_hash(content)
    if core.state.params_hash != content_hash:
        _append(core, writer, now_ns, ParamsSet(content, content_hash))
    if calendar is not None:
        rolled = due_roll(core, calendar, now_ns)
        if rolled is not None:
            _append(core, writer, now_ns, rolled)
    if is_new:
        _journal_opening(core, writer, settings, now_ns)
    return notes


def _journal_opening(core: Core, writer: JournalWriter, settings: EngineSettings, now_ns: int) -> None:
    """Load account truth of before: at the journal's first start only (DECISIONS 35)."""
    opening = settings.opening
    for row in opening.positions:
        record = Adjusted(row.account, row.instrument, row.quantity_e9, row.price_e9, "", "", "opening position")
        _append(core, writer, now_ns, record)
    for cash in opening.cash:
        record = Adjusted(cash.account, "", 0, 0, str(cash.cash_e9), cash.currency, "opening cash")
        _append(core, writer, now_ns, record)
    for pledged in core.moneys.decide_opening(opening.collateral, opening.fx):
        _append(core, writer, now_ns, pledged)


def _append(core: Core, writer: JournalWriter, now_ns: int, record: Record) -> None:
    seq = writer.next_seq
    core.apply(seq, now_ns, writer.append(record), record)


def _moved_accounts(core: Core, settings: EngineSettings) -> list[str]:
    """Refuse a map that gives an account with state in this journal to another shard: its state would stay behind."""
    params, state = settings.params, core.state
    if params.shards == 1:
        return []
    shards = ShardMap(params.shards, {a.account: a.shard for a in params.accounts if a.shard >= 0})
    held: dict[str, list[str]] = {}
    for order in state.orders.values():
        held.setdefault(order.account, []).append(f"open order {order.client_order_id}")
    for (account, instrument), ledger in state.book.ledgers.items():
        if ledger.position:
            held.setdefault(account, []).append(f"a position in {instrument}")
    for account, known in state.accounts.items():
        if any(known.cash_e9.values()):
            held.setdefault(account, []).append("cash")
    return [
        f"accounts.shard: account {account} expected shard {settings.shard}, whose journal {settings.journal_dir} "
        f"holds its state ({', '.join(what[:HELD_SHOWN])}{', …' if len(what) > HELD_SHOWN else ''}), "
        f"was shard {shards.shard_of(account)}; give it shard = {settings.shard}, or bring it to nothing there first"
        for account, what in sorted(held.items())
        if shards.shard_of(real_name(account)) != settings.shard
    ]


def _check_params(core: Core, settings: EngineSettings) -> None:
    """Refuse parameters that would change the meaning of recorded numbers, and opening rows of nobody."""
    problems = _moved_accounts(core, settings)
    for row in settings.params.instruments:
        known = core.state.instruments.get(row.instrument)
        if known is None:
            continue
        if known.venue != row.venue:
            problems.append(
                f"instrument {row.instrument}: venue expected {known.venue}, as journaled for ever, was {row.venue}; "
                "give the instrument at another venue another name"
            )
        for name, ours, theirs in (
            ("price_step", known.price_step_e9, row.price_step_e9),
            ("quantity_step", known.quantity_step_e9, row.quantity_step_e9),
        ):
            if ours != theirs:
                problems.append(
                    f"instrument {row.instrument}: {name} expected {ours} e9, as journaled for ever, was {theirs} e9"
                )
    accounts = {a.account for a in settings.params.accounts}
    steps = {i.instrument: i.quantity_step_e9 for i in settings.params.instruments}
    for position in settings.opening.positions:
        step = steps.get(position.instrument, 0)
        if position.account not in accounts or not step or position.quantity_e9 % step:
            problems.append(
                f"opening position {position.account}/{position.instrument} expected a known account and instrument "
                f"and a multiple of its quantity step, was {position.quantity_e9} e9"
            )
    problems += [
        f"opening cash of {cash.account} expected a known account" for cash in settings.opening.cash
        if cash.account not in accounts
    ]  # fmt: skip
    problems += opening_faults(settings.opening.collateral, settings.opening.fx, accounts)
    if problems:
        raise ConfigError(problems)
