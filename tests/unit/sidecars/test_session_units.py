"""Units that the broker assigns: claimed each time anew, sent under their epoch, never without one (DECISIONS 38)."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from protocol.codes import Code, OrderStatus, OutcomeKind
from protocol.session import Claim, Claimed, Outcome, Outcomes
from sidecars.core.source import Verb, Why
from tests.unit.sidecars.session_bench import Bench, delivery, order

EPOCH_3, EPOCH_4 = 30, 40


def of_unit(bench: Bench, number: int, unit: str) -> None:
    """Take a delivery of a unit."""
    bench.session.take(structs.replace(delivery(number), unit=unit), order(number), bench.now_ns)


def assigned(bench: Bench, **epochs: int) -> None:
    """Have units assigned, and the engine's word for each."""
    units = [name.removeprefix("p") for name in epochs]
    bench.session.claim(units, bench.now_ns)
    assert bench.out() == [Claim(unit) for unit in units]
    for unit, epoch in zip(units, epochs.values(), strict=True):
        bench.hear(Claimed(unit, epoch))


def test_nothing_is_sent_before_the_engine_has_confirmed_every_unit(tmp_path: Path) -> None:
    """Each item then carries its unit and that one's epoch."""
    bench = Bench(tmp_path / "epochs")
    bench.open()
    bench.session.claim(["3", "4"], bench.now_ns)
    of_unit(bench, 1, "3")
    of_unit(bench, 2, "4")
    assert bench.items() == []
    bench.hear(Claimed("3", EPOCH_3))
    assert (bench.items(), bench.session.is_open) == ([], False)
    bench.hear(Claimed("4", EPOCH_4))

    assert [(i.unit, i.unit_epoch) for i in bench.items()] == [("3", EPOCH_3), ("4", EPOCH_4)]


def test_a_delivery_of_a_unit_that_is_not_ours_is_given_up_unsent(tmp_path: Path) -> None:
    """Also where nothing at all is assigned: the sidecar's own unit is no way round."""
    bench = Bench(tmp_path / "epochs")
    bench.open()
    assigned(bench, p3=EPOCH_3)
    of_unit(bench, 1, "4")
    bench.session.claim([], bench.now_ns)
    of_unit(bench, 2, "3")

    assert bench.items() == []
    assert bench.ended() == [("1", Verb.ABANDON, Why.LEASE_OVER), ("2", Verb.ABANDON, Why.LEASE_OVER)]


def test_what_the_engine_does_not_take_any_more_ends_as_a_lost_lease(tmp_path: Path) -> None:
    """Another one has claimed the unit meanwhile; the session stays."""
    bench = Bench(tmp_path / "epochs")
    bench.open()
    assigned(bench, p3=EPOCH_3)
    of_unit(bench, 1, "3")
    (item,) = bench.items()
    bench.hear(Outcomes([Outcome(item.seq, OutcomeKind.NOT_TAKEN, Code.OK, "", 0, OrderStatus.NONE)], 0, bench.epoch))

    assert bench.ended() == [("1", Verb.ABANDON, Why.LEASE_OVER)]
    assert bench.session.is_open


def test_a_new_engine_is_asked_for_every_unit_again(tmp_path: Path) -> None:
    """Epochs are its own: none of the earlier ones is used with it."""
    bench = Bench(tmp_path / "epochs")
    bench.open()
    assigned(bench, p3=EPOCH_3)
    of_unit(bench, 1, "3")
    assert bench.items()
    bench.welcome(epoch=2)
    assert bench.out() == [Claim(bench.session.unit), Claim("3")]
    bench.hear(Claimed(bench.session.unit, 1))
    assert bench.items() == []
    bench.hear(Claimed("3", 2))

    assert [(i.unit, i.unit_epoch) for i in bench.items()] == [("3", 2)]
