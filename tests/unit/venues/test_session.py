"""The session with the engine: DESIGN section 6, rules 6, 8, 9 and 10, seen from the engine's side."""

from __future__ import annotations

import pytest

from protocol.codes import ByeReason, Code, ExecType, Liquidity, OrderStatus, OrderType, TimeInForce
from protocol.venue import Confirm, GatewayHello, GatewayReady, Heartbeat, Reports, VenueBye, Void
from tests.unit.venues.stage import E9, INSTANCE, Stage, cancel, new, query
from venues.core.errors import LogBehindError
from venues.core.gateway import Phase


def kinds(reports: list) -> list[tuple[str, str]]:
    return [(r.order_id, r.exec_type.name) for r in reports]


def test_an_order_is_acknowledged_then_traded(stage: Stage) -> None:
    """NEW comes before its TRADEs; quantities, price, fee, ids and the venue's time are in the report."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()

    ack, first, second = stage.order(new(1, "P-1", price=102, quantity=10))

    assert (ack.exec_type, ack.status, ack.leaves_quantity_e9) == (ExecType.NEW, OrderStatus.NEW, 10 * E9)
    assert (first.last_quantity_e9, first.last_price_e9) == (8 * E9, 101 * E9)
    assert (first.status, first.leaves_quantity_e9) == (OrderStatus.PARTIALLY_FILLED, 2 * E9)
    assert (second.status, second.cum_quantity_e9) == (OrderStatus.FILLED, 10 * E9)
    assert second.fee_e9 == 2 * 102 * E9 * 5 // 10_000
    assert (second.liquidity, second.currency, second.exch_ns) == (Liquidity.TAKER, "USDT", 2000)
    assert [r.report_seq for r in (ack, first, second)] == [1, 2, 3]
    assert first.trade_id != second.trade_id
    assert {r.venue_order_id for r in (ack, first, second)} == {"S-1"}


def test_a_passive_fill_answers_no_command(stage: Stage) -> None:
    """What a tick caused has venue_seq 0 and the tick's time."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1"))

    stage.feed(stage.ticks.delta([(100, 0)], [(100, 3)]))
    stage.until(lambda: len(stage.engine.reports) == 2)

    fill = stage.engine.reports[-1]
    assert (fill.venue_seq, fill.exch_ns, fill.liquidity) == (0, 3000, Liquidity.MAKER)
    assert (fill.leaves_quantity_e9, fill.cum_quantity_e9) == (E9, 3 * E9)


def test_what_an_ioc_order_leaves_is_cancelled(stage: Stage) -> None:
    """CANCELED with leaves 0 ends an IOC and a MARKET order that were not filled whole."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()

    ioc = stage.order(new(1, "P-1", price=101, quantity=9, time_in_force=TimeInForce.IOC))
    market = stage.order(new(2, "P-2", quantity=60, order_type=OrderType.MARKET))

    assert kinds(ioc) == [("P-1", "NEW"), ("P-1", "TRADE"), ("P-1", "CANCELED")]
    assert (ioc[-1].leaves_quantity_e9, ioc[-1].cum_quantity_e9) == (0, 8 * E9)
    assert kinds(market)[-1] == ("P-2", "CANCELED")
    assert market[-1].cum_quantity_e9 == 52 * E9


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (new(1, "P-1", instrument="ZZ"), Code.INSTR_UNKNOWN),
        (new(1, "P-1", quantity=1001), Code.QTY_MAX),
    ],
)
def test_the_venue_refuses_with_a_code(stage: Stage, order: object, code: Code) -> None:
    """A refusal is one REJECTED report with its reason."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()

    (report,) = stage.order(order)

    assert (report.exec_type, report.status, report.code) == (ExecType.REJECTED, OrderStatus.REJECTED, code)


def test_without_a_book_takers_are_refused_and_limits_rest(stage: Stage) -> None:
    """A stale book refuses what could only take; a limit order waits for the snapshot."""
    stage.start()
    stage.ready()

    taker, resting = stage.order(new(1, "P-1", time_in_force=TimeInForce.IOC), new(2, "P-2"))

    assert (taker.exec_type, taker.code) == (ExecType.REJECTED, Code.VENUE_BOOK_STALE)
    assert resting.exec_type is ExecType.NEW


