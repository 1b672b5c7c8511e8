"""Dated parameters and files of books and markets: what holds on a date, and what is refused with its place."""

from __future__ import annotations

import datetime as dt

import pytest

from protocol.errors import ConfigError
from protocol.units import E9
from risk.portfolio.errors import RiskParamsError
from risk.portfolio.files import parse_book, parse_market
from risk.portfolio.params import LimitKind
from risk.portfolio.rows import NAMES, parse_params, resolve, sources_of
from tests.tidy_rules import ROOT

EXAMPLE = (ROOT / "examples" / "risk" / "params.toml").read_text("utf-8")
JUNE = dt.date(2026, 6, 1)
START = b'{"account": "a", "currency": "INR", "funds": "5"'
AT = b'{"at": "2026-05-29T15:30:00Z", '


def row(
    name: str = "exposure", unit: str = "bp", value: str = "300", underlying: str = "*", start: str = "2026-06-15"
) -> str:
    """Return one row more."""
    return (
        f'\n[[rows]]\nname = "{name}"\nunderlying = "{underlying}"\nvalue = "{value}"\nunit = "{unit}"\n'
        f'effective_from = {start}\nsource = "a circular"\n'
    )


def refused(text: str) -> str:
    """Return what is said of a file that is refused."""
    with pytest.raises(ConfigError) as caught:
        parse_params(text.encode(), "params.toml")
    return str(caught.value)


def test_a_row_holds_from_its_date_on() -> None:
    """The day before, the earlier row; on the day and after it, the later one; after its last day neither."""
    file = parse_params((EXAMPLE + row()).encode(), "params.toml")
    assert resolve(file, dt.date(2026, 6, 14)).products[0].exposure_bp == 200
    assert resolve(file, dt.date(2026, 6, 15)).products[0].exposure_bp == 300
    ended = parse_params((EXAMPLE + row() + "effective_to = 2026-06-16\n").encode(), "params.toml")
    assert resolve(ended, dt.date(2026, 6, 16)).products[0].exposure_bp == 300
    assert resolve(ended, dt.date(2026, 6, 17)).products[0].exposure_bp == 200


def test_a_row_of_the_underlying_comes_before_one_of_all() -> None:
    """An older row of NIFTY beats a newer one of everything; its source is told."""
    file = parse_params((EXAMPLE + row() + row(value="450", underlying="NIFTY", start="2021-01-01")).encode(), "p")
    assert resolve(file, dt.date(2026, 6, 20)).products[0].exposure_bp == 450
    assert sources_of(file, "NIFTY", dt.date(2026, 6, 20))["exposure"].source == "a circular"


def test_the_version_names_the_date() -> None:
    """Two dates give two versions, so a decision says which rows it was made by."""
    file = parse_params(EXAMPLE.encode(), "params.toml")
    assert resolve(file, JUNE).version == "example 1@2026-06-01"
    assert [limit.kind for limit in resolve(file, JUNE).limits] == [LimitKind.STRESS, LimitKind.DELTA, LimitKind.VEGA]


