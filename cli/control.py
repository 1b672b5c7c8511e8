"""The brake: kill, halt, reduce-only and resume, at one scope at a time. Journaled before it is answered.

An account's goes to its shard, every other scope to all shards, and the answer says of each whether it took it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cli.configuration import Loaded
from cli.gateway_client import ask_gateway
from cli.options import DEFAULT_CONFIG, ConfigPath, Reason, deployment
from cli.shards import Shard, ask_one, chosen, each
from cli.view import grouped
from protocol.codes import Scope
from protocol.control import ConfirmClock, SetState
from protocol.errors import ConfigError
from runtime.clock import monotonic_ns

MS_NS = 1_000_000
Account = Annotated[str, Parameter(help="Only this account.")]
Strategy = Annotated[str, Parameter(help="Only this strategy.")]
Instrument = Annotated[str, Parameter(help="Only this instrument.")]
Everything = Annotated[bool, Parameter(name="--global", negative="", help="Everything this engine trades.")]
Gateway = Annotated[
    str, Parameter(help="At this venue gateway alone, past the engine: works when the engine hangs (sandbox).")
]
SAID = {"kill": "HALTED", "halt": "HALTED", "reduce_only": "REDUCE-ONLY", "resume": "ACTIVE"}


def kill(
    *,
    reason: Reason,
    account: Account = "",
    strategy: Strategy = "",
    instrument: Instrument = "",
    everything: Everything = False,
    gateway: Gateway = "",
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Halt and cancel every open order of one scope.

    With --gateway the venue's gateway does it by itself, durably, for all that is open there; new orders are refused
    there until `wojak resume --gateway`. Example: `wojak kill --account flow --reason "trying it"`
    """
    if gateway:
        where = account, strategy, instrument
        return _set_gateway("kill", gateway, reason, shard, config, *where, everything=everything)
    return _set("kill", reason, scope_of(account, strategy, instrument, everything=everything), shard, config)


def halt(
    *,
    reason: Reason,
    account: Account = "",
    strategy: Strategy = "",
    instrument: Instrument = "",
    everything: Everything = False,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Refuse every new order of one scope; open ones stay, cancels pass.

    Example: `wojak halt --global --reason "wrong prices"`
    """
    return _set("halt", reason, scope_of(account, strategy, instrument, everything=everything), shard, config)


def reduce_only(
    *,
    reason: Reason,
    account: Account = "",
    strategy: Strategy = "",
    instrument: Instrument = "",
    everything: Everything = False,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Take only orders that reduce a position; open orders that would increase one are cancelled.

    Example: `wojak reduce-only --strategy manual --reason "end of day"`
    """
    return _set("reduce_only", reason, scope_of(account, strategy, instrument, everything=everything), shard, config)


def resume(  # noqa: PLR0913 - one option a scope
    *,
    reason: Reason = "resumed by operator",
    account: Account = "",
    strategy: Strategy = "",
    instrument: Instrument = "",
    everything: Everything = False,
    gateway: Gateway = "",
    shard: Shard = None,
    clock: Annotated[bool, Parameter(negative="", help="The clock jumped, and it is right now.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Lift what kill, halt or reduce-only set at the same scope, or confirm the clock after a jump.

    Example: `wojak resume --account flow`
    """
    if gateway:
        where = account, strategy, instrument
        return _set_gateway("resume", gateway, reason, shard, config, *where, everything=everything)
    if clock:
        loaded = deployment(config)
        return each(loaded, chosen(loaded, shard), lambda of: ask_one(of, ConfirmClock(reason)).text)
    return _set("resume", reason, scope_of(account, strategy, instrument, everything=everything), shard, config)


def scope_of(account: str, strategy: str, instrument: str, *, everything: bool) -> tuple[Scope, str]:
    """Return the one scope that the options name, of those at which trading states stand.

    Raises:
        ConfigError: If they name none, or several.
    """
    keys = {Scope.ACCOUNT: account, Scope.STRATEGY: strategy, Scope.INSTRUMENT: instrument}
    return one_scope(keys, everything=everything)


def one_scope(keys: Mapping[Scope, str], *, everything: bool) -> tuple[Scope, str]:
    """Return the one scope that has a key.

    Raises:
        ConfigError: If none has, or several.
    """
    named = [(scope, key) for scope, key in keys.items() if key]
    if everything:
        named.append((Scope.GLOBAL, ""))
    if len(named) != 1:
        options = ", ".join(f"--{scope.name.lower()}" for scope in (*keys, Scope.GLOBAL))
        raise ConfigError([f"expected exactly one of {options}, was {len(named) or 'none'}"], "options")
    return named[0]


def _set(action: str, reason: str, at: tuple[Scope, str], shard: int | None, config: Path) -> int:
    scope, key = at
    loaded = deployment(config)
    name = f"{scope.name.lower()} {key}".strip()
    option = "--global" if scope is Scope.GLOBAL else f"--{scope.name.lower()} {key}"

    def set_one(of: Loaded) -> str:
        started = monotonic_ns()
        reply = ask_one(of, SetState(action, scope, key, reason), timeout_ms=10_000)
        took_ms = (monotonic_ns() - started) // MS_NS
        parts = [f"{name} {SAID[action]}", f"durable at seq {grouped(reply.seq)}"]
        if action in {"kill", "reduce_only"}:
            parts.insert(0, f"{grouped(reply.cancels)} open orders → cancels durable in {took_ms} ms")
        if action != "resume":
            parts.append(f"lift: wojak resume {option}")
        return " · ".join(parts)

    return each(loaded, chosen(loaded, shard, key if scope is Scope.ACCOUNT else ""), set_one)


def _set_gateway(
    action: Literal["kill", "resume"],
    gateway: str,
    reason: str,
    shard: int | None,
    config: Path,
    *scopes: str,
    everything: bool,
) -> int:
    if everything or any(scopes):
        raise ConfigError(["expected --gateway without a scope: it has one kill for all that is open there"], "options")
    loaded = deployment(config)
    lift = f" · lift: wojak resume --gateway {gateway}" if action == "kill" else ""

    def set_one(of: Loaded) -> str:
        started = monotonic_ns()
        reply = ask_gateway(of, gateway, action, reason)
        took_ms = (monotonic_ns() - started) // MS_NS
        return f"gateway {gateway} {reply.text} · durable in {took_ms} ms{lift}"

    return each(loaded, chosen(loaded, shard), set_one)
