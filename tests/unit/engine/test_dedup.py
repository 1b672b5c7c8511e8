"""The dedup table against a dict, its bounds, its memory; keys and order ids."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import Core
from engine.dedup import SLOT_BYTES, DedupTable, KeyHash, payload_hash, value_of
from engine.orders import Defer
from protocol.codes import Mode, OrderStatus, RetryReason, Side
from protocol.decisions import CancelDecision
from tests.unit.engine.desk import Desk

S = OrderStatus
OPEN = (OrderStatus.PENDING_NEW, OrderStatus.NEW, OrderStatus.PENDING_CANCEL, OrderStatus.UNKNOWN)
OVER = (OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.EXPIRED, OrderStatus.TOMBSTONE)
STATUSES = (*OPEN, *OVER)

keys = st.tuples(st.integers(1, 12), st.integers(0, 3))
kinds = st.sampled_from(("put", "put", "put", "state", "replace", "retire", "sweep"))
Step = tuple[str, tuple[int, int], int, OrderStatus]
steps = st.lists(st.tuples(kinds, keys, st.integers(0, 300), st.sampled_from(STATUSES)), max_size=80)
Model = dict[tuple[int, int], tuple[int, int, OrderStatus]]


@settings(max_examples=300, deadline=None)
@given(steps=steps)
def test_the_table_is_a_dict_that_forgets_what_is_over(steps: list[Step]) -> None:
    """Any sequence, with keys that meet in their first word and in their slot; what lives never moves."""
    table, model = DedupTable(16, 40), Model()
    slots: dict[tuple[int, int], int] = {}
    for kind, (low, high), number, status in steps:
        key = (low + table.slots * (low & 1) - (low == 12), high)  # half of them share a home with a neighbour
        slot = table.find(*key)
        assert (slot >= 0) == (key in model)
        if kind == "put" and slot < 0:
            table.insert(-1 - slot, *key, number, value_of(number, status))
            model[key] = (number, number, status)
        elif kind == "state" and slot >= 0:
            table.set_state(slot, status)
            model[key] = (*model[key][:2], status)
        elif kind == "replace" and slot >= 0:
            table.replace(slot, 7, value_of(number, OrderStatus.REJECTED))
            model[key] = (7, number, OrderStatus.REJECTED)
        elif kind == "retire":  # one part: what left was over and old, the rest is whole
            removed = table.retire(number % 5, 5, number)
            gone = [k for k in model if table.find(*k) < 0]
            assert len(gone) == removed
            assert all(model.pop(k)[1] < number for k in gone)
        elif kind == "sweep":
            removed = sum(table.retire(part, 7, number) for part in range(7))
            gone = [k for k, (_, at, state) in model.items() if at < number and state in OVER]
            assert removed == len(gone)
            for k in gone:
                del model[k]
        now = {k: table.find(*k) for k in model}
        slots = {k: at if model[k][2] in OVER else slots.get(k, at) for k, at in now.items()}
        assert all(table.find(*k) == at for k, at in slots.items())
        assert table.keys == len(model)
    for key, entry in model.items():
        assert table.entry(table.find(*key)) == entry


homes = st.lists(st.integers(0, 20), min_size=1, max_size=40)


@settings(deadline=None)
@given(living=homes, closed=homes)
def test_days_leave_nothing_behind_in_the_table(living: list[int], closed: list[int]) -> None:
    """After each day's sweep the table is as after the first: marks of deleted keys do not pile up."""
    table = DedupTable(96, 64)  # 40 that live, 40 that end, at most as many marks between them
    after: set[bytes] = set()
    for day in range(1, 6):
        for n, home in enumerate(closed):  # before and between those that live
            table.insert(-1 - table.find(home + 1, 100 * day + n), home + 1, 100 * day + n, 0, value_of(day, S.FILLED))
            if day == 1 and n < len(living):
                low = living[n] + 1
                table.insert(-1 - table.find(low, n), low, n, 0, value_of(1, S.NEW))
        assert sum(table.retire(part, 3, day + 1) for part in range(3)) == len(closed)
        assert table.keys == min(len(living), len(closed))
        after.add(table.content_hash())
    assert len(after) == 1


def test_full_comes_before_exhausted() -> None:
    """keys_max bounds new risk, the reserve behind it is for cancels and exits; then nothing more goes in."""
    table = DedupTable(4, 4)
    for n in range(1, 9):
        assert (table.is_full, table.is_exhausted) == (n > 4, False)
        table.insert(-1 - table.find(n, n), n, n, 0, 0)
    assert table.is_exhausted
    with pytest.raises(AssertionError):
        table.insert(-1 - table.find(99, 0), 99, 0, 0, 0)


