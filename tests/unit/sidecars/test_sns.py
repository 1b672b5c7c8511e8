"""SNS without SNS: whose certificates count, what was signed, what a definition of a subscription lacks; fuzzed."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ConfigError
from sidecars.core.identity import derive_id
from sidecars.core.kinds import Level, find_kind, read_settings
from sidecars.core.source import Settlement, Verb, Why
from sidecars.sources import sns_certificates as certificates
from sidecars.sources.http_models import HttpError
from sidecars.sources.sns_check import judge_subscription, judge_topic
from sidecars.sources.sns_message import Posted, may_certify, read, require_allowed, signed_text, to_delivery
from sidecars.sources.sns_settings import SnsSettings
from sidecars.sources.sqs_dead import ORIGINAL, parked
from sidecars.sources.sqs_message import published_ns
from tests.peers.sns import certificate_of

TOPIC = "arn:aws:sns:eu-west-1:123456789012:orders"
PEM = "/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
AT = "2026-08-24T09:15:02.114Z"
URL = "https://sns.eu-west-1.amazonaws.com" + PEM


def settings(**changes: Any) -> SnsSettings:
    """Return settings that work."""
    given_ = {"topics": [TOPIC], "principal": "desk", "dead_letter_queue": "dead", **changes}
    return msgspec.convert(given_, SnsSettings)


def posted(**changes: Any) -> Posted:
    """Return a notification."""
    fields = {
        "Type": "Notification", "MessageId": "id-1", "TopicArn": TOPIC, "Message": "{}", "Timestamp": AT,
        "SignatureVersion": "2", "Signature": "AAAA", "SigningCertURL": URL,
    }  # fmt: skip
    return read(msgspec.json.encode({**fields, **changes}))


# Whose certificates count


@pytest.mark.parametrize(
    ("topic", "url"),
    [
        (TOPIC, URL),
        (TOPIC.replace("eu-west-1", "us-gov-west-1").replace("aws:", "aws-us-gov:", 1),
         "https://sns.us-gov-west-1.amazonaws.com" + PEM),
        ("arn:aws-cn:sns:cn-north-1:123456789012:orders", "https://sns.cn-north-1.amazonaws.com.cn" + PEM),
    ],
)  # fmt: skip
def test_the_certificates_of_the_topics_region_count(topic: str, url: str) -> None:
    """Each partition has its host."""
    assert may_certify(url, topic, "")


@pytest.mark.parametrize(
    "url",
    [
        URL.replace("https", "http"),
        URL.replace("sns.", "sns.evil."),
        URL.replace("eu-west-1", "eu-west-2"),
        URL.replace(".com/", ".com.evil.example/"),
        URL.replace("sns.eu-west-1.amazonaws.com", "sns.s3.amazonaws.com"),
        URL.replace(".com/", ".com:443/"),
        URL.replace("https://", "https://user@"),
        URL.replace("https://", "https://evil.example/"),
        URL.replace("sns.", "SNS."),
        URL.replace(".com/", ".com./"),
        URL.replace(PEM, "/../" + PEM[1:]),
        URL.replace(PEM, "/bucket" + PEM),
        URL.replace(".pem", ".pem/x"),
        URL.replace("0123", "..%2f"),
        URL + "?",
        URL + "#",
        URL + "\n",
        " " + URL,
        URL.replace("/Simple", "\\Simple"),
        URL.replace("e", "\u0435", 1),
        "https://[" + PEM,
        "https://sns.eu-west-1.amazonaws.com" + PEM.replace("0", "0" * 2_000),
        "",
    ],
)
def test_no_other_certificate_counts(url: str) -> None:
    """Neither a near name, nor another way to write it, nor another file there."""
    assert not may_certify(url, TOPIC, "")
    assert not may_certify(url, TOPIC, "https://vpce.example")


def test_an_endpoint_that_the_environment_names_may_certify_too() -> None:
    """For test servers: exactly that scheme, host and port."""
    here = "http://127.0.0.1:4566"
    assert may_certify(here + "/_aws/sns" + PEM, TOPIC, here)
    assert not may_certify(here.replace("4566", "4567") + PEM, TOPIC, here)
    assert not may_certify(here.replace("http", "https") + PEM, TOPIC, here)
    assert not may_certify(here + "/any.pem", TOPIC, here)


# What was signed


def test_what_was_signed_is_each_field_that_is_there_in_order() -> None:
    """As AWS documents it, with a subject, without one, and of a confirmation."""
    assert (
        signed_text(posted())
        == (f"Message\n{{}}\nMessageId\nid-1\nTimestamp\n{AT}\nTopicArn\n{TOPIC}\nType\nNotification\n").encode()
    )
    assert (
        signed_text(posted(Subject="s", MessageAttributes={"a": {"Type": "String", "Value": "v"}}))
        == (
            f"Message\n{{}}\nMessageId\nid-1\nSubject\ns\nTimestamp\n{AT}\nTopicArn\n{TOPIC}\nType\nNotification\n"
        ).encode()
    )
    confirmation = posted(Type="SubscriptionConfirmation", Token="t", SubscribeURL="u", Subject="not signed")
    assert (
        signed_text(confirmation)
        == (
            f"Message\n{{}}\nMessageId\nid-1\nSubscribeURL\nu\nTimestamp\n{AT}\nToken\nt\nTopicArn\n{TOPIC}\n"
            "Type\nSubscriptionConfirmation\n"
        ).encode()
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"TopicArn": TOPIC + "2"}, "TOPIC"),
        ({"SignatureVersion": "1"}, "SIGNATURE_VERSION"),
        ({"Timestamp": "2026-08-24T08:15:01.999Z"}, "TIMESTAMP"),
        ({"Timestamp": "2026-08-24T09:20:03.000Z"}, "TIMESTAMP"),
        ({"Timestamp": "2026-08-24T09:15:02"}, "TIMESTAMP"),
        ({"SigningCertURL": "https://evil.example" + PEM}, "CERTIFICATE_URL"),
    ],
)
def test_what_breaks_the_settings_is_refused(changes: dict[str, str], code: str) -> None:
    """Before anything is fetched; the code says which."""
    now_ns = published_ns(AT)
    require_allowed(posted(), settings(), now_ns, "")
    with pytest.raises(HttpError) as refused:
        require_allowed(posted(**changes), settings(), now_ns, "")

    assert (refused.value.status, refused.value.body.code) == (403, code)


@given(st.binary())
def test_no_body_makes_the_reading_fail(body: bytes) -> None:
    """Whatever is posted and is no notification, which nothing random is, is refused."""
    with pytest.raises(HttpError) as refused:
        read(body)

    assert refused.value.status == 400


@given(st.fixed_dictionaries(
    {name: st.text() for name in ("MessageId", "TopicArn", "Message", "Timestamp", "SignatureVersion", "Signature")}
    | {"Type": st.sampled_from(["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]),
       "SigningCertURL": st.text() | st.text().map(URL.__add__)},
    optional={"Subject": st.none() | st.text(), "Token": st.none() | st.text()},
))  # fmt: skip
def test_no_post_makes_the_checks_fail(fields: dict[str, Any]) -> None:
    """Whatever stands in it is allowed, or refused with its reason; what was signed can always be told."""
    found = read(msgspec.json.encode(fields))
    assert signed_text(found).endswith(f"Type\n{fields['Type']}\n".encode())
    with pytest.raises(HttpError):
        require_allowed(found, settings(), published_ns(AT), "")


def test_a_notification_is_the_same_order_as_in_a_queue() -> None:
    """Its id is that of an SNS envelope in SQS: over both ways it is one order."""
    found = to_delivery(settings(), posted(), 1, print, 5, 9)

    assert found.derived_id == derive_id("sns", TOPIC, "id-1")
    assert (found.created_at_ns, found.lane, found.body) == (published_ns(AT), "orders", b"{}")


def test_a_dead_letter_says_where_it_came_from() -> None:
    """The topic, the id, the time and the reason stand beside the message as it came."""
    found = to_delivery(settings(), posted(Message="x"), 1, print, 5, 9)
    letter = parked(Settlement(found, Verb.DEAD_LETTER, why=Why.MALFORMED, text="FIELD: x"), TOPIC, "dead")
    original = msgspec.json.decode(letter["MessageAttributes"][ORIGINAL]["StringValue"])

    assert (letter["MessageBody"], original["queue"], original["message_id"]) == ("x", TOPIC, "id-1")


# Certificates


def test_certificates_that_are_over_or_weak_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expired: refused. A short key, or none of RSA: as if it could not be had."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    files = {"good": certificate_of(key), "over": certificate_of(key, -1), "short": certificate_of(short),
             "none": b"-----BEGIN", "curve": certificate_of(ec.generate_private_key(ec.SECP256R1()))}  # type: ignore[arg-type]  # fmt: skip
    monkeypatch.setattr(certificates, "fetch_pem", files.__getitem__)

    async def codes() -> list[int]:
        known = certificates.Certificates("sns")
        found = []
        for name in files:
            try:
                await known.get(name)
                found.append(200)
            except HttpError as e:
                found.append(e.status)
        known.stop()
        return found

    assert asyncio.run(codes()) == [200, 403, 503, 503, 503]


def test_what_is_kept_of_certificates_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names ever new files fills nothing."""

    def fail(_url: str) -> bytes:
        raise OSError("no")

    monkeypatch.setattr(certificates, "fetch_pem", fail)

    async def run() -> None:
        known = certificates.Certificates("sns")
        for n in range(3 * certificates.KEPT_MAX):
            with pytest.raises(HttpError):
                await known.get(str(n))
        assert len(known._failed) == certificates.KEPT_MAX
        assert known._fetching == {}
        known.stop()

    asyncio.run(run())


