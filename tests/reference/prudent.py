"""Profile ``prudent`` again, slowly and plainly, from the text of SANDBOX.md sections 1 to 4 alone.

It shares no code with sandbox/: plain dicts, searched anew at every event, one instrument. It reads the recording
and the gateway's log and says which fills there must have been. What the text leaves open is listed in
sandbox/matching.py; each reading is marked here where it is used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from protocol.codes import ExecType, OrderType, Side, TimeInForce
from protocol.ticks import BookClear, BookDelta, BookSnapshot, Tick, Trade
from protocol.venue import SendCancel, SendNew, VenueCommand, report_decoder
from venues.core.log import Batch, Checkpoint, KillChanged, read_log
from venues.core.state import new_commands
from venues.sandbox import FeedMarkKind, note_decoder

Place = tuple[int, int]
"""(feed_epoch, feed_seq): acts after this event."""
Fill = tuple[str, int, int, int, bool]
"""(order_id, exch_ns, price steps, quantity steps, maker)."""


@dataclass
class Own:
    """One of our orders. ``ahead`` is f; None = UNKNOWN."""

    order_id: str
    side: Side
    price: int
    leaves: int
    ahead: int | None = None


@dataclass
class Level:
    """One price on one side: C and the seeds, beside D."""

    taken: int = 0
    seeds: list[tuple[int, int]] = field(default_factory=list)  # (trade's exch_ns, quantity)


class Prudent:
    """One instrument at the venue."""

    def __init__(self) -> None:
        self.displayed: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
        self.levels: dict[Side, dict[int, Level]] = {Side.BUY: {}, Side.SELL: {}}
        self.worst: dict[Side, int | None] = {Side.BUY: None, Side.SELL: None}
        self.is_live = False
        self.resting: dict[Side, dict[int, list[Own]]] = {Side.BUY: {}, Side.SELL: {}}  # by price, in order of arrival
        self.now_ns = 0
        self.book_ns = 0
        self.fills: list[Fill] = []

    # The feed

    def on_event(self, event: Tick) -> None:
        """Let the venue do what the feed says it did."""
        self.now_ns = event.exch_ns
        if isinstance(event, BookClear):
            self.lose_book()
        elif isinstance(event, BookSnapshot):
            self.take_snapshot(dict(event.bids), dict(event.asks), event)
        elif isinstance(event, BookDelta) and self.is_live:
            for side, levels in ((Side.BUY, event.bids), (Side.SELL, event.asks)):
                for price, size in levels:
                    self.show(side, price, size)
            self.match_book(event)
        elif isinstance(event, Trade) and self.is_live:
            self.on_trade(event)

    def lose_book(self) -> None:
        """CLEAR, a gap or a restart: nothing is known; estimates are frozen as UNKNOWN."""
        self.is_live = False
        for side in Side:
            self.displayed[side] = {}
            self.levels[side] = {}
            self.worst[side] = None
            for own in self.by_priority(side):
                own.ahead = None

    def take_snapshot(self, bids: dict[int, int], asks: dict[int, int], event: BookDelta | BookSnapshot | None) -> None:
        """The book is what the snapshot shows; inside its depth what it leaves out is empty."""
        self.is_live = True
        for side, sizes in ((Side.BUY, bids), (Side.SELL, asks)):
            old, self.displayed[side] = self.displayed[side], dict(sizes)
            self.worst[side] = None if not sizes else min(sizes) if side is Side.BUY else max(sizes)
            for price in set(sizes) | set(old) | set(self.levels[side]):
                self.relevel(side, price, sizes.get(price, 0))
            for own in self.by_priority(side):
                if self.knows(side, own.price):  # what lies deeper than the snapshot stays as it was believed to be
                    self.requeue(own, sizes.get(own.price, 0))
        self.match_book(event)

    def show(self, side: Side, price: int, size: int) -> None:
        """LEVEL: absolute size; sticky consumption; the seed ends; risk_adverse queue."""
        if size:
            self.displayed[side][price] = size
        else:
            self.displayed[side].pop(price, None)
        self.relevel(side, price, size)
        for own in self.resting[side].get(price, []):
            self.requeue(own, size)

    def relevel(self, side: Side, price: int, size: int) -> None:
        """What a shown size does to C and S."""
        if price in self.levels[side]:
            level = self.levels[side][price]
            level.taken = min(level.taken, size)
            level.seeds = [(ns, q) for ns, q in level.seeds if ns > self.now_ns]

    @staticmethod
    def requeue(own: Own, size: int) -> None:
        own.ahead = size if own.ahead is None else min(own.ahead, size)

    def knows(self, side: Side, price: int) -> bool:
        """Reading: known depth = down to the last snapshot's worst level, and everything better than the best."""
        shown = self.displayed[side]
        if price in shown:
            return True
        worst = self.worst[side]
        if not shown:
            return False
        if side is Side.BUY:
            return price > max(shown) or (worst is not None and price >= worst)
        return price < min(shown) or (worst is not None and price <= worst)

    def available(self, side: Side, price: int) -> int:
        """A = max(0, D - C - S)."""
        level = self.levels[side].get(price, Level())
        return max(0, self.displayed[side].get(price, 0) - level.taken - sum(q for _, q in level.seeds))

    # Passive

    def on_trade(self, trade: Trade) -> None:
        """Seed the level that was taken, then let the trade reach our orders there."""
        side = Side.SELL if trade.aggressor is Side.BUY else Side.BUY
        price, left = trade.price_steps, trade.quantity_steps
        if trade.exch_ns >= self.book_ns:  # reading: skipped only when the book is newer
            self.levels[side].setdefault(price, Level()).seeds.append((trade.exch_ns, left))
        for own in self.by_priority(side):
            beyond = price < own.price if side is Side.BUY else price > own.price
            if not beyond and own.price != price:
                continue
            if beyond:
                own.ahead = 0
            if own.ahead is None:
                continue
            filled = max(0, min(left - own.ahead, own.leaves))
            own.ahead = max(0, own.ahead - left)
            left -= filled
            self.fill(own, own.price, filled, maker=True)

    def match_book(self, event: BookDelta | BookSnapshot | None) -> None:
        """After all levels of one message: no crossed book, then whatever reached our orders."""
        self.book_ns = self.now_ns
        bids, asks = self.displayed[Side.BUY], self.displayed[Side.SELL]
        while bids and asks and max(bids) > min(asks):
            # Reading: stale is the side that the message did not name at its best; both or none named = asks.
            named_bid = event is not None and max(bids) in dict(event.bids)
            named_ask = event is not None and min(asks) in dict(event.asks)
            if named_ask and not named_bid:
                self.show(Side.BUY, max(bids), 0)
            else:
                self.show(Side.SELL, min(asks), 0)
        for side in (Side.BUY, Side.SELL):
            for own in self.by_priority(side):
                if not self.reached(own):
                    break  # nor is any behind it
                own.ahead = 0
                taken = self.take(own.side, own.price, own.leaves)
                self.fill(own, own.price, sum(q for _, q in taken), maker=True)

    def reached(self, own: Own) -> bool:
        """Whether the opposite best quote is at or past our price."""
        if own.side is Side.BUY:
            return bool(self.displayed[Side.SELL]) and min(self.displayed[Side.SELL]) <= own.price
        return bool(self.displayed[Side.BUY]) and max(self.displayed[Side.BUY]) >= own.price

    def by_priority(self, side: Side) -> list[Own]:
        """Best price first, then first come."""
        queues = self.resting[side]
        return [own for price in sorted(queues, reverse=side is Side.BUY) for own in queues[price]]

    def fill(self, own: Own, price: int, quantity: int, *, maker: bool) -> None:
        if quantity:
            own.leaves -= quantity
            self.fills.append((own.order_id, self.now_ns, price, quantity, maker))
            if own.leaves == 0 and maker:
                self.resting[own.side][own.price].remove(own)

    # Our orders

    def take(self, side: Side, limit: int | None, quantity: int) -> list[tuple[int, int]]:
        """Walk the opposite side from its best to ``limit``; what is taken counts as C."""
        opposite = Side.SELL if side is Side.BUY else Side.BUY
        taken: list[tuple[int, int]] = []
        for price in sorted(self.displayed[opposite], reverse=side is Side.SELL):
            if quantity == 0 or (limit is not None and (price > limit if side is Side.BUY else price < limit)):
                break
            here = min(quantity, self.available(opposite, price))
            if here:
                self.levels[opposite].setdefault(price, Level()).taken += here
                taken.append((price, here))
                quantity -= here
        return taken

    def new(self, own: Own, *, is_market: bool, rests: bool) -> None:
        """An order arrives: takers first, the rest rests or is gone."""
        if not self.is_live and not rests:
            return  # VENUE_BOOK_STALE
        taken = self.take(own.side, None if is_market else own.price, own.leaves)
        for price, quantity in taken:
            self.fill(own, price, quantity, maker=False)
        if own.leaves and rests:
            if taken:
                own.ahead = 0
            elif self.is_live and self.knows(own.side, own.price):
                own.ahead = self.displayed[own.side].get(own.price, 0)
            self.resting[own.side].setdefault(own.price, []).append(own)

    def cancel(self, order_id: str) -> None:
        """A cancel arrives; too late is no matter here."""
        for side in Side:
            for queue in self.resting[side].values():
                queue[:] = [own for own in queue if own.order_id != order_id]