@pytest.mark.parametrize("keys_max", [1_000, 1_048_577, 2_097_152, 2_097_153, 4_000_000, 5_000_000, 200_000_000])
def test_a_key_costs_at_most_64_bytes(monkeypatch: pytest.MonkeyPatch, keys_max: int) -> None:
    """Of address space, for every size the settings take, just above a power of two too."""
    asked: list[int] = []
    real = mmap.mmap
    monkeypatch.setattr("engine.dedup.mmap.mmap", lambda fd, size: asked.append(size) or real(fd, size))
    table = DedupTable(keys_max)
    assert asked == [table.slots * SLOT_BYTES]
    assert asked[0] <= 64 * keys_max
    assert table.slots_max > keys_max
    assert table.slots_max * 4 <= table.slots * 3


def test_huge_pages_are_asked_for_and_a_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table works the same either way; only who asked is told that the kernel has none."""
    asked: list[int] = []

    class Memory(mmap.mmap):
        def madvise(self, option: int, *_: int) -> None:
            asked.append(option)
            if refused:
                raise OSError(22, "Invalid argument")

    refused = False
    monkeypatch.setattr("engine.dedup.mmap.mmap", Memory)
    table = DedupTable(100)
    assert table.use_huge_pages()
    refused = True
    assert not table.use_huge_pages()
    assert asked == [mmap.MADV_HUGEPAGE] * 2
    table.insert(-1 - table.find(5, 6), 5, 6, 7, value_of(8, OrderStatus.NEW))
    assert table.find(5, 6) >= 0


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


@given(
    names=st.lists(st.tuples(st.text(min_size=1, max_size=9), st.text(min_size=1, max_size=9)), max_size=40),
    keys_max=st.integers(1, 5),
)
def test_a_new_key_lands_where_its_words_say(names: list[tuple[str, str]], keys_max: int) -> None:
    """Found and taken by its digest, a key stands in the table as it does by its two words, however full that is."""
    hashes = KeyHash(b"k" * 32)
    by_words, by_digest = DedupTable(keys_max, 20), DedupTable(keys_max, 20)
    for n, (account, name) in enumerate(names):
        low, high, order_id = hashes.key(account, name)
        digest, *halves, same_id = hashes.parts(account, name)
        assert same_id == order_id
        slot = by_words.find(low, high)
        assert by_digest.find_parts(digest, *halves) == slot
        if slot < 0 and not by_words.is_exhausted:
            command, value = name.encode(), value_of(n << 33, OrderStatus.EXPIRED)
            by_words.insert(-1 - slot, low, high, payload_hash(command), value)
            by_digest.take(-1 - slot, digest, command, value)
    assert list(by_words.used()) == list(by_digest.used())


class ZeroHash:
    """A hash whose digests begin with a free slot's mark."""

    def copy(self) -> ZeroHash:
        return self

    def update(self, data: bytes) -> None:
        pass

    def digest(self) -> bytes:
        return bytes(8) + b"rest" * 6


def test_a_key_that_looks_like_a_free_slot_is_given_another_first_word() -> None:
    """By its words and by its digest alike, so it is found again."""
    hashes, table = KeyHash(b"k" * 32), DedupTable(9)
    hashes._begun["a"] = ZeroHash()  # type: ignore[assignment]
    low, high, _ = hashes.key("a", "1")
    digest, *halves, _ = hashes.parts("a", "1")
    table.take(-1 - table.find_parts(digest, *halves), digest, b"", 0)
    assert low == 1
    assert table.find(low, high) == table.find_parts(digest, *halves) >= 0


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


def test_the_border_is_exact_for_new_risk_and_for_its_reserve() -> None:
    """The last free key takes an order, the next order waits; the last key of the reserve takes a cancel, then none."""
    desk = Desk(keys_max=40, position=100)
    table = desk.state.dedup
    for n in range(39):
        desk.cancel(f"early-{n}")
    desk.accept(desk.order("last"))
    assert desk.submit(desk.order("new")) == Defer(RetryReason.DEDUP_FULL)
    for n in range(table.slots_max - 41):
        desk.accept(desk.order(f"exit-{n}", Side.SELL))
    assert not table.is_exhausted
    assert isinstance(desk.cancel("late"), CancelDecision)
    assert table.is_exhausted
    assert desk.submit(desk.order("exit", Side.SELL)) == Defer(RetryReason.DEDUP_FULL)
    assert desk.cancel("later") == Defer(RetryReason.DEDUP_FULL)
    assert desk.hash() == desk.replayed_hash()


def test_a_fresh_core_holds_nothing() -> None:
    """What the table costs before its first key is address space."""
    assert Core(1000).state.dedup.keys == 0