def test_units_reach_their_fields() -> None:
    """Money and volatility in 1e-9, days in ns, shares by day as a tuple, yes as true."""
    more = row("delivery_share", "bp by day", "10000 7000 4500") + row("look_ahead", "days", "0.5")
    product = resolve(parse_params((EXAMPLE + more).encode(), "p"), dt.date(2026, 6, 20)).products[0]
    assert (product.calendar_charge_e9, product.vol_scan_e9) == (420 * E9, 40_000_000)
    assert (product.delivery_bp, product.look_ahead_ns) == ((10_000, 7_000, 4_500), 43_200 * E9)
    assert product.calendar_near_excluded is True


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (row(name="exposur"), "rows[8] exposur of * expected one of price_scan"),
        (row(unit="money"), "rows[8] exposure of * expected unit 'bp', was 'money'"),
        (row(value="2.5"), "value expected a whole number of at least 0, was '2.5'"),
        (row(value="-3"), "value expected a whole number of at least 0, was '-3'"),
        (row("vol_scan", "volatility", "4 %"), "value expected a decimal string"),
        (row("hold_to_expiry", "yes/no", "true"), "'true'"),
        (row(start="2020-05-01"), "rows[8] exposure of * expected one row from 2020-05-01, was a second"),
        (row() + "effective_to = 2026-06-01\n", "expected effective_to from 2026-06-15 on, was 2026-06-01"),
        (row() + 'colour = "red"\n', "colour"),
        (row().replace("a circular", ""), "source"),
        ('\n[[limits]]\nlimit = "DELTA"\nvalue = "5"\nsource = "x"\n', "limits[3] DELTA expected an underlying"),
        ('\n[[limits]]\nlimit = "STRESS"\nvalue = "0"\nsource = "x"\n', "expected a value above 0, was 0"),
    ],
)
def test_a_fault_is_refused_with_its_place(more: str, said: str) -> None:
    """Unknown names, other units, bad values, dates that overlap or run backwards, rows without a source."""
    assert said in refused(EXAMPLE + more)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'expiry = 2026-06-30T15:30:00+05:30, strike = "23700"',
            "expiry = 2026-06-30T15:30:00+05:30",
            "a strike above 0",
        ),
        ("expiry = 2026-06-30T15:30:00+05:30 }", "expiry = 2026-06-30T15:30:00 }", "an expiry with its zone"),
        ('lot = "65"', 'lot = "0"', "expected lot and multiplier above 0"),
    ],
)
def test_a_contract_that_means_nothing_is_refused(old: str, new: str, said: str) -> None:
    """An option without a strike, an expiry without a zone, a lot of nothing."""
    assert old in EXAMPLE
    assert said in refused(EXAMPLE.replace(old, new, 1))


def test_an_underlying_without_scan_ranges_is_refused() -> None:
    """Before its first row there is no range, and so no margin."""
    with pytest.raises(RiskParamsError, match="rows price_scan and vol_scan"):
        resolve(parse_params(EXAMPLE.encode(), "p"), dt.date(2019, 1, 1))


def test_every_name_is_a_field_of_a_product() -> None:
    """No row can set what margin never reads."""
    file = parse_params(EXAMPLE.encode(), "p")
    fields = set(resolve(file, JUNE).products[0].__struct_fields__)
    assert {field for field, _ in NAMES.values()} < fields
    assert fields - {field for field, _ in NAMES.values()} == {"underlying", "delta_weights_e9"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"account": "a", "currency": "INR", "funds": 5}', "funds"),
        (b'{"account": "a", "currency": "INR", "funds": "5", "cash": "1"}', "cash"),
        (b'{"account": "a", "currency": "INR", "funds": "5e3"}', "funds expected a decimal string"),
        (START + b', "orders": [{"instrument": "X", "side": "SELL", "quantity": "-1"}]}', "expected more than 0"),
        (START + b', "positions": [{"instrument": "X"}]}', "quantity"),
        (b"\xff", "book.json"),
    ],
)  # fmt: skip
def test_a_book_that_lies_is_refused(content: bytes, said: str) -> None:
    """Numbers instead of decimal text, unknown fields, exponents, negative orders, missing fields, bytes of nothing."""
    with pytest.raises(ConfigError) as caught:
        parse_book(content, "book.json")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"at": "2026-05-29T15:30:00", "quotes": []}', "an instant with its zone"),
        (AT + b'"quotes": [{"instrument": "X", "price": "-1"}]}', "X expected a value of at least 0"),
        (AT + b'"quotes": [], "arrays": [{"instrument": "X", "losses": ["1"], "delta": "1", "source": "f"}]}', "16"),
    ],
)  # fmt: skip
def test_a_market_that_lies_is_refused(content: bytes, said: str) -> None:
    """An instant without a zone, a price below nothing, an array of other than 16."""
    with pytest.raises(ConfigError) as caught:
        parse_market(content, "market.json")
    assert said in str(caught.value)
