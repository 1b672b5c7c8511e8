"""What the one loop and its engine sessions are told."""

from __future__ import annotations

from msgspec import Struct

from protocol.shards import ShardMap


class SessionSettings(Struct, frozen=True, kw_only=True):
    """Bounds of one session, in ms.

    Attributes:
        ping_ms: Silence after which the engine is asked for a sign of life.
        silence_ms: Silence after which the session is held dead and greeted anew.
        answer_ms: Age of an unanswered submit after which the session is greeted anew; doubles until one answers.
        hello_ms: Between two Hellos; doubles up to 32 times that after repeated faults.
        hold_max: New-risk deliveries held while the engine says RETRY, or is away, before no more are received.
        hold_ms: How long one is held before it is given back; 0 = as long as its lease. Only for sources without
            order, whose callers rather try again themselves.
        is_one_of_several: The source feeds other shards too and does not know which before it receives: what comes for
            an engine that is away or drains is held, in order, within ``hold_max`` and the engine's credits.
    """

    ping_ms: int = 250
    silence_ms: int = 1000
    answer_ms: int = 2000
    hello_ms: int = 100
    hold_max: int = 1024
    hold_ms: int = 0
    is_one_of_several: bool = False


class LoopSettings(Struct, frozen=True, kw_only=True):
    """Settings of the loop.

    Attributes:
        engine_endpoint: The engine's sidecar socket.
        state_file: Where the newest engine epoch is kept; its folder exists.
        sidecar: Name of this sidecar in logs and in the engine's status; empty = host name.
        drain_ms: Time to leave in after SIGTERM.
        tick_ms: How often time alone is looked at (leases, silence, back-offs).
        shard_endpoints: Of several engines, the socket of each, shard 0 first; empty = the one at ``engine_endpoint``.
        account_shards: Accounts that the configuration gives a shard; the others are where the hash says.
        body_bytes_max: A larger message body goes to the dead letters unread.
    """

    engine_endpoint: str
    state_file: str
    sidecar: str = ""
    session: SessionSettings = SessionSettings()
    drain_ms: int = 10_000
    tick_ms: int = 20
    shard_endpoints: tuple[str, ...] = ()
    account_shards: dict[str, int] = {}
    body_bytes_max: int = 256 << 10

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The socket of each engine."""
        return self.shard_endpoints or (self.engine_endpoint,)

    def shard_map(self) -> ShardMap:
        """Return the rule that says which engine an account's orders go to."""
        return ShardMap(len(self.endpoints), self.account_shards)
