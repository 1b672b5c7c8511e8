"""RabbitMQ as a peer: Debian's rabbitmq-server as our own child, and quorum queues of it.

Differences from the versions people run: 3.10 counts every requeue towards the delivery limit, closes the channel on a
consumer time-out and has no limit by default; 4.x and 4.3 differ (docs/sources/rabbitmq.md).
"""

from __future__ import annotations

import asyncio
import base64
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import aio_pika
import httpx

from runtime.clock import wall_ns
from tests.conformance.peer import Broker, Dead, Message, Peer
from tests.peers.process import Server, free_ports, is_listening, require_program, wait_until

T = TypeVar("T")
USER: Final = "peer"
PASSWORD: Final = "peerpw"
START_S: Final = 90.0
CLIENT_S: Final = 60.0
HOW: Final = "install it: apt-get install rabbitmq-server (.ci/run does)"
NS_PER_S: Final = 1_000_000_000


class RabbitMq(Broker):
    """One node with data and ports of its own."""

    def __init__(self, conf: str = "") -> None:
        program = require_program("rabbitmq-server", HOW, "/usr/lib/rabbitmq/bin/rabbitmq-server")
        if program.startswith("/usr/sbin"):  # a wrapper that changes the user; the program itself is beside it
            program = require_program("/usr/lib/rabbitmq/bin/rabbitmq-server", HOW)
        epmd = require_program("epmd", HOW, *map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd")))
        self.folder = Path(tempfile.mkdtemp(prefix="wojak-rabbitmq-"))
        self._port, self.management_port, dist, names = free_ports(4)
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self._port}\nmanagement.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self.management_port}\ndefault_user = {USER}\ndefault_pass = {PASSWORD}\n"
            "loopback_users = none\ncollect_statistics_interval = 300\nlog.console = true\nlog.file = false\n"
            f"disk_free_limit.absolute = 50MB\nvm_memory_high_watermark.absolute = 512MB\n{conf}"
        )
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        (self.folder / "home").mkdir()
        at = str(self.folder)
        env = {
            "HOME": f"{at}/home", "RABBITMQ_NODENAME": f"wojak{self._port}@localhost",
            "RABBITMQ_MNESIA_BASE": f"{at}/mnesia", "RABBITMQ_LOG_BASE": f"{at}/log",
            "RABBITMQ_CONFIG_FILE": f"{at}/rabbitmq.conf", "RABBITMQ_ENABLED_PLUGINS_FILE": f"{at}/enabled_plugins",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null", "RABBITMQ_ADVANCED_CONFIG_FILE": f"{at}/none",
            "RABBITMQ_DIST_PORT": str(dist), "ERL_EPMD_PORT": str(names), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the server, so that the pid is its own
            "LANG": "C.UTF-8",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
        }  # fmt: skip
        self._names_port = names
        self._names = Server([epmd, "-port", str(names), "-address", "127.0.0.1"], self.folder / "epmd", env)
        self._server = Server([program], self.folder / "server", env)
        self._peers = 0

    @property
    def port(self) -> int:
        """The AMQP port."""
        return self._port

    def start(self) -> None:
        """Start, or start again with the same data."""
        if not self._names.is_running:
            self._names.start()
            wait_until(lambda: is_listening(self._names_port), START_S, "epmd to listen")
        self._server.start()
        self._server.wait_said("Server startup complete", START_S)

    def stop(self) -> None:
        """Stop it as SIGTERM does."""
        self._server.kill(signal.SIGTERM, START_S)

    def crash(self) -> None:
        """Kill -9."""
        self._server.kill()

    def end(self) -> None:
        """Leave nothing running and nothing on the disk."""
        self._server.end()
        self._names.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def peer(self, name: str) -> RabbitMqPeer:
        """Return a quorum queue with a dead letter queue and a queue for replies."""
        self._peers += 1
        return RabbitMqPeer(self, re.sub(r"\W+", "-", name)[:60] + f"-{self._peers}")

    def management(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """Ask the management API."""
        url = f"http://127.0.0.1:{self.management_port}/api/{path}"
        return httpx.request(method, url, json=body, auth=(USER, PASSWORD), timeout=CLIENT_S)


class RabbitMqPeer(Peer):
    """One queue, and a producer's client in a thread of its own."""

    kind = "rabbitmq"
    has_replies = True
    bound = 50
    many = 100_000

    def __init__(self, broker: RabbitMq, name: str) -> None:
        self.broker = broker
        self.queue = name
        self.dead_queue = f"{name}-dead"
        self.arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": 100}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._channel: aio_pika.abc.AbstractChannel | None = None
        self._run(self._declare())

    def env(self, port: int | None = None) -> Mapping[str, str]:
        """Return the address."""
        return {"AMQP_URL": f"amqp://{USER}:{PASSWORD}@127.0.0.1:{port or self.broker.port}/"}

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings of a sidecar that reads the queue."""
        return {
            "queue": self.queue, "principal": "bench", "dead_letter_queue": self.dead_queue,
            "reply_to": [self.reply_to], "prefetch": self.bound, "heartbeat_s": 1, **changes,
        }  # fmt: skip

    def send(self, messages: Sequence[Message]) -> None:
        """Publish with confirms."""
        for message in messages:
            if not message.message_id:
                self._send_nameless(message)
        self._run(self._send([m for m in messages if m.message_id]))

    def _send_nameless(self, message: Message) -> None:
        """Publish without a message id over HTTP: the client gives each message one."""
        properties: dict[str, Any] = {"delivery_mode": 2}
        if message.has_time:
            properties["timestamp"] = wall_ns() // NS_PER_S
        body = {
            "properties": properties, "routing_key": self.queue, "payload_encoding": "base64",
            "payload": base64.b64encode(message.body).decode(),
        }  # fmt: skip
        answer = self.broker.management("POST", "exchanges/%2F/amq.default/publish", body)
        assert answer.json() == {"routed": True}, answer.text

    def waiting(self) -> int:
        """Return ready and unacknowledged messages: of the last statistics, or of the queue itself if that is more."""
        told = self.broker.management("GET", f"queues/%2F/{self.queue}").json()
        return max(int(told.get("messages") or 0), self._run(self._ready()))

    def left(self) -> list[bytes]:
        """Take what is left: a quorum queue's counts are stale, so it is emptied, not counted."""
        wait_until(lambda: self._run(self._consumers()) == 0, CLIENT_S, f"no consumer of {self.queue}")
        return [m.body for m in self._run(self._drain(self.queue))]

    def dead(self) -> list[Dead]:
        """Take the dead letters."""
        return [Dead(m.body, str(m.headers.get("x-wojak-reason", ""))) for m in self._run(self._drain(self.dead_queue))]

    def replies(self) -> list[bytes]:
        """Take the answers."""
        return [m.body for m in self._run(self._drain(self.reply_to))]

    @property
    def reply_to(self) -> str:
        """The queue for replies."""
        return f"{self.queue}-replies"

    @property
    def retry_queue(self) -> str:
        """A queue whose messages come back."""
        return f"{self.queue}-retry"

    def declare(self) -> None:
        """Make the queue, if it is not there."""
        self._run(self._declare())

    def delete(self) -> None:
        """Delete the queue; its consumers are cancelled."""
        self._run(self._delete())

    def declare_retry(self, ttl_ms: int) -> None:
        """Make the retry queue."""
        back = {"x-message-ttl": ttl_ms, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.queue}
        self._run(self._make(self.retry_queue, {**back, "x-queue-type": "quorum"}))

    def declare_other(self, name: str, arguments: dict[str, Any]) -> None:
        """Make a queue beside it."""
        self._run(self._make(f"{self.queue}-{name}", arguments))

    async def _delete(self) -> None:
        await (await self._open()).queue_delete(self.queue)

    async def _make(self, name: str, arguments: dict[str, Any]) -> None:
        await (await self._open()).declare_queue(name, durable=True, arguments=arguments)

    def close(self) -> None:
        """Let the client go."""
        if self._connection is not None:
            self._run(self._connection.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLIENT_S)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CLIENT_S)

    async def _open(self) -> aio_pika.abc.AbstractChannel:
        if self._channel is None or self._channel.is_closed:
            self._connection = await aio_pika.connect(self.env()["AMQP_URL"])
            self._channel = await self._connection.channel(on_return_raises=True)
        return self._channel

    async def _declare(self) -> None:
        channel = await self._open()
        await channel.declare_queue(self.queue, durable=True, arguments=self.arguments)
        for name in (self.dead_queue, self.reply_to):
            await channel.declare_queue(name, durable=True)

    async def _send(self, messages: Sequence[Message]) -> None:
        channel = await self._open()
        for at in range(0, len(messages), 500):
            await asyncio.gather(
                *(
                    channel.default_exchange.publish(_message(m), self.queue, mandatory=True)
                    for m in messages[at : at + 500]
                )
            )

    async def _ready(self) -> int:
        declared = await (await self._open()).declare_queue(self.queue, passive=True)
        return declared.declaration_result.message_count or 0

    async def _consumers(self) -> int:
        declared = await (await self._open()).declare_queue(self.queue, passive=True)
        return declared.declaration_result.consumer_count or 0

    async def _drain(self, queue: str) -> list[aio_pika.abc.AbstractIncomingMessage]:
        declared = await (await self._open()).declare_queue(queue, passive=True)
        found = []
        while (message := await declared.get(no_ack=True, fail=False)) is not None:
            found.append(message)
        return found


def _message(message: Message) -> aio_pika.Message:
    return aio_pika.Message(
        message.body,
        headers=dict(message.headers),
        content_type=message.content_type or None,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message.message_id or None,
        reply_to=message.reply_to or None,
        timestamp=datetime.fromtimestamp(wall_ns() // NS_PER_S, UTC) if message.has_time else None,
    )
