"""The dedup table against a dict, its bounds, its memory; keys and order ids."""

from __future__ import annotations

import mmap

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import Core
from engine.dedup import SLOT_BYTES, DedupTable, KeyHash, payload_hash, value_of
from engine.settings import EngineSettings
from protocol.codes import Mode, OrderStatus
from tests.unit.engine.desk import Desk

keys = st.tuples(st.integers(1, 12), st.integers(0, 3))
steps = st.lists(st.tuples(st.sampled_from(("put", "state", "replace")), keys, st.integers(0, 2**56 - 1)), max_size=80)


@settings(max_examples=200, deadline=None)
@given(steps=steps)
def test_the_table_is_a_dict(steps: list[tuple[str, tuple[int, int], int]]) -> None:
    """Any sequence, with keys that meet in their first word and in their slot."""
    table, model = DedupTable(16, 40), dict[tuple[int, int], tuple[int, int, OrderStatus]]()
    mask = table._mask
    for kind, (low, high), number in steps:
        key = (low | (mask + 1) * (low & 1), high)  # half of them share a slot with a neighbour
        slot = table.find(*key)
        assert (slot >= 0) == (key in model)
        if kind == "put" and slot < 0:
            table.insert(-1 - slot, *key, number & 0xFFFF, value_of(number, OrderStatus.PENDING_NEW))
            model[key] = (number & 0xFFFF, number, OrderStatus.PENDING_NEW)
        elif kind == "state" and slot >= 0:
            table.set_state(slot, OrderStatus.FILLED)
            model[key] = (*model[key][:2], OrderStatus.FILLED)
        elif kind == "replace" and slot >= 0:
            table.replace(slot, 7, value_of(number, OrderStatus.REJECTED))
            model[key] = (7, number, OrderStatus.REJECTED)
    assert table.keys == len(model)
    for key, entry in model.items():
        assert table.entry(table.find(*key)) == entry


def test_full_comes_before_exhausted() -> None:
    """keys_max bounds new risk, the reserve behind it is for cancels and exits; then nothing more goes in."""
    table = DedupTable(4, 4)
    for n in range(1, 9):
        assert (table.is_full, table.is_exhausted) == (n > 4, False)
        table.insert(-1 - table.find(n, n), n, n, 0, 0)
    assert table.is_exhausted
    with pytest.raises(AssertionError):
        table.insert(-1 - table.find(99, 0), 99, 0, 0, 0)


def test_a_key_costs_at_most_64_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all it asks for, by the keys that fit; the default of four millions by what they are."""
    asked: list[int] = []
    real = mmap.mmap
    monkeypatch.setattr("engine.dedup.mmap.mmap", lambda fd, size: asked.append(size) or real(fd, size))
    table = DedupTable(10_000)
    assert asked == [(table._mask + 1) * SLOT_BYTES]
    assert asked[0] <= 64 * table.slots_max
    keys_max = next(f.default for f in msgspec.structs.fields(EngineSettings) if f.name == "dedup_keys_max")
    big = DedupTable(keys_max)
    assert asked[1] <= 64 * (big.slots_max)
    assert asked[1] <= 68 * keys_max


def test_the_content_hash_sees_every_key_and_state() -> None:
    """Equal tables have equal hashes, any difference shows."""
    one, two = DedupTable(100), DedupTable(100)
    assert one.content_hash() == two.content_hash()
    for table in (one, two):
        table.insert(-1 - table.find(5, 6), 5, 6, 7, value_of(8, OrderStatus.NEW))
    assert one.content_hash() == two.content_hash()
    two.set_state(two.find(5, 6), OrderStatus.FILLED)
    assert one.content_hash() != two.content_hash()


@given(
    one=st.tuples(st.text(min_size=1, max_size=9), st.text(min_size=1, max_size=9)),
    two=st.tuples(st.text(min_size=1, max_size=9), st.text(min_size=1, max_size=9)),
)
def test_other_names_have_other_keys(one: tuple[str, str], two: tuple[str, str]) -> None:
    """Account and client order id do not run together, unless an account's name held NUL, which none may."""
    hashes = KeyHash(b"k" * 32)
    if "\0" not in one[0] + two[0]:
        assert (hashes.key(*one) == hashes.key(*two)) == (one == two)


def test_the_secret_changes_every_key() -> None:
    """Nobody outside can choose two ids that meet."""
    assert KeyHash(b"k" * 32).key("a", "1") != KeyHash(b"l" * 32).key("a", "1")
    assert KeyHash(b"k" * 32).key("a", "1") == KeyHash(b"k" * 32).key("a", "1")
    assert payload_hash(b"one") != payload_hash(b"two")


def test_an_order_id_is_a_function_of_what_names_the_order() -> None:
    """The same inputs, the same id, in any process; another date, leg, attempt, account, id or secret, another."""
    ids = Desk().core.orders
    key = Desk().state.keys.key("a1", "x")[2]
    base = ids.order_id(key, 20260530)
    assert Desk().core.orders.order_id(key, 20260530) == base
    others = [
        ids.order_id(key, 20260531), ids.order_id(key, 20260530, 1), ids.order_id(key, 20260530, 0, 1),
        ids.order_id(key, 20260530, 2), ids.order_id(Desk().state.keys.key("a2", "x")[2], 20260530),
        ids.order_id(Desk().state.keys.key("a1", "y")[2], 20260530),
        ids.order_id(Desk(secret=b"s" * 32).state.keys.key("a1", "x")[2], 20260530),
    ]  # fmt: skip
    assert len({base, *others}) == 8


def test_an_order_id_fits_what_venues_take() -> None:
    """At most 36 characters, paper ones with their mark, whatever leg and attempt."""
    paper, live = Desk().core.orders, Desk(mode=Mode.LIVE).core.orders
    for ids in (paper, live):
        made = {ids.order_id(b"\xff" * 12, 99991231, leg, attempt) for leg in range(16) for attempt in (0, 1, 255)}
        assert len(made) == 48
        assert max(len(i) for i in made) <= 36
    assert paper.order_id(b"\xff" * 12, 20260530).startswith("P-")
    assert not live.order_id(b"\xff" * 12, 20260530).startswith("P-")
    with pytest.raises(AssertionError):
        paper.order_id(b"\xff" * 12, 20260530, 16)


def test_a_fresh_core_holds_nothing() -> None:
    """What the table costs before its first key is address space."""
    assert Core(1000).state.dedup.keys == 0
