"""Pub/Sub for ``wojak bench source``: a preloaded subscription, and the plain client that pulls, decodes, acknowledges.

The plain client is Google's asyncio client as documented: a stream with the same prefetch, one acknowledge call for all
that one response brought, the next response read meanwhile. ``python -m benchmarks.source_pubsub SUBSCRIPTION COUNT
FILE`` is that client.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import uvloop
from google.pubsub_v1 import SubscriberAsyncClient
from google.pubsub_v1.types import StreamingPullRequest

from benchmarks.granter import Granted
from benchmarks.source_kinds import BrokerBench, read_orders, tell
from runtime.clock import monotonic_ns

PREFETCH: Final = 1_000
DEADLINE_S: Final = 60


class PubSubBench(BrokerBench):
    """Google's fake."""

    kind = "pubsub"
    per_s = 5_000
    rss_mib_max = 120  # Google's client alone has more than half of it
    changes: ClassVar[Mapping[str, Any]] = {"prefetch": PREFETCH, "ack_deadline_s": DEADLINE_S, "keepalive_s": 30}

    def make_broker(self) -> Any:
        """Return the broker."""
        from tests.peers.pubsub import PubSub

        return PubSub()

    def arguments(self, peer: Any) -> Sequence[str]:
        """Return the subscription."""
        from tests.peers.pubsub import subscription_path

        return (subscription_path(peer.topic),)


async def _ask(subscription: str, done: asyncio.Event) -> AsyncIterator[StreamingPullRequest]:
    yield StreamingPullRequest(
        subscription=subscription, stream_ack_deadline_seconds=DEADLINE_S, max_outstanding_messages=PREFETCH
    )
    await done.wait()  # the stream lives as long as its requests


async def _read_plainly(subscription: str, count: int) -> Granted:
    client = SubscriberAsyncClient()
    seen = first_ns = 0
    done = asyncio.Event()
    calls: set[asyncio.Task[None]] = set()
    stream: Any = await client.streaming_pull(requests=_ask(subscription, done))
    async for response in stream:
        first_ns = first_ns or monotonic_ns()
        read_orders(received.message.data for received in response.received_messages)
        ids = [received.ack_id for received in response.received_messages]
        call = asyncio.create_task(client.acknowledge(subscription=subscription, ack_ids=ids))
        calls.add(call)
        call.add_done_callback(calls.discard)
        seen += len(ids)
        if seen >= count:
            break
    await asyncio.gather(*calls)
    last_ns = monotonic_ns()
    done.set()
    return Granted(first_ns, last_ns)


def main() -> None:
    """Be the plain client."""
    subscription, count, path = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        read = runner.run(_read_plainly(subscription, int(count)))
    tell(path, read)


if __name__ == "__main__":
    main()
