"""Snapshots: a state out and back is the same state, and a file that is not whole is never used."""

from __future__ import annotations

import inspect
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.dedup import DedupTable
from engine.layouts import (
    ACCOUNT,
    BOUND,
    FLATTEN,
    GROUP,
    HOLD,
    LAYOUTS,
    LEDGER,
    ORDER,
    OUTGOING,
    REPLACEMENT,
    STRATEGY,
    TERMS,
    Field,
    Kind,
    Layout,
)
from engine.snapshot import blocks_of, head_of, load_snapshot
from engine.state import CLOSED_MAX, state_hash
from journal.errors import SnapshotDamagedError
from journal.snapshots import SnapshotHead, SnapshotReader, prune_snapshots, snapshots, write_snapshot
from protocol.codes import ExecType, OrderStatus, Scope, Side
from protocol.errors import ConfigError
from protocol.params import LimitName
from protocol.records import ControlAction, VenueChanged
from tests.golden.write import story
from tests.unit.engine.deep import plain, slots_of
from tests.unit.engine.desk import E9, Desk, limit, params
from tests.unit.engine.oco_desk import OcoDesk
from tests.unit.journal.samples import PowerCutError, PowerDisk

KEYS_MAX = 256


def save(folder: Path, desk: Desk, seq: int = 0) -> Path:
    """Write a snapshot of the desk's state as if the journal stood there."""
    head = head_of(desk.state, seq=seq or desk.seq, crc=7, segment=1, offset=64, epoch_max=1, release="t")
    for _ in write_snapshot(folder, head, blocks_of(desk.state)):
        pass
    return snapshots(folder)[0]


def busy() -> OcoDesk:
    """A desk with orders in every place: open, closed, in the outbox only, not found, with rate logs and a halt."""
    desk = OcoDesk(
        limit(LimitName.RATE_COUNT, 100_000, window_ns=E9, reserve_exit=3),
        limit(LimitName.RATE_COUNT, 90_000, Scope.ACCOUNT, "a1", window_ns=2 * E9),
        limit(LimitName.POSITION_MAX, 1_000_000, Scope.STRATEGY, "s2"),
        keys_max=2 * CLOSED_MAX,
    )
    for n in range(CLOSED_MAX + 10):
        desk.now += 1
        order = desk.accept(desk.order(f"c{n}", Side.SELL if n % 2 else Side.BUY, strategy=f"s{1 + n % 2}"))
        desk.fill(order, 1)
    for n in range(5):
        desk.accept(desk.order(f"o{n}", Side.SELL, 3, 101 + n, account="a2"))
    desk.cancel("o1", account="a2")
    lost = desk.accept(desk.order("lost"))
    desk.apply(VenueChanged("sandbox", True, b"g" * 16, desk.state.venues["sandbox"].last_seq))
    queried = desk.core.reports.decide_unknown(desk.state.venues["sandbox"], desk.state.venues["sandbox"].last_seq)
    assert queried is not None
    desk.apply(queried)
    asked = dict(queried.queries)[lost.order_id]
    desk.report(ExecType.NOT_FOUND, lost.order_id, venue_seq=asked, status=OrderStatus.NONE)
    desk.accept(desk.order("o8", Side.SELL, 3, 101, account="a2"))
    desk.replace("o8", "r8", 2, 104, account="a2")
    changed = desk.accept(desk.order("o9", Side.SELL, 3, 101, account="a2"))
    desk.replace("o9", "r9", 2, account="a2")
    desk.answer(ExecType.REPLACED, changed, 2, 101, venue_seq=desk.state.venues["sandbox"].last_seq)
    assert len(desk.state.renamed) == 2
    desk.fill(desk.accept(desk.order("long", Side.BUY, 40, account="a2")), 40)
    desk.submit_exit(desk.exit_replace("x1", ["o2", "o3"], 5, account="a2"))
    assert [len(waits) for waits in desk.state.exits.values()] == [2]
    desk.submit_oco(desk.oco("g1", quantity=4, stop_quantity=6, account="a2"))
    desk.submit_oco(desk.oco("g2", quantity=3, account="a2"))
    desk.watch(95)
    desk.submit_oco(desk.oco("g3", quantity=2, account="a2"))
    desk.report(ExecType.REJECTED, desk.state.groups["a2", "g3"].first)
    assert [g.triggered for g in desk.state.groups.values()] == [True, True, False]
    desk.submit_oco(desk.oco("g4", quantity=1, account="a2"))
    desk.cancel("g4", account="a2")
    desk.report(ExecType.CANCELED, desk.state.groups["a2", "g4"].first)
    desk.control(ControlAction.REDUCE_ONLY, Scope.ACCOUNT, "a1")
    desk.cancel("never-seen")
    assert desk.state.venues["sandbox"].not_found
    assert set(desk.state.closed) != {o.order.order_id for o in desk.state.venues["sandbox"].awaiting.values()}
    return desk