# Settings and check


def test_settings_are_checked_before_anything_is_called() -> None:
    """A topic that is none, one file of two, times that do not fit."""
    kind = find_kind("sns")
    good = {"topics": [TOPIC], "principal": "desk", "dead_letter_queue": "dead"}
    for bad, said in (
        ({"topics": [TOPIC + ".fifo"]}, "topics"),
        ({"topics": []}, "topics"),
        ({"certificate_file": "x"}, "key_file"),
        ({"hold_ms": 10_000}, "hold_ms"),
        ({"reply_queue": "dead"}, "reply_queue"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_settings(kind, "sns", {**good, **bad})


def test_what_a_topic_and_its_subscription_lack_is_said() -> None:
    """A version that is refused here, raw delivery, no dead letter queue, plain HTTP."""
    throttled = '{"throttlePolicy": {"maxReceivesPerSecond": 50}}'
    good = {"RedrivePolicy": "{}", "DeliveryPolicy": throttled, "Protocol": "https"}

    def worst(attributes: dict[str, str]) -> Level:
        return max((f.level for f in judge_subscription("s", attributes)), default=Level.FINE)

    assert worst(good) is Level.FINE
    assert worst({**good, "DeliveryPolicy": "{"}) is Level.ADVICE
    for bad in ({"RawMessageDelivery": "true"}, {"Protocol": "http"}, {"RedrivePolicy": ""}):
        assert worst({**good, **bad}) is Level.FAULT
    assert [f.level for f in judge_topic(TOPIC, {}, settings())] == [Level.FAULT]
    assert [f.level for f in judge_topic(TOPIC, {}, settings(signature_versions=["1"]))] == [Level.ADVICE]
    assert [f.level for f in judge_topic(TOPIC, {"SignatureVersion": "2"}, settings())] == [Level.FINE]
