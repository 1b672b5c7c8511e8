"""SQS without SQS: what a message becomes, what single entries of a call that failed do, leases of a frozen process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ConfigError
from sidecars.core.awake import Awake
from sidecars.core.identity import derive_id
from sidecars.core.letters import REPLAYED
from sidecars.core.replies import may_reply
from sidecars.core.source import Delivery, Settlement, Verb, Why
from sidecars.sources import sqs as module
from sidecars.sources.sqs_check import judge, receives_of
from sidecars.sources.sqs_dead import ORIGINAL, REASON, in_calls, parked
from sidecars.sources.sqs_link import DONE, LOST, Queue
from sidecars.sources.sqs_message import published_ns, to_delivery
from sidecars.sources.sqs_settings import SqsSettings

ARN = "arn:aws:sqs:eu-west-1:1:orders"
TOPIC = "arn:aws:sns:eu-west-1:1:orders"
S = 1_000_000_000


def settings(**changes: Any) -> SqsSettings:
    """Return settings that work."""
    given_ = {"queue": "orders", "principal": "desk", "dead_letter_queue": "dead", **changes}
    return msgspec.convert(given_, SqsSettings)


def message(body: str = "{}", n: int = 1, **attributes: str) -> dict[str, Any]:
    """Return a message as boto3 gives it."""
    return {
        "MessageId": f"id-{n}", "ReceiptHandle": f"handle-{n}", "Body": body,
        "Attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1700000000123", "MessageGroupId": "g"},
        "MessageAttributes": {k: {"DataType": "String", "StringValue": v} for k, v in attributes.items()},
    }  # fmt: skip


def delivery_of(sent: Mapping[str, Any], lease_until_ns: int = 1 << 62, number: int = 1, **changes: Any) -> Delivery:
    """Return the delivery of a message."""
    return to_delivery(settings(**changes), ARN, dict(sent), number, 5, lease_until_ns)


# What a message becomes


def test_a_message_has_the_id_of_its_queue_and_the_time_it_was_sent() -> None:
    """DECISIONS 17: queue ARN and MessageId; SQS's own time."""
    found = delivery_of(message())

    assert found.derived_id == derive_id("sqs", ARN, "id-1")
    assert found.created_at_ns == 1_700_000_000_123_000_000
    assert (found.lane, delivery_of(message(), queue="orders.fifo").lane) == ("orders", "g")


def test_one_message_of_a_topic_has_one_id_in_each_queue() -> None:
    """The inner MessageId counts: several queues, and SNS's own retries, are the same order."""
    envelope = {"Type": "Notification", "MessageId": "i", "TopicArn": TOPIC, "Message": "[]",
                "Timestamp": "2026-08-24T09:15:02.114Z"}  # fmt: skip
    first, second = (
        to_delivery(settings(envelope="sns", topics=[TOPIC]), arn, message(msgspec.json.encode(envelope).decode(), n),
                    1, 5, 9)
        for n, arn in enumerate((ARN, ARN + "2"))
    )  # fmt: skip

    assert first.derived_id == second.derived_id == derive_id("sns", TOPIC, "i")
    assert (first.body, first.refused) == (b"[]", "")
    assert first.created_at_ns == published_ns("2026-08-24T09:15:02.114Z") == 1_787_562_902_114_000_000


def test_what_was_put_back_keeps_its_id_and_its_time() -> None:
    """SQS gives it a new MessageId and a new time: those of its first life stand in an attribute."""
    first = msgspec.json.encode({"message_id": "id-first", "created_at_ns": 7}).decode()
    found = delivery_of(message(**{REPLAYED: first}))

    assert (found.derived_id, found.created_at_ns) == (derive_id("sqs", ARN, "id-first"), 7)
    assert delivery_of(message(**{REPLAYED: "[]"})).refused.startswith("REPLAY: ")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{}", "ENVELOPE: body"),
        ("not json", "ENVELOPE: body"),
        ("[" * 50_000, "ENVELOPE: body"),
        ({"Type": "SubscriptionConfirmation"}, "ENVELOPE: Type"),
        ({"TopicArn": "another"}, "ENVELOPE: TopicArn"),
        ({"Timestamp": "yesterday"}, "ENVELOPE: Timestamp"),
        ({"Timestamp": "2026-08-24T09:15:02"}, "ENVELOPE: Timestamp"),
        ({"Timestamp": "1926-08-24T09:15:02Z"}, "ENVELOPE: Timestamp"),
    ],
)
def test_what_is_no_envelope_is_refused_with_its_reason(body: str | dict[str, str], said: str) -> None:
    """Each thing that may be wrong is named."""
    good = {"Type": "Notification", "MessageId": "i", "TopicArn": TOPIC, "Message": "{}",
            "Timestamp": "2026-08-24T09:15:02.114Z"}  # fmt: skip
    text = body if isinstance(body, str) else msgspec.json.encode({**good, **body}).decode()

    assert delivery_of(message(text), envelope="sns", topics=[TOPIC]).refused.startswith(said)


