"""Pub/Sub as a peer: Google's own fake (pstest) behind a small server of ours (tests/peers/pubsub_server/main.go).

Differences from the service: of an ordering key one message at a time is delivered, so that several of a key under way
are shown with a stand-in (tests/unit/sidecars/test_pubsub.py); retry policies are not honoured; a lease shorter than
ten seconds is taken; there are no rights and no TLS. What was acknowledged too late is refused with exactly-once
delivery by our server, not by pstest. "Stopped" means that nobody can reach it: like the service it forgets nothing.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport
from google.pubsub_v1.types import pubsub as types

from tests.conformance.peer import Broker, Dead, Message, Peer
from tests.peers.golang import require_built
from tests.peers.process import Server, wait_until

T = TypeVar("T")
SERVER: Final = Path(__file__).parent / "pubsub_server"
PROJECT: Final = "peer"
START_S: Final = 20.0
CLIENT_S: Final = 120.0
BACK_S: Final = 20.0
CALL_MESSAGES: Final = 500
CALL_BYTES: Final = 4 << 20
BACKLOG_MAX: Final = 20_000  # pstest walks through all it has again and again
DAY_S: Final = 86_400


def prepare() -> Path:
    """Return the server's program; build it if it is not in the cache."""
    return require_built(SERVER)


class PubSub(Broker):
    """One server on a port of its own."""

    def __init__(self) -> None:
        program = prepare()
        self.folder = Path(tempfile.mkdtemp(prefix="wojak-pubsub-"))
        self._server = Server([str(program)], self.folder / "server")
        self._life = 0
        self._peers = 0
        self._port = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def start(self) -> None:
        """Start, or open the port again."""
        self._life += 1
        if self._server.is_running:
            self._server.signal(signal.SIGUSR2)
        else:
            self._server.start()
        ready = f"READY {self._life} "
        self._server.wait_said(ready, START_S)
        match = re.search(rf"{ready}\S+:(\d+)\.", wait_until(self._server.said, START_S, "an address"))
        assert match is not None
        self._port = int(match[1])

    def stop(self) -> None:
        """Let nobody reach it."""
        self._server.signal(signal.SIGUSR1)
        self._server.wait_said(f"AWAY {self._life}.", START_S)

    def end(self) -> None:
        """Leave nothing running and nothing on the disk."""
        self._server.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def peer(self, name: str) -> PubSubPeer:
        """Return a topic with a subscription, with dead letters and a place for answers."""
        self._peers += 1
        return PubSubPeer(self, "t-" + re.sub(r"\W+", "-", name)[:60] + f"-{self._peers}")


class OncePubSub(PubSub):
    """The same, with exactly-once delivery."""

    def peer(self, name: str) -> PubSubPeer:
        """Return a topic with such a subscription."""
        self._peers += 1
        return PubSubPeer(self, "x-" + re.sub(r"\W+", "-", name)[:60] + f"-{self._peers}", is_once=True)


