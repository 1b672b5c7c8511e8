"""Kinesis without AWS: who may read which shard, when a lease is over, what a record becomes, what is read again."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from structlog import get_logger

from protocol.errors import ConfigError
from sidecars.core.identity import derive_id
from sidecars.core.source import Delivery, Settlement, Verb, Why
from sidecars.core.window import Receipt, Window
from sidecars.sources.kinesis import KinesisSource
from sidecars.sources.kinesis_check import judge_retention
from sidecars.sources.kinesis_dead import ORIGINAL, PART_CHARS, join, parked, split
from sidecars.sources.kinesis_keeper import Keeper
from sidecars.sources.kinesis_leases import NOBODY, SHARD_END, Lease, LeaseTable
from sidecars.sources.kinesis_letters import letters_of
from sidecars.sources.kinesis_link import Link, Read, Shard, Stream
from sidecars.sources.kinesis_plan import Watch, forgotten, startable, wishes
from sidecars.sources.kinesis_reading import Reading
from sidecars.sources.kinesis_records import KPL_MAGIC, Replayed, delivery_of, put_back
from sidecars.sources.kinesis_settings import KinesisSettings

STREAM = Stream("orders", "arn:aws:kinesis:eu-west-1:1:stream/orders", 1_700_000_000, 24)
AT = datetime(2026, 8, 24, 9, 15, 2, 114_000, UTC)
MS = 1_000_000
WITHIN_S = 10.0
TURNS = 10


def settings(**changes: Any) -> KinesisSettings:
    """Return settings that work."""
    given_ = {"stream": "orders", "principal": "desk", "lease_table": "leases", "dead_letter_queue": "dead", **changes}
    return msgspec.convert(given_, KinesisSettings)


def record(data: bytes = b"{}", number: int = 7, key: str = "k") -> dict[str, Any]:
    """Return a record as boto3 gives it."""
    return {"Data": data, "SequenceNumber": str(number), "PartitionKey": key, "ApproximateArrivalTimestamp": AT}


def delivered(data: bytes, number: int = 7, key: str = "k") -> Delivery:
    """Return the delivery of a record of shard s."""
    found = record(data, number, key)
    receipt = Receipt(Window(0), number, found)
    return delivery_of(found, receipt, STREAM, settings(), "s", 5, 9)


# What a record becomes


def test_a_record_has_the_id_of_its_place_and_the_time_it_arrived() -> None:
    """DECISIONS 17: stream ARN, creation time, shard, number; Kinesis' own time."""
    found = delivered(b"{}")

    assert found.derived_id == derive_id("kinesis", STREAM.arn, "1700000000", "s", "7")
    assert found.created_at_ns == 1_787_562_902_114 * MS
    assert (found.unit, found.lease_until_mono_ns) == ("s", 9)
    assert found.lane == delivered(b"x", 8).lane != delivered(b"x", 8, "another").lane


def test_what_was_put_back_keeps_its_id_and_its_time() -> None:
    """Its new number and time do not count: those of its first life stand in its first line."""
    found = delivered(put_back(Replayed("s0/3", 11), b'{"a":\n1}'), 99)

    assert found.derived_id == derive_id("kinesis", STREAM.arn, "1700000000", "s0", "3")
    assert (found.body, found.created_at_ns, found.refused) == (b'{"a":\n1}', 11, "")
    assert delivered(b"x-wojak-replay []\n{}").refused.startswith("REPLAY: ")


@pytest.mark.parametrize("body", [KPL_MAGIC, KPL_MAGIC + b"x" * 40, put_back(Replayed("s/1", 1), KPL_MAGIC + b"x")])
def test_an_aggregate_is_refused(body: bytes) -> None:
    """Whatever follows the four bytes, also when it was put back."""
    assert delivered(body).refused.startswith("AGGREGATED: ")


@given(st.binary() | st.binary().map(lambda b: b"x-wojak-replay " + b), st.text(max_size=256))
def test_no_record_makes_the_translation_fail(data: bytes, key: str) -> None:
    """Whatever a producer puts is a delivery, refused or not."""
    found = delivered(data, key=key)

    assert found.body == data or data.startswith((b"x-wojak-replay", KPL_MAGIC))
    assert found.derived_id


# Dead letters


