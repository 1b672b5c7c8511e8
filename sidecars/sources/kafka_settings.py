"""Settings of the Kafka source."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from protocol.orders import Name

Topic = Annotated[str, Meta(min_length=1, max_length=249)]


class KafkaSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one Kafka topic.

    Attributes:
        topic: The topic that orders come from.
        group: The consumer group; all sidecars of this topic have the same one.
        principal: Who its orders speak for; the engine knows what that may trade.
        dead_letter_topic: Where refused records go, with the reason.
        incarnation: Part of derived ids; change it when the topic was deleted and made anew under its name.
        results_topic: Where the outcome of every order is published; empty = nowhere.
        reply_to: Topics that a record may name in its header `reply-to` for its answer; another one is refused.
        env_prefix: The environment variables with address and credentials begin with it: `KAFKA_BOOTSTRAP_SERVERS`, …
        prefetch: The most unanswered records held here.
        session_timeout_ms: Who is silent so long loses its partitions to the others of the group.
        rebalance_ms: The most that a rebalance waits for a member; half of it is for answers under way.
        commit_ms: The least time between two commits; 0 = the next is sent as soon as the one before is answered.
        metadata_ms: How often topics are looked at, so that new partitions are found.
        fetch_bytes_max: The most bytes that one fetch from one broker brings.
        lag_ms: How often the broker is asked how much waits, which also shows that it lives.
    """

    topic: Topic
    group: Annotated[str, Meta(min_length=1, max_length=255)]
    principal: Name
    dead_letter_topic: Topic
    incarnation: Annotated[str, Meta(min_length=1, max_length=64)] = "1"
    results_topic: Annotated[str, Meta(max_length=249)] = ""
    reply_to: tuple[Topic, ...] = ()
    env_prefix: Annotated[str, Meta(pattern="^[A-Z][A-Z0-9_]{0,63}$")] = "KAFKA"
    prefetch: Annotated[int, Meta(ge=1, le=100_000)] = 2_000
    session_timeout_ms: Annotated[int, Meta(ge=1_000, le=300_000)] = 10_000
    rebalance_ms: Annotated[int, Meta(ge=2_000, le=300_000)] = 15_000
    commit_ms: Annotated[int, Meta(ge=0, le=10_000)] = 0
    metadata_ms: Annotated[int, Meta(ge=500, le=600_000)] = 30_000
    fetch_bytes_max: Annotated[int, Meta(ge=64 << 10, le=64 << 20)] = 1 << 20
    lag_ms: Annotated[int, Meta(ge=100, le=600_000)] = 2_000

    def problems(self) -> list[str]:
        """Return what can't work together, one line each."""
        found = []
        ends = (("dead_letter_topic", self.dead_letter_topic), ("results_topic", self.results_topic))
        for name, topic in (*ends, *(("reply_to", t) for t in self.reply_to)):
            if topic == self.topic:
                found.append(f"{name}: expected another topic than topic, was {topic!r} too")
        if self.dead_letter_topic in {self.results_topic, *self.reply_to}:
            found.append(f"dead_letter_topic: expected a topic of its own, was one for answers: {self.results_topic!r}")
        return found
