"""Pub/Sub without Pub/Sub: what a message becomes, what single ids of a call that failed do, several of a key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import grpc
import msgspec
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.pubsub_v1.types import pubsub as types
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ConfigError
from sidecars.core.awake import Awake
from sidecars.core.decode import derived_id_of
from sidecars.core.identity import derive_id
from sidecars.core.kinds import Level
from sidecars.core.letters import REPLAYED
from sidecars.core.source import Delivery, Settlement, Verb, Why
from sidecars.sources.pubsub import PubSubSource
from sidecars.sources.pubsub_check import judge
from sidecars.sources.pubsub_dead import ATTRIBUTES_MAX, KEY, ORIGINAL, REASON, VALUE_BYTES_MAX, Original, parked
from sidecars.sources.pubsub_link import DONE, IDS_MAX, LOST, Link, Stream, in_calls, is_misconfigured, words_of
from sidecars.sources.pubsub_message import LANE_CHARS_MAX, to_delivery
from sidecars.sources.pubsub_settings import TOPICS, PubSubSettings, path_of, paths_of

S = 1_000_000_000
TOPIC = "projects/desk/topics/orders"
SUBSCRIPTION = "projects/desk/subscriptions/orders"


def settings(**changes: Any) -> PubSubSettings:
    """Return settings that work."""
    given_ = {
        "subscription": SUBSCRIPTION, "topic": TOPIC, "principal": "desk",
        "dead_letter_topic": "projects/desk/topics/dead",
        "dead_letter_subscription": "projects/desk/subscriptions/dead", **changes,
    }  # fmt: skip
    return msgspec.convert(given_, PubSubSettings)


def received(n: int = 1, key: str = "", body: bytes = b"{}", attempt: int = 0, **attributes: str) -> Any:
    """Return a message as Pub/Sub hands it over."""
    message = types.PubsubMessage(data=body, attributes=attributes, message_id=f"id-{n}", ordering_key=key)
    plain = types.PubsubMessage.pb(message)
    plain.publish_time.seconds, plain.publish_time.nanos = 1_700_000_000, 5
    return types.ReceivedMessage.pb(types.ReceivedMessage(ack_id=f"ack-{n}", message=message, delivery_attempt=attempt))


def delivery_of(message: Any, **changes: Any) -> Delivery:
    """Return the delivery of a message."""
    return to_delivery("desk", paths_of(settings(**changes)), message, 1, 5, 1 << 62)


# What a message becomes


def test_a_message_has_the_id_of_its_topic_and_the_time_it_was_published() -> None:
    """DECISIONS 17: topic and messageId; Pub/Sub's own time; the ordering key is the lane."""
    found = delivery_of(received(key="k" * 300, attempt=2))

    assert derived_id_of(found) == derive_id("pubsub", TOPIC, "id-1")
    assert found.created_at_ns == 1_700_000_000 * S + 5
    assert found.lane == "k" * LANE_CHARS_MAX
    assert found.is_redelivered


def test_what_was_put_back_keeps_its_id_and_its_time() -> None:
    """Pub/Sub gives it a new message_id and a new time: those of its first life stand in an attribute."""
    first = msgspec.json.encode({"message_id": "id-first", "created_at_ns": 7}).decode()
    found = delivery_of(received(**{REPLAYED: first}))

    assert derived_id_of(found) == derive_id("pubsub", TOPIC, "id-first")
    assert (found.created_at_ns, found.receipt.source_id) == (7, "id-first")
    assert delivery_of(received(**{REPLAYED: "{"})).refused.startswith("REPLAY")


def test_answers_go_where_they_may() -> None:
    """A topic that the settings allow, by name or path; the results topic for who asks for none; else refused."""
    reply_to = ["projects/desk/topics/desk-*"]
    results = "projects/desk/topics/results"

    assert delivery_of(received(reply_to="desk-1"), reply_to=reply_to).reply_to == "projects/desk/topics/desk-1"
    assert delivery_of(received(), reply_to=reply_to, results_topic=results).reply_to == results
    assert delivery_of(received()).reply_to == ""
    for other in ("elsewhere", "projects/other/topics/desk-1"):
        assert delivery_of(received(reply_to=other), reply_to=reply_to).refused.startswith("REPLY_TO")


