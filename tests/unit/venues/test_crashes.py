"""A gateway that dies at any step: one history, whatever the step."""

from __future__ import annotations

from collections import Counter

import pytest

from protocol.codes import ExecType, OrderStatus
from protocol.ticks import BookSnapshot, SnapshotReply
from protocol.venue import Query
from sandbox.book import UNKNOWN
from tests.unit.venues.stage import E9, TRACE, Stage, cancel, new
from venues.core import gateway as gateway_module


class Killed(BaseException):
    """Stands for SIGKILL at a named place; nothing may catch it."""


COMMANDS = [
    new(1, "P-1", price=101, quantity=3),
    new(2, "P-2", price=100, quantity=5),
    new(3, "P-3", price=99, quantity=5),
    cancel(4, "P-3"),
    new(5, "P-5", price=102, quantity=30),
]
POINTS = ["gateway.after_receive", "gateway.after_sync", "gateway.before_report", "gateway.after_report"]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_a_crash_at_any_named_place_changes_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, point: str, nth: int
) -> None:
    """Killed there once, then the engine repeats what is unconfirmed: every order once, every report once."""
    hits = Counter()

    def hit(name: str) -> None:
        hits[name] += 1
        if name == point and hits[name] == nth:
            raise Killed

    monkeypatch.setattr(gateway_module, "hit", hit)
    stage.start()
    stage.feed(*stage.ticks.book())

    reports = drive(stage)

    seen = [(r.order_id, r.exec_type) for _, r in sorted(reports.items())]
    assert Counter(seen) == Counter(
        {
            ("P-1", ExecType.NEW): 1, ("P-1", ExecType.TRADE): 1, ("P-2", ExecType.NEW): 1,
            ("P-3", ExecType.NEW): 1, ("P-3", ExecType.CANCELED): 1, ("P-5", ExecType.NEW): 1,
            ("P-5", ExecType.TRADE): seen.count(("P-5", ExecType.TRADE)),
        }
    )  # fmt: skip
    assert sorted(reports) == list(range(1, len(reports) + 1))
    trades = [r.trade_id for r in reports.values() if r.trade_id]
    assert len(trades) == len(set(trades))
    assert hits[point] > nth


def drive(stage: Stage) -> dict[int, object]:
    """Play an engine that sends one command at a time, and everything unconfirmed again after a crash."""
    reports: dict[int, object] = {}
    sent = 0
    is_ready = False
    while True:
        try:
            if not is_ready:
                hello = stage.ready()
                sent = hello.received_seq
                is_ready = True
            keep(stage, reports)
            if sent == len(COMMANDS):
                if stage.loop.gateway.state.report_seq == max(reports):
                    return reports
                stage.until(lambda: stage.engine.reports and keep(stage, reports))
                continue
            stage.order(COMMANDS[sent])
            sent += 1
        except Killed:
            stage.crash()
            keep(stage, reports)
            stage.start()
            stage.feed(*type(stage.ticks)(epoch=stage.ticks.epoch + 1).book())
            is_ready = False


def keep(stage: Stage, reports: dict[int, object]) -> bool:
    stage.engine.receive()
    for report in stage.engine.reports:
        assert reports.setdefault(report.report_seq, report) == report, "one number, two reports"
    stage.engine.reports.clear()
    return True