# What is in it


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_slot_is_in_its_layout(layout: Layout[object]) -> None:
    """A field that is added to the state and forgotten here would be lost in a restart."""
    slots = slots_of(layout.kind) or set(layout.kind._fields)  # type: ignore[attr-defined]
    assert slots == set(layout.names) | set(layout.left_out)
    assert not set(layout.names) & set(layout.left_out)
    assert all(layout.left_out.values())


MADE = [ORDER, TERMS, REPLACEMENT, OUTGOING, LEDGER, ACCOUNT, STRATEGY, BOUND, FLATTEN, GROUP, HOLD]


@pytest.mark.plants  # compiled, a constructor does not say what it takes
@pytest.mark.parametrize("layout", MADE, ids=lambda layout: layout.name)
def test_what_a_constructor_demands_is_in_its_layout(layout: Layout[object]) -> None:
    """A constructor that demands one more could not be called when a snapshot is loaded."""
    of = inspect.signature(layout.kind).parameters.values()
    assert {p.name for p in of if p.default is p.empty} == set(layout.made_with)


def test_a_forgotten_slot_would_be_found() -> None:
    """The test above sees a class that has one slot more than its layout."""

    class Less:
        __slots__ = ORDER.names

    class More(Less):
        __slots__ = ("stop_price",)

    assert slots_of(More) - set(ORDER.names) == {"stop_price"}


def test_the_dedup_table_has_nothing_else() -> None:
    """A snapshot holds its slots and how many are keys; the rest follows from its size."""
    known = {"keys_max", "slots_max", "slots", "keys", "deleted", "_end", "_memory", "_words"}
    assert (slots_of(DedupTable) or set(vars(DedupTable(1)))) == known


# Out and back


@pytest.mark.parametrize("make", [story, busy, Desk], ids=["story", "busy", "fresh"])
def test_what_comes_back_is_the_same_to_the_last_slot(tmp_path: Path, make: type[Desk]) -> None:
    """Hash and every field, also what no hash covers, and which objects are one."""
    desk = make()
    core, head = load_snapshot(save(tmp_path, desk), desk.state.dedup.keys_max)
    assert state_hash(core.state) == desk.hash() == head.state_hash
    assert plain(core.state) == plain(desk.state)


def test_a_loaded_core_goes_on_as_the_one_it_was_taken_of(tmp_path: Path) -> None:
    """The same inputs afterwards, an order, a kill and a change of parameters, come to the same state."""
    desk = busy()
    again = busy()
    again.core, _ = load_snapshot(save(tmp_path, desk), desk.state.dedup.keys_max)
    for one in (desk, again):
        one.control(ControlAction.RESUME, Scope.ACCOUNT, "a1")
        order = one.accept(one.order("next", Side.SELL, 2, 102, account="a2", strategy="s2"))
        one.fill(order, 1)
        for waits in one.state.exits.values():
            for order_id in waits:
                one.report(ExecType.CANCELED, order_id)
        assert [r.quantity_e9 for r in one.release()] == [5 * E9]
        one.set_params(params(limit(LimitName.RATE_COUNT, 5, window_ns=E9)))
        one.submit(one.order("after"))
        one.control(ControlAction.KILL)
    assert again.hash() == desk.hash()
    assert plain(again.state) == plain(desk.state)