@given(st.text(), st.dictionaries(st.text(min_size=1), st.text(), max_size=4), st.booleans())
def test_no_message_makes_the_translation_fail(body: str, attributes: dict[str, str], is_wrapped: bool) -> None:
    """Whatever a producer sends is a delivery, refused or not."""
    changes = {"envelope": "sns", "topics": [TOPIC]} if is_wrapped else {}
    found = delivery_of(message(body, **attributes), **changes)

    assert found.body == body.encode("utf-8", "surrogatepass") or found.refused or is_wrapped


def test_answers_go_only_where_they_may() -> None:
    """A name, or all that begin so."""
    assert may_reply("a-1", ["a-*"])
    assert not may_reply("b-1", ["a-*"])
    assert delivery_of(message(reply_to="x")).refused.startswith("REPLY_TO: ")
    assert delivery_of(message(reply_to="x"), reply_to=["x"]).reply_to == "x"


def test_a_task_token_is_answered_where_that_is_set_and_refused_where_not() -> None:
    """Somebody waits for it; beside an address for answers nobody could say which of the two counts."""
    assert delivery_of(message(task_token="t"), task_tokens=True).reply_to == "task-token:t"
    for found in (
        delivery_of(message(task_token="t")),
        delivery_of(message(task_token="t", reply_to="x"), task_tokens=True, reply_to=["x"]),
        delivery_of(message(task_token="t" * 2_049), task_tokens=True),
    ):
        assert found.refused.startswith("TASK_TOKEN: ")
        assert found.reply_to == ""


# What is sent


def test_calls_have_at_most_ten_messages_and_what_sqs_takes() -> None:
    """Ten small ones in one call, large ones alone."""
    small = {"MessageBody": "x", "MessageAttributes": {}}
    large = {"MessageBody": "x" * 200_000, "MessageAttributes": {}}

    assert [len(call) for call in in_calls([small] * 25)] == [10, 10, 5]
    assert [len(call) for call in in_calls([large] * 3)] == [1, 1, 1]


def test_a_reason_that_sqs_does_not_take_is_made_readable() -> None:
    """Control characters of a poisonous message come into the reason; the dead letter is sent all the same."""
    end = Settlement(delivery_of(message()), Verb.DEAD_LETTER, why=Why.MALFORMED, text="was '\x00\ud800'")
    letter = parked(end, ARN, "dead.fifo")

    assert letter["MessageAttributes"][REASON]["StringValue"] == "was '??'"
    assert msgspec.json.decode(letter["MessageAttributes"][ORIGINAL]["StringValue"])["message_id"] == "id-1"
    assert letter["MessageDeduplicationId"] == "id-1-dead"


# What single entries do


