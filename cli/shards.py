"""Which engines a command speaks to, and speaking to several at once.

Rule: an account's command goes to its shard, a command without an account to all of them at once, and the answer says
of each shard whether it took it: one engine that is away neither delays nor hides what the others do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Annotated, Final, NamedTuple

from cyclopts import Parameter
from msgspec import structs

from cli.configuration import Loaded
from cli.engine_client import client_of
from cli.options import say
from protocol.control import ControlBody, ControlReply, EngineStatus
from protocol.errors import ConfigError, WojakError
from protocol.paper import real_name

Shard = Annotated[int | None, Parameter(help="Only this shard; absent = the account's, or all of them.")]
TOGETHER_MAX: Final = 32


class Answer(NamedTuple):
    """What one shard's engine said, or why it did not."""

    shard: int
    reply: ControlReply | None
    why_not: WojakError | None


def chosen(loaded: Loaded, shard: int | None, account: str = "") -> Sequence[int]:
    """Return the shards that a command is for.

    Raises:
        ConfigError: If there is no such shard.
    """
    if shard is not None:
        if shard not in loaded.shards:
            raise ConfigError([f"--shard: expected 0 to {len(loaded.shards) - 1}, was {shard}"], "options")
        return (shard,)
    return (loaded.shard_map.shard_of(real_name(account)),) if account else loaded.shards


def one(loaded: Loaded, shard: int | None, account: str = "") -> Loaded:
    """Return the deployment with the paths of the one shard that is meant.

    Raises:
        ConfigError: If several could be.
    """
    shards = chosen(loaded, shard, account)
    if len(shards) > 1:
        raise ConfigError([f"expected --shard, 0 to {len(shards) - 1}, or --account, was neither"], "options")
    return loaded.of(shards[0])


def ask(loaded: Loaded, shards: Sequence[int], body: ControlBody, *, timeout_ms: int = 2_000) -> list[Answer]:
    """Ask the engines of these shards, all at once.

    Raises:
        WojakError: What the only one asked says against it.
    """
    if len(shards) == 1:
        return [Answer(shards[0], ask_one(loaded.of(shards[0]), body, timeout_ms=timeout_ms), None)]
    with ThreadPoolExecutor(min(len(shards), TOGETHER_MAX)) as pool:
        return list(pool.map(lambda shard: _answer(loaded, shard, body, timeout_ms), shards))


def _answer(loaded: Loaded, shard: int, body: ControlBody, timeout_ms: int) -> Answer:
    try:
        return Answer(shard, ask_one(loaded.of(shard), body, timeout_ms=timeout_ms), None)
    except WojakError as e:
        return Answer(shard, None, e)


def ask_one(loaded: Loaded, body: ControlBody, *, timeout_ms: int = 2_000) -> ControlReply:
    """Return what the engine of these paths answers; raises as ``EngineClient.ask`` does."""
    client = client_of(loaded)
    try:
        return client.ask(body, timeout_ms=timeout_ms)
    finally:
        client.close()


def each(loaded: Loaded, shards: Sequence[int], do: Callable[[Loaded], str]) -> int:
    """Do it at all of these shards at once, and say of each what came of it as soon as it is known.

    Returns:
        The exit code: 1 if one of several failed.

    Raises:
        WojakError: What the only one asked says against it.
    """
    if len(shards) == 1:
        say(do(loaded.of(shards[0])))
        return 0
    ok = True
    with ThreadPoolExecutor(min(len(shards), TOGETHER_MAX)) as pool:
        doing = {pool.submit(do, loaded.of(shard)): shard for shard in shards}
        for done in as_completed(doing):
            try:
                text = done.result()
            except WojakError as e:
                ok, text = False, f"✘ {e}"
            say(f"shard {doing[done]}:\n{text}" if "\n" in text else f"shard {doing[done]}: {text}")
    return 0 if ok else 1


def together(statuses: Sequence[EngineStatus | None]) -> EngineStatus | None:
    """Return what engines say of themselves as one: sums, the slowest latencies, every halt. None = none answers."""
    found = [s for s in statuses if s is not None]
    if len(found) < 2:
        return found[0] if found else None
    codes: dict[str, int] = {}
    for status in found:
        for code, count in status.rejected_by_code.items():
            codes[code] = codes.get(code, 0) + count
    first = found[0]
    return structs.replace(
        first,
        accepted=sum(s.accepted for s in found),
        rejected=sum(s.rejected for s in found),
        duplicates=sum(s.duplicates for s in found),
        cancels=sum(s.cancels for s in found),
        fills=sum(s.fills for s in found),
        failed=sum(s.failed for s in found),
        rejected_by_code=codes,
        open_orders=sum(s.open_orders for s in found),
        unknown_orders=sum(s.unknown_orders for s in found),
        suspense_fills=sum(s.suspense_fills for s in found),
        held_orders=sum(s.held_orders for s in found),
        risk_ready=all(s.risk_ready for s in found),
        draining=any(s.draining for s in found),
        halted=[h for n, s in enumerate(found) for h in s.halted if not any(h in o.halted for o in found[:n])],
        venues=[v for s in found for v in s.venues],
        sessions=[v for s in found for v in s.sessions],
        receive_to_durable_ns=_slowest([s.receive_to_durable_ns for s in found]),
        sync_ns=_slowest([s.sync_ns for s in found]),
    )


def _slowest(each: Sequence[dict[str, int]]) -> dict[str, int]:
    return {name: max(times.get(name, 0) for times in each) for name in {n for times in each for n in times}}


def left_behind(loaded: Loaded) -> list[str]:
    """Return a fault for every shard that has a journal here and that the configuration no longer starts.

    Its accounts would be given to other shards, while their state stays in that journal. The other direction, an
    account with state that a map gives away, is refused by the engine that has it, when it starts.
    """
    shards = len(loaded.shards)
    found = sorted(int(n) for p in loaded.paths.state.glob("shard-*/journal") if (n := p.parent.name[6:]).isdigit())
    return [
        f"wojak.shards: expected at least {n + 1}, because shard {n} has a journal in {loaded.of(n).paths.journal}, "
        f"was {shards}; start it with {n + 1}, bring its accounts to nothing, then move the folder away"
        for n in found
        if n >= shards
    ]
