"""An engine among several: it takes its own accounts only, and says where the others belong."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from engine.settings import EngineSettings, Opening, OpeningCash, OpeningPosition
from engine.start import start
from protocol.codes import Code, Mode, OutcomeKind, Scope
from protocol.decisions import CancelDecision, NewDecision
from protocol.errors import ConfigError
from protocol.params import AccountParams, Params
from protocol.session import Facts, Outcome
from protocol.texts import outcome_text
from tests.unit.engine.desk import E9, Desk, params

NOTHING = Opening()
SAID = "WRONG_SHARD account a2 belongs to shard 2, this is shard 0"


def divided(shards: int = 3, **of: int) -> Params:
    """Return the desk's parameters with accounts a1 and a2 on these shards."""
    accounts = tuple(AccountParams(name, "USDT", of.get(name, 0)) for name in ("a1", "a2"))
    return structs.replace(params(), accounts=accounts, shards=shards)


def text_of(decided: NewDecision | CancelDecision) -> str:
    return outcome_text(Outcome(1, decided.kind, decided.code, "", 1, 0, facts=decided.facts))  # type: ignore[arg-type]


def test_an_order_of_another_shard_is_refused_and_told_where_to_go() -> None:
    """The refusal has a code of its own and names both shards; an exit is no exception: it would exit nothing here."""
    desk = Desk(given=divided(a2=2))
    for reduce_only in (False, True):
        decided = desk.submit(desk.order("1", account="a2", reduce_only=reduce_only))
        assert isinstance(decided, NewDecision)
        assert (decided.kind, decided.code, decided.takes_key) == (OutcomeKind.REJECTED, Code.WRONG_SHARD, False)
        assert text_of(decided) == SAID
    assert desk.accept(desk.order("1")).account == "a1"


def test_a_misrouted_order_takes_no_key() -> None:
    """After the map is mended the very same order is decided as new; it was never a duplicate."""
    desk = Desk(given=divided(a2=2))
    order = desk.order("1", account="a2")
    keys = desk.state.dedup.keys
    desk.submit(order)
    assert desk.state.dedup.keys == keys
    desk.set_params(divided(a2=0))
    assert desk.accept(order).account == "a2"


def test_a_cancel_of_another_shard_leaves_no_tombstone() -> None:
    """It would make the other shard's order look cancelled here, and be remembered where it means nothing."""
    desk = Desk(given=divided(a2=2))
    keys = desk.state.dedup.keys
    decided = desk.cancel("1", account="a2")
    assert isinstance(decided, CancelDecision)
    assert (decided.kind, decided.code) == (OutcomeKind.REJECTED, Code.WRONG_SHARD)
    assert text_of(decided) == SAID
    assert desk.state.dedup.keys == keys


def test_who_may_not_trade_does_not_learn_the_map() -> None:
    """Permission comes first."""
    desk = Desk(given=divided(a2=2))
    decided = desk.submit(desk.order("1", account="a2"), principal="one")
    assert isinstance(decided, NewDecision)
    assert decided.code is Code.AUTH_NOT_PERMITTED
    assert decided.facts is None


def test_an_account_nobody_knows_is_refused_where_it_would_belong() -> None:
    """There alone it takes a key, so that a later account of this name finds one history, on one shard."""
    desk = Desk(given=divided(2))
    codes = {}
    for account in ("zz", "flow", "x7", "x8"):
        decided = desk.submit(desk.order("1", account=account))
        assert isinstance(decided, NewDecision)
        codes[account] = (decided.code, decided.takes_key)
    assert set(codes.values()) == {(Code.ACCOUNT_UNKNOWN, True), (Code.WRONG_SHARD, False)}
    assert codes["flow"] == (Code.ACCOUNT_UNKNOWN, True)


def test_the_decision_again_and_the_state_are_the_same() -> None:
    """What was refused for its shard is refused by the journal alone, and a fresh core arrives at the same state."""
    desk = Desk(given=divided(a2=2))
    desk.submit(desk.order("1", account="a2"))
    desk.cancel("1", account="a2")
    desk.accept(desk.order("2"))
    again = Desk(given=divided(a2=2)).core
    compared = []
    for seq, now_ns, position, record in desk.records[2:]:
        compared.append(again.decide_again(record, now_ns))
        again.apply(seq, now_ns, position, record)
    assert compared.count(True) == 3
    assert False not in compared
    assert desk.replayed_hash() == desk.hash()


# A start


def settings(folder: Path, given: Params, shard: int = 0, opening: Opening = NOTHING) -> EngineSettings:
    """Return what an engine of this shard is told; its sockets are never opened here."""
    return EngineSettings(
        mode=Mode.PAPER, shard=shard, journal_dir=str(folder), sidecars_endpoint="", venues_endpoint="",
        events_endpoint="", control_endpoint="", token_file="", table_path="", params=given, opening=opening,
        segment_bytes=1 << 20, dedup_keys_max=1000,
    )  # fmt: skip


def begin(given: EngineSettings) -> int:
    """Start an engine, leave, and return how many records its journal has by then."""
    started = start(given)
    seq = started.writer.durable_seq
    started.writer.close()
    started.lock.close()
    return seq


@pytest.mark.parametrize(
    ("opening", "held"),
    [
        (Opening(positions=(OpeningPosition("a2", "XY", 3 * E9, 100 * E9),)), "a position in XY"),
        (Opening(cash=(OpeningCash("a2", "USDT", 5),)), "cash"),
    ],
)
def test_a_map_that_moves_an_account_with_state_stops_the_start(tmp_path: Path, opening: Opening, held: str) -> None:
    """The state would stay behind; the refusal names account, state and both shards, and nothing is written."""
    was = begin(settings(tmp_path, divided(a2=0), opening=opening))
    with pytest.raises(ConfigError) as refused:
        begin(settings(tmp_path, divided(a2=2)))
    (problem,) = refused.value.problems
    assert problem.startswith("accounts.shard: account a2 expected shard 0")
    assert f"holds its state ({held}), was shard 2" in problem
    assert begin(settings(tmp_path, divided(a2=0))) == was + 1


def test_an_account_without_state_may_move(tmp_path: Path) -> None:
    """Nothing stays behind, so the new map is taken."""
    begin(settings(tmp_path, divided(a2=0)))
    assert begin(settings(tmp_path, divided(a2=2))) > 0


def test_facts_name_both_shards() -> None:
    """Who is told reads numbers, not only text."""
    desk = Desk(given=divided(a2=2))
    assert desk.state.belongs_elsewhere("a2") == Facts(2, 0, Scope.ACCOUNT, "a2")
    assert desk.state.belongs_elsewhere("a1") is None
