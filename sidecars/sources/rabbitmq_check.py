"""``wojak sidecar check`` for RabbitMQ: rights, and settings of the queue that would break the promises.

AMQP tells nobody a queue's arguments, but refuses to declare it again with other ones and then names one that differs:
asked again and again, it names them all. That needs the right to configure the queue; without it, and for what a
policy sets, the finding says that it could not be seen. Nothing is created or changed: the queue is known to exist.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aio_pika
from aiormq.exceptions import ChannelPreconditionFailed, PublishError
from yarl import URL

from sidecars.core.kinds import Finding, Level
from sidecars.sources.rabbitmq_link import BROKEN, CONNECT_S, MISCONFIGURED, address
from sidecars.sources.rabbitmq_settings import RabbitMqSettings

ASKED_MAX: Final = 12
DELIVERIES_MIN: Final = 20
_INTEGERS: Final = frozenset({"long", "signedint", "unsignedint", "short", "unsignedshort", "byte", "unsignedbyte"})
_DIFFERS: Final = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for queue .*received (?:the value )?(?P<received>.*) but current is "
    r"(?:the value '(?P<value>[^']*)' of type '(?P<type>[^']*)'|(?P<none>none)|'?(?P<plain>[^']*)'?)"
)


async def check(name: str, settings: RabbitMqSettings) -> Sequence[Finding]:
    """Return what was looked at, and what to change."""
    url = address(settings.url_env, settings.heartbeat_s)
    found = [_encryption(url)]
    try:
        connection = await aio_pika.connect(url, timeout=CONNECT_S)
    except MISCONFIGURED as e:
        return [*found, Finding(Level.FAULT, "connection", f"refused: {e}; check user, password and virtual host")]
    except BROKEN as e:
        why = f"not reached: {str(e) or type(e).__name__}"
        why = f"{why}; see that the broker runs, and correct the address in {settings.url_env}"
        return [*found, Finding(Level.FAULT, "connection", why)]
    async with connection:
        found.append(Finding(Level.FINE, "connection", "the broker answers"))
        found += await _resources(connection, settings)
        if await _exists(connection, settings.queue):
            found += await _queue(connection, settings)
    return found


def _encryption(url: URL) -> Finding:
    if url.scheme == "amqps" or url.host in {"localhost", "127.0.0.1", "::1"}:
        return Finding(Level.FINE, "encryption", url.scheme)
    return Finding(Level.ADVICE, "encryption", "the address is amqp://, orders pass readable; use amqps://")


async def _exists(connection: aio_pika.abc.AbstractConnection, queue: str) -> bool:
    return not await _refusal(connection, queue)


async def _refusal(connection: aio_pika.abc.AbstractConnection, queue: str) -> str:
    channel = await connection.channel()
    try:
        await channel.declare_queue(queue, passive=True)
    except BROKEN as e:
        return str(e)
    await channel.close()
    return ""


async def _resources(connection: aio_pika.abc.AbstractConnection, settings: RabbitMqSettings) -> list[Finding]:
    found = []
    for queue in filter(None, (settings.queue, settings.dead_letter_queue, settings.retry_queue)):
        refusal = await _refusal(connection, queue)
        text = f"expected to be there, was not ({refusal}); make it" if refusal else "is there"
        found.append(Finding(Level.FAULT if refusal else Level.FINE, f"queue {queue}", text))
        if not refusal and queue == settings.queue:
            found.append(await _may_read(connection, queue))
    found.append(await _may_write(connection, settings.dead_letter_exchange))
    return found


async def _may_read(connection: aio_pika.abc.AbstractConnection, queue: str) -> Finding:
    """Take one message, if there is one, and give it back: nothing else shows the right to read."""
    channel = await connection.channel()
    underlay = await channel.get_underlay_channel()
    try:
        await underlay.basic_get(queue)
    except BROKEN as e:
        return Finding(Level.FAULT, "right to read", f"{e}; grant read on {queue}")
    await channel.close()
    return Finding(Level.FINE, "right to read", f"messages of {queue} can be taken")


async def _may_write(connection: aio_pika.abc.AbstractConnection, exchange: str) -> Finding:
    """Publish to the default exchange what nobody gets; of another exchange only see that it is there."""
    channel = await connection.channel(on_return_raises=True)
    underlay = await channel.get_underlay_channel()
    what = f"right to write to {exchange or 'the default exchange'}"
    try:
        if exchange:
            await underlay.exchange_declare(exchange, passive=True)
        else:
            await underlay.basic_publish(b"", routing_key=f"wojak-check-{secrets.token_hex(16)}", mandatory=True)
    except PublishError:
        pass  # returned, as it should be
    except BROKEN as e:
        return Finding(Level.FAULT, what, f"{e}; dead letters and replies need it")
    await channel.close()
    seen = "is there; whether dead letters may be published to it shows with the first" if exchange else "works"
    return Finding(Level.FINE, what, seen)


# The queue's own settings


async def _queue(connection: aio_pika.abc.AbstractConnection, settings: RabbitMqSettings) -> list[Finding]:
    arguments = await _arguments(connection, settings.queue)
    if arguments is None:
        text = "could not be seen without the right to configure the queue; compare them with docs/sources/rabbitmq.md"
        return [Finding(Level.ADVICE, "queue settings", text)]
    return judge(arguments, settings)


def judge(arguments: Mapping[str, Any], settings: RabbitMqSettings) -> list[Finding]:
    """Return what the arguments of the queue mean for the promises; what a policy sets does not stand in them."""
    found = []
    kind = arguments.get("x-queue-type", "classic")
    if kind == "quorum":
        found.append(Finding(Level.FINE, "x-queue-type", "quorum: survives the loss of a node"))
    else:
        found.append(Finding(Level.FAULT, "x-queue-type", f"expected quorum, was {kind}; an order can be lost with "
                             "its node: make a quorum queue and move the messages"))  # fmt: skip
    if "x-message-ttl" in arguments:
        found.append(Finding(Level.FAULT, "x-message-ttl", f"expected none, was {arguments['x-message-ttl']}; orders "
                             "vanish unseen: the engine refuses old ones by order_age_max, with a reason"))  # fmt: skip
    if arguments.get("x-overflow", "drop-head") == "drop-head" and (
        "x-max-length" in arguments or "x-max-length-bytes" in arguments
    ):
        found.append(Finding(Level.FAULT, "x-overflow", "expected reject-publish with a maximum length, was drop-head; "
                             "the oldest orders vanish when it is full"))  # fmt: skip
    if "x-expires" in arguments:
        found.append(Finding(Level.FAULT, "x-expires", "expected none; the queue vanishes when nobody reads it"))
    limit = arguments.get("x-delivery-limit")
    dead_letters = "x-dead-letter-exchange" in arguments
    if limit is not None and not dead_letters:
        found.append(
            Finding(
                Level.FAULT,
                "x-delivery-limit",
                f"{limit} without x-dead-letter-exchange: an order that "
                "came so often is dropped; set x-dead-letter-exchange, or see that a policy does",
            )
        )
    elif limit is None:
        found.append(
            Finding(
                Level.ADVICE,
                "x-delivery-limit",
                "none here; RabbitMQ 4 has one of 20 by itself: set "
                "one, with x-dead-letter-exchange, else an order that came so often is dropped",
            )
        )
    elif int(limit) < DELIVERIES_MIN:
        found.append(Finding(Level.ADVICE, "x-delivery-limit", f"{limit} is few: each restart of a sidecar counts; "
                             f"use {DELIVERIES_MIN} or more"))  # fmt: skip
    if dead_letters and arguments.get("x-dead-letter-strategy") != "at-least-once":
        found.append(Finding(Level.ADVICE, "x-dead-letter-strategy", "expected at-least-once (with x-overflow = "
                             "reject-publish), else the broker may lose what it dead-letters itself"))  # fmt: skip
    timeout_ms = arguments.get("x-consumer-timeout")
    if timeout_ms is not None and int(timeout_ms) < settings.consumer_timeout_ms:
        found.append(
            Finding(
                Level.FAULT,
                "x-consumer-timeout",
                f"expected at least consumer_timeout_ms "
                f"({settings.consumer_timeout_ms}), was {timeout_ms}; set consumer_timeout_ms to it",
            )
        )
    return found


async def _arguments(connection: aio_pika.abc.AbstractConnection, queue: str) -> dict[str, Any] | None:
    """Return the queue's arguments; None if they can't be asked for."""
    asked: dict[str, Any] = {}
    for _ in range(ASKED_MAX):
        channel = await connection.channel()
        try:
            await channel.declare_queue(queue, durable=True, arguments=asked)
        except ChannelPreconditionFailed as e:
            match = _DIFFERS.search(str(e))
            if match is None:
                return None
            value = match["value"] if match["value"] is not None else match["plain"]
            asked[match["name"]] = int(value) if match["type"] in _INTEGERS else value
        except BROKEN:
            return None
        else:
            await channel.close()
            return asked
    return None
