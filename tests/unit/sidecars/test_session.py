"""The session state machine, one rule a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.codes import ByeReason, Code, OrderStatus, OutcomeKind, RetryReason
from protocol.errors import ConfigError, FencedError
from protocol.orders import CancelOrder
from protocol.session import (
    Bye,
    Claim,
    Claimed,
    Drain,
    Drained,
    Finals,
    Hello,
    Leave,
    Outcome,
    Outcomes,
    Ping,
    Pong,
    Resume,
    Retry,
    Submit,
)
from sidecars.core.epochs import EpochFile
from sidecars.core.session_life import State
from sidecars.core.source import Verb, Why
from tests.unit.sidecars.session_bench import MS, Bench, accepted, delivery, order


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "epochs")


def test_a_session_opens_by_hello_welcome_claim(bench: Bench) -> None:
    """Nothing is submitted before the unit is claimed; then it goes with the unit's epoch."""
    first = bench.out()
    bench.take(1)
    bench.welcome()
    assert isinstance(first[0], Hello)
    assert bench.out() == [Claim(bench.session.unit)]
    assert not bench.session.is_open

    bench.hear(Claimed(bench.session.unit, 9))

    (item,) = bench.items()
    assert (item.unit, item.unit_epoch, item.lane) == (bench.session.unit, 9, "acc")
    assert bench.session.is_open


def test_credits_bound_new_risk_and_the_reserve_is_for_cancels(bench: Bench) -> None:
    """Four credits carry four orders; two more are there for a cancel and a reduce-only order."""
    bench.open()
    for number in range(6):
        bench.take(number)
    bench.take(6, CancelOrder("acc", "id-0"))
    bench.take(7, order(7, reduce_only=True))

    assert [i.seq for i in bench.items()] == [1, 2, 3, 4, 7, 8]
    assert bench.session.room(reserved=False) == 0


def test_a_retry_holds_new_risk_while_exits_go_on(bench: Bench) -> None:
    """After one RETRY new risk waits for Resume and then goes in the order received."""
    bench.open()
    bench.take(1)
    bench.take(2)
    one, two = bench.items()
    bench.hear(Retry(50, RetryReason.VENUE_NOT_READY, [one.seq]))
    bench.take(3)
    bench.take(4, CancelOrder("acc", "id-1"))
    assert [i.seq for i in bench.items()] == [4]

    bench.pass_ms(60)
    assert not bench.out()  # the second order is not answered yet: it must not be overtaken
    bench.hear(Retry(50, RetryReason.VENUE_NOT_READY, [two.seq]))
    bench.pass_ms(60)

    messages = bench.out()
    assert messages[0] == Resume()
    assert [i.seq for m in messages if isinstance(m, Submit) for i in m.items] == [1, 2, 3]


def test_a_retry_that_lasts_gives_new_risk_back(tmp_path: Path) -> None:
    """Sources whose callers wait get their delivery back after hold_ms, known as not taken."""
    bench = Bench(tmp_path / "e", hold_ms=100)
    bench.open()
    bench.take(1)
    (item,) = bench.items()
    bench.hear(Retry(500, RetryReason.DISK_RESERVE, [item.seq]))

    bench.pass_ms(110)

    assert bench.ended() == [("1", Verb.RETRY, Why.ENGINE_BUSY)]
    assert bench.session.room(reserved=False) == bench.credits


def test_a_new_welcome_resubmits_everything_unanswered_in_order(bench: Bench) -> None:
    """A new engine gets what the old one did not answer, and answers each once."""
    bench.open()
    for number in range(4):
        bench.take(number)
    items = bench.items()
    bench.hear(Outcomes([accepted(items[1])]))

    bench.welcome(epoch=2, instance=b"2" * 16)
    bench.out()
    bench.hear(Claimed(bench.session.unit, 11))

    again = bench.items()
    assert [i.seq for i in again] == [1, 3, 4]
    assert {i.unit_epoch for i in again} == {11}


def test_an_older_engine_gets_nothing(bench: Bench) -> None:
    """A lower epoch, or the same one of another instance, is a zombie: no claim, no submit, not open."""
    bench.epoch = 5
    bench.open()
    bench.take(1)
    bench.items()
    for epoch, instance in ((4, b"4" * 16), (5, b"5" * 16)):
        bench.welcome(epoch, instance)

        assert bench.session.state is State.REFUSED
        assert "FENCED" in bench.session.fault
        assert not [m for m in bench.out() if not isinstance(m, Hello)]
        bench.hear(Outcomes([Outcome(1, OutcomeKind.ACCEPTED, Code.OK, "zombie", 1, OrderStatus.PENDING_NEW)]))
        assert bench.ended() == []


def test_rule_10_an_answer_of_an_older_engine_is_not_taken(bench: Bench) -> None:
    """A connection made anew may lead to a zombie that knew this sidecar: its outcome settles nothing, ours does."""
    bench.epoch = 5
    bench.open()
    bench.take(1)
    (item,) = bench.items()

    bench.hear(Outcomes([accepted(item)], 0, 4))
    assert bench.ended() == []

    bench.hear(Outcomes([accepted(item)], 0, 5))
    assert bench.ended() == [("1", Verb.ACCEPT, Why.NONE)]


