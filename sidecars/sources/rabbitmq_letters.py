"""Dead letters of RabbitMQ, looked at and put back.

Rule (DECISIONS 40): what is put back keeps its id and its time unless a person says otherwise, and then says who. It
is back in its queue, confirmed, before it leaves the dead letters; a crash in between leaves it in both, and the
engine takes its id once.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import aio_pika
from aiormq import spec
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from protocol.errors import FieldError
from runtime.clock import wall_ns
from sidecars.core.kinds import DeadLetter, Replay
from sidecars.core.letters import LettersFailedError, with_field
from sidecars.sources.rabbitmq import NS_PER_S
from sidecars.sources.rabbitmq_dead import AT_NS, MESSAGE_ID, PREFIX, REASON, REPLAYED_BY
from sidecars.sources.rabbitmq_link import BROKEN, CONNECT_S, PERSISTENT, address
from sidecars.sources.rabbitmq_settings import RabbitMqSettings

NEW_ID_BYTES: Final = 8


class RabbitMqLetters:
    """The dead letter queue of one source. It is looked at by taking and giving back, in one channel."""

    def __init__(self, name: str, settings: RabbitMqSettings) -> None:
        self._name = name
        self._settings = settings
        self._url = address(settings.url_env, settings.heartbeat_s)

    async def list(self, most: int) -> Sequence[DeadLetter]:
        """Return the oldest ones; they stay."""
        async with self._channel() as channel:
            return [_letter(n, message) async for n, message in self._taken(channel, most)]

    async def replay(self, replay: Replay, most: int) -> Sequence[DeadLetter]:
        """Put back those that are asked for; the others stay."""
        done = []
        async with self._channel() as channel:
            async for number, message in self._taken(channel, most):
                if replay.numbers and number not in replay.numbers:
                    continue
                body, properties = changed(message, replay)
                await channel.basic_publish(
                    body, routing_key=self._settings.queue, mandatory=True, properties=properties
                )  # fmt: skip
                assert message.delivery_tag is not None
                await channel.basic_ack(message.delivery_tag)
                done.append(_letter(number, message))
        return done

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[Channel]:
        """Yield a channel; what was taken on it and not acknowledged goes back when it is closed."""
        try:
            connection = await aio_pika.connect(self._url, timeout=CONNECT_S)
            async with connection:
                channel = connection.channel(on_return_raises=True)
                await channel.initialize()
                underlay = await channel.get_underlay_channel()
                assert isinstance(underlay, Channel)
                yield underlay
        except BROKEN as e:
            raise LettersFailedError(self._settings.dead_letter_queue, str(e) or type(e).__name__) from e

    async def _taken(self, channel: Channel, most: int) -> AsyncIterator[tuple[int, DeliveredMessage]]:
        """Yield what is there now: what is put back, refused and here again meanwhile is not taken once more."""
        number = 0
        while number < most:
            message = await channel.basic_get(self._settings.dead_letter_queue)
            if isinstance(message.delivery, spec.Basic.GetEmpty):
                return
            number += 1
            if number == 1 and isinstance(message.delivery, spec.Basic.GetOk):
                most = min(most, 1 + (message.delivery.message_count or 0))
            yield number, message


def changed(message: DeliveredMessage, replay: Replay) -> tuple[bytes, spec.Basic.Properties]:
    """Return the body and the properties that go back: the original's, but for what the operator asked for.

    Raises:
        FieldError: If it has no id and none is to be made, or a body can't be changed.
    """
    original = message.header.properties
    headers = {k: v for k, v in (original.headers or {}).items() if not k.startswith(PREFIX)}
    message_id = _text((original.headers or {}).get(MESSAGE_ID, ""))
    body = message.body
    timestamp = original.timestamp
    if replay.restamp:
        timestamp = datetime.fromtimestamp(wall_ns() // NS_PER_S, UTC)
        body = with_field(body, "created_at_ns", wall_ns())
    if replay.new_id:
        message_id = secrets.token_hex(NEW_ID_BYTES)
        body = with_field(body, "client_order_id", f"replay-{message_id}")
    elif not message_id:
        raise FieldError("message_id", "absent", "an id; say --new-id to give it one, after looking that it is no copy")
    if replay.restamp or replay.new_id:
        headers[REPLAYED_BY] = replay.operator
    return body, spec.Basic.Properties(
        content_type=original.content_type,
        content_encoding=original.content_encoding,
        headers=headers,
        delivery_mode=PERSISTENT,
        correlation_id=original.correlation_id,
        reply_to=original.reply_to,
        message_id=message_id,
        timestamp=timestamp,
        message_type=original.message_type,
        app_id=original.app_id,
    )


def _letter(number: int, message: DeliveredMessage) -> DeadLetter:
    properties = message.header.properties
    headers = {k: _text(v) for k, v in (properties.headers or {}).items()}
    at = headers.pop(AT_NS, "")
    reason = headers.pop(REASON, "") or "put there by the broker: see x-death"
    source_id = headers.pop(MESSAGE_ID, "")
    for name in ("content_type", "correlation_id", "reply_to"):
        if value := getattr(properties, name):
            headers[name] = str(value)
    return DeadLetter(
        number=number, reason=reason, source_id=source_id, at_ns=int(at) if at.isdigit() else 0, body=message.body,
        headers=headers,
    )  # fmt: skip


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
