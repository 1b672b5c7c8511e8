"""What is pushed to us, opened, and who may push: whatever comes, it is let in, refused, or asked to come again."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.pubsub_v1.types import pubsub as types
from hypothesis import given
from hypothesis import strategies as st

from sidecars.core.kinds import Level
from sidecars.sources.http_models import HttpError
from sidecars.sources.pubsub_push_api import read
from sidecars.sources.pubsub_push_check import judge
from sidecars.sources.pubsub_push_settings import PubSubPushSettings
from sidecars.sources.pubsub_push_tokens import AGAIN_NS, SigningKeys, Tokens
from sidecars.sources.pubsub_settings import paths_of

S = 1_000_000_000
URL = "https://orders.example/pubsub"
ACCOUNT = "pusher@desk.iam.gserviceaccount.com"


def settings(**changes: Any) -> PubSubPushSettings:
    """Return settings that work."""
    given_ = {
        "subscription": "projects/desk/subscriptions/orders", "topic": "projects/desk/topics/orders",
        "principal": "desk", "audience": URL, "service_account": ACCOUNT,
        "dead_letter_topic": "projects/desk/topics/dead",
        "dead_letter_subscription": "projects/desk/subscriptions/dead", **changes,
    }  # fmt: skip
    return msgspec.convert(given_, PubSubPushSettings)


def envelope(**changes: Any) -> bytes:
    """Return a push as Pub/Sub makes it, but for ``changes`` to its message."""
    message = {
        "data": base64.b64encode(b"{}").decode(), "attributes": {"a": "b"}, "messageId": "1", "orderingKey": "k",
        "publishTime": "2023-11-14T22:13:20.123456789Z", "publish_time": "another spelling of it", **changes,
    }  # fmt: skip
    return msgspec.json.encode({"message": message, "subscription": "s", "deliveryAttempt": 3})


def test_a_push_is_read_to_the_nanosecond() -> None:
    """Data, attributes, id, key and time are the message's own."""
    received, subscription = read(envelope())
    message = received.message

    assert (message.data, dict(message.attributes), message.message_id, message.ordering_key) == (
        b"{}", {"a": "b"}, "1", "k",
    )  # fmt: skip
    assert (message.publish_time.seconds, message.publish_time.nanos) == (1_700_000_000, 123_456_789)
    assert (received.delivery_attempt, subscription) == (3, "s")


@pytest.mark.parametrize("changes", [{"data": "?"}, {"publishTime": "now"}, {"messageId": 7}, {"attributes": [1]}])
def test_what_pub_sub_does_not_make_is_refused(changes: dict[str, Any]) -> None:
    """Each with what was expected."""
    with pytest.raises(HttpError) as caught:
        read(envelope(**changes))
    assert (caught.value.status, caught.value.body.code) == (400, "ENVELOPE")


@given(st.binary(max_size=200) | st.text().map(lambda s: envelope(data=s)) | st.integers().map(lambda n: envelope(k=n)))
def test_whatever_is_pushed_is_read_or_refused(body: bytes) -> None:
    """No body breaks the endpoint."""
    status = 200
    try:
        read(body)
    except HttpError as e:
        status = e.status

    assert status in {200, 400}


@given(st.binary(max_size=100) | st.lists(st.binary(max_size=30).map(base64.urlsafe_b64encode), min_size=2, max_size=4)
       .map(b".".join))  # fmt: skip
def test_whatever_token_comes_is_refused(token: bytes) -> None:
    """No token breaks the endpoint; only a good one passes."""
    keys = SigningKeys("p", "/nowhere")
    keys._known, keys._fetched_ns, keys._fresh_until_ns = {"k": "no certificate"}, time.monotonic_ns(), 1 << 62
    waiting = Tokens(keys, URL, ACCOUNT).require(b"Bearer " + token)
    with pytest.raises(HttpError) as caught:
        waiting.send(None)
    keys.stop()

    assert caught.value.status == 401


async def test_keys_come_from_a_file_too_and_are_read_again(tmp_path: Path) -> None:
    """A file that is not there is waited for; a key that is not known has it read again, but not at once."""
    where = tmp_path / "keys.json"
    keys = SigningKeys("p", str(where))
    try:
        with pytest.raises(HttpError) as caught:
            await keys.get("a")
        assert caught.value.status == 503
        where.write_text('{"a": "x"}')
        assert await keys.get("a") == {"a": "x"}
        where.write_text('{"b": "y"}')
        assert await keys.get("b") == {"a": "x"}
        keys._fetched_ns -= AGAIN_NS
        assert await keys.get("b") == {"b": "y"}
    finally:
        keys.stop()


def test_a_subscription_that_would_break_a_promise_is_a_fault() -> None:
    """No endpoint, another account or audience, a raw body, a deadline shorter than ours: each by its name."""
    push = types.PushConfig(
        push_endpoint=URL, oidc_token=types.PushConfig.OidcToken(service_account_email=ACCOUNT, audience="")
    )
    good = types.Subscription.pb(
        types.Subscription(
            topic="projects/desk/topics/orders", ack_deadline_seconds=10, push_config=push,
            expiration_policy=types.ExpirationPolicy(),
            dead_letter_policy=types.DeadLetterPolicy(
                dead_letter_topic="projects/desk/topics/dead", max_delivery_attempts=50
            ),
        )
    )  # fmt: skip
    good.message_retention_duration.seconds = 7 * 86_400
    paths = paths_of(settings().places())

    def faults(of: Any, **changes: Any) -> set[str]:
        return {f.what for f in judge(of, settings(**changes), paths) if f.level is Level.FAULT}

    assert {f.level for f in judge(good, settings(), paths)} == {Level.FINE}
    assert faults(good, audience="x", request_ms=10_000) == {"audience", "ack_deadline_seconds"}
    assert faults(good, service_account="eve@x") == {"service_account"}
    raw = types.Subscription.pb(types.Subscription(push_config=types.PushConfig(push_endpoint="http://x")))
    raw.push_config.no_wrapper.write_metadata = True
    assert {"topic", "push_config", "service_account", "no_wrapper"} <= faults(raw)


def test_settings_that_can_not_work_are_named() -> None:
    """As of the pulled form, and half a certificate, or a hold longer than a request."""
    assert settings().problems() == []
    assert settings(key_file="k").problems()[0].startswith("certificate_file")
    assert settings(hold_ms=9_000).problems()[0].startswith("hold_ms")
    assert settings(dead_letter_topic="projects/desk/topics/orders").problems()[0].startswith("dead_letter_topic")