def test_a_cancel_ends_the_order_and_a_late_one_says_how_it_ended(stage: Stage) -> None:
    """CANCELED answers the first cancel, CANCEL_REJECT(TOO_LATE) with the final state the second."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1"))

    done, late = stage.order(cancel(2, "P-1"), cancel(3, "P-1"))

    assert (done.exec_type, done.venue_seq, done.leaves_quantity_e9) == (ExecType.CANCELED, 2, 0)
    assert (late.exec_type, late.status, late.code) == (ExecType.CANCEL_REJECT, OrderStatus.CANCELED, Code.TOO_LATE)


def test_the_same_order_id_twice_is_one_order(stage: Stage) -> None:
    """Under another number the same id is answered with the first order's state."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1", price=101, quantity=3))

    (again,) = stage.order(new(2, "P-1", price=101, quantity=3))

    assert (again.exec_type, again.status, again.cum_quantity_e9) == (
        ExecType.ORDER_STATUS, OrderStatus.FILLED, 3 * E9,
    )  # fmt: skip
    assert stage.venue.exchange.trade_count == 1


def test_a_query_tells_what_became_of_an_order(stage: Stage) -> None:
    """ORDER_STATUS with leaves and cum, or NOT_FOUND."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1", price=101, quantity=10))

    known, unknown = stage.order(query(2, "P-1"), query(3, "P-9"))

    assert (known.exec_type, known.status) == (ExecType.ORDER_STATUS, OrderStatus.PARTIALLY_FILLED)
    assert (known.leaves_quantity_e9, known.cum_quantity_e9) == (2 * E9, 8 * E9)
    assert (unknown.exec_type, unknown.status) == (ExecType.NOT_FOUND, OrderStatus.NONE)


def test_a_number_received_before_is_ignored(stage: Stage) -> None:
    """A repeated command has no second effect, and is confirmed again."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1"), Void(2))
    confirmed = stage.engine.count(Confirm)

    stage.command(new(1, "P-1"), Void(2))
    stage.until(lambda: stage.engine.count(Confirm) > confirmed)

    assert kinds(stage.engine.reports) == [("P-1", "NEW")]


def test_a_gap_in_the_numbers_ends_the_session(stage: Stage) -> None:
    """What came before the gap counts; the gateway comes back and says how far it got."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()

    stage.command(new(1, "P-1"), new(3, "P-3"))
    hello = stage.ready()

    assert hello.received_seq == 1
    assert kinds(stage.engine.reports) == [("P-1", "NEW")]


@pytest.mark.parametrize(("epoch", "instance"), [(6, INSTANCE), (7, b"another-instance")])
def test_a_lower_epoch_and_an_equal_one_of_another_instance_are_refused(
    stage: Stage, epoch: int, instance: bytes
) -> None:
    """Rule 10, also after a restart: the fenced engine gets no GatewayReady, the next higher one does."""
    stage.start()
    stage.ready(epoch=7)
    stage.crash()
    stage.start()

    hello = stage.greet(epoch=epoch, instance=instance)
    stage.until(lambda: stage.loop.gateway.phase is Phase.CLOSED)
    assert "FENCED" in stage.loop.gateway.ended_because
    assert hello.epoch == 7
    assert stage.engine.count(GatewayReady) == 1

    stage.ready(epoch=8, instance=instance)


def test_the_same_engine_instance_may_come_back(stage: Stage) -> None:
    """A session lost and made again under the same epoch and instance goes on."""
    stage.start()
    stage.ready(epoch=7)
    stage.engine.send(VenueBye(ByeReason.SLOW))

    stage.ready(epoch=7)

    assert stage.loop.gateway.sessions == 2


def test_commands_of_another_epoch_end_the_session(stage: Stage) -> None:
    """An older engine's command on this session is no order."""
    stage.start()
    stage.ready(epoch=7)

    stage.command(new(1, "P-1"), epoch=6)
    hello = stage.greet(epoch=7)

    assert hello.received_seq == 0