@given(st.binary(max_size=2_000) | st.text(max_size=500).map(str.encode))
def test_a_body_comes_out_of_its_letter_as_it_went_in(body: bytes) -> None:
    """Texts as they are, everything else encoded; never an empty text."""
    parts, is_base64 = split(body)

    assert join(parts, is_base64=is_base64) == body
    assert all(parts)


def test_a_large_body_goes_in_parts_and_is_one_letter_when_all_are_there() -> None:
    """Parts may come in any order, and twice; a letter that lacks one is not shown."""
    body = bytes(range(256)) * 3_000
    delivery = delivered(body)
    end = Settlement(delivery, Verb.DEAD_LETTER, why=Why.MALFORMED, text="too large \x00")
    sent = [
        {**m, "Body": m["MessageBody"], "MessageId": str(n), "ReceiptHandle": str(n),
         "Attributes": {"SentTimestamp": "5"}}
        for n, m in enumerate(parked(end, STREAM, "dead.fifo"))
    ]  # fmt: skip
    (letter,) = letters_of([*reversed(sent), sent[0]])

    assert len(sent) == -(-len(body) * 4 // 3 // PART_CHARS)
    assert (letter.body, letter.reason, letter.original.place) == (body, "too large ?", "s/7")
    assert len(letter.handles) == len(sent) + 1
    assert letters_of(sent[1:]) == []
    assert len({m["MessageDeduplicationId"] for m in sent}) == len(sent)


def test_a_letter_of_somebody_else_is_shown_too() -> None:
    """What has none of our attributes, or a broken one, is a letter with what SQS knows of it."""
    broken = {ORIGINAL: {"DataType": "String", "StringValue": "["}}
    sent = [
        {"MessageId": str(n), "ReceiptHandle": "h", "Body": "x", "MessageAttributes": a, "Attributes": {}}
        for n, a in enumerate(({}, broken))
    ]

    assert [x.body for x in letters_of(sent)] == [b"x", b"x"]


# Leases


class Rows:
    """A table of one shard, "s", that anybody may take and release."""

    def __init__(self) -> None:
        self.row = Lease("s")
        self.renewals: list[str] = []
        self.is_asked = threading.Event()
        self.may_write = threading.Event()
        self.fails = False

    def rows(self) -> dict[str, Lease]:
        """Return it."""
        return {"s": self.row}

    def take(self, lease: Lease, owner: str, lease_ms: int) -> Lease:
        """Have another owner."""
        self.row = structs.replace(lease, owner=owner, epoch=lease.epoch + 1, lease_ms=lease_ms)
        return self.row

    def release(self, lease: Lease, checkpoint: str) -> None:
        """Have no owner, and a checkpoint."""
        self.row = structs.replace(lease, owner=NOBODY, checkpoint=checkpoint)

    def renew(self, lease: Lease, checkpoint: str) -> Lease:
        """Have a checkpoint, once it may be written, unless writes fail."""
        self.renewals.append(checkpoint)
        self.is_asked.set()
        assert self.may_write.wait(WITHIN_S)
        if self.fails:
            raise OSError("away")
        self.row = structs.replace(lease, counter=lease.counter + 1, checkpoint=checkpoint)
        return self.row


class Shards:
    """A stream of one shard."""

    def describe(self) -> Stream:
        """Return the stream."""
        return STREAM

    def shards(self) -> dict[str, Shard]:
        """Return its shard."""
        return {"s": Shard("s", ())}


async def test_what_is_saved_as_a_shard_is_let_go_is_settled_and_not_lost() -> None:
    """A settlement may wait for its turn to save: the release has done that, only what was not answered is lost."""
    rows = Rows()
    table, link = cast("LeaseTable", rows), cast("Link", Shards())
    keeper = Keeper(settings(), link, "me", get_logger(), on_changed=lambda: None, table_of=lambda _: table)
    await keeper.open()
    reading = keeper.readings["s"]
    answered, unanswered = (reading.hand_out(record(number=n)) for n in (7, 9))
    reading.window.answer(answered)

    await keeper.close()

    assert (rows.row.owner, rows.row.checkpoint) == (NOBODY, "7")
    assert answered.offset < reading.window.committed <= unanswered.offset


@pytest.mark.parametrize("fails", [False, True])
async def test_who_waits_to_save_a_shard_is_saved_by_the_next_write(fails: bool) -> None:
    """One write of a row at a time: the next one has all that was answered meanwhile; one that fails is tried later."""
    rows = Rows()
    rows.fails = fails
    table, link = cast("LeaseTable", rows), cast("Link", Shards())
    keeper = Keeper(settings(), link, "me", get_logger(), on_changed=lambda: None, table_of=lambda _: table)
    await keeper.open()
    reading = keeper.readings["s"]
    saves = []
    for n in (7, 8, 9):
        reading.window.answer(reading.hand_out(record(number=n)))
        saves.append(asyncio.create_task(keeper.save([reading], only_due=True)))
        assert await asyncio.to_thread(rows.is_asked.wait, WITHIN_S)
    for _ in range(TURNS):
        await asyncio.sleep(0)  # the others come to wait
    rows.may_write.set()

    assert await asyncio.gather(*saves) == [[reading] if fails else []] * 3
    assert rows.renewals == (["7"] if fails else ["7", "9"])
    await keeper.close()


def test_a_lease_is_over_when_its_row_has_not_moved_for_its_time() -> None:
    """On the observer's own clock, from the end of the first look to the beginning of the last; a move begins anew."""
    watch = Watch(1_000)
    row = Lease("s", "a", 1, lease_ms=2_000)
    watch.note([row], 10 * MS)
    assert not watch.is_over(row, 2_009 * MS)
    assert watch.is_over(row, 2_010 * MS)
    watch.note([row], 2_011 * MS)
    assert watch.is_over(row, 2_012 * MS)
    moved = Lease("s", "a", 2, lease_ms=500)
    assert not watch.is_over(moved, 9_000 * MS)  # never seen before: nobody knows since when it is so
    watch.note([moved], 3_000 * MS)
    assert not watch.is_over(moved, 3_999 * MS)  # its own time is shorter than ours
    assert watch.is_over(moved, 4_000 * MS)


def test_a_shard_is_read_when_all_its_parents_are_at_their_end_or_forgotten() -> None:
    """A merged one has two; one that the stream does not list any more has nothing to wait for."""
    rows = {
        "a": Lease("a", checkpoint=SHARD_END), "b": Lease("b", checkpoint="5"),
        "ab": Lease("ab", parents=("a", "b")), "a2": Lease("a2", parents=("a",)), "c": Lease("c", parents=("old",)),
        "d": Lease("d", parents=("unknown",)),
    }  # fmt: skip
    listed = {*rows, "unknown"}

    assert {r.shard for r in startable(rows, listed)} == {"b", "a2", "c"}
    assert {r.shard for r in startable(rows, listed - {"b", "unknown"})} == {"ab", "a2", "c", "d"}
    assert forgotten(rows, listed) == []
    assert [r.shard for r in forgotten(rows, {"ab"})] == []
    assert [r.shard for r in forgotten(rows, {"c"})] == ["a"]


@given(
    st.integers(1, 12), st.integers(1, 5), st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=60),
)  # fmt: skip
def test_whoever_comes_and_goes_every_shard_has_one_owner_and_fair_shares(
    shards: int, sidecars: int, events: list[tuple[int, bool]]
) -> None:
    """After any history: all looking in turn ends with each shard held by one who lives, shares one apart at most."""
    rows = {str(n): Lease(str(n)) for n in range(shards)}
    alive: set[str] = set()

    def look(me: str, *, has_waited: bool = False) -> bool:
        over = {s for s, r in rows.items() if r.owner not in alive and (r.owner != NOBODY or has_waited)}
        held = {s for s, r in rows.items() if r.owner == me}
        for shard in held:
            if rows[shard].wanted_by != NOBODY:  # let go: nothing of it is unanswered
                rows[shard] = msgspec.structs.replace(rows[shard], owner=NOBODY)
                return True
        take, ask = wishes(list(rows.values()), me, held, over)
        for row in take:
            rows[row.shard] = msgspec.structs.replace(row, owner=me, wanted_by=NOBODY)
        for row in ask:
            rows[row.shard] = msgspec.structs.replace(row, wanted_by=me)
        return bool(take or ask)

    for who, lives in events:
        name = f"w{who % sidecars}"
        (alive.add if lives else alive.discard)(name)
        if lives:
            look(name)
    alive.update(f"w{n}" for n in range(sidecars))
    for _ in range(4 * shards + 4):
        moved = [look(me) for me in sorted(alive)]
        if not any(moved):  # in the time of a lease what is free and kept for somebody is over
            moved = [look(me, has_waited=True) for me in sorted(alive)]
        if not any(moved):
            break
    loads = [sum(r.owner == me for r in rows.values()) for me in alive]

    assert not any(look(me) for me in sorted(alive))
    assert sum(loads) == shards
    assert max(loads) - min(loads) <= 1


