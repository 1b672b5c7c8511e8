"""RabbitMQ for ``wojak bench source``: a preloaded queue, and the plain client that reads and acknowledges it.

The plain client is aio-pika at its best: the same prefetch, each message decoded into the same order type, every
acknowledgement for all until then. ``python -m benchmarks.source_rabbitmq QUEUE COUNT PREFETCH FILE`` is that client.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import aio_pika
import msgspec
import uvloop

from benchmarks.granter import Granted
from protocol.edge import decode_new_order
from runtime.clock import monotonic_ns

PREFETCH: Final = 500
ACK_EVERY: Final = 100


class RabbitMqBench:
    """The peer, started for one benchmark."""

    kind = "rabbitmq"

    def __init__(self) -> None:
        # The tests' own peer: benchmarks of brokers run in a checkout.
        from tests.peers.rabbitmq import RabbitMq

        self._broker = RabbitMq()

    def start(self) -> None:
        """Start the broker."""
        self._broker.start()

    def end(self) -> None:
        """Leave nothing running."""
        self._broker.end()

    def resource(self, name: str) -> Any:
        """Return a new, empty resource (``tests.conformance.peer.Peer``)."""
        return self._broker.peer(name)

    def settings(self, peer: Any) -> dict[str, Any]:
        """Return the settings of the sidecar under load."""
        return dict(peer.settings(prefetch=PREFETCH, heartbeat_s=10, lag_ms=60_000))

    def plain(self, peer: Any, count: int, path: Path) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return the command and the environment of the plain client."""
        argv = [sys.executable, "-m", "benchmarks.source_rabbitmq", peer.queue, str(count), str(PREFETCH), str(path)]
        return argv, peer.env()


async def _read_plainly(queue: str, count: int, prefetch: int) -> Granted:
    connection = await aio_pika.connect(os.environ["AMQP_URL"])
    channel = await connection.channel(publisher_confirms=False)
    await channel.set_qos(prefetch_count=prefetch)
    declared = await channel.declare_queue(queue, passive=True)
    seen = first_ns = 0
    done = asyncio.get_running_loop().create_future()

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        nonlocal seen, first_ns
        first_ns = first_ns or monotonic_ns()
        decode_new_order(message.body)
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
    queue, count, prefetch, path = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        read = runner.run(_read_plainly(queue, int(count), int(prefetch)))
    Path(path).write_bytes(msgspec.json.encode(read))


if __name__ == "__main__":
    main()