def test_a_restart_rebuilds_orders_and_counters(stage: Stage) -> None:
    """Leaves, cum, final states, ids and numbers go on; the place in the queue is unknown until a snapshot."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    first = stage.order(new(1, "P-1", price=101, quantity=10), new(2, "P-2"), new(3, "P-3", price=101, quantity=1))
    stage.order(cancel(4, "P-3"))
    stage.crash()

    stage.start()
    stage.ready(epoch=2)
    exchange = stage.venue.exchange
    opened = {o.order_id: (o.leaves, o.ahead) for o in exchange.open.values()}
    assert opened == {"P-1": (2, UNKNOWN), "P-2": (4, UNKNOWN)}
    stage.venue.follower.on_snapshot(SnapshotReply("XY", BookSnapshot(2, 1, 1, 1, [(101, 7), (100, 10)], [(102, 8)])))
    assert [exchange.open[i].ahead for i in ("P-1", "P-2")] == [7, 10]

    stage.engine.reports.clear()
    stage.command(Query(5, "P-3", TRACE), new(6, "P-6", price=102, quantity=1), epoch=2)
    stage.until(lambda: len(stage.engine.reports) == 3)
    status, ack, trade = stage.engine.reports
    assert (status.status, status.leaves_quantity_e9) == (OrderStatus.CANCELED, 0)
    assert (ack.venue_order_id, trade.last_price_e9) == ("S-4", 102 * E9)
    assert trade.trade_id not in {r.trade_id for r in first}


def test_a_rotated_log_carries_everything(stage: Stage) -> None:
    """With a segment a turn, open orders, kept reports and the epoch survive rotation and restart."""
    stage.start(segment_bytes=1)
    stage.feed(*stage.ticks.book())
    stage.ready(epoch=3)
    for n in range(1, 30):
        stage.command(new(n, f"P-{n}", price=90, quantity=1), epoch=3)
        stage.until(lambda n=n: stage.engine.confirmed_seq >= n)
    stage.durable(10)
    stage.crash()
    stage.engine.reports.clear()

    stage.start(segment_bytes=1)
    hello = stage.ready(epoch=4, durable=10)

    assert (hello.epoch, hello.received_seq, hello.report_seq) == (3, 29, 29)
    assert [r.report_seq for r in stage.engine.reports] == list(range(11, 30))
    assert stage.venue.open_count == 29
    assert len(list(stage.folder.glob("*.log"))) == 16


def test_a_torn_write_is_as_if_it_had_not_come(stage: Stage) -> None:
    """Half of a batch on the disk: the command was never confirmed, so it is taken again, once."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1"))
    path = max(stage.folder.glob("*.log"))
    whole = len(path.read_bytes().rstrip(b"\0"))
    stage.order(new(2, "P-2"))
    torn = len(path.read_bytes().rstrip(b"\0"))
    stage.crash()
    data = path.read_bytes()
    path.write_bytes(data[: (whole + torn) // 2] + bytes(len(data) - (whole + torn) // 2))

    stage.start()
    hello = stage.ready()
    assert hello.received_seq == 1
    stage.engine.reports.clear()
    stage.command(new(2, "P-2"))
    stage.until(lambda: bool(stage.engine.reports))

    assert [(r.report_seq, r.order_id) for r in stage.engine.reports] == [(2, "P-2")]


def test_the_gateways_own_kill_cancels_and_refuses_and_lasts(stage: Stage) -> None:
    """Killed without an engine in sight; the cancels are reported later, and a restart is still killed."""
    stage.start()
    stage.feed(*stage.ticks.book())
    stage.ready()
    stage.order(new(1, "P-1"), new(2, "P-2", price=99))

    assert not stage.control("kill", token="wrong").ok
    assert stage.venue.open_count == 2
    reply = stage.control("kill")
    assert (reply.ok, reply.cancelled, reply.status.is_killed, reply.status.open_orders) == (True, 2, True, 0)
    stage.crash()
    stage.engine.reports.clear()
    stage.start()
    stage.ready()
    assert [(r.order_id, r.exec_type.name) for r in stage.engine.reports[-2:]] == [
        ("P-1", "CANCELED"), ("P-2", "CANCELED"),
    ]  # fmt: skip

    (refused,) = stage.order(new(3, "P-3"))
    assert (refused.exec_type.name, refused.code.name) == ("REJECTED", "STATE_HALTED")
    assert stage.control("resume").ok
    (taken,) = stage.order(new(4, "P-4"))
    assert taken.exec_type is ExecType.NEW


def test_status_says_how_the_gateway_is(stage: Stage) -> None:
    """A status changes nothing and names epoch, numbers and the feed's holes."""
    stage.start()
    stage.ready(epoch=5)

    status = stage.control("status").status

    assert (status.phase, status.epoch, status.kind, status.is_killed) == ("READY", 5, "SANDBOX", False)
    assert status.venue_facts["instruments_without_book"] == 1