OWN = {ExecType.CANCELED, ExecType.EXPIRED}
Action = tuple[str, object]
"""("new", SendNew) · ("cancel", order_id) · ("stale", None) · ("resync", None) · ("cleared", None)."""


def actions_of(folder: Path, instrument: str) -> dict[Place, list[Action]]:
    """Return what the gateway's log says was done to one instrument, by the event it came after."""
    actions: dict[Place, list[Action]] = defaultdict(list)
    received, last, starts = 0, (-1, -1), 0
    symbols: dict[str, str] = {}
    for _, _, record in read_log(folder):
        if isinstance(record, Checkpoint):
            starts += record.is_start
            if record.is_start and starts > 1 and last > (-1, -1):
                actions[last].append(("stale", None))
            received = record.received_seq
        if not isinstance(record, Batch | KillChanged):
            continue
        note = note_decoder.decode(record.note)
        marks = [m for m in note.feed if m.instrument == instrument]
        for mark in marks:
            last = max(last, (mark.feed_epoch, mark.feed_seq))
            if mark.kind is not FeedMarkKind.FILLED:
                actions[mark.feed_epoch, mark.feed_seq].append((mark.kind.name.lower(), None))
        places = zip(note.acted[::3], note.acted[1::3], strict=True)
        done = by_itself(record, symbols)
        if isinstance(record, Batch):
            for command in new_commands(record.messages, received, record.received_seq):
                done += described(command, symbols)
            received = record.received_seq
        for (symbol, action), place in zip(done, places, strict=True):
            if symbol == instrument:
                # No tick since the start: it acted on no book, wherever the feed was.
                last = max(last, place) if place != (0, 0) else last
                actions[last if place == (0, 0) else place].append(action)
    return actions


