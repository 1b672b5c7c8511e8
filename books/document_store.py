"""The store's contract over documents that are written one by one: what a batch wrote counts from its watermark on.

Order of writing: pages of the indexes, rows, what points to rows, and last the watermark, which the server compares
with what this writer read. Dying between any two leaves documents that do not count and that the next batch writes
over; a writer that another one has replaced can't move the watermark any more.

What the server answers, and what follows: another version where ours was expected = look, and write again only if what
counts is what we knew; temporary = again, with a wait that grows and chance in it, then the caller's turn; no answer =
look whether it is there, and write again under the same guard, which a late arrival of the first does not pass.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any, Final, NamedTuple

from msgspec import structs

from books.bucket import ANY, NEW, Bucket, Found, Put, Refusal
from books.document_reader import DocumentReader
from books.documents import (
    ROW_TYPES,
    Document,
    Head,
    encode,
    indexes_of,
    number_of,
    pointers_of,
    row_of,
    row_value,
)
from books.errors import StoreAmbiguousError, StoreLostError, StoreUnavailableError
from books.pages import LEVELS, SPAN_BITS, Edit
from books.pages import Page as IndexPage
from books.store import Progress, Row, StoreMark, mark_text
from journal.projection import Changes
from journal.rows import OrderRow, PositionRow
from protocol.errors import FencedError

WRITES_MAX: Final = 100  # documents of one call; more only wait for each other
READS_MAX: Final = 200
KEPT_MAX: Final = 16_384  # documents that this process remembers with their versions
TRIES: Final = 6
WAIT_MS: Final = 5


class Held(NamedTuple):
    """A document as this writer knows it."""

    cas: int
    document: Document


ABSENT: Final = Held(NEW, Document(0, None))


class DocumentStore(DocumentReader):
    """The books in a bucket; takes the shard over from any earlier writer when it is made.

    Args:
        bucket: The server.
        where: What errors call it.
        shard: Whose books.
        random: Spreads waits.
        pause: Waits so many seconds.

    Raises:
        StoreUnavailableError: If the server does not answer.
    """

    def __init__(
        self,
        bucket: Bucket,
        where: str,
        shard: int = 0,
        random: Random | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(bucket, where, shard)
        self._random = random or Random()  # noqa: S311  # spreads waits, guards nothing
        self._pause = pause
        self._kept: OrderedDict[str, Held] = OrderedDict()
        self._owner = secrets.token_hex(8)
        self._head, self._cas = self._claim()

    # The contract

    def head(self) -> Head:
        """Return the watermark: this writer's own."""
        return self._head

    def apply(self, after: StoreMark, changes: Changes, mark: StoreMark) -> None:
        """See ``Store.apply``."""
        if self._head.mark == mark:
            return
        if self._head.mark != after:
            raise FencedError(f"the books in {self.where}", mark_text(after), mark_text(self._head.mark))
        try:
            batch = _Batch(self, after.seq, mark.seq)
            head = batch.fill(changes, self._head)
            for puts in batch.phases():
                self._write(puts, after.seq)
            self._move(structs.replace(head, mark=mark))
        except BaseException:
            self._kept.clear()  # what was written half-way is read anew
            raise

    def publish(self, progress: Progress) -> None:
        """See ``Store.publish``."""
        self._settle({self.keys.progress: Put(encode(progress), ANY)}, lambda *_: None)

    def drop(self) -> None:
        """See ``Store.drop``. The watermark goes first: what is left of the rest does not count."""
        self._kept.clear()
        self._move(Head(owner=self._owner))
        for kind in ROW_TYPES:
            self._drop_rows(kind)
        self.bucket.remove([self.keys.progress])

    # Documents, as known

    def values(self, keys: Iterable[str], seq: int) -> dict[str, Any]:
        """See ``DocumentReader.values``. Nobody else moves the watermark, so nothing can be beyond it."""
        counted = ((key, held.document.at(seq)) for key, held in self.known(keys).items())
        return {key: value for key, value in counted if value is not None}

    def known(self, keys: Iterable[str]) -> dict[str, Held]:
        """Return documents with their versions; ABSENT for those that there are not."""
        wanted = list(dict.fromkeys(keys))
        missing = [key for key in wanted if key not in self._kept]
        for n in range(0, len(missing), READS_MAX):
            part = missing[n : n + READS_MAX]
            found = self.bucket.read(part)
            for key in part:
                self._keep(key, self._held(key, found.get(key)))
        held = {key: self._kept[key] for key in wanted}
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return held

    def _keep(self, key: str, held: Held) -> None:
        self._kept[key] = held
        self._kept.move_to_end(key)

    def _held(self, key: str, found: Found | None) -> Held:
        return ABSENT if found is None else Held(found.cas, self.decode(key, found.data))

    # Writing

    def _write(self, documents: dict[str, tuple[int, Document]], seq: int) -> None:
        """Write documents, each guarded by the version that is known."""
        keys = list(documents)
        for n in range(0, len(keys), WRITES_MAX):
            part = {key: documents[key] for key in keys[n : n + WRITES_MAX]}

            def again(key: str, found: Found | None, part: dict[str, tuple[int, Document]] = part) -> Put | None:
                """Return the next try, None if it is there; refuse what somebody else wrote."""
                _, wanted = part[key]
                held = self._held(key, found)
                if held.document == wanted:
                    self._keep(key, held)
                    return None
                if found is None and wanted.was is not None:
                    raise StoreLostError(f"{self.where} {key}", seq)
                if held.document.at(seq) != wanted.was:
                    raise FencedError(f"{self.where} {key}", f"{wanted.was!r}"[:200], f"{held.document!r}"[:200])
                return Put(encode(wanted), held.cas)

            written = self._settle({key: Put(encode(d), cas) for key, (cas, d) in part.items()}, again)
            for key, cas in written.items():
                self._keep(key, Held(cas, part[key][1]))

    def _settle(self, puts: dict[str, Put], again: Callable[[str, Found | None], Put | None]) -> dict[str, int]:
        """Write until all is there; return the new versions. ``again`` looks at what is there after a refusal.

        Raises:
            StoreUnavailableError: If none more of it is there after a few tries.
            StoreAmbiguousError: Likewise, and it is not known whether it is.
        """
        written: dict[str, int] = {}
        attempt = 0
        while True:
            results = self.bucket.write(puts)
            refused = {key: why for key, why in results.items() if isinstance(why, Refusal)}
            written |= {key: cas for key, cas in results.items() if not isinstance(cas, Refusal)}
            if not refused:
                return written
            if attempt == TRIES:
                cause = f"{len(refused)} documents refused {TRIES} times, such as {next(iter(refused))}"
                ambiguous = Refusal.AMBIGUOUS in refused.values()
                raise (StoreAmbiguousError if ambiguous else StoreUnavailableError)(self.where, cause)
            if any(why is not Refusal.CHANGED for why in refused.values()):
                most_ms = WAIT_MS << attempt
                self._pause(self._random.randint(most_ms // 2, most_ms) / 1000)
            look = {key for key, why in refused.items() if why is not Refusal.TEMPORARY and puts[key].cas != ANY}
            found = self.bucket.read(look) if look else {}
            tried = {key: again(key, found.get(key)) if key in look else puts[key] for key in refused}
            left = {key: put for key, put in tried.items() if put is not None}
            if not left:
                return written
            # A slow server that takes some of them each time is let go on; they become fewer.
            attempt = 0 if len(left) < len(puts) else attempt + 1
            puts = left

    # The watermark

    def _claim(self) -> tuple[Head, int]:
        found = self.bucket.read([self.keys.watermark]).get(self.keys.watermark)
        head = structs.replace(self.head_of(found), owner=self._owner)

        def again(_: str, found: Found | None) -> Put | None:
            nonlocal head
            head = structs.replace(self.head_of(found), owner=self._owner)
            return Put(encode(head), found.cas if found else NEW)

        written = self._settle({self.keys.watermark: Put(encode(head), found.cas if found else NEW)}, again)
        return head, written[self.keys.watermark]

    def _move(self, head: Head) -> None:
        """Let what was written count: only if nobody else moved the watermark since this writer saw it."""
        there: list[int] = []

        def again(key: str, found: Found | None) -> Put | None:
            now = self.head_of(found)
            if found is not None and now == head:
                there.append(found.cas)
                return None
            if found is None:
                raise StoreLostError(f"{self.where} {key}", self._head.mark.seq)
            if now != self._head:
                theirs = f"{mark_text(now.mark)} of writer {now.owner}"
                raise FencedError(f"the books in {self.where}", f"writer {self._owner}", theirs)
            return Put(encode(head), found.cas)

        written = self._settle({self.keys.watermark: Put(encode(head), self._cas)}, again)
        self._head, self._cas = head, written.get(self.keys.watermark) or there[0]

    # Drop

    def _drop_rows(self, kind: str) -> None:
        """Remove rows of a list with all that says where they are, also what never counted."""
        indexes: set[str] = {"all"}
        root = IndexPage(kind, "all", LEVELS - 1, 0)
        for page, leaf in self._walk(root):
            keys = [self.keys.row(kind, page.number << SPAN_BITS | low) for low in leaf]
            gone: list[str] = []
            for key, document in self.documents(keys).items():
                gone.append(key)
                for value in (document.value, document.was):
                    if value is not None:
                        row = row_of(kind, value)
                        indexes |= indexes_of(kind, row)
                        gone += [pointer.key for pointer in pointers_of(self.keys, kind, row)]
            self.bucket.remove(dict.fromkeys(gone))
        for index in sorted(indexes):
            pages = [page for page, _ in self._walk(IndexPage(kind, index, LEVELS - 1, 0), all_levels=True)]
            self.bucket.remove([self.keys.page(*page) for page in pages])

    def _walk(self, page: IndexPage, *, all_levels: bool = False) -> Iterable[tuple[IndexPage, list[int]]]:
        key = self.keys.page(*page)
        document = self.documents([key]).get(key)
        if document is None:
            return
        held = sorted({*(document.value or ()), *(document.was or ())})
        if page.level == 0:
            yield page, held
            return
        for low in held:
            below = IndexPage(page.kind, page.filters, page.level - 1, page.number << SPAN_BITS | low)
            yield from self._walk(below, all_levels=all_levels)
        if all_levels:
            yield page, held


class _Batch:
    """The documents of one batch, in the order they are written."""

    def __init__(self, store: DocumentStore, seq: int, mark: int) -> None:
        self._store = store
        self._seq = seq
        self._mark = mark
        self._edit = Edit()
        self._rows: dict[str, tuple[int, Document]] = {}
        self._pointers: dict[str, tuple[int, Document]] = {}

    def fill(self, changes: Changes, head: Head) -> Head:
        """Take all changes in; return the head with the new counts."""
        new_orders = [row for row in changes.orders if row.accepted_seq > self._seq]
        self._insert("orders", new_orders)
        self._update("orders", [row for row in changes.orders if row.accepted_seq <= self._seq])
        self._insert("trades", changes.trades)
        self._update("trades", changes.amended)
        self._insert("breaches", changes.breaches)
        new_positions = self._positions(changes.positions, head.positions)
        return structs.replace(
            head,
            orders=head.orders + len(new_orders),
            trades=head.trades + len(changes.trades),
            breaches=head.breaches + len(changes.breaches),
            positions=head.positions + new_positions,
        )

    def phases(self) -> Iterable[dict[str, tuple[int, Document]]]:
        """Yield documents that may be written at a time: pages, rows, pointers."""
        pages: dict[str, tuple[int, Document]] = {}
        for page, numbers in self._edit.run(self._read_pages):
            key = self._store.keys.page(*page)
            self._next(pages, key, self._store.known([key])[key], numbers or None)
        return (pages, self._rows, self._pointers)

    def _insert(self, kind: str, rows: Sequence[Row]) -> None:
        """Rows that are new: none may be there. Not read first, since hardly ever one is."""
        keys = self._store.keys
        if kind == "orders":  # a client's id may come again on a later date
            self._store.known(p.key for row in rows for p in pointers_of(keys, kind, row))
        for row in rows:
            number = number_of(kind, row)
            self._put_row(kind, number, row, None, self._fresh(keys.row(kind, number), number))
            if isinstance(row, OrderRow):
                self._point_to_order(row)
            else:
                for pointer in pointers_of(keys, kind, row):
                    self._next(self._pointers, pointer.key, self._fresh(pointer.key, number), number)

    def _update(self, kind: str, rows: Sequence[Any]) -> None:
        """Rows that are there: the store has lost one that is not."""
        keys = {self._store.keys.row(kind, number_of(kind, row)): row for row in rows}
        for key, held in self._store.known(keys).items():
            before = held.document.at(self._seq)
            if before is None:
                raise StoreLostError(f"{self._store.where} {key}", self._seq)
            self._put_row(kind, number_of(kind, keys[key]), keys[key], row_of(kind, before), held)

    def _positions(self, rows: list[PositionRow], count: int) -> int:
        """Positions, new or not; return how many are new: they are numbered as they come."""
        keys, new = self._store.keys, 0
        by_pointer = {keys.position_of(row.account, row.instrument): row for row in rows}
        known = self._store.known(by_pointer)
        numbers = {pointer: held.document.at(self._seq) for pointer, held in known.items()}
        there = self._store.known(keys.row("positions", n) for n in numbers.values() if n is not None)
        for pointer, row in by_pointer.items():
            number = numbers[pointer]
            if number is None:
                new += 1
                number = count + new
                held = self._store.known([keys.row("positions", number)])[keys.row("positions", number)]
                self._next(self._pointers, pointer, known[pointer], number)
                self._put_row("positions", number, row, None, held)
                continue
            held = there[keys.row("positions", number)]
            before = held.document.at(self._seq)
            if before is None:
                raise StoreLostError(f"{self._store.where} {keys.row('positions', number)}", self._seq)
            self._put_row("positions", number, row, row_of("positions", before), held)
        return new

    def _point_to_order(self, row: OrderRow) -> None:
        keys, number = self._store.keys, row.accepted_seq
        pointer = keys.order_of(row.account, row.client_order_id)
        held = self._store.known([pointer])[pointer]
        by_day: dict[str, int] = held.document.at(self._seq) or {}
        if str(row.day) in by_day:
            raise FencedError(f"{self._store.where} {pointer}", f"order {number}", f"order {by_day[str(row.day)]}")
        self._next(self._pointers, pointer, held, {**by_day, str(row.day): number})
        if row.order_id:
            key = keys.order_id(row.order_id)
            self._next(self._pointers, key, self._store.known([key])[key], number)

    def _put_row(self, kind: str, number: int, row: Row, before: Row | None, held: Held) -> None:
        was, now = indexes_of(kind, before), indexes_of(kind, row)
        for index in was - now:
            self._edit.remove(kind, index, number)
        for index in now - was:
            self._edit.add(kind, index, number)
        self._next(self._rows, self._store.keys.row(kind, number), held, row_value(kind, row))

    def _fresh(self, key: str, number: int) -> Held:
        """Return what is known of a document that should not be there; refuse one that counts."""
        held = self._store.known([key])[key] if number <= self._seq else ABSENT
        if held.document.at(self._seq) is not None:
            raise FencedError(f"{self._store.where} {key}", "not there yet", f"{held.document!r}"[:200])
        return held

    def _next(self, into: dict[str, tuple[int, Document]], key: str, held: Held, value: Any) -> None:
        into[key] = (held.cas, held.document.next(self._seq, self._mark, value))

    def _read_pages(self, pages: list[IndexPage]) -> list[list[int]]:
        keys = [self._store.keys.page(*page) for page in pages]
        known = self._store.known(keys)
        return [known[key].document.at(self._seq) or [] for key in keys]