class StubLink:
    """Answers as a test says; each call is noted."""

    def __init__(self, *_: Any) -> None:
        self.calls: list[tuple[str, list[Any]]] = []
        self.words: dict[str, str] = {}
        self.is_closed = False

    def resolve(self, _queue: str) -> Queue:
        return Queue("url", ARN)

    def url_of(self, queue: str) -> str:
        return queue

    def delete(self, _url: str, handles: list[str]) -> list[str]:
        self.calls.append(("delete", list(handles)))
        return [self.words.get(handle, DONE) for handle in handles]

    def set_visibility(self, _url: str, wanted: list[tuple[str, int]]) -> list[str]:
        self.calls.append(("visibility", list(wanted)))
        return [self.words.get(handle, DONE) for handle, _ in wanted]

    def send(self, _url: str, messages: list[dict[str, Any]]) -> list[str]:
        self.calls.append(("send", [m["MessageBody"] for m in messages]))
        return [self.words.get(m["MessageBody"], DONE) for m in messages]

    def waiting(self, _url: str) -> int:
        return 0

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
async def source(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An open source whose calls are answered by ``StubLink``."""
    monkeypatch.setattr(module, "Link", StubLink)
    made = module.SqsSource("sqs", settings(queue="orders.fifo", visibility_s=10))
    await made.open(None)  # type: ignore[arg-type]  # it asks nothing
    yield made
    await made.close()


def ends(verb: Verb, count: int, why: Why = Why.NONE, until_ns: int = 1 << 62) -> list[Settlement]:
    """Return settlements of messages 1 to ``count``."""
    return [
        Settlement(delivery_of(message(str(n), n), until_ns, n, queue="orders.fifo"), verb, why=why)
        for n in range(1, count + 1)
    ]


async def test_only_the_entry_that_failed_is_tried_again(source: Any) -> None:
    """Ten deletes in a call, one throttled, one lost: the first comes back to the loop, the second is marked."""
    source._link.words = {"handle-3": "Throttled: slow down", "handle-5": LOST}
    done = ends(Verb.ACCEPT, 10)
    failed = await source.settle(done)

    assert [s.delivery.source_id for s in failed] == ["id-3"]
    assert [s.delivery.source_id for s in done if s.is_lost] == ["id-5"]


async def test_what_could_not_be_parked_is_not_deleted(source: Any) -> None:
    """The dead letter queue refuses one of two: its message stays."""
    source._link.words = {"2": "InternalError: sorry"}
    failed = await source.settle(ends(Verb.DEAD_LETTER, 2))

    assert [s.delivery.source_id for s in failed] == ["id-2"]
    assert source._link.calls == [("send", ["1", "2"]), ("delete", ["handle-1"])]


async def test_nothing_is_given_back_after_its_lease(source: Any) -> None:
    """A lost delivery is never settled negatively; decided, it is deleted late, which only saves a redelivery."""
    now_ns = time.monotonic_ns()
    lost = ends(Verb.RETRY, 1, Why.DRAINING, now_ns - 1)
    await source.settle([*lost, *ends(Verb.ABANDON, 1, Why.LEASE_OVER), *ends(Verb.DEAD_LETTER, 1, until_ns=1)])
    await source.settle(ends(Verb.ACCEPT, 1, until_ns=1))

    assert lost[0].is_lost
    assert source._link.calls == [("delete", ["handle-1"])]


async def test_a_drain_gives_back_at_once_and_the_newest_first(source: Any) -> None:
    """Visibility 0 for each, the latest received first, so that a group begins with its oldest."""
    await source.settle(ends(Verb.RETRY, 3, Why.DRAINING))

    assert source._link.calls == [("visibility", [("handle-3", 0), ("handle-2", 0), ("handle-1", 0)])]


async def test_a_group_comes_again_as_a_whole_after_a_growing_delay(source: Any) -> None:
    """All of a lane stay away equally long: half to all of the back-off of the one received most often."""
    held = ends(Verb.RETRY, 2, Why.ENGINE_BUSY)
    held[0].delivery.receipt.receives = 4
    await source.settle(held)
    ((_, wanted),) = source._link.calls
    first, second = (seconds for _, seconds in wanted)

    assert first == second
    assert 4 <= first <= 8


async def test_an_extension_that_fails_is_told_and_a_lost_one_ends_the_lease(source: Any) -> None:
    """C11: what failed keeps its lease and is tried again; what SQS has taken back is given up at once."""
    source._link.words = {"handle-2": "InternalError: sorry", "handle-3": LOST}
    held = [delivery_of(message(n=n), 1_000, n) for n in (1, 2, 3)]
    failed = await source.extend(held)

    assert failed == held[1:]
    assert held[0].lease_until_mono_ns > time.monotonic_ns() + 7 * S
    assert [d.lease_until_mono_ns for d in held[1:]] == [1_000, 1]


# Leases, settings


def test_what_arrives_after_a_freeze_is_counted_from_before_it() -> None:
    """Nobody knows when it was sent: its lease is as short as it may be."""
    awake = Awake(0)
    awake.beat(S // 10)
    assert awake.counted_from(S // 5) == S // 5
    assert awake.counted_from(9 * S) == S // 10  # woken, the loop has not noticed yet
    awake.beat(9 * S)
    assert awake.counted_from(9 * S + 1) == S // 10
    assert awake.counted_from(9 * S - 1) == S // 10
    awake.beat(9 * S + S // 2)
    assert awake.counted_from(10 * S + S // 2) == 10 * S + S // 2


@pytest.mark.parametrize(
    "changes",
    [{"dead_letter_queue": "orders"}, {"envelope": "sns"}, {"topics": [TOPIC]}, {"retry_s": 9, "retry_max_s": 3}],
)
def test_settings_that_can_not_work_together_are_refused(changes: dict[str, Any]) -> None:
    """Before anything is called."""
    with pytest.raises(ConfigError):
        module.SqsSource("sqs", settings(**changes))


def test_check_reads_redrive_policies_as_consoles_write_them() -> None:
    """A number or a text; what can't be read counts as none."""
    assert [receives_of(p) for p in ('{"maxReceiveCount":5}', '{"maxReceiveCount":"5"}', "x")] == [5, 5, 0]
    told = {f.what: f.text for f in judge({"DelaySeconds": "5", "MessageRetentionPeriod": "90000"}, settings())}
    assert "5 s late" in told["DelaySeconds"]
    assert "long weekend" in told["MessageRetentionPeriod"]
