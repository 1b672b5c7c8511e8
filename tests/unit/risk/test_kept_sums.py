"""What the complete gate keeps in short forms says what the long ones say: sums of one order, same terms, intents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.codes import Side
from risk.gate.flow import Duplicates, Intents, Signature
from risk.gate.more import More

small = st.integers(-9, 9)


def more_of(delta: int, long: int, short: int, steps: int) -> More:
    made = More()
    contract = made.contract
    contract.delta, contract.exposure_long_e18, contract.exposure_short_e18 = delta, long, short
    contract.take_margins(long, short, steps)
    contract.take_fee(7 * 10**9)
    contract.is_paid = contract.is_premium = made.checks_margin = True
    return made


def sums(more: More) -> list[int]:
    of, account = more.underlying, more.account
    return [of.up, of.down, of.long, of.short, account.gross_e18, account.margin_e9, account.cash_reserved_e9]


@given(
    delta=st.sampled_from((3, -3, 0)), long=st.integers(0, 4), short=st.integers(0, 4), steps=st.integers(1, 3),
    position=small, orders=st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 6)), max_size=8),
)  # fmt: skip
def test_an_order_more_adds_what_all_anew_would_be(
    delta: int, long: int, short: int, steps: int, position: int, orders: list[tuple[Side, int]]
) -> None:
    """Sums that grew by one order each are those made at once; taken back, nothing is left of them."""
    grown, anew = more_of(delta, long, short, steps), more_of(delta, long, short, steps)
    grown.refresh(position, 0, 0, 0)
    buy = sell = 0
    for side, quantity in orders:
        buy, sell = (buy + quantity, sell) if side is Side.BUY else (buy, sell + quantity)
        grown.grow(side, position + buy if side is Side.BUY else sell - position, quantity * 1_001)
        anew.reserve(side, 0, quantity * 1_001)
    anew.refresh(position, buy, sell, 0)
    assert sums(grown) == sums(anew)
    high, low = position + buy, position - sell
    up, down = (high * delta, low * delta) if delta > 0 else (low * delta, high * delta)
    assert sums(grown)[:2] == [up, down]
    for side, quantity in orders:
        grown.reserve(side, quantity * 1_001, 0)
    grown.refresh(0, 0, 0, 0)
    assert sums(grown) == [0] * 7


@given(
    most=st.integers(0, 3), window=st.integers(1, 6), orders=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)))
)
def test_same_terms_are_found_with_one_remembered_or_many(
    most: int, window: int, orders: list[tuple[int, int]]
) -> None:
    """As a list of all that was accepted says; also after what is remembered was written and read."""
    known, taken, now = Duplicates(most, window), list[tuple[int, Signature]](), 10
    for step, price in orders:
        now += step
        terms: Signature = (0, 1, price, 0)
        expected = sum(now - at < window and one == terms for at, one in taken) >= most
        found = known.is_one_too_many(terms, now)
        assert found == expected
        assert now < known.until_ns or not found, "a check that looks at the time only would miss it"
        if not found:
            known.take(terms, now)
            taken.append((now, terms))
        again = Duplicates(most, window, known.log)
        assert (again.log, again.until_ns) == (known.log, known.until_ns)


@given(most=st.integers(1, 5), window=st.integers(1, 8), steps=st.lists(st.integers(-1, 4), max_size=30))
def test_intents_of_which_few_are_known_are_never_too_many(most: int, window: int, steps: list[int]) -> None:
    """A log shorter than what is free needs no look at its times; a fill (-1) forgets all."""
    intents, taken, now = Intents(most, window), list[int](), 0
    for step in steps:
        if step < 0:
            intents.clear()
            taken.clear()
            continue
        now += step
        expected = sum(now - at < window for at in taken) >= most - 1
        assert not (len(intents.log) < intents.free and expected)
        assert intents.is_full(now) == expected
        if not expected:
            intents.take(now)
            taken.append(now)