def test_a_scope_that_left_the_parameters_keeps_what_it_had(tmp_path: Path) -> None:
    """Positions and limits of an account that is no longer listed are nowhere else."""
    desk = Desk(limit(LimitName.POSITION_MAX, 50, Scope.ACCOUNT, "a1"), keys_max=KEYS_MAX)
    desk.accept(desk.order("open"))
    given = params()
    desk.set_params(type(given)(given.instruments, given.accounts[1:], *(getattr(given, n) for n in _after_accounts)))
    core, _ = load_snapshot(save(tmp_path, desk), KEYS_MAX)
    assert plain(core.state) == plain(desk.state)
    assert core.state.accounts["a1"].bounds[-1].value == 50 * E9


_after_accounts = params().__struct_fields__[2:]


def test_numbers_beyond_64_bits_survive(tmp_path: Path) -> None:
    """Money of an account has no bound."""
    desk = Desk(keys_max=KEYS_MAX)
    desk.state.accounts["a1"].cash_e9["USDT"] = -(10**30)
    desk.state.accounts["a1"].open_value_e9 = 1 << 63
    core, _ = load_snapshot(save(tmp_path, desk), KEYS_MAX)
    assert core.state.accounts["a1"].cash_e9 == {"USDT": -(10**30)}
    assert core.state.accounts["a1"].open_value_e9 == 1 << 63


@pytest.mark.parametrize("keys_max", [2_000, 60_000])
def test_a_table_of_another_size_takes_every_key(tmp_path: Path, keys_max: int) -> None:
    """An operator may change dedup_keys_max: known ids stay known, open orders find their slots."""
    desk = Desk(keys_max=20_000)
    for n in range(500):
        desk.submit(desk.order(f"k{n}"))
    other = Desk(keys_max=keys_max)
    for n in range(500):
        other.submit(other.order(f"k{n}"))
    core, _ = load_snapshot(save(tmp_path, desk), keys_max)
    assert core.state.dedup.keys == 500
    assert core.state.dedup.slots != desk.state.dedup.slots
    assert state_hash(core.state) == other.hash()
    assert {o.slot for o in core.state.orders.values()} == {o.slot for o in other.state.orders.values()}


def test_too_small_a_table_is_refused(tmp_path: Path) -> None:
    """Keys are never dropped to fit."""
    desk = Desk(keys_max=60_000)
    for n in range(9_000):
        desk.submit(desk.order(f"k{n}", account="nobody"))
    with pytest.raises(ConfigError, match=r"dedup_keys_max expected at least 9000"):
        load_snapshot(save(tmp_path, desk), 1)


# Files


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of one snapshot."""
    return save(tmp_path_factory.mktemp("whole"), story()).read_bytes()


def put(folder: Path, data: bytes) -> Path:
    """Write bytes where a snapshot of the story's last record would be."""
    place = folder / "snapshots"
    place.mkdir(exist_ok=True)
    path = place / f"{story().seq:020d}.snap"
    path.write_bytes(data)
    return path