# A shard that is held


def held(checkpoint: str = "") -> Reading:
    """Return a shard that is ours for a while."""
    reading = Reading(Lease("s", "me", 1, 1, checkpoint), 0)
    reading.extend(reading.lease, 0, 1_000, reading.window.committed)
    return reading


def read(reading: Reading, first: int, last: int, iterator: str = "i") -> list[Receipt]:
    """Have a shard read and hand out records with these numbers; return their receipts."""
    turn = reading.begin_read(10)
    records = [record(b"", n) for n in range(first, last + 1)]
    assert reading.take_read(Read(records, iterator, 0), turn)
    reading.end_read()
    receipts = []
    while reading.buffer:
        receipt = reading.hand_out(reading.buffer.popleft())
        receipt.delivery = Delivery("p", "l", b"", 0, 0, lease_until_mono_ns=reading.until_ns, receipt=receipt)
        receipts.append(receipt)
    return receipts


def test_a_checkpoint_is_the_last_number_before_which_all_is_answered() -> None:
    """Answers may come in any order; a shard begins where its row says."""
    reading = held("5")
    assert (reading.after, reading.checkpoint, held().after, held().checkpoint) == (5, "5", -1, "")
    first, second, third = read(reading, 11, 13)
    reading.window.answer(second)
    assert reading.checkpoint == "5"
    reading.window.answer(first)
    assert reading.checkpoint == "12"
    assert not reading.is_done
    reading.window.answer(third)
    assert (reading.checkpoint, reading.after) == ("13", 13)


