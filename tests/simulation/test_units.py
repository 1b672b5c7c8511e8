"""Units in the engine: one owner at a time, the last who claimed; what an earlier one still sends is not taken."""

from __future__ import annotations

from msgspec import Raw

from protocol.codes import ByeReason, OutcomeKind
from protocol.session import Bye, Claim, Claimed, Item, Outcomes, Submit, engine_decoder
from tests.simulation.memory import MemoryDealer
from tests.simulation.stage import Stage, order
from tests.simulation.stand_ins import E9
from tests.simulation.test_hostile_frames import _encode, at_rest, guest, serves, turn


def item(seq: int, unit: str, unit_epoch: int, name: str) -> Item:
    """Return an order of a unit."""
    return Item(seq, unit, unit_epoch, 0, "l", "all", b"t" * 16, 1_780_000_000 * E9, Raw(_encode(order(name))))


def heard(dealer: MemoryDealer) -> list[object]:
    """Return what the engine said."""
    return [engine_decoder.decode(body) for body in dealer.receive(99)]


def claim(stage: Stage, dealer: MemoryDealer, unit: str) -> int:
    """Claim a unit; return its epoch."""
    dealer.send(_encode(Claim(unit)))
    turn(stage)
    (claimed,) = heard(dealer)
    assert isinstance(claimed, Claimed)
    return claimed.unit_epoch


def kinds(dealer: MemoryDealer) -> list[OutcomeKind]:
    """Return the outcomes that came."""
    return [o.kind for said in heard(dealer) if isinstance(said, Outcomes) for o in said.items]


def test_a_partition_has_the_owner_who_claimed_it_last() -> None:
    """The earlier one is told NOT_TAKEN of that partition, keeps its session, and goes on with the others."""
    with at_rest() as stage:
        frozen, _ = guest(stage, "host.1")
        three, four = (claim(stage, frozen, unit) for unit in "34")
        heir, _ = guest(stage, "host.2")
        newer = claim(stage, heir, "3")
        assert newer > three
        frozen.send(_encode(Submit([item(1, "3", three, "z1"), item(2, "4", four, "z2")])))
        heir.send(_encode(Submit([item(1, "3", newer, "z1")])))
        turn(stage)

        assert kinds(frozen) == [OutcomeKind.NOT_TAKEN, OutcomeKind.ACCEPTED]
        assert kinds(heir) == [OutcomeKind.ACCEPTED]
        serves(stage)


def test_a_partition_claimed_anew_is_fenced_against_what_was_sent_before() -> None:
    """The same sidecar, assigned once more: items under its own earlier epoch are not taken either."""
    with at_rest() as stage:
        dealer, _ = guest(stage, "host.1")
        before = claim(stage, dealer, "3")
        after = claim(stage, dealer, "3")
        dealer.send(_encode(Submit([item(1, "3", before, "y1"), item(2, "3", after, "y2")])))
        turn(stage)

        assert kinds(dealer) == [OutcomeKind.NOT_TAKEN, OutcomeKind.ACCEPTED]


def test_who_owns_nothing_else_is_fenced_and_who_never_claimed_is_refused() -> None:
    """An instance's own id claimed by another ends its session; an epoch that nobody was given does too."""
    with at_rest() as stage:
        first, _ = guest(stage, "u")
        second, epoch = guest(stage, "u")
        assert [said.reason for said in heard(first) if isinstance(said, Bye)] == [ByeReason.FENCED]
        second.send(_encode(Submit([item(1, "u", epoch + 1, "x1")])))
        turn(stage)
        assert [said.reason for said in heard(second) if isinstance(said, Bye)] == [ByeReason.UNIT_NOT_CLAIMED]
        for unit_epoch in (0, -1, 1):
            third, _ = guest(stage, "v")
            third.send(_encode(Submit([item(1, "3", unit_epoch, "x2")])))
            turn(stage)
            assert [said.reason for said in heard(third) if isinstance(said, Bye)] == [ByeReason.UNIT_NOT_CLAIMED]
        serves(stage)
