"""``wojak flatten``: bring every position of a scope to 0, and say what is left.

Rule: the exit code is 0 only if nothing is left, neither a position nor an open order, on any shard it was for.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Final

from cyclopts import Parameter

from cli.configuration import Loaded
from cli.control import Account, Everything, Instrument, Strategy, scope_of
from cli.engine_client import EngineAwayError, EngineClient, client_of
from cli.options import DEFAULT_CONFIG, ConfigPath, Reason, deployment, say
from cli.shards import Shard, chosen, each
from cli.view import grouped
from protocol.codes import Scope
from protocol.control import AwaitFlatten, FlattenResult, StartFlatten
from protocol.errors import ConfigError
from protocol.records import FlattenPlan
from protocol.units import format_e9
from runtime.clock import monotonic_ns

MS_NS: Final = 1_000_000
WITHIN_MS_MAX: Final = 3_600_000
ASK_MS: Final = 5_000
AFTER_MS: Final = 30_000  # past the deadline: an engine that is being started again answers late
UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000}


def flatten(  # noqa: PLR0913 - one option a field of the plan
    *,
    reason: Reason,
    account: Account = "",
    strategy: Strategy = "",
    instrument: Instrument = "",
    everything: Everything = False,
    within: Annotated[str, Parameter(help="Time for all of it: 500ms, 30s, 5m.")] = "30s",
    max_slippage: Annotated[
        str, Parameter(help="From the price of the moment: 50bp, 0.5%; empty = as far as the collar lets.")
    ] = "",
    emergency_exit: Annotated[
        bool, Parameter(negative="", help="Pass halts of other scopes too; one of this scope is passed anyway.")
    ] = False,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Reduce-only, cancel all that is open in one scope, then exit every position of it.

    The exits are immediate limit orders in slices, shorts first, again and again until flat or the time is over. What
    is left is listed, and exit code 1 says so. The scope stays in reduce-only. A kill, halt or resume of it stops this.

    Example: `wojak flatten --account flow --within 30s --max-slippage 50bp --reason "end of day"`
    """
    scope, key = scope_of(account, strategy, instrument, everything=everything)
    within_ms, slippage_bp = _parse_within(within), _parse_slippage(max_slippage)
    plan = FlattenPlan(f"flatten-{secrets.token_hex(6)}", within_ms * MS_NS, slippage_bp, emergency_exit)
    loaded = deployment(config)
    shards = chosen(loaded, shard, key if scope is Scope.ACCOUNT else "")
    where = f"{scope.name.lower()} {key}".rstrip()
    option = "--global" if scope is Scope.GLOBAL else f"--{scope.name.lower()} {key}"
    not_flat: list[int] = []

    def flatten_one(of: Loaded) -> str:
        client = client_of(of)
        began_ns = monotonic_ns()
        try:
            reply = client.ask(StartFlatten(plan, scope, key, reason), timeout_ms=ASK_MS)
            on = f"shard {of.paths.shard}: " if len(shards) > 1 else ""
            say(
                f"{on}{where} REDUCE-ONLY · {grouped(reply.cancels)} open orders cancelled · durable at seq "
                f"{grouped(reply.seq)} · exits within {within}, {plan.flatten_id}"
            )
            result = _await(client, plan.flatten_id, began_ns + (within_ms + AFTER_MS) * MS_NS)
        finally:
            client.close()
        tenths = (monotonic_ns() - began_ns) // (100 * MS_NS)
        if not is_flat(result):
            not_flat.append(of.paths.shard)
        took = f"after {tenths // 10}.{tenths % 10} s and {grouped(result.exits)} exits"
        return "\n".join([*lines_of(result), f"{took} · lift: wojak resume {option}"])

    failed = each(loaded, shards, flatten_one)
    return 1 if not_flat else failed


def is_flat(result: FlattenResult) -> bool:
    """Whether nothing is left."""
    return not result.left and not result.open_orders


def lines_of(result: FlattenResult) -> list[str]:
    """Return what became of a flatten: one line, and one for each position that is left."""
    if is_flat(result):
        return ["✔ flat"]
    lines = [f"✘ not flat: {result.why}"]
    lines += [
        f"  {left.account} {left.instrument} {format_e9(int(left.quantity_e9))}" + (f": {left.why}" if left.why else "")
        for left in result.left
    ]
    if result.open_orders:
        lines.append(f"  {grouped(result.open_orders)} orders open or in doubt: wojak orders --open")
    return lines


def _await(client: EngineClient, flatten_id: str, until_ns: int) -> FlattenResult:
    """Return the end of a flatten; an engine that dies and comes back goes on with it, and is asked again."""
    while True:
        try:
            reply = client.ask(AwaitFlatten(flatten_id, ASK_MS), timeout_ms=2 * ASK_MS)
        except EngineAwayError:
            if monotonic_ns() > until_ns:
                raise
            continue
        if reply.flatten is not None:
            return reply.flatten


def _parse_within(text: str) -> int:
    match = re.fullmatch(r"([1-9]\d{0,6})(ms|s|m)", text, re.ASCII)
    within_ms = int(match[1]) * UNITS_MS[match[2]] if match else 0
    if not 100 <= within_ms <= WITHIN_MS_MAX:
        raise ConfigError([f"--within expected 100ms to 60m, such as 30s, was {text!r}"], "options")
    return within_ms


def _parse_slippage(text: str) -> int:
    if not text:
        return -1
    if match := re.fullmatch(r"(\d{1,5})bp", text, re.ASCII):
        slippage_bp = int(match[1])
    elif match := re.fullmatch(r"(\d{1,3})(?:\.(\d{1,2}))?%", text, re.ASCII):
        slippage_bp = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
    else:
        slippage_bp = -1
    if not 0 <= slippage_bp <= 10_000:
        raise ConfigError([f"--max-slippage expected 0bp to 10000bp, such as 50bp or 0.5%, was {text!r}"], "options")
    return slippage_bp
