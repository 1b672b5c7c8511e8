"""The books of a run: the real projector and SQLite store, killed and restarted, compared with the checkers' own fold.

It also is the curious reader: it looks at the journal in the middle of a sync, when bytes are written and not durable.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from books.projector import Projector
from books.sqlite import SqliteStore
from protocol.codes import TERMINAL, TradeStatus
from tests.simulation.checkers import Watch
from tests.simulation.memory import CrashError

STEP_RECORDS = 64


class BooksSide:
    """One books writer."""

    def __init__(self, path: Path, watch: Watch) -> None:
        self._path = path
        self._watch = watch
        self._store: SqliteStore | None = None
        self._projector: Projector | None = None
        self.steps = 0
        self.peeks = 0

    def step(self, journal: Path, *, peek: bool = False) -> int:
        """Take what is durable into the store; return how many records.

        Raises:
            CrashError: If the books writer died here.
        """
        if self._projector is None:
            self._store = SqliteStore(self._path)
            self._projector = Projector(journal, self._store, "books")
        try:
            records = self._projector.step(STEP_RECORDS)
        except CrashError:
            self.close()
            raise
        self.steps += 1
        self.peeks += peek
        self._watch.read()
        seq = self._projector.mark.seq
        assert seq <= self._watch.medium.seq, f"the books have record {seq}, durable is {self._watch.medium.seq}"
        return records

    def close(self) -> None:
        """Let go; the next step begins at the store's watermark."""
        if self._projector is not None:
            self._projector.close()
        if self._store is not None:
            self._store.close()
        self._projector = self._store = None

    def verify(self, journal: Path) -> None:
        """Bring the books up and compare every order, fill and position with the fold of the journal."""
        while self.step(journal):
            pass
        self.close()
        ledgers = self._watch.ledgers
        with sqlite3.connect(self._path) as db:
            columns = "order_id, status, is_open, leaves_quantity_e9, CAST(cum_quantity_e9 AS INTEGER)"
            orders = {r[0]: r[1:] for r in db.execute(f"SELECT {columns} FROM orders WHERE order_id != ''")}
            columns = "trade_id, status, CAST(last_quantity_e9 AS INTEGER)"
            found = db.execute(f"SELECT {columns} FROM trades").fetchall()
            trades = {t: 0 if status == TradeStatus.BUSTED else (quantity or -1) for t, status, quantity in found}
            positions = {r[:2]: r[2] for r in db.execute("SELECT account, instrument, quantity_e9 FROM positions")}
        db.close()
        ours = {
            i: (int(o.status), int(o.status not in TERMINAL), o.leaves_e9, o.cum_e9) for i, o in ledgers.orders.items()
        }
        accepted = {i: row for i, row in orders.items() if i in ours}
        assert accepted == ours, (
            f"books differ: {[(i, accepted.get(i), ours[i]) for i in ours if accepted.get(i) != ours[i]]}"
        )
        counted = {t: q for t, q in ledgers.counted.items() if t in ledgers.trades}
        assert trades == counted, "the books have other fills than the journal"
        held = {key: int(quantity) for key, quantity in positions.items() if int(quantity)}
        assert held == {k: q for k, q in ledgers.positions.items() if q}, "the books have other positions"
