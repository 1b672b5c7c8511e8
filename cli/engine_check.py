"""``wojak engine check``: the running engine journals the hash of its whole state; the follower compares its own."""

from __future__ import annotations

from cli.configuration import Loaded
from cli.engine_client import EngineClient
from cli.options import DEFAULT_CONFIG, ConfigPath, Reason, deployment
from cli.shards import Shard, chosen, each
from cli.view import grouped
from protocol.control import CheckState

TIMEOUT_MS = 30_000


def check(*, reason: Reason, shard: Shard = None, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Journal the hash of the engine's whole state; the follower says if its own differs.

    Orders wait meanwhile: about a second for ten million remembered ids. A difference shows as the follower's alarm,
    and it is not ready from then on.

    Example: `wojak engine check --reason "after the failover"`
    """
    loaded = deployment(config)

    def check_one(of: Loaded) -> str:
        client = EngineClient(of.paths)
        try:
            reply = client.ask(CheckState(reason), timeout_ms=TIMEOUT_MS)
        finally:
            client.close()
        return f"{reply.text} · durable at seq {grouped(reply.seq)}"

    return each(loaded, chosen(loaded, shard), check_one)
