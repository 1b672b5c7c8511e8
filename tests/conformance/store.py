"""What every store of the books must do; a store's tests inherit this class and give it a ``store`` fixture."""

from __future__ import annotations

from random import Random

import pytest
from msgspec import structs

from books.errors import QueryError
from books.store import FILTERS, Progress, Row, Store, StoreMark
from journal.projection import Changes, NothingStored, Projection, State
from journal.rows import OrderRow
from protocol.codes import Code, OrderStatus, OutcomeKind
from protocol.decisions import EngineCancel
from protocol.errors import FencedError
from protocol.records import Record, SendDecided
from protocol.rolls import SessionRolled
from tests.unit.journal.samples import E9, ordered
from tests.unit.journal.stories import STARTED, Story


def changes_of(records: list[Record]) -> tuple[Changes, StoreMark]:
    """Return what the records change, and the mark behind them."""
    projection = Projection(NothingStored())
    for seq, record in enumerate(records, start=1):
        projection.apply(seq, seq * 10, record)
    changes = projection.take()
    return changes, StoreMark(len(records), 77, 1, changes.state)


def _field(row: Row, name: str) -> str | int:
    value = getattr(row, "is_open" if name == "open" else name)
    return value if isinstance(value, str) else int(value)


class StoreContract:
    """Inherited by the tests of each store."""

    def test_an_empty_store_is_at_the_beginning(self, store: Store) -> None:
        """A new store has no rows and asks for record 1."""
        assert store.watermark() == StoreMark()
        assert sum(store.counts()) == 0
        assert store.find_order("demo", "a") is None

    def test_rows_come_back_as_they_were(self, store: Store) -> None:
        """Every row of every kind, with every type, survives."""
        changes, mark = changes_of(Story(Random(5)).write(300))
        store.apply(StoreMark(), changes, mark)

        assert store.watermark() == mark
        for kind in ("orders", "trades", "positions", "breaches"):
            rows = store.list_rows(kind, {}, 500).rows
            assert rows, kind
            assert sorted(map(repr, rows)) == sorted(map(repr, getattr(changes, kind)))
        for row in changes.orders:
            assert store.find_order(row.account, row.client_order_id) == row
            assert row.order_id == "" or store.find_order_id(row.order_id) == row
        for position in changes.positions:
            assert store.find_position(position.account, position.instrument) == position

    def test_applying_again_changes_nothing(self, store: Store) -> None:
        """A writer that died after the commit may repeat it."""
        changes, mark = changes_of(Story(Random(5)).write(100))
        store.apply(StoreMark(), changes, mark)
        before = store.counts()
        store.apply(StoreMark(), changes, mark)

        assert store.counts() == before

    @pytest.mark.parametrize("step", [1, 7, 60])
    def test_batches_of_any_size_end_in_the_same_rows(self, store: Store, step: int) -> None:
        """How the records were cut into batches shows nowhere, also where rows are read back to go on."""
        records = Story(Random(6)).write(120)
        expected, mark = changes_of(records)
        at, projection = StoreMark(), Projection(store)
        for seq, record in enumerate(records, start=1):
            projection.apply(seq, seq * 10, record)
            if seq % step == 0 or seq == len(records):
                changes = projection.take()
                to = StoreMark(seq, 77, 1, changes.state)
                store.apply(at, changes, to)
                at, projection = to, Projection(store, changes.state)  # as a writer that was started again

        assert store.watermark() == mark
        for kind in ("orders", "trades", "positions", "breaches"):
            rows = store.list_rows(kind, {}, 500).rows
            assert sorted(map(repr, rows)) == sorted(map(repr, getattr(expected, kind))), kind

    def test_every_filter_finds_what_the_rows_say(self, store: Store) -> None:
        """For each list, each filter and each value, also of what changed since it was written: exactly its rows."""
        changes, mark = changes_of(Story(Random(8)).write(150))
        store.apply(StoreMark(), changes, mark)
        for kind, sets in FILTERS.items():
            every = store.list_rows(kind, {}, 500).rows
            for names in sets:
                asked = {tuple((n, _field(row, n)) for n in sorted(names)) for row in every}
                for values in asked:
                    wanted = [row for row in every if all(_field(row, n) == v for n, v in values)]
                    assert store.list_rows(kind, dict(values), 500).rows == wanted, (kind, values)

    def test_another_history_is_fenced(self, store: Store) -> None:
        """A store that is elsewhere, or saw another chain, refuses and stays as it was."""
        changes, mark = changes_of([STARTED, ordered("a")])
        store.apply(StoreMark(), changes, mark)
        other = StoreMark(2, 78, 1, changes.state)
        for after, to in ((StoreMark(), other), (other, StoreMark(3, 1, 1))):
            with pytest.raises(FencedError):
                store.apply(after, changes, to)

        assert store.watermark() == mark

    def test_a_row_is_never_written_twice(self, store: Store) -> None:
        """Trades and breaches are insert-only: another one under the same key is fenced, and nothing is kept."""
        changes, mark = changes_of(Story(Random(5)).write(200))
        store.apply(StoreMark(), changes, mark)
        for again in (
            Changes([], changes.trades[:1], [], [], State(mark.seq + 1)),
            Changes([], [], [], changes.breaches[:1], State(mark.seq + 1)),
        ):
            with pytest.raises(FencedError):
                store.apply(mark, again, StoreMark(mark.seq + 1, 1, 1, again.state))

        assert store.watermark() == mark

    def test_a_later_form_of_an_order_replaces_it(self, store: Store) -> None:
        """An order has one row, the newest."""
        changes, mark = changes_of([STARTED, ordered("a")])
        store.apply(StoreMark(), changes, mark)
        (row,) = changes.orders
        row.cum_quantity_e9, row.value_e9, row.seq = 3, 2**80, 3
        store.apply(mark, Changes([row], [], [], [], State(3)), StoreMark(3, 1, 1, State(3)))

        assert store.find_order("demo", "a") == row
        assert store.counts().orders == 1

    def test_an_id_that_comes_again_on_a_later_date_is_another_row(self, store: Store) -> None:
        """The older order keeps its row, also for what is said of it later; by the id the newest is found."""
        second = ordered("a")
        second = structs.replace(second, decision=structs.replace(second.decision, order_id="P-demo-a-again"))
        late = SendDecided(
            "sandbox", 3, "P-demo-a", Code.UNSENT_STALE, EngineCancel("demo", "a", "P-demo-a", 0, 3, Code.UNSENT_STALE)
        )
        rolled = SessionRolled(STARTED.trading_date, STARTED.trading_date + 1, "op", "why")
        changes, mark = changes_of([STARTED, ordered("a"), rolled, second, late])
        store.apply(StoreMark(), changes, mark)

        old, new = store.find_order_id("P-demo-a"), store.find_order_id("P-demo-a-again")
        assert old is not None
        assert new is not None
        assert (old.status, new.status) == (OrderStatus.CANCELED, OrderStatus.PENDING_NEW)
        assert (old.day, new.day) == (STARTED.trading_date, STARTED.trading_date + 1)
        assert store.find_order("demo", "a") == new
        assert store.counts().orders == 2

    def test_pages_walk_through_everything_once(self, store: Store) -> None:
        """The cursor is the record that made the row: nothing is repeated, nothing left out."""
        changes, mark = changes_of([STARTED, *(ordered(f"o{n}") for n in range(25))])
        store.apply(StoreMark(), changes, mark)
        seen: list[int] = []
        cursor = 0
        while True:
            page = store.list_rows("orders", {"account": "demo"}, 10, cursor)
            seen += [row.accepted_seq for row in page.rows if isinstance(row, OrderRow)]
            assert page.as_of_seq == mark.seq
            cursor = page.cursor
            if not cursor:
                break

        assert seen == list(range(2, 27))

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({"account": "demo", "open": 1}, ["a"]),
            ({"account": "demo", "open": 0}, ["c"]),
            ({"account": "other"}, ["b", "d"]),
            ({"account": "other", "strategy": "arb"}, ["d"]),
            ({"account": "demo", "instrument": "ETHUSDT"}, ["c"]),
            ({"day": 20260102}, ["a", "b", "c", "d"]),
            ({"day": 20260103}, []),
            ({"code": int(Code.QTY_MAX)}, ["c"]),
            ({"open": 1}, ["a", "b", "d"]),
        ],
    )
    def test_filters_find_what_they_say(self, store: Store, filters: dict[str, str | int], expected: list[str]) -> None:
        """Each filter of the closed list answers with its rows in order."""
        changes, mark = changes_of(
            [
                STARTED,
                ordered("a"),
                ordered("b", account="other"),
                ordered("c", instrument="ETHUSDT", kind=OutcomeKind.REJECTED, code=Code.QTY_MAX),
                ordered("d", account="other", strategy="arb"),
            ]
        )
        store.apply(StoreMark(), changes, mark)

        found = store.list_rows("orders", filters, 10).rows
        assert [r.client_order_id for r in found if isinstance(r, OrderRow)] == expected

    def test_other_filters_are_refused(self, store: Store) -> None:
        """What no index answers is not answered."""
        with pytest.raises(QueryError):
            store.list_rows("orders", {"strategy": "mm"}, 10)
        with pytest.raises(QueryError):
            store.list_rows("orders", {}, 501)
        assert all(frozenset() in sets for sets in FILTERS.values())

    def test_progress_is_there_for_others(self, store: Store) -> None:
        """What the writer says of itself can be read."""
        store.publish(Progress(3, 4, 5, 6))

        assert store.progress() == Progress(3, 4, 5, 6)

    def test_dropped_is_empty(self, store: Store) -> None:
        """A rebuild begins with nothing."""
        changes, mark = changes_of([STARTED, ordered("a", quantity_e9=E9)])
        store.apply(StoreMark(), changes, mark)
        store.drop()

        assert store.watermark() == StoreMark()
        assert sum(store.counts()) == 0
