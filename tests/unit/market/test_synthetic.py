"""The synthetic session: from the seed alone, and a book that holds together."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice, pairwise

import msgspec
import pytest

from market.book import Book
from market.epochs import MarketTick
from market.errors import InstrumentError
from market.synthetic import DEPTH, SyntheticInstrument, session
from protocol.codes import Side
from protocol.ticks import BookClear, BookDelta, BookSnapshot, Quote, Trade
from tests.unit.market.recorded import BTCUSDT, ROOT

START_NS = 1_723_161_255_000_000_000
BTC = SyntheticInstrument(BTCUSDT, 61_800_000_000_000)
ETH = SyntheticInstrument(
    msgspec.structs.replace(BTCUSDT, instrument="ETH", tick_e9=500_000_000, lot_e9=10_000_000), 2_500_000_000_000
)


def ticks(count: int, seed: int = 1, *instruments: SyntheticInstrument) -> list[tuple[str, MarketTick]]:
    """The first ticks of a session."""
    made = session(instruments or (BTC,), seed=seed, feed_epoch=5, start_exch_ns=START_NS)
    return list(islice(made, count))


def test_the_seed_decides_everything() -> None:
    """One seed is one session; another seed is another."""
    assert ticks(5_000) == ticks(5_000)
    assert ticks(5_000) != ticks(5_000, 2)


def test_the_session_does_not_depend_on_the_process() -> None:
    """Two processes with different hash seeds make the same session."""
    code = (
        "import hashlib, msgspec; import tests.unit.market.test_synthetic as t;"
        "print(hashlib.sha256(msgspec.msgpack.encode(t.ticks(2_000, 1, t.BTC, t.ETH))).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_an_instrument_has_its_own_session() -> None:
    """Adding an instrument does not change what happens in another."""
    alone = ticks(2_000)
    beside = [(name, tick) for name, tick in ticks(6_000, 1, BTC, ETH) if name == "BTCUSDT"]
    assert beside[:1_500] == alone[:1_500]


def test_ticks_are_numbered_in_exchange_order() -> None:
    """Each instrument begins with Clear and Snapshot, counts without gaps, and time never goes back."""
    made = ticks(20_000, 1, BTC, ETH)
    assert all(a.exch_ns <= b.exch_ns for (_, a), (_, b) in pairwise(made))
    for name in ("BTCUSDT", "ETH"):
        own = [tick for n, tick in made if n == name]
        assert [t.feed_seq for t in own] == list(range(1, len(own) + 1))
        assert [type(t) for t in own[:3]] == [BookClear, BookSnapshot, Quote]
        assert {t.feed_epoch for t in own} == {5}
        assert all(t.local_ns > t.exch_ns for t in own)


@pytest.mark.parametrize("instrument", [BTC, ETH])
def test_the_book_holds_together(instrument: SyntheticInstrument) -> None:
    """Never crossed, never one-sided, always 20 deep; quotes are its top; a trade takes what its best level shows."""
    book = Book()
    params = instrument.params
    price_steps, lot_steps = params.tick_e9 // params.price_step_e9, params.lot_e9 // params.quantity_step_e9
    shown = 0
    for _, tick in ticks(30_000, 3, instrument):
        if isinstance(tick, BookSnapshot):
            book.apply_snapshot(tick.bids, tick.asks)
        elif isinstance(tick, BookDelta):
            book.apply_levels(tick.bids, tick.asks)
            assert shown in (0, len(tick.bids[:1] or tick.asks[:1]))
            shown = 0
        elif isinstance(tick, Quote):
            assert (tick.bid_steps, tick.bid_quantity_steps) == (book.best_bid, book.bid_size())
            assert (tick.ask_steps, tick.ask_quantity_steps) == (book.best_ask, book.ask_size())
            assert tick.bid_steps % price_steps == tick.ask_quantity_steps % lot_steps == 0
            assert 0 < tick.ask_steps - tick.bid_steps < 100 * price_steps
        elif isinstance(tick, Trade):
            bought = tick.aggressor is Side.BUY
            assert tick.price_steps == (book.best_ask if bought else book.best_bid)
            assert 0 < tick.quantity_steps <= (book.ask_size() if bought else book.bid_size())
            shown = 1  # the level change that shows it comes next
        if book.bids:
            assert len(book.bids) == len(book.asks) == DEPTH
    assert book.dropped == 0


def test_prices_stay_near_the_start() -> None:
    """A long session walks, but not away: within 5 % after 100,000 ticks."""
    prices = [t.price_steps for _, t in ticks(100_000) if isinstance(t, Trade)]
    start = 618_000
    assert len(set(prices)) > 50
    assert start * 0.95 < min(prices) <= max(prices) < start * 1.05


@pytest.mark.parametrize("price", [61_800_050_000_000, 99_900_000_000, 0, -1])
def test_a_start_price_must_fit(price: int) -> None:
    """A start price off the tick or below 1,000 ticks is refused by name."""
    with pytest.raises(InstrumentError) as error:
        ticks(1, 1, SyntheticInstrument(BTCUSDT, price))
    assert (error.value.instrument, error.value.field) == ("BTCUSDT", "start_price")
