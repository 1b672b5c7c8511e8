"""Settings of one Kinesis stream as a source."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from protocol.orders import Name

Text = Annotated[str, Meta(min_length=1, max_length=255)]


class KinesisSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one Kinesis stream.

    Attributes:
        stream: The stream that orders come from, by name.
        principal: Who its orders speak for; the engine knows what that may trade.
        lease_table: The DynamoDB table that says which sidecar reads which shard, and how far; it exists.
        dead_letter_queue: Where refused records go, with the reason: name or URL of an SQS queue that exists.
        group: All sidecars that share the work have the same one; another group reads everything for itself.
        content_type: What the data of every record is, as records can't say it: empty = an order or an array of them;
            `application/cloudevents+json` = an event with either; `application/cloudevents-batch+json` = some events.
        prefetch: The most unanswered records held here.
        lease_ms: Who is silent so long loses its shards to the others.
        checkpoint_ms: The least time between two checkpoints of a shard.
        poll_ms: The least time between two reads of a shard. AWS allows five a second, of all its readers together.
        pollers: Reads at a time.
        discover_ms: How often shards are listed; the end of one is noticed at once.
    """

    stream: Annotated[str, Meta(pattern="^[a-zA-Z0-9_.-]{1,128}$")]
    principal: Name
    lease_table: Annotated[str, Meta(pattern="^[a-zA-Z0-9_.-]{3,255}$")]
    dead_letter_queue: Text
    group: Annotated[str, Meta(pattern="^[a-zA-Z0-9_.-]{1,64}$")] = "wojak"
    content_type: Literal["", "application/cloudevents+json", "application/cloudevents-batch+json"] = ""
    prefetch: Annotated[int, Meta(ge=1, le=100_000)] = 2_000
    lease_ms: Annotated[int, Meta(ge=1_000, le=600_000)] = 10_000
    checkpoint_ms: Annotated[int, Meta(ge=0, le=10_000)] = 200
    poll_ms: Annotated[int, Meta(ge=1, le=60_000)] = 200
    pollers: Annotated[int, Meta(ge=1, le=32)] = 4
    discover_ms: Annotated[int, Meta(ge=500, le=600_000)] = 10_000

    def problems(self) -> list[str]:
        """Return what can't work together, one line each."""
        found = []
        if self.checkpoint_ms * 4 > self.lease_ms:
            text = f"expected at most a quarter of lease_ms ({self.lease_ms}), was {self.checkpoint_ms}"
            found.append(f"checkpoint_ms: {text}")
        if self.lease_table == self.stream:
            found.append(f"lease_table: expected a table of DynamoDB, was the stream's name {self.stream!r} too")
        return found