def test_a_lost_claim_is_made_again(bench: Bench) -> None:
    """An engine that answers pings and never heard the claim is greeted anew."""
    bench.out()
    bench.welcome()
    bench.out()

    bench.live_ms(2_500)

    assert [m for m in bench.sent if isinstance(m, Hello)][1:], "no second Hello"
    bench.welcome()
    assert Claim(bench.session.unit) in bench.out()


def test_the_newest_epoch_outlives_the_process(tmp_path: Path) -> None:
    """A restarted sidecar refuses the engine that its former life had seen replaced."""
    EpochFile(tmp_path / "epochs").require_newest(0, 3, b"a" * 16)
    restarted = EpochFile(tmp_path / "epochs")

    with pytest.raises(FencedError):
        restarted.require_newest(0, 2, b"b" * 16)
    restarted.require_newest(1, 1, b"c" * 16)
    restarted.require_newest(0, 3, b"a" * 16)


def test_a_damaged_epoch_file_stops_the_start(tmp_path: Path) -> None:
    """What can't be read is not taken for empty; a missing folder is named."""
    (tmp_path / "epochs").write_bytes(b"{half")
    with pytest.raises(ConfigError, match="expected the newest engine epoch"):
        EpochFile(tmp_path / "epochs")
    with pytest.raises(ConfigError, match="does not exist"):
        EpochFile(tmp_path / "absent" / "epochs")


def test_silence_is_asked_then_ended(bench: Bench) -> None:
    """A silent engine gets one Ping; without an answer the session is greeted anew and the unanswered kept."""
    bench.open()
    bench.take(1)
    bench.items()
    bench.pass_ms(300)
    assert bench.out() == [Ping()]
    bench.hear(Pong())
    bench.pass_ms(300)
    assert bench.out() == [Ping()]

    bench.pass_ms(800)

    assert isinstance(bench.out()[0], Hello)
    assert not bench.session.is_open
    assert bench.ended() == []


def test_a_late_answer_makes_the_session_new(bench: Bench) -> None:
    """An engine that answers Pings but not the submit is greeted anew; what it then answers counts."""
    bench.open()
    bench.take(1)
    (item,) = bench.items()
    bench.live_ms(1900)
    bench.pass_ms(110)
    assert isinstance(bench.out()[0], Hello)

    bench.hear(Outcomes([accepted(item)]))

    assert bench.ended() == [("1", Verb.ACCEPT, Why.NONE)]


def test_a_failed_send_takes_back_what_was_not_handed_over(bench: Bench) -> None:
    """Without a connection nothing was submitted: the lease's end says not taken for certain."""
    bench.open()
    bench.take(1, until_ns=bench.now_ns + 50 * MS)
    bench.session.on_send_failed(bench.out(), bench.now_ns)

    bench.pass_ms(60)

    (settlement,) = bench.session.ended
    assert (settlement.verb, settlement.is_unknown, settlement.why) == (Verb.ABANDON, False, Why.LEASE_OVER)


def test_a_lease_that_ends_unanswered_is_abandoned_and_still_counts(bench: Bench) -> None:
    """Nobody settles it negatively; its credit is free when the engine answers, and that answer settles nothing."""
    bench.open()
    bench.take(1, until_ns=bench.now_ns + 50 * MS)
    (item,) = bench.items()
    bench.pass_ms(60)
    (settlement,) = bench.session.ended
    assert (settlement.verb, settlement.is_unknown) == (Verb.ABANDON, True)
    assert bench.session.room(reserved=False) == bench.credits - 1
    bench.session.ended.clear()

    bench.hear(Outcomes([accepted(item)]))

    assert bench.ended() == []
    assert bench.session.room(reserved=False) == bench.credits


@pytest.mark.parametrize("reason", [ByeReason.STOPPING, ByeReason.CREDITS, ByeReason.VERSION, ByeReason.MALFORMED])
def test_a_bye_ends_everything_without_an_outcome(bench: Bench, reason: ByeReason) -> None:
    """What was submitted is unknown and abandoned, what waited is given back; a new Hello follows."""
    bench.open()
    for number in range(5):
        bench.take(number)
    bench.items()

    bench.hear(Bye(reason))

    ended = bench.ended()
    assert [e[1] for e in ended] == [Verb.ABANDON] * 4 + [Verb.RETRY]
    bench.pass_ms(200)
    assert isinstance(bench.out()[0], Hello)


def test_a_fence_brings_a_new_instance_that_submits_again(bench: Bench) -> None:
    """The engine does not know the session: under a new instance id everything unanswered goes again."""
    bench.open()
    before = bench.session.unit
    bench.take(1)
    bench.items()

    bench.hear(Bye(ByeReason.FENCED, "no session; say Hello"))
    bench.open()

    assert bench.session.unit != before
    assert [i.seq for i in bench.items()] == [1]


