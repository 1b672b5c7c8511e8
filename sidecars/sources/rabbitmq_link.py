"""One life of the connection to RabbitMQ: its channels, from connect until the first of them ends.

Rule: a delivery tag means something on the channel it came on and nowhere else, so a link is never mended: whatever
ends it makes a new one, with new tags. Nothing here waits without a deadline: who is on the other side may be gone
without having said so, and the client's own futures may then never be done.

The client is aio-pika; what is received and settled goes through the protocol channel under its objects, which costs
half as much a message and keeps the broker's tags in our own hands.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import aio_pika
from aiormq import spec
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    ConnectionNotAllowed,
    PublishError,
)
from yarl import URL

from protocol.errors import ConfigError

CONNECT_S: Final = 5.0
ANSWER_S: Final = 5.0
CLOSE_S: Final = 1.0
PERSISTENT: Final = 2
BROKEN: Final = (AMQPError, ChannelInvalidStateError, OSError, TimeoutError)
"""What the client raises when the other side is gone, slow or refuses."""
MISCONFIGURED: Final = (AuthenticationError, ChannelAccessRefused, ChannelNotFoundEntity, ConnectionNotAllowed)
"""What only a person can change: refused at the start, retried once it has worked."""


class Outgoing:
    """A message to publish: body, where to, and its properties."""

    __slots__ = ("body", "exchange", "properties", "routing_key")

    def __init__(self, body: bytes, exchange: str, routing_key: str, properties: spec.Basic.Properties) -> None:
        self.body = body
        self.exchange = exchange
        self.routing_key = routing_key
        self.properties = properties


def address(url_env: str, heartbeat_s: int) -> URL:
    """Return the broker's address from the environment, with what must be set for a dead link to be noticed.

    Raises:
        ConfigError: If it is not set, or says that certificates are not to be verified.
    """
    text = os.environ.get(url_env, "")
    if not text:
        raise ConfigError([f"environment variable {url_env}: expected amqp[s]://user:password@host/vhost, was not set"])
    url = URL(text)
    if url.scheme not in {"amqp", "amqps"} or not url.host:
        raise ConfigError([f"environment variable {url_env}: expected amqp[s]://user:password@host/vhost, was another"])
    if url.query.get("no_verify_ssl", "0") != "0":
        raise ConfigError([f"environment variable {url_env}: expected no no_verify_ssl; give the CA as cafile=…"])
    return url.update_query({"heartbeat": str(heartbeat_s)})


def virtual_host(url: URL) -> str:
    """Return the virtual host that the address names."""
    return "/" if url.path in {"", "/"} else url.path[1:]


class Link:
    """See the module. ``ended`` is done, with the reason, as soon as nothing can be received or settled any more."""

    def __init__(self, url: URL, queue: str, on_message: Callable[[DeliveredMessage], None]) -> None:
        self._url = url
        self._queue = queue
        self._on_message = on_message
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._kept: list[Any] = []  # the client holds its channels weakly
        self._in: Channel
        self._out: Channel
        self._tag = ""

    @property
    def is_ended(self) -> bool:
        """Whether nothing of it is of use any more."""
        return self.ended.done()

    async def open(self, prefetch: int, *, consume: bool) -> None:
        """Connect, find the queue, consume if asked to.

        Raises:
            AMQPError, OSError, TimeoutError: As the broker or the network says.
        """
        async with asyncio.timeout(CONNECT_S):
            self._connection = await aio_pika.connect(self._url, client_properties={"connection_name": "wojak"})
            self._in = await self._channel(publisher_confirms=False)
            self._out = await self._channel(publisher_confirms=True)
            self._in.on_consumer_cancel_callbacks.add(self._on_cancelled)
            await self._in.queue_declare(self._queue, passive=True)
            await self._in.basic_qos(prefetch_count=prefetch)
            if consume:
                await self.consume()

    async def _channel(self, *, publisher_confirms: bool) -> Channel:
        assert self._connection is not None
        channel = self._connection.channel(publisher_confirms=publisher_confirms, on_return_raises=publisher_confirms)
        self._kept.append(channel)
        await channel.initialize()
        underlay = await channel.get_underlay_channel()
        assert isinstance(underlay, Channel)
        closing = underlay.closing
        self._kept.append(closing)
        closing.add_done_callback(self._on_closing)
        return underlay

    async def consume(self) -> None:
        """Begin, or begin again, to receive."""
        async with asyncio.timeout(ANSWER_S):
            answer = await self._in.basic_consume(self._queue, self._on_message)  # type: ignore[arg-type]
        self._tag = answer.consumer_tag or ""

    async def cancel(self) -> None:
        """Stop receiving; what was delivered until the broker says so stays ours."""
        tag, self._tag = self._tag, ""
        if tag and not self.is_ended:
            async with asyncio.timeout(CLOSE_S):
                await self._in.basic_cancel(tag)

    async def ack(self, upto: int, tags: Sequence[int]) -> None:
        """Settle every delivery up to a tag, 0 = none, and some beyond it. RabbitMQ does not confirm it."""
        async with asyncio.timeout(ANSWER_S):
            if upto:
                await self._in.basic_ack(upto, multiple=True, wait=False)
            for tag in tags:
                await self._in.basic_ack(tag, wait=False)

    async def give_back(self, tags: Sequence[int]) -> None:
        """Let these be delivered again, newest first, so that the queue has them in the order they had."""
        async with asyncio.timeout(ANSWER_S):
            for tag in sorted(tags, reverse=True):
                await self._in.basic_nack(tag, requeue=True, wait=False)

    async def publish(self, messages: Sequence[Outgoing]) -> list[BaseException | None]:
        """Publish and wait for the broker's confirms; return for each what went wrong, None = nothing."""
        try:
            async with asyncio.timeout(ANSWER_S):
                sent = await asyncio.gather(*(self._publish(m) for m in messages), return_exceptions=True)
        except TimeoutError as e:
            return [e] * len(messages)
        return [each if isinstance(each, BaseException) else None for each in sent]

    async def _publish(self, message: Outgoing) -> None:
        await self._out.basic_publish(
            message.body, exchange=message.exchange, routing_key=message.routing_key, mandatory=True,
            properties=message.properties, wait=False,
        )  # fmt: skip

    async def waiting(self) -> int:
        """Return how many messages the queue has ready. RabbitMQ's count may be some seconds old."""
        async with asyncio.timeout(ANSWER_S):
            answer = await self._out.queue_declare(self._queue, passive=True)
        return answer.message_count or 0

    def end(self, why: str) -> None:
        """Say that the link is of no use any more; ``close`` frees it."""
        if not self.ended.done():
            self.ended.set_result(why)

    async def close(self) -> None:
        """Disconnect; the broker gives what is not settled to others."""
        self.end("closed")
        if self._connection is not None:
            with contextlib.suppress(*BROKEN, asyncio.CancelledError):
                async with asyncio.timeout(CLOSE_S):
                    await self._connection.close()
        self._kept.clear()

    def _on_closing(self, closing: asyncio.Future[Any]) -> None:
        error = None if closing.cancelled() else closing.exception()
        self.end(str(error) or type(error).__name__ if error else "the connection ended")

    def _on_cancelled(self, _frame: object) -> None:
        self.end("the broker cancelled the consumer: its queue was deleted, moved, or timed out")


def was_unroutable(error: BaseException | None) -> bool:
    """Whether the broker had nowhere to put a message."""
    return isinstance(error, PublishError)
