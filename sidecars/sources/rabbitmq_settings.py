"""What a RabbitMQ source is told."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocol.orders import Name

Positive = Annotated[int, Meta(ge=1)]
Text = Annotated[str, Meta(min_length=1, max_length=255)]


class RabbitMqSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one RabbitMQ queue.

    Attributes:
        queue: The queue that orders come from; a quorum queue that exists.
        principal: Who its orders speak for; the engine knows what that may trade.
        dead_letter_queue: Where refused messages go, with the reason: the routing key on `dead_letter_exchange`.
        dead_letter_exchange: Exchange they are published to; empty = straight to the queue of that name.
        reply_to: Queues that a message may name for its answer; `name*` allows all that begin so. What names another
            is refused.
        url_env: Environment variable with the address: `amqps://user:password@host/vhost?cafile=…`.
        prefetch: Messages the broker may have unsettled here: the most this process ever holds.
        consumer_timeout_ms: The broker's (or the queue's) consumer time-out; what took 4/5 of it is given up.
        heartbeat_s: How often broker and sidecar show that they live; a dead link is noticed after three times that.
        retry_queue: Queue with a time-to-live that dead-letters back to `queue`; what the engine did not take within
            `hold_ms` waits there. Needs `hold_ms`.
        hold_ms: How long new risk waits here while the engine says RETRY before it goes to `retry_queue`; 0 = until
            the engine takes it.
        lag_ms: How often the broker is asked how much waits.
    """

    queue: Text
    principal: Name
    dead_letter_queue: Text
    dead_letter_exchange: Annotated[str, Meta(max_length=255)] = ""
    reply_to: tuple[Text, ...] = ()
    url_env: Text = "AMQP_URL"
    prefetch: Annotated[int, Meta(ge=1, le=65_535)] = 500
    consumer_timeout_ms: Positive = 1_800_000
    heartbeat_s: Annotated[int, Meta(ge=1, le=60)] = 5
    retry_queue: Annotated[str, Meta(max_length=255)] = ""
    hold_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0
    lag_ms: Annotated[int, Meta(ge=100, le=600_000)] = 5_000

    def problems(self) -> list[str]:
        """Return what can't work together, one line each."""
        found = []
        if self.dead_letter_queue == self.queue:
            found.append(f"dead_letter_queue: expected another queue than queue, was {self.queue!r} too")
        if bool(self.retry_queue) != bool(self.hold_ms):
            found.append(f"retry_queue and hold_ms: expected both or none, was {self.retry_queue!r} and {self.hold_ms}")
        return found
