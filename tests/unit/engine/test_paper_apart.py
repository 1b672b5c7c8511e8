"""Nothing of paper reaches what is real, in any history; and a crash at any record comes back to the same (rule 14)."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from engine.core import Core
from engine.hashed import order_row
from engine.state import state_hash
from protocol.codes import Code, ExecType, Mode, OrderStatus, OrderType, OutcomeKind, Scope, Side
from protocol.decisions import NewDecision
from protocol.paper import is_paper
from protocol.params import LimitName, RiskParams
from protocol.records import Adjusted, ControlAction, Reported, Started, VenueChanged
from protocol.venue import Report
from tests.unit.engine.desk import E9, REFERENCE, limit
from tests.unit.engine.journaled import snapshot, start, write_journal
from tests.unit.engine.paper_desk import PAPER_A1, PaperDesk

P, A = OutcomeKind.PAPER, OutcomeKind.ACCEPTED

Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["order", "fill", "cancel", "halt", "resume", "reset"]), st.integers(0, 5),
              st.integers(1, 40), st.sampled_from([-1, 1])),
    max_size=25,
)  # fmt: skip
REAL = st.lists(st.tuples(st.integers(1, 15), st.sampled_from([-1, 1]), st.booleans(), st.booleans()), max_size=8)


def real_step(desk: PaperDesk, n: int, step: tuple[int, int, bool, bool]) -> tuple[object, ...]:
    """Send a real order of a key that is never paper, maybe fill it; return the verdict."""
    quantity, sign, reduces, fills = step
    side = Side.BUY if sign > 0 else Side.SELL
    decided = desk.decided(desk.order(f"r{n}", side, quantity, strategy="s2", reduce_only=reduces))
    if decided.kind is A and fills:
        desk.fill(desk.state.orders[decided.order_id], quantity)
    return decided.kind, decided.code, decided.position_after_e9, decided.order_class, decided.facts, desk.real


def paper_step(desk: PaperDesk, n: int, step: Step) -> None:
    """Do something to the paper side of a1 and s1."""
    what, index, quantity, sign = step
    state = desk.state
    papers = [o for o in state.orders.values() if is_paper(o.account)]
    if what == "order" or not papers:
        asked = desk.order(f"p{n}", Side.BUY if sign > 0 else Side.SELL, quantity)
        route = desk.core.orders.find_route(state.permit("src", "all"), asked)
        decided = desk.core.decide_new(asked, desk.item(asked), route, desk.now, REFERENCE, None)
        if isinstance(decided, NewDecision) and decided.kind is not A:  # else an exit of what is real, and real
            desk.decided(asked)
        return
    order = papers[index % len(papers)]
    left = order.quantity - order.cum
    if what == "fill":
        desk.fill(order, min(quantity, left) if index else left + 1, 100 + sign)
    elif what == "cancel":
        desk.cancel(order.client_order_id)
    elif what == "reset":
        desk.apply(Adjusted(PAPER_A1, "XY", 0, 0, "", "", "reset", "op"))
    else:
        action = ControlAction.HALT if what == "halt" else ControlAction.RESUME
        desk.control(action, Scope.ACCOUNT, PAPER_A1)


# What s1 sends is paper or an exit of what is real, what s2 sends is never paper.
ROWS = (
    limit(LimitName.POSITION_MAX, 10), limit(LimitName.OPEN_COUNT_MAX, 0, Scope.STRATEGY, "s1"),
    limit(LimitName.RATE_COUNT, 6, window_ns=E9),
)  # fmt: skip
RULES = RiskParams((), sandbox=(Code.COUNT_OPEN_MAX,))


@given(real=REAL, steps=STEPS, data=st.data())
def test_no_history_of_paper_changes_a_real_verdict(
    real: list[tuple[int, int, bool, bool]], steps: list[Step], data: st.DataObject
) -> None:
    """Of two desks with the same real orders one has paper in between, filled in any way: they say the same."""
    plain, mixed = (PaperDesk(*ROWS, rules=RULES) for _ in range(2))
    at = sorted(data.draw(st.lists(st.integers(0, len(real)), min_size=len(steps), max_size=len(steps))))
    done = 0
    for n in range(len(real) + 1):
        while done < len(steps) and at[done] <= n:
            paper_step(mixed, done, steps[done])
            done += 1
        if n < len(real):
            assert real_step(mixed, n, real[n]) == real_step(plain, n, real[n])
    assert mixed.real == plain.real
    assert mixed.hash() == mixed.replayed_hash()
    assert all(answer is not False for answer in mixed.decided_again())


def a_day() -> PaperDesk:
    """Paper and real orders in every place: open, filled in part, flat again, halted, reset, real beside them."""
    desk = PaperDesk()
    first = desk.paper("p1", 20)
    desk.fill(first, 7)
    desk.accept(desk.order("r1", quantity=4, strategy="s2"))
    desk.cancel("p1")
    desk.report(ExecType.CANCELED, first.order_id, venue_seq=first.cancel_seq)
    desk.decided(desk.order("p2", Side.SELL, 9))
    second = desk.decided(desk.termed("p3", Side.SELL, 5, 90, order_type=OrderType.STOP_LIMIT, stop_price=95))
    assert second.kind is P
    desk.control(ControlAction.HALT, Scope.STRATEGY, "s1")
    desk.decided(desk.order("no"))
    desk.control(ControlAction.RESUME, Scope.STRATEGY, "s1")
    desk.paper("q", 30, account="a2", strategy="s2")
    desk.control(ControlAction.KILL, Scope.ACCOUNT, "a2", unsent_from=1 << 62)
    desk.apply(VenueChanged("sandbox", False, b"g" * 16, 1))
    desk.apply(VenueChanged("sandbox", True, b"g" * 16, 1))
    desk.apply(Adjusted(PAPER_A1, "XY", 0, 0, "", "", "reset", "op"))
    desk.decided(desk.order("end"))
    return desk


def test_a_crash_at_any_record_comes_back_to_the_same(tmp_path: Path) -> None:
    """From the records alone at each of them, and from a snapshot behind some: the same state, the same next word."""
    desk = a_day()
    live = Core(desk.state.dedup.keys_max)
    for n, record in enumerate(desk.records):
        live.apply(*record)
        again = Core(desk.state.dedup.keys_max)
        for before in desk.records[: n + 1]:
            again.repeat(*before)
        assert state_hash(again.state) == state_hash(live.state)
        assert [order_row(o) for o in again.state.orders.values()] == [order_row(o) for o in live.state.orders.values()]
    for n in range(3, len(desk.records), 4):
        folders = tmp_path / f"{n}", tmp_path / f"{n}s"
        for folder in folders:
            write_journal(folder, desk.records[:n], batch=1)
        assert snapshot(folders[1]) == n
        (whole, from_first, _), (short, from_snapshot, _) = (start(folder) for folder in folders)
        assert (whole, from_first.seq, from_snapshot.seq) == (short, 0, n)
        follow = desk.records[n]
        cores = from_first.core, from_snapshot.core
        assert len({core.decide_again(follow[3], follow[1]) for core in cores}) == 1
        for core in cores:
            core.apply(*follow)
        assert state_hash(cores[0].state) == state_hash(cores[1].state)


def test_fees_of_paper_are_no_loss_of_anybody() -> None:
    """A limit on the losses of all, of a strategy and of an account counts fees of real trades only."""
    daily = LimitName.DAILY_LOSS_MAX
    places = (Scope.GLOBAL, ""), (Scope.STRATEGY, "s1"), (Scope.ACCOUNT, "a1")
    desk = PaperDesk(limit(LimitName.POSITION_MAX, 10), *(limit(daily, 1_000, *place) for place in places))
    desk.apply(Started(2, b"j" * 16, Mode.PAPER, 0, 20260530, 1, "1", books_money=True))
    desk.apply(VenueChanged("sandbox", True, b"g" * 16, 0))
    for name, quantity, lost in (("p", 20, {}), ("r", 1, {"USDT": -3 * E9})):
        if name == "r":  # the paper position is gone, and its key real again
            desk.apply(Adjusted(PAPER_A1, "XY", 0, 0, "", "", "reset", "op"))
        decided = desk.decided(desk.order(name, quantity=quantity))
        venue = desk.state.venues["sandbox"]
        report = Report(
            venue.report_seq + 1, ExecType.TRADE, decided.order_id, "v", 0, OrderStatus.NONE, 0, quantity * E9,
            desk.now, f"T{name}", quantity * E9, 100 * E9, fee_e9=3 * E9, currency="USDT",
        )  # fmt: skip
        raw = Raw(msgspec.msgpack.encode(report))
        desk.apply(Reported("sandbox", raw, desk.core.reports.decide_report(venue, report)))
        assert [desk.state.losses.scopes[place].sums for place in places] == [lost] * 3
    assert desk.state.accounts[PAPER_A1].fees_e9 == {"USDT": 3 * E9}
    assert desk.hash() == desk.replayed_hash()
