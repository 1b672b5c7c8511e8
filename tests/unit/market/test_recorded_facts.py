"""The measured facts of the recorded sessions (the data folder's README), each one a test of the importer."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from market.formats.binance import BestQuote, DepthDiff, Message, RestSnapshot, TradePrint
from market.recording import RecordingInfo, info
from market.replay import Recording, load
from protocol.units import parse_e9
from tests.unit.market.recorded import BTCUSD_PERP, FILES, INVERSE, LINEAR, SPOT, SPOT_BTCUSDT, recorded


def e9(text: str) -> int:
    return parse_e9(text, "expected")


def test_the_file_is_the_one_measured(linear_info: RecordingInfo) -> None:
    """Size and hash are those of the origin named in the README."""
    assert (linear_info.bytes, linear_info.sha256) == (3_637_062, FILES[LINEAR][1])


def test_lines_by_kind(messages: list[Message]) -> None:
    """93,954 lines: 6,551 diffs, 66,089 best quotes, 21,313 trades, one snapshot."""
    assert len(messages) == 93_954
    assert [m.line for m in messages] == list(range(1, 93_955))
    assert Counter(map(type, messages)) == {DepthDiff: 6_551, BestQuote: 66_089, TradePrint: 21_313, RestSnapshot: 1}


def test_the_snapshot(messages: list[Message]) -> None:
    """Line 55 is the snapshot, with its id and 1,000 levels a side."""
    snapshot = messages[54]
    assert isinstance(snapshot, RestSnapshot)
    assert (snapshot.last_id, len(snapshot.bids), len(snapshot.asks)) == (5_123_107_852_948, 1_000, 1_000)
    assert snapshot.bids[0] == (618_002, 2_909)


def test_local_time(linear_info: RecordingInfo) -> None:
    """Local time spans 344.803 s, never goes back and is silent for at most 344.87 ms."""
    assert linear_info.first_local_ns == 1_723_161_255_030_314_667
    assert linear_info.last_local_ns == 1_723_161_599_833_492_584
    assert linear_info.local_backward == 0
    assert round(linear_info.silence_max_ns / 1e6, 2) == 344.87


def test_messages_a_second_and_a_millisecond(messages: list[Message]) -> None:
    """4 to 2,466 messages in a second, at most 129 in a millisecond, by the recorder's clock."""
    seconds = sorted(Counter(m.local_ns // 1_000_000_000 for m in messages).values())
    assert (seconds[0], seconds[len(seconds) // 2], seconds[-1]) == (4, 195, 2_466)
    assert max(Counter(m.local_ns // 1_000_000 for m in messages).values()) == 129


def test_the_recorders_clock_runs_behind(linear_info: RecordingInfo) -> None:
    """min(local - T) with and without the best quotes."""
    assert linear_info.clock_lag_all_ns == -1_272_402_468
    assert linear_info.clock_lag_ns == -1_272_156_851


def test_exchange_time_goes_back_between_lines(linear_info: RecordingInfo) -> None:
    """The streams interleave: T decreases 1,041 times between neighbours, so the replay must sort."""
    assert linear_info.exch_backward == 1_041


def test_corrected_latencies(messages: list[Message], recording: Recording) -> None:
    """With base 5 ms over depth (snapshot too) and trades, each level a row: 5.0, 9.1, 70.6 and 103.9 ms."""
    latencies: list[int] = []
    for m in messages:
        if not isinstance(m, BestQuote):
            rows = 1 if isinstance(m, TradePrint) else len(m.bids) + len(m.asks)
            latencies += [m.local_ns + recording.offset_ns - m.exch_ns] * rows
    latencies.sort()
    n = len(latencies)
    shown = [round(latencies[i] / 1e6, 1) for i in (0, n // 2, n * 99 // 100, n - 1)]
    assert shown == [5.0, 9.1, 70.6, 103.9]
    assert latencies[0] == 5_000_000


def test_the_depth_chain_is_whole(linear_info: RecordingInfo) -> None:
    """Each pu is the u before for 6,550 of 6,550; 443,521 levels, 96,007 of them removals."""
    depth = linear_info.depth
    assert (depth.chained, depth.gap_lines) == (6_550, ())
    assert (depth.levels, depth.removals) == (443_521, 96_007)


def test_the_snapshot_sync(linear_info: RecordingInfo) -> None:
    """Lines 1, 12, 20, 38 are dropped and 42 is the first kept, though the snapshot comes at line 55."""
    depth = linear_info.depth
    assert depth.dropped_lines == (1, 12, 20, 38)
    assert (depth.first_kept_line, depth.snapshot_line, depth.kept) == (42, 55, 6_547)


def test_quote_ids_never_go_back(linear_info: RecordingInfo) -> None:
    """The best quotes come in the order of their ids."""
    assert linear_info.quote_ids_backward == 0


def test_the_trades(linear_info: RecordingInfo) -> None:
    """No trade is missing or doubled; volume, price range and aggressors are as measured."""
    trade = linear_info.trade
    assert (trade.trades, trade.not_market) == (21_313, 0)
    assert (trade.missing_ids, trade.duplicate_ids) == (0, 0)
    assert trade.volume_e9 == e9("2429.366")
    assert (trade.price_min_e9, trade.price_max_e9) == (e9("61590.3"), e9("61839.9"))
    assert (trade.sells, trade.buys) == (11_697, 9_616)


def test_every_top_of_book_equals_the_best_quote(linear_info: RecordingInfo) -> None:
    """After each of the 6,547 kept diffs prices and sizes equal the venue's own; never crossed, never locked."""
    book = linear_info.book
    assert book is not None
    assert (book.tops_equal, book.tops_compared) == (6_547, 6_547)
    assert (book.crossed, book.locked) == (0, 0)


def test_the_final_book(linear_info: RecordingInfo) -> None:
    """Levels, best prices and the hash over every level."""
    book = linear_info.book
    assert book is not None
    assert (book.bid_levels, book.ask_levels) == (5_018, 4_578)
    assert (book.best_bid_e9, book.best_bid_size_e9) == (e9("61659.7"), e9("1.486"))
    assert (book.best_ask_e9, book.best_ask_size_e9) == (e9("61659.8"), e9("0.981"))
    assert book.sha256 == "22c47c0fc96a985201ad641162f6cc299ed40512f7a00cd788f4e728351b9abd"


def test_the_inverse_session() -> None:
    """The coin-margined recording: counts, chain, clock and prices as measured, every top equal."""
    found = info(recorded(INVERSE), BTCUSD_PERP)
    assert (found.bytes, found.sha256) == (2_143_383, FILES[INVERSE][1])
    assert (found.lines, found.depth.diffs, found.quotes, found.trade.trades) == (48_270, 26_847, 19_136, 2_286)
    assert found.last_local_ns - found.first_local_ns == pytest.approx(343_823_000_000, abs=1_000_000)
    assert (found.local_backward, found.depth.chained) == (0, 26_846)
    assert found.clock_lag_ns == -1_267_953_940
    assert (found.trade.price_min_e9, found.trade.price_max_e9) == (e9("61610"), e9("61845"))
    assert found.book is not None
    assert found.book.tops_equal == found.book.tops_compared > 26_000


def test_the_spot_session() -> None:
    """The spot recording, which has its own chain rule and quotes without a time."""
    found = info(recorded(SPOT), SPOT_BTCUSDT)
    assert (found.bytes, found.sha256) == (1_274_097, FILES[SPOT][1])
    assert (found.lines, found.depth.diffs, found.quotes, found.trade.trades) == (41_249, 3_451, 28_040, 9_757)
    assert found.last_local_ns - found.first_local_ns == pytest.approx(346_062_000_000, abs=1_000_000)
    assert (found.depth.chained, found.depth.gap_lines) == (3_450, ())
    assert found.clock_lag_ns == -1_274_761_454
    assert (found.trade.price_min_e9, found.trade.price_max_e9) == (e9("61583.22"), e9("61860.80"))
    assert found.book is not None
    assert found.book.tops_equal == found.book.tops_compared > 3_400
    ticks = load(recorded(SPOT), SPOT_BTCUSDT).ticks
    assert all(a.exch_ns <= b.exch_ns for a, b in pairwise(ticks))