def test_a_shard_is_at_its_end_only_when_all_of_it_is_answered() -> None:
    """Its last read brings no iterator; what it brought must have an end first."""
    reading = held()
    (last,) = read(reading, 11, 11, iterator="")
    assert (reading.is_read, reading.is_done) == (True, False)
    reading.window.answer(last)
    assert reading.is_done


def test_what_is_given_back_is_read_again_from_the_oldest_unanswered() -> None:
    """What is behind it too; a read that was under way is not wanted any more, and the leases of the old ones end."""
    reading = held()
    first, second, third = read(reading, 11, 13)
    reading.window.answer(first)
    turn = reading.begin_read(10)
    given_up = [r.delivery for r in (second, third)]
    reading.read_again()

    assert not reading.take_read(Read([record(b"", 14)], "i", 0), turn)
    assert (reading.after, reading.iterator, len(reading.buffer)) == (11, "", 0)
    assert [d.lease_until_mono_ns for d in given_up if d] == [1, 1]
    assert (reading.window.is_due, reading.checkpoint) == (True, "11")


def test_what_was_not_handed_out_is_forgotten_and_the_rest_goes_on() -> None:
    """A stopped shard keeps nothing here: it is read again behind what was handed out."""
    reading = held()
    (first,) = read(reading, 11, 11)
    reading.take_read(Read([record(b"", 12)], "", 0), reading.turn)
    assert reading.is_read
    reading.forget_buffer()

    assert (reading.after, reading.is_read, first.window.is_fenced) == (11, False, False)


def test_a_renewal_moves_the_lease_of_all_that_is_unanswered() -> None:
    """And none of what is lost."""
    reading = held()
    first, second = read(reading, 11, 12)
    reading.window.answer(first)
    reading.extend(reading.lease, 5, 2_000, reading.window.watermark)
    assert second.delivery is not None
    assert second.delivery.lease_until_mono_ns == 2_000
    assert not reading.window.is_due
    delivery = second.delivery
    reading.lose()

    assert (delivery.lease_until_mono_ns, reading.window.is_fenced) == (1, True)


# Settings


@pytest.mark.parametrize("changes", [{"checkpoint_ms": 3_000}, {"lease_table": "orders"}])
def test_settings_that_can_not_work_together_are_refused(changes: dict[str, Any]) -> None:
    """Before anything is called."""
    with pytest.raises(ConfigError):
        KinesisSource("k", settings(**changes))


def test_a_short_retention_is_told() -> None:
    """What waits longer than that vanishes unseen."""
    assert "24 h" in judge_retention(24).text
    assert judge_retention(168).text == "168 h"