@given(
    st.binary(max_size=64),
    st.text(st.characters(codec="utf-8"), max_size=64),
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=9) | st.just(REPLAYED) | st.just("reply_to"),
                    st.text(st.characters(codec="utf-8"), max_size=64), max_size=150),
    st.text(max_size=3_000),
)  # fmt: skip
def test_whatever_comes_is_a_delivery_and_can_be_parked(
    body: bytes, key: str, attributes: dict[str, str], why: str
) -> None:
    """No message breaks the translation, and the dead letter of each is one that Pub/Sub takes."""
    message = received(key=key, body=body)
    message.message.attributes.update(attributes)
    delivery = delivery_of(message)
    letter = types.PubsubMessage.pb(parked(Settlement(delivery, Verb.DEAD_LETTER, text=why), SUBSCRIPTION))

    assert delivery.refused == "" or delivery.refused.partition(":")[0] in {"REPLAY", "REPLY_TO"}
    assert letter.data == body
    assert len(letter.attributes) <= ATTRIBUTES_MAX
    assert 1 <= len(letter.attributes[REASON].encode()) <= VALUE_BYTES_MAX
    assert letter.attributes.get(KEY, "") == key


def test_what_a_dead_letter_leaves_out_is_told() -> None:
    """Pub/Sub takes a hundred attributes, three of which are ours."""
    delivery = delivery_of(received(**{f"a{n:03d}": "x" for n in range(100)}))
    letter = types.PubsubMessage.pb(parked(Settlement(delivery, Verb.DEAD_LETTER, text="why"), SUBSCRIPTION))
    original = msgspec.json.decode(letter.attributes[ORIGINAL], type=Original)

    assert (original.left_out, original.message_id, original.created_at_ns) == (3, "id-1", 1_700_000_000 * S + 5)


def test_one_call_has_one_ordering_key_and_what_fits() -> None:
    """Pub/Sub refuses a publish with two ordering keys, with more than a thousand messages or ten megabytes."""
    keyed = [types.PubsubMessage(data=b"x", ordering_key=key) for key in ("a", "a", "b", "a")]
    large = [types.PubsubMessage(data=bytes(4 << 20)) for _ in range(5)]

    assert [len(call) for call in in_calls(keyed)] == [2, 1, 1]
    assert [len(call) for call in in_calls(large)] == [2, 2, 1]
    assert [len(call) for call in in_calls([types.PubsubMessage(data=b"x")] * 1_001)] == [1_000, 1]
    assert in_calls([]) == []


# Settings


def test_names_stand_in_the_project_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name needs it, a path does not; a path of another kind is refused."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "desk")
    assert path_of(TOPICS, "orders") == TOPIC
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    assert path_of(TOPICS, TOPIC) == TOPIC
    for wrong in ("orders", SUBSCRIPTION, "topics/orders"):
        with pytest.raises(ConfigError):
            path_of(TOPICS, wrong)


def test_settings_that_can_not_work_are_named() -> None:
    """Dead letters that would come back as orders, or as answers."""
    dead = "projects/desk/topics/dead"

    assert settings().problems() == []
    assert settings(dead_letter_topic=TOPIC).problems()[0].startswith("dead_letter_topic")
    assert settings(results_topic=TOPIC).problems()[0].startswith("results_topic")
    assert settings(reply_to=[dead]).problems()[0].startswith("dead_letter_topic")
    assert settings(dead_letter_subscription=SUBSCRIPTION).problems()[0].startswith("dead_letter_subscription")


