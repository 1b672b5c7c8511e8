"""RabbitMQ for ``wojak bench source``: a preloaded queue, and the plain client that reads, decodes and acknowledges.

The plain client is aio-pika at its best: the same prefetch, every acknowledgement for all until then.
``python -m benchmarks.source_rabbitmq QUEUE COUNT FILE`` is that client.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import aio_pika
import uvloop

from benchmarks.granter import Granted
from benchmarks.source_kinds import BrokerBench, read_orders, tell
from runtime.clock import monotonic_ns

PREFETCH: Final = 500
ACK_EVERY: Final = 100


class RabbitMqBench(BrokerBench):
    """RabbitMQ."""

    kind = "rabbitmq"
    changes: ClassVar[Mapping[str, Any]] = {"prefetch": PREFETCH, "heartbeat_s": 10, "lag_ms": 60_000}

    def make_broker(self) -> Any:
        """Return the broker."""
        from tests.peers.rabbitmq import RabbitMq

        return RabbitMq()

    def arguments(self, peer: Any) -> Sequence[str]:
        """Return the queue."""
        return (peer.queue,)


async def _read_plainly(queue: str, count: int) -> Granted:
    connection = await aio_pika.connect(os.environ["AMQP_URL"])
    channel = await connection.channel(publisher_confirms=False)
    await channel.set_qos(prefetch_count=PREFETCH)
    declared = await channel.declare_queue(queue, passive=True)
    seen = first_ns = 0
    done = asyncio.get_running_loop().create_future()

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        nonlocal seen, first_ns
        first_ns = first_ns or monotonic_ns()
        read_orders((message.body,))
        seen += 1
        if seen % ACK_EVERY == 0 or seen == count:
            await message.ack(multiple=True)
        if seen == count:
            done.set_result(monotonic_ns())

    await declared.consume(take)
    last_ns = await done
    await connection.close()
    return Granted(first_ns, last_ns)


def main() -> None:
    """Be the plain client."""
    queue, count, path = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        read = runner.run(_read_plainly(queue, int(count)))
    tell(path, read)


if __name__ == "__main__":
    main()
