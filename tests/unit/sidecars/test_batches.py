"""Batches in the one loop: one delivery, many orders, one end; sizes, times and replies."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from protocol.errors import FieldError
from sidecars.core.decode import decode_delivery, items_of
from sidecars.core.replies import reply_body
from sidecars.core.source import Delivery, Verb
from tests.unit.sidecars.conftest import ORDER
from tests.unit.sidecars.test_loop import Running, running


def body(*strategies: str) -> bytes:
    """Return an array of orders; the small engine decides by the strategy."""
    return json.dumps([{**ORDER, "client_order_id": f"b{n}", "strategy": s} for n, s in enumerate(strategies)]).encode()


def put(it: Running, content: bytes, **fields: object) -> Delivery:
    """Have the broker hold a message."""
    delivery = it.broker.put()
    delivery.body = content
    for name, value in fields.items():
        setattr(delivery, name, value)
    return delivery


async def test_a_batch_ends_once_when_its_last_item_has(tmp_path: Path) -> None:
    """Every item has an outcome, in order; the source sees one settlement of the whole."""
    async with running(tmp_path) as it:
        put(it, body("ok", "refuse", "ok"))
        await it.until(lambda: it.broker.settled, "a settle")
        (end,) = it.broker.settled

        assert end.verb is Verb.ACCEPT
        assert [p.outcome and p.outcome.code.name for p in end.parts] == ["OK", "QTY_MAX", "OK"]
        assert len(it.peer.journal.items) == 3


async def test_a_batch_with_something_for_people_is_parked_once(tmp_path: Path) -> None:
    """What is good is carried out; the reason names each item that is not, by its index."""
    async with running(tmp_path) as it:
        put(it, body("ok", "forbidden")[:-1] + b',{"no":1}]')
        await it.until(lambda: it.broker.settled, "a settle")
        (end,) = it.broker.settled

        assert end.verb is Verb.DEAD_LETTER
        assert end.text.startswith("[1] AUTH_NOT_PERMITTED; [2] FIELD: ")
        assert ("acc", "b0") in it.peer.journal.outcomes


async def test_a_batch_that_is_not_decided_whole_is_not_settled(tmp_path: Path) -> None:
    """One item without an answer at the end of the drain: the whole is left, though others were accepted."""
    async with running(tmp_path) as it:
        put(it, body("ok", "mute"))
        await it.until(lambda: len(it.peer.journal.items) == 2, "two submits")
        it.loop.request_stop()
        await it.until(lambda: it.broker.settled, "an end")

        assert [end.verb for end in it.broker.settled] == [Verb.ABANDON]


async def test_the_lease_of_a_batch_is_extended_as_one(tmp_path: Path) -> None:
    """The source is asked for the message, not for its items, and each item lives as long as it."""
    async with running(tmp_path) as it:
        it.broker.lease_extend_ms = 100
        delivery = it.broker.put()
        delivery.body = body("mute", "mute")
        delivery.lease_until_mono_ns = delivery.received_mono_ns + 100_000_000
        await it.until(lambda: len(it.broker.extended) >= 3, "three extensions")

        assert all(d is delivery for d in it.broker.extended)
        assert it.broker.settled == []


async def test_replies_name_every_item(tmp_path: Path) -> None:
    """The answer to an array is an array in its order, with outcomes and errors."""
    async with running(tmp_path) as it:
        put(it, body("ok")[:-1] + b',{"no":1}]', reply_to="answers")
        await it.until(lambda: it.broker.settled, "a settle")
        (asked,) = it.broker.replied
        first, second = msgspec.json.decode(reply_body(asked))

        assert (first["outcome"], first["client_order_id"]) == ("ACCEPTED", "b0")
        assert second["error"]["code"] == "FIELD"
        assert asked.delivery.reply_to == ""  # published once


def test_a_message_that_is_too_large_is_refused_unread() -> None:
    """The limit is exact."""
    delivery = Delivery("p", "l", bytes(16), 1, 1, body=b" " * 100)
    items_of(delivery, 100)
    with pytest.raises(FieldError):
        items_of(delivery, 99)


def test_an_order_of_unknown_age_is_refused() -> None:
    """Neither the order nor its event nor the broker says when it was made: how old it is can't be judged."""
    order = json.dumps({**ORDER, "client_order_id": "x"}).encode()
    with pytest.raises(FieldError) as refused:
        decode_delivery(Delivery("p", "l", bytes(16), 0, 1, body=order))

    assert refused.value.field == "created_at_ns"