def test_a_subscription_that_would_break_a_promise_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pushed, detached, short-lived, of another topic, with a deadline that Google refuses: each by its name."""
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    good = types.Subscription.pb(
        types.Subscription(
            topic=TOPIC, enable_message_ordering=True, ack_deadline_seconds=10,
            dead_letter_policy=types.DeadLetterPolicy(dead_letter_topic="projects/desk/topics/dead",
                                                      max_delivery_attempts=50),
            expiration_policy=types.ExpirationPolicy(),
        )
    )  # fmt: skip
    good.message_retention_duration.seconds = 7 * 86_400
    bad = types.Subscription.pb(
        types.Subscription(
            topic="projects/desk/topics/other", push_config=types.PushConfig(push_endpoint="https://x"), detached=True
        )
    )

    def levels(of: Any, **changes: Any) -> dict[str, Level]:
        return {f.what: f.level for f in judge(of, settings(**changes), paths_of(settings(**changes)))}

    assert set(levels(good).values()) == {Level.FINE}
    assert {what for what, level in levels(bad, ack_deadline_s=5).items() if level is Level.FAULT} == {
        "topic", "push_config", "detached", "ack_deadline_s", "message_retention_duration",
    }  # fmt: skip


# Calls that fail for some


def failure(code: grpc.StatusCode, **of_ids: str) -> grpc.aio.AioRpcError:
    """Return the error of a call, as Pub/Sub words it with exactly-once delivery."""
    info = error_details_pb2.ErrorInfo(
        reason="EXACTLY_ONCE_ACKID_FAILURE", metadata={k.replace("_", "-"): v for k, v in of_ids.items()}
    )
    detail = AnyMessage()
    detail.Pack(info)
    status = status_pb2.Status(code=code.value[0], message="some failed", details=[detail] if of_ids else [])
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, "some failed")


def test_an_error_that_names_ids_is_of_those_alone() -> None:
    """The others have succeeded; what is no longer good is lost; what may succeed later is to be tried again."""
    error = failure(
        grpc.StatusCode.FAILED_PRECONDITION, ack_2="PERMANENT_FAILURE_INVALID_ACK_ID",
        ack_3="TRANSIENT_FAILURE_UNORDERED_ACK_ID",
    )  # fmt: skip

    assert words_of(error, ["ack-1", "ack-2", "ack-3"]) == [DONE, LOST, "TRANSIENT_FAILURE_UNORDERED_ACK_ID"]
    plain = words_of(failure(grpc.StatusCode.UNAVAILABLE), ["ack-1", "ack-2"])
    assert [word in {DONE, LOST} for word in plain] == [False, False]
    assert words_of(TimeoutError(), ["ack-1"]) == ["TimeoutError"]


async def test_a_stream_that_is_refused_before_it_is_asked_says_why() -> None:
    """Google's client then only says that it is over: the reason is asked for."""

    class Over:
        async def write(self, _request: object) -> None:
            raise asyncio.InvalidStateError

        async def _none(self) -> str:
            return "no such thing"

        async def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.NOT_FOUND

        initial_metadata = trailing_metadata = details = _none

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await Stream(Over(), types.StreamingPullRequest()).begin()
    assert is_misconfigured(caught.value)


class _Link:
    """Answers as a test says; notes what it was asked."""

    def __init__(self, **words: str) -> None:
        self.words = {name.replace("_", "-"): word for name, word in words.items()}
        self.acknowledged: list[Sequence[str]] = []
        self.modified: list[tuple[Sequence[str], int]] = []
        self.published: list[types.PubsubMessage] = []
        self.publish_error: BaseException | None = None

    async def acknowledge(self, _path: str, ids: Sequence[str]) -> list[str]:
        self.acknowledged.append(ids)
        return [self.words.get(i, DONE) for i in ids]

    async def modify(self, _path: str, ids: Sequence[str], seconds: int) -> list[str]:
        self.modified.append((ids, seconds))
        return [self.words.get(i, DONE) for i in ids]

    async def publish(self, _topic: str, messages: Sequence[types.PubsubMessage]) -> list[BaseException | None]:
        self.published += messages
        return [self.publish_error] * len(messages)