class PubSubPeer(Peer):
    """One subscription, and a publisher's client in a thread of its own."""

    kind = "pubsub"
    has_replies = True
    names_all = True
    keeps_order = True
    lease_ms = 2_400
    bound = 100
    many = 100_000

    def __init__(self, broker: PubSub, name: str, *, is_once: bool = False) -> None:
        self.broker = broker
        self.topic, self.dead_topic, self._replies = name, f"{name}-dead", f"{name}-replies"
        self._options: dict[str, Any] = {
            "enable_message_ordering": True, "enable_exactly_once_delivery": is_once, "ack_deadline_seconds": 10,
            "message_retention_duration": Duration(seconds=7 * DAY_S),
        }  # fmt: skip
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._make())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CLIENT_S)

    def env(self, port: int | None = None) -> Mapping[str, str]:
        """Return project and address as Google's libraries read them."""
        return {
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{port or self.broker.port}",
        }

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings of a sidecar that reads the subscription."""
        return {
            "subscription": self.topic, "topic": self.topic, "principal": "bench", "dead_letter_topic": self.dead_topic,
            "dead_letter_subscription": self.dead_topic, "reply_to": [self.reply_to], "ack_deadline_s": 3,
            "prefetch": self.bound, "keepalive_s": 1, **changes,
        }  # fmt: skip

    # The client

    async def _make(self) -> None:
        options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.initial_reconnect_backoff_ms", 100),
                   ("grpc.max_reconnect_backoff_ms", 500)]  # fmt: skip
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.broker.port}", options=options)
        self._publisher: Any = PublisherGrpcAsyncIOTransport(channel=self._channel)
        self._subscriber: Any = SubscriberGrpcAsyncIOTransport(channel=self._channel)
        await self._create(self.topic, **self._options)
        await self._create(self.dead_topic)
        await self._create(self._replies)

    async def _create(self, name: str, **options: Any) -> None:
        topic = types.Topic(name=topic_path(name))
        await self._publisher.create_topic(topic, wait_for_ready=True)
        subscription = types.Subscription(name=subscription_path(name), topic=topic_path(name), **options)
        await self._subscriber.create_subscription(subscription, wait_for_ready=True)

    def create(self, name: str, **options: Any) -> None:
        """Make a topic with a subscription of the same name."""
        self._run(self._create(name, **options))

    def delete(self, name: str) -> None:
        """Delete a topic and its subscription, with all that is in it."""
        self._run(self._delete(name))

    async def _delete(self, name: str) -> None:
        await self._subscriber.delete_subscription(
            types.DeleteSubscriptionRequest(subscription=subscription_path(name)), wait_for_ready=True
        )
        await self._publisher.delete_topic(types.DeleteTopicRequest(topic=topic_path(name)), wait_for_ready=True)

    def send(self, messages: Sequence[Message]) -> None:
        """Publish; each message with its key, or with none. Waits while very many are there already."""
        for at in range(0, len(messages), BACKLOG_MAX // 2):
            part = messages[at : at + BACKLOG_MAX // 2]
            if len(messages) >= BACKLOG_MAX // 2:
                wait_until(lambda: self.waiting() < BACKLOG_MAX, CLIENT_S, "a smaller backlog")
            self._run(self._send(part))

    async def _send(self, messages: Sequence[Message]) -> None:
        call: list[types.PubsubMessage] = []
        size = 0
        for n, message in enumerate(messages):
            made = _message(message)
            is_last = n + 1 == len(messages)
            call.append(made)
            size += len(message.body)
            next_key = "" if is_last else messages[n + 1].key
            if is_last or len(call) == CALL_MESSAGES or size > CALL_BYTES or next_key != message.key:
                request = types.PublishRequest(topic=topic_path(self.topic), messages=call)
                await self._publisher.publish(request, wait_for_ready=True)
                call, size = [], 0

    def publish(self, topic: str, body: bytes, attributes: Mapping[str, str]) -> None:
        """Publish one message anywhere."""
        message = types.PubsubMessage(data=body, attributes=dict(attributes))
        request = types.PublishRequest(topic=topic_path(topic), messages=[message])

        async def call() -> None:
            await self._publisher.publish(request, wait_for_ready=True)

        self._run(call())

    def waiting(self) -> int:
        """Return how many messages are not acknowledged: the server counts, as Cloud Monitoring does."""
        return self.count(self.topic)

    def count(self, name: str) -> int:
        """Return how many messages of a subscription are not acknowledged."""
        return int(self._run(self._count(name)))

    async def _count(self, name: str) -> int:
        request = types.GetSubscriptionRequest(subscription=subscription_path(name))
        found = await self._subscriber.get_subscription(request, wait_for_ready=True)
        return int(types.Subscription.pb(found).labels["waiting"])  # of the server's own

    def left(self) -> list[bytes]:
        """Take what is left, also what a sidecar that died has under way: that comes back when its lease ends."""
        return [message.data for message in self.drain(self.topic)]

    def dead(self) -> list[Dead]:
        """Take the dead letters."""
        return [Dead(m.data, m.attributes.get("x-wojak-reason", "")) for m in self.drain(self.dead_topic)]

    def replies(self) -> list[bytes]:
        """Take the answers."""
        return [message.data for message in self.drain(self._replies)]

    @property
    def reply_to(self) -> str:
        """The topic for answers."""
        return self._replies

    def drain(self, name: str) -> list[Any]:
        """Take every message of a subscription, also those that come back when a lease ends."""
        found: list[Any] = []

        def look() -> bool:
            while self.count(name):
                pulled = self._run(self._take(name))
                found.extend(pulled)
                if not pulled:
                    return False
            return True

        wait_until(look, BACK_S, lambda: f"every message of {name} to come back, {self.count(name)} had not")
        return found

    async def _take(self, name: str) -> list[Any]:
        path = subscription_path(name)
        request = types.PullRequest(subscription=path, max_messages=1_000)
        answer = types.PullResponse.pb(await self._subscriber.pull(request, wait_for_ready=True))
        found = list(answer.received_messages)
        if found:
            ids = [received.ack_id for received in found]
            await self._subscriber.acknowledge(types.AcknowledgeRequest(subscription=path, ack_ids=ids))
        return [received.message for received in found]

    def close(self) -> None:
        """Leave nothing of it at the server, which walks through everything it has; let the client go."""
        for name in (self.topic, self.dead_topic, self._replies):
            try:
                self.delete(name)
            except grpc.aio.AioRpcError as e:
                assert e.code() is grpc.StatusCode.NOT_FOUND, e  # noqa: PT017  a test had deleted it
        self._run(self._channel.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLIENT_S)
        self._loop.close()


def topic_path(name: str) -> str:
    """Return the path of a topic."""
    return f"projects/{PROJECT}/topics/{name}"


def subscription_path(name: str) -> str:
    """Return the path of a subscription."""
    return f"projects/{PROJECT}/subscriptions/{name}"


def _message(message: Message) -> types.PubsubMessage:
    attributes = dict(message.headers)
    if message.content_type:
        attributes["content_type"] = message.content_type
    if message.reply_to:
        attributes["reply_to"] = message.reply_to
    if not message.body:
        attributes["empty"] = "yes"  # the service takes nothing without data and attributes
    return types.PubsubMessage(data=message.body, attributes=attributes, ordering_key=message.key)