def test_a_drain_waits_for_answers_and_gives_the_rest_back(bench: Bench) -> None:
    """In drain nothing is taken, what waits goes back at once, answers count until the reserve, then Drained."""
    bench.open()
    for number in range(5):
        bench.take(number)
    items = bench.items()
    bench.hear(Drain(4000))
    assert bench.ended() == [("4", Verb.RETRY, Why.DRAINING)]
    assert bench.session.why_closed is Why.DRAINING
    bench.take(9)
    assert bench.ended() == [("9", Verb.RETRY, Why.DRAINING)]
    bench.hear(Outcomes([accepted(i) for i in items[:3]]))
    assert [e[1] for e in bench.ended()] == [Verb.ACCEPT] * 3

    bench.live_ms(3000)

    assert bench.ended() == [("3", Verb.ABANDON, Why.DRAINING)]
    assert bench.session.is_idle
    bench.session.stop(10, bench.now_ns)
    bench.session.drained()
    assert bench.out() == [Drained(), Leave()]


def held(seq: int) -> Outcome:
    """The answer of an order that waits for the risk service."""
    return Outcome(seq, OutcomeKind.HELD, Code.POS_LIMIT, "P-1", 5, OrderStatus.HELD)


def test_rule_13_who_replies_waits_for_the_final(bench: Bench) -> None:
    """A delivery with a reply address keeps its lease until the FINAL, over sessions; others settle at HELD."""
    bench.open()
    replies, settles = delivery(1, received_ns=bench.now_ns), delivery(2, received_ns=bench.now_ns)
    replies.reply_to = "answers"
    bench.session.take(replies, order(1), bench.now_ns)
    bench.session.take(settles, order(2), bench.now_ns)
    first, second = bench.items()
    bench.hear(Outcomes([held(first.seq), held(second.seq)]))
    assert [s.delivery for s in bench.session.ended] == [settles]
    assert (bench.session.live(), bench.session.is_idle) == ([replies], False)
    bench.welcome()
    bench.out()
    bench.hear(Claimed(bench.session.unit, 8))
    (again,) = bench.items()
    repeated = Outcome(
        again.seq, OutcomeKind.DUPLICATE, Code.POS_LIMIT, "P-1", 5, OrderStatus.HELD, first=held(again.seq)
    )
    bench.hear(Outcomes([repeated]))
    final = Outcome(again.seq, OutcomeKind.ACCEPTED, Code.OK, "P-1", 5, OrderStatus.NEW)
    bench.hear(Finals([final, final], epoch=9))  # an engine that is not this one
    assert len(bench.session.ended) == 1
    bench.hear(Finals([final, final], epoch=bench.epoch))
    assert [(s.delivery, s.verb, s.outcome) for s in bench.session.ended[1:]] == [(replies, Verb.ACCEPT, final)]
    assert bench.session.is_idle


def test_rule_13_a_lease_that_ends_while_held_is_no_settlement(bench: Bench) -> None:
    """The broker delivers it again; the FINAL that comes then ends nothing."""
    bench.open()
    replies = delivery(1, bench.now_ns + MS, bench.now_ns)
    replies.reply_to = "answers"
    bench.session.take(replies, order(1), bench.now_ns)
    (item,) = bench.items()
    bench.hear(Outcomes([held(item.seq)]))
    bench.pass_ms(1)
    (ended,) = bench.session.ended
    assert (ended.verb, ended.why) == (Verb.ABANDON, Why.LEASE_OVER)
    bench.hear(Finals([Outcome(item.seq, OutcomeKind.ACCEPTED, Code.OK, "P-1", 5, OrderStatus.NEW)], epoch=1))
    assert len(bench.session.ended) == 1


def test_rule_13_who_waits_for_a_time_hears_held_then(bench: Bench) -> None:
    """Without a FINAL until then the delivery ends as HELD, once; with one it ends with that."""
    bench.open()
    late, early = delivery(1, bench.now_ns + MS, bench.now_ns), delivery(2, bench.now_ns + MS, bench.now_ns)
    for n, waits in enumerate((late, early), start=1):
        waits.held_until_mono_ns = bench.now_ns + 3 * MS
        bench.session.take(waits, order(n), bench.now_ns)
    first, second = bench.items()
    bench.hear(Outcomes([held(first.seq), held(second.seq)]))
    bench.pass_ms(2)
    final = Outcome(second.seq, OutcomeKind.ACCEPTED, Code.OK, "P-1", 5, OrderStatus.NEW)
    bench.hear(Finals([final], epoch=bench.epoch))
    assert [(s.delivery, s.outcome) for s in bench.session.ended] == [(early, final)]
    bench.pass_ms(1)
    (_, ended) = bench.session.ended
    assert (ended.delivery, ended.verb, ended.outcome) == (late, Verb.ACCEPT, held(first.seq))
    bench.hear(Finals([Outcome(first.seq, OutcomeKind.ACCEPTED, Code.OK, "P-1", 5, OrderStatus.NEW)], bench.epoch))
    assert len(bench.session.ended) == 2
    assert (bench.session.is_idle, bench.session.lease_lost) == (True, 0)