def source_with(link: _Link, count: int, key: str = "") -> tuple[PubSubSource, list[Delivery]]:
    """Return a source that has received so many messages."""
    source = PubSubSource("p", settings())
    source._link = link  # type: ignore[assignment]

    source._awake = Awake(time.monotonic_ns())
    response = types.StreamingPullResponse.pb(types.StreamingPullResponse())
    response.received_messages.extend(received(n, key) for n in range(1, count + 1))
    source._on_response(response)
    return source, list(source._take(count))


async def test_of_a_call_that_failed_for_some_only_those_are_tried_again() -> None:
    """C10: one of ten fails for now, one for ever: nine have ended, one of them lost."""
    link = _Link(ack_3="TRANSIENT_FAILURE_OTHER", ack_7=LOST)
    source, deliveries = source_with(link, 10)
    ends = [Settlement(d, Verb.ACCEPT) for d in deliveries]

    assert list(await source.settle(ends)) == [ends[2]]
    assert [s.is_lost for s in ends].index(True) == 6
    link.words.clear()
    assert list(await source.settle([ends[2]])) == []
    assert link.acknowledged[1] == ["ack-3"]
    assert len(source._unsettled) == 0


async def test_an_extension_that_fails_is_told_and_what_is_lost_is_given_up() -> None:
    """C11: one fails for now and keeps its lease, one is refused for good, the others are extended."""
    source, deliveries = source_with(_Link(ack_1="UNAVAILABLE: away", ack_2=LOST), 3)
    for delivery in deliveries:
        delivery.lease_until_mono_ns = 77

    assert list(await source.extend(deliveries)) == deliveries[:2]
    assert [d.lease_until_mono_ns for d in deliveries[:2]] == [77, 1]
    assert deliveries[2].lease_until_mono_ns > time.monotonic_ns()
    assert source.fault() == "UNAVAILABLE: away"


async def test_what_is_given_back_goes_newest_first() -> None:
    """Several of a key are under way in a drain: the broker must have the later ones before the earlier ones."""
    link = _Link()
    source, deliveries = source_with(link, 3, key="k")
    ends = [Settlement(d, Verb.RETRY, why=Why.DRAINING) for d in deliveries]
    assert list(await source.settle(ends)) == []

    assert link.modified == [(["ack-3", "ack-2", "ack-1"], 0)]


async def test_nothing_is_given_back_after_its_lease() -> None:
    """R2: another has it by then; what is decided is acknowledged even so, which saves a redelivery."""
    link = _Link()
    source, deliveries = source_with(link, 3)
    for delivery in deliveries:
        delivery.lease_until_mono_ns = 1
    verbs = (Verb.ACCEPT, Verb.RETRY, Verb.DEAD_LETTER)
    ends = [Settlement(d, verb, why=Why.DRAINING) for d, verb in zip(deliveries, verbs, strict=True)]
    assert list(await source.settle(ends)) == []

    assert (link.acknowledged, link.modified, link.published) == ([["ack-1"]], [], [])
    assert [s.is_lost for s in ends] == [False, True, True]
    assert len(source._unsettled) == 0


async def test_what_can_not_be_parked_is_not_settled() -> None:
    """A dead letter that Pub/Sub did not take is tried again, and its message stays."""
    link = _Link()
    link.publish_error = TimeoutError()
    source, (delivery,) = source_with(link, 1)
    end = Settlement(delivery, Verb.DEAD_LETTER, text="why")

    assert list(await source.settle([end])) == [end]
    assert link.acknowledged == []


async def test_many_settles_go_in_calls_that_pub_sub_takes() -> None:
    """At most a thousand ids a call."""
    link = _Link()
    source, deliveries = source_with(link, IDS_MAX + 1)
    assert list(await source.settle([Settlement(d, Verb.ACCEPT) for d in deliveries])) == []

    assert [len(ids) for ids in link.acknowledged] == [IDS_MAX, 1]


def test_the_stand_in_has_what_the_link_has() -> None:
    """A call that is renamed there must not live on here."""
    assert {n for n in vars(_Link) if not n.startswith("_")} <= set(vars(Link))