@given(data=st.data())
def test_a_changed_byte_is_found(whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any byte of it, changed to any other, is damage and never another state."""
    at = data.draw(st.integers(0, len(whole) - 1))
    by = data.draw(st.integers(1, 255))
    changed = whole[:at] + bytes([whole[at] ^ by]) + whole[at + 1 :]
    with pytest.raises(SnapshotDamagedError):
        load_snapshot(put(tmp_path_factory.mktemp("c"), changed), KEYS_MAX)


@given(data=st.data())
def test_a_cut_file_is_found(whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A file that ends anywhere before its end, or goes on behind it, is damage."""
    at = data.draw(st.integers(0, len(whole) - 1))
    for changed in (whole[:at], whole + b"\0", whole + whole[at:] if at else whole + b"x"):
        with pytest.raises(SnapshotDamagedError):
            load_snapshot(put(tmp_path_factory.mktemp("c"), changed), KEYS_MAX)


def test_a_state_that_is_not_the_one_it_says_is_refused(tmp_path: Path) -> None:
    """Whole bytes are not enough: the state they make has the hash that was written with them."""
    desk = story()
    head = head_of(desk.state, seq=22, crc=7, segment=1, offset=64, epoch_max=1, release="t")
    desk.state.closed[next(iter(desk.state.closed))].cum += 1
    for _ in write_snapshot(tmp_path, head, blocks_of(desk.state)):
        pass
    with pytest.raises(SnapshotDamagedError, match="comes to state"):
        load_snapshot(snapshots(tmp_path)[0], KEYS_MAX)


def test_a_snapshot_of_before_a_field_gets_its_default() -> None:
    """A release that adds a field to an order reads what the release before wrote, and refuses what a later one did."""
    order = next(iter(busy().state.orders.values()))
    older = [name for name in ORDER.names if name != "trace_id"]
    row = [getattr(order, name) for name in older]
    load = dict.fromkeys(Kind, lambda value: value)
    fields = tuple(f if f.name != "trace_id" else Field("trace_id", default=b"none") for f in ORDER.fields)
    made = Layout(ORDER.kind, *fields, made_with=ORDER.made_with).maker(older, load).make(row)
    assert (made.order_id, made.trace_id) == (order.order_id, b"none")
    with pytest.raises(ValueError, match=r"missing \['trace_id'\]"):
        ORDER.maker(older, load)
    with pytest.raises(ValueError, match=r"unknown \['hue'\]"):
        ORDER.maker([*ORDER.names, "hue"], load)


def test_an_unfinished_one_is_none(tmp_path: Path) -> None:
    """A writer that dies on the way leaves nothing under a snapshot's name, and the next prune removes the rest."""
    desk = story()
    head = head_of(desk.state, seq=9, crc=7, segment=1, offset=64, epoch_max=1, release="t")
    steps = write_snapshot(tmp_path, head, blocks_of(desk.state))
    for _ in range(3):
        next(steps)
    assert snapshots(tmp_path) == []
    assert len(list((tmp_path / "snapshots").iterdir())) == 1
    steps.close()
    (tmp_path / "snapshots" / "1.part").write_bytes(b"dead")
    prune_snapshots(tmp_path, 2)
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_a_power_cut_at_any_step_leaves_whole_snapshots_only(tmp_path: Path) -> None:
    """In whichever disk operation the power goes: the one before is there, and the new one whole or not at all."""
    desk, seen = story(), set()
    for cut_at in range(1, 200):
        folder = tmp_path / str(cut_at)
        save(folder, desk, 5)
        disk = PowerDisk(Random(cut_at), cut_at)
        head = head_of(desk.state, seq=9, crc=7, segment=1, offset=64, epoch_max=1, release="t")
        try:
            for _ in write_snapshot(folder, head, blocks_of(desk.state), disk):
                pass
        except PowerCutError:
            disk.cut_power()
        seen.add(len(snapshots(folder)))
        for path in snapshots(folder):
            assert state_hash(load_snapshot(path, KEYS_MAX)[0].state) == desk.hash()
        if disk.operations < cut_at:
            break
    assert disk.operations < cut_at, "more steps than were cut"
    assert seen == {1, 2}


def test_the_newest_are_kept(tmp_path: Path) -> None:
    """Pruning leaves the newest, by sequence."""
    desk = story()
    for seq in (5, 100, 20):
        save(tmp_path, desk, seq)
    assert [p.name[-8:] for p in prune_snapshots(tmp_path, 2)] == ["005.snap"]
    assert [SnapshotReader(p).head.seq for p in snapshots(tmp_path)] == [100, 20]
    assert isinstance(SnapshotReader(snapshots(tmp_path)[0]).head, SnapshotHead)