def test_reports_are_kept_until_the_engine_holds_them(stage: Stage) -> None:
    """After a crash everything above REPORTS_DURABLE comes again, before GatewayReady, and in order."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1", price=101, quantity=3), new(2, "P-2"), new(3, "P-3"))
    stage.durable(1)
    stage.crash()
    stage.engine.got.clear()
    stage.engine.reports.clear()

    stage.start()
    hello = stage.ready(durable=1)

    assert (hello.received_seq, hello.report_seq) == (3, 4)
    assert [r.report_seq for r in stage.engine.reports] == [2, 3, 4]
    order = [type(m) for m in stage.engine.got if isinstance(m, Reports | GatewayReady)]
    assert order == [Reports, GatewayReady]


def test_a_passive_fill_while_the_engine_is_away_is_reported_later(stage: Stage) -> None:
    """Ticks go on being applied without a session; the fill survives even a crash before the reconnect."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1"))
    stage.engine.send(VenueBye(ByeReason.STOPPING))
    stage.until(lambda: stage.loop.gateway.phase is not Phase.READY)

    stage.feed(stage.ticks.delta([(100, 0)], [(100, 9)]))
    stage.until(lambda: stage.loop.gateway.state.report_seq == 2)
    stage.crash()
    stage.start()
    stage.ready(epoch=2)

    assert kinds(stage.engine.reports)[-1] == ("P-1", "TRADE")


def test_an_engine_that_knows_more_reports_than_the_log_stops_the_start(stage: Stage) -> None:
    """A log that lost its end, or another venue's, must not go on."""
    stage.start()
    with pytest.raises(LogBehindError) as caught:
        stage.ready(durable=5)
    assert (caught.value.engine_seq, caught.value.log_seq) == (5, 0)


def test_an_engine_that_forgot_durable_reports_is_refused(stage: Stage) -> None:
    """What one engine called durable another of the same shard can't ask for again: its journal is old."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1"))
    stage.durable(1)
    stage.engine.send(VenueBye(ByeReason.STOPPING))

    stage.greet(epoch=2, durable=0)
    stage.until(lambda: "journal is old" in stage.loop.gateway.ended_because)

    assert stage.engine.count(GatewayReady) == 1


def test_a_welcome_alone_forgets_nothing(stage: Stage) -> None:
    """An engine that welcomes and dies before its sync gets the reports again from its next life."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1"))
    stage.engine.send(VenueBye(ByeReason.STOPPING))
    stage.ready(durable=1)
    stage.engine.send(VenueBye(ByeReason.STOPPING))
    stage.engine.reports.clear()

    stage.ready(epoch=2, durable=0)

    assert kinds(stage.engine.reports) == [("P-1", "NEW")]


def test_the_lease_is_renewed_without_traffic(stage: Stage) -> None:
    """A Confirm goes out at least every third of the lease."""
    stage.start()
    stage.ready(lease_ms=90)

    def alive() -> bool:
        stage.engine.send(Heartbeat(1))
        return stage.engine.count(Confirm) >= 3

    stage.until(alive)


def test_a_silent_engine_is_given_up_and_greeted_again(stage: Stage) -> None:
    """After three leases without a sign the gateway says hello on a new connection; open orders stay."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready(lease_ms=30)
    stage.order(new(1, "P-1"))

    stage.ready(lease_ms=60_000)

    assert stage.venue.open_count == 1


def test_orders_are_cancelled_on_engine_loss_where_that_is_set(stage: Stage) -> None:
    """With ``cancel_on_engine_loss_ms`` the gateway cancels by itself and reports it when the engine is back."""
    stage.start(cancel_on_engine_loss_ms=50)
    stage.feed(*stage.ticks.book())
    stage.ready(lease_ms=20)
    stage.order(new(1, "P-1"))

    stage.until(lambda: stage.venue.open_count == 0)
    stage.until(lambda: stage.loop.gateway.state.report_seq == 2)
    stage.ready(epoch=2)

    lost = stage.engine.reports[-1]
    assert (lost.exec_type, lost.venue_seq, lost.code) == (ExecType.CANCELED, 0, Code.VENUE_DOWN)


def test_an_undecodable_message_ends_the_session(stage: Stage) -> None:
    """What can't be read is no command; the gateway starts over."""
    stage.start()
    stage.ready()
    stage.engine.router.send(stage.engine.identity, b"\xc1")

    stage.greet()

    assert "decoded" in stage.loop.gateway.ended_because
    assert stage.engine.count(GatewayHello) == 2


def test_too_many_reports_that_the_engine_does_not_hold_stop_the_commands(stage: Stage) -> None:
    """Memory is bounded: at ``reports_kept_max`` commands end the session until reports are durable."""
    stage.start(reports_kept_max=2)
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1"), new(2, "P-2"))

    stage.command(new(3, "P-3"))
    hello = stage.ready(durable=2)
    assert hello.received_seq == 2

    assert kinds(stage.order(new(3, "P-3"))) == [("P-3", "NEW")]
