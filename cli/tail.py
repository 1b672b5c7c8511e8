"""``wojak journal repair-tail`` and ``wojak engine recover``: what is behind the journal's last whole frame.

Rule: both take the engine's own lock, show before they change, and change nothing unless told to.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cli.books_rows import stores_of
from cli.configuration import Loaded
from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.shards import Shard, one
from cli.view import grouped
from cli.witnesses import BOOKS_STORE, books_held
from journal import repair
from journal.format import JournalSettings, segment_path
from journal.holders import Held
from journal.lock import FolderLock
from journal.recovery import Tail, look_at_tail
from journal.recovery import lost as seen_past
from journal.times import format_s
from protocol.errors import ConfigError
from protocol.records import AcceptedCut
from runtime.clock import wall_ns

app = App(name="engine", help="What an operator does to an engine, stopped or running.")
app.command("cli.engine_check:check", name="check")
BATCH_BYTES_MAX = 8 << 20
BOOKS_HOLDER = "books"


def repair_tail(
    *,
    yes: Annotated[bool, Parameter(negative="", help="Cut it. Without this nothing is changed.")] = False,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Show what is torn at the journal's end, and cut it with --yes, as a start of the engine would.

    Refused while an engine runs, when any reader has seen records behind the cut, and for damage that is no torn end.
    Exit code 1 if something is torn and was not cut. Example: `wojak journal repair-tail`
    """
    loaded = one(deployment(config), shard)
    folder, also = _journal_of(loaded), _also(loaded)
    lock = FolderLock(folder)
    try:
        tail = look_at_tail(folder, also)
        for line in lines(folder, tail):
            say(line)
        for held in tail.past:
            raise seen_past(folder, tail.end, held)
        if not tail.end.torn:
            say("nothing is torn: there is nothing to repair")
            return 0
        if not yes:
            say("nothing was changed; nobody has seen what would be cut; cut it: wojak journal repair-tail --yes")
            return 1
        recovered = repair.repair_tail(folder, _sizes(loaded), tail, also)
    finally:
        lock.close()
    say(f"cut {grouped(tail.cut_bytes)} bytes; the next record is {grouped(recovered.next_seq)}")
    return 0


@app.command
def recover(
    *,
    accept_cut: Annotated[
        bool, Parameter(negative="", help="Cut also what somebody has seen. Without this nothing is changed.")
    ] = False,
    reason: Annotated[str, Parameter(help="Why, for those who read the journal later; needed with --accept-cut.")] = "",
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Show who has seen records that the journal no longer has, and let it end there with --accept-cut.

    For a start that refuses the journal's end when no copy of it is left: what was answered to clients or sent to a
    venue may be unknown from then on. It goes into the journal with the next start. Exit code 1 if something stands
    in the way and was not accepted. Example: `wojak engine recover --accept-cut --reason "disk lost its cache"`
    """
    loaded = one(deployment(config), shard)
    folder, also = _journal_of(loaded), _also(loaded)
    if accept_cut and not reason.strip():
        raise ConfigError(["--accept-cut expected a --reason, was none"], "options")
    lock = FolderLock(folder)
    try:
        tail = look_at_tail(folder, also)
        for line in lines(folder, tail):
            say(line)
        if not tail.past:
            say("nobody has seen more than the journal has: a start needs no help")
            return 0
        cut = repair.cut_of(tail, reason, _operator(), wall_ns())
        for line in lost(cut):
            say(line)
        if not accept_cut:
            say("nothing was changed; restore the journal from a copy, or accept: --accept-cut --reason …")
            return 1
        recovered = repair.accept_cut(folder, _sizes(loaded), tail, cut, also)
    finally:
        lock.close()
    say(f"accepted: the next record is {grouped(recovered.next_seq)}; the next start journals who accepted it and why")
    if any(name in {BOOKS_HOLDER, BOOKS_STORE} for name, _ in cut.seen):
        file = stores_of(loaded).path
        how = f"remove {file}*, the books writer makes them anew" if file else "wojak books rebuild --yes"
        say(f"the books hold what the journal lacks: {how}")
    return 0


def lines(folder: Path, tail: Tail) -> Iterator[str]:
    """Yield how the journal ends and what is behind that."""
    end, path = tail.end, segment_path(folder, tail.end.segment)
    yield f"the journal ends with record {grouped(end.link.next_seq - 1)} ({path}, offset {end.offset})"
    if end.torn:
        yield f"behind it: {grouped(tail.cut_bytes)} bytes, torn: record {end.link.next_seq} {end.torn}"
        header = repair.torn_header(folder, tail)
        if header is not None:
            last = header.first_seq + header.records - 1
            numbers = f"{grouped(header.first_seq)} to {grouped(last)}"
            yield f"  its header says: records {numbers}, epoch {header.epoch}, {format_s(header.now_ns)}"
    for held in tail.past:
        seen = "can't be asked what it has seen" if held.seq is None else f"has seen to record {grouped(held.seq)}"
        yield f"PAST THE END: {held.name} {seen}"


def lost(cut: AcceptedCut) -> Iterator[str]:
    """Yield what may be lost by accepting a cut."""
    known = max((seq for _, seq in cut.seen), default=-1)
    if known > cut.last_seq:
        yield f"may be lost: records {grouped(cut.last_seq + 1)} to {grouped(known)} at least, that is"
    else:
        yield f"may be lost: records from {grouped(cut.last_seq + 1)} on, nobody can say how many, that is"
    yield "  orders that clients were told are accepted, cancels, fills of the venue, and what operators set"
    yield "  a gateway that holds commands which the journal lacks will stop the engine (FENCED) at its next start"


def _journal_of(loaded: Loaded) -> Path:
    folder = loaded.paths.journal
    if not folder.is_dir():
        raise ConfigError([f"{folder} expected to be a journal, is absent: nothing was ever started here"])
    return folder


def _also(loaded: Loaded) -> list[Held]:
    held = books_held(loaded)
    return [held] if held is not None else []


def _sizes(loaded: Loaded) -> JournalSettings:
    size = loaded.config.engine.segment_bytes
    return JournalSettings(segment_bytes=size, batch_bytes_max=min(BATCH_BYTES_MAX, size // 2))


def _operator() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