def by_itself(record: Batch | KillChanged, symbols: dict[str, str]) -> list[tuple[str, Action]]:
    """Return the cancels and expiries that the gateway made on its own account, as its reports tell."""
    reports = [report_decoder.decode(raw) for raw in record.reports]
    own = [r.order_id for r in reports if r.exec_type in OWN and r.venue_seq == 0]
    return [(symbols[order_id], ("cancel", order_id)) for order_id in own]


def described(command: VenueCommand, symbols: dict[str, str]) -> list[tuple[str, Action]]:
    """Return (instrument, action) of a command that acts on a book."""
    if isinstance(command, SendNew):
        symbols[command.order_id] = command.instrument
        return [(command.instrument, ("new", command))]
    if isinstance(command, SendCancel):
        return [(symbols.get(command.order_id, ""), ("cancel", command.order_id))]
    return []


def fills_of(events: Iterable[Tick], folder: Path, instrument: str, price_step_e9: int, step_e9: int) -> list[Fill]:
    """Return the fills that the recording and the log together must have had.

    While the venue had no book, the feed went on: its book is kept here beside, for the resync.
    """
    actions = actions_of(folder, instrument)
    venue = Prudent()
    feed: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
    is_following = False
    seen: set[str] = set()

    def act(kind: str, what: object) -> None:
        if kind == "cancel":
            assert isinstance(what, str)
            venue.cancel(what)
        elif kind == "new":
            assert isinstance(what, SendNew)
            if what.order_id in seen:
                return
            seen.add(what.order_id)
            own = Own(what.order_id, what.side, what.price_e9 // price_step_e9, what.quantity_e9 // step_e9)
            is_market = what.order_type is OrderType.MARKET
            venue.new(own, is_market=is_market, rests=not is_market and what.time_in_force is not TimeInForce.IOC)

    for kind, what in actions.pop((-1, -1), []):
        act(kind, what)
    for event in events:
        follow(feed, event)
        here = actions.pop((event.feed_epoch, event.feed_seq), [])
        is_following = is_following or ("cleared", None) in here
        if is_following:
            venue.on_event(event)
        for kind, what in here:
            if kind == "stale":
                is_following = False
                venue.lose_book()
            elif kind == "resync":
                is_following = True
                venue.now_ns = event.exch_ns
                venue.take_snapshot(dict(feed[Side.BUY]), dict(feed[Side.SELL]), None)
            else:
                act(kind, what)
    assert not actions, f"the log acts after events that the recording does not have: {list(actions)[:3]}"
    return venue.fills


def follow(feed: dict[Side, dict[int, int]], event: Tick) -> None:
    """Keep the feed's own book, whatever the venue saw of it."""
    if isinstance(event, BookClear | BookSnapshot):
        feed[Side.BUY].clear()
        feed[Side.SELL].clear()
    if isinstance(event, BookSnapshot | BookDelta):
        for side, levels in ((Side.BUY, event.bids), (Side.SELL, event.asks)):
            for price, size in levels:
                feed[side][price] = size
                if not size:
                    del feed[side][price]
