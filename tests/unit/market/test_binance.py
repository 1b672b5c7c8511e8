"""The reader of raw Binance lines: exact, and precise about what it can't take."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from market.errors import RecordingError
from market.formats import binance
from market.formats.binance import BestQuote, DepthDiff, Message, RestSnapshot, TradePrint
from protocol.codes import Side
from protocol.params import InstrumentParams
from tests.unit.market.recorded import BTCUSDT, SPOT_BTCUSDT

AT = 1723161255088169167
QUOTE = (
    '{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":9,"s":"BTCUSDT","b":"61800.20","B":"2.507",'
    '"a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256313}}'
)
TRADE = (
    '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":5266583935,'
    '"p":"61800.30","q":"0.006","X":"MARKET","m":false}}'
)
DIFF = (
    '{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT",'
    '"U":3,"u":5,"pu":2,"b":[["58710.20","0.014"],["61510.90","0.000"]],"a":[]}}'
)
SNAPSHOT = '{"lastUpdateId":4,"E":1,"T":1723161256493,"bids":[["61800.20","2.909"]],"asks":[]}'


def read(tmp_path: Path, *bodies: str, instrument: InstrumentParams = BTCUSDT) -> list[Message]:
    path = tmp_path / "r.txt"
    path.write_text("".join(f"{AT} {body}\n" for body in bodies))
    return list(binance.read(path, instrument))


def test_each_kind_of_line(tmp_path: Path) -> None:
    """Prices are whole ticks, quantities whole lots, times nanoseconds; m = false means that the aggressor bought."""
    assert read(tmp_path, QUOTE, TRADE, DIFF, SNAPSHOT) == [
        BestQuote(1, AT, 1723161256313000000, 9, 618_002, 2_507, 618_003, 2_510),
        TradePrint(2, AT, 1723161256322000000, 5266583935, 618_003, 6, Side.BUY, True),
        DepthDiff(3, AT, 1723161256298000000, 3, 5, 2, [(587_102, 14), (615_109, 0)], []),
        RestSnapshot(4, AT, 1723161256493000000, 4, [(618_002, 2_909)], []),
    ]


def test_a_buyer_who_was_the_maker_was_sold_to(tmp_path: Path) -> None:
    """With m = true the aggressor sold."""
    (trade,) = read(tmp_path, TRADE.replace('"m":false', '"m":true'))
    assert isinstance(trade, TradePrint)
    assert trade.aggressor is Side.SELL


def test_a_trade_outside_the_market_is_marked(tmp_path: Path) -> None:
    """Insurance fund and auto-deleveraging trades took nothing from the book."""
    (trade,) = read(tmp_path, TRADE.replace('"MARKET"', '"INSURANCE_FUND"'))
    assert isinstance(trade, TradePrint)
    assert not trade.is_market


def test_spot_lines_have_other_fields(tmp_path: Path) -> None:
    """Spot depth has neither T nor pu, spot quotes have no time."""
    depth = (
        '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":7,"s":"BTCUSDT","U":3,"u":5,'
        '"b":[["61737.63000000","0.00000001"]],"a":[]}}'
    )
    quote = '{"stream":"btcusdt@bookTicker","data":{"u":6,"s":"BTCUSDT","b":"1.01000000","B":"1.0","a":"1.02","A":"2"}}'
    assert read(tmp_path, depth, quote, instrument=SPOT_BTCUSDT) == [
        DepthDiff(1, AT, 7_000_000, 3, 5, 2, [(6_173_763, 1)], []),
        BestQuote(2, AT, 0, 6, 101, 100_000_000, 102, 200_000_000),
    ]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not json",
        QUOTE[:-10],
        QUOTE.replace('"u":9', '"u":"9"'),
        QUOTE.replace('"B":"2.507",', ""),
        QUOTE.replace("61800.20", "6.18e4"),
        QUOTE.replace("2.507", "-2.507"),
        DIFF.replace('"pu":2,', ""),
        DIFF.replace('["58710.20","0.014"]', '["58710.20"]'),
        TRADE.replace("btcusdt@trade", "btcusdt@aggTrade"),
        SNAPSHOT.replace("lastUpdateId", "id"),
        '{"stream":"unfinished',
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, body: str) -> None:
    """File, line number, what was there and what was expected; the good lines before it were read."""
    with pytest.raises(RecordingError) as error:
        read(tmp_path, QUOTE, TRADE, body)
    assert (error.value.line, error.value.path) == (3, str(tmp_path / "r.txt"))
    assert "<19 digits of local ns> <JSON>" in str(error.value)


@pytest.mark.parametrize("line", ["1723161255 {}", " 723161255088169167 {}", f"{AT}{QUOTE}", f"{AT}\t{QUOTE}", "\0"])
def test_a_line_without_its_stamp_is_named(tmp_path: Path, line: str) -> None:
    """A line begins with exactly 19 digits and one space."""
    path = tmp_path / "r.txt"
    path.write_text(line + "\n")
    with pytest.raises(RecordingError, match=r"r\.txt:1 expected") as error:
        list(binance.read(path, BTCUSDT))
    assert error.value.line == 1


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [("61800.20", "61800.25", "price in multiples"), ("2.507", "2.5075", "quantity in multiples")],
)
def test_a_value_between_two_steps_is_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """Another instrument's recording, or a wrong step, is told by the first value that does not fit."""
    with pytest.raises(RecordingError, match="correct its price_step and quantity_step") as error:
        read(tmp_path, QUOTE.replace(old, new))
    assert (error.value.line, error.value.was) == (1, new)
    assert expected in error.value.expected


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that is not there says so, and what to do."""
    with pytest.raises(RecordingError, match="synthetic session") as error:
        list(binance.read(tmp_path / "none.gz", BTCUSDT))
    assert error.value.path == str(tmp_path / "none.gz")


def test_cut_gzip_data_is_named(tmp_path: Path) -> None:
    """Half a download is not taken for a short session."""
    path = tmp_path / "r.gz"
    whole = gzip.compress("".join(f"{AT} {QUOTE}\n" for _ in range(2_000)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordingError, match="whole gzip data"):
        list(binance.read(path, BTCUSDT))
    path.write_bytes(whole[:20] + b"\xff\xff\xff\xff" + whole[24:])
    with pytest.raises(RecordingError):
        list(binance.read(path, BTCUSDT))


def test_gzip_and_plain_are_the_same(tmp_path: Path) -> None:
    """A recording may be packed or not; the last line may lack its newline."""
    plain, packed = tmp_path / "p", tmp_path / "g"
    plain.write_text(f"{AT} {QUOTE}\n{AT} {TRADE}")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(binance.read(plain, BTCUSDT)) == list(binance.read(packed, BTCUSDT))


def test_gaps_are_the_diffs_that_do_not_follow() -> None:
    """Each diff's pu is the u of the one before, else its line is a gap."""
    diffs = [DepthDiff(n, 0, 0, n, n, n - 1 - (n == 3), [], []) for n in range(1, 6)]
    assert binance.gaps(diffs) == [3]
