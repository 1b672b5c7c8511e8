"""Books and markets of RISK.md B7 for the tests of portfolio risk. Quantities in units, prices in money."""

from __future__ import annotations

from decimal import Decimal

from protocol.codes import Side
from protocol.units import E9
from risk.portfolio.book import Book, OpenOrder, OrderClass, Position, Request
from risk.portfolio.catalogue import Catalogue
from risk.portfolio.params import DAY_NS, Contract, ContractKind, Params, Product
from risk.portfolio.snapshot import MarketSnapshot, Quote
from risk.portfolio.standing import Desk, Standing
from risk.portfolio.valuation import Valued

NOW_NS = 1_780_000_000 * E9
LOT = 65
FUTURE, CALL, PUT = ContractKind.FUTURE, ContractKind.CALL, ContractKind.PUT


def e9(value: float | str) -> int:
    """Return a decimal in 1e-9."""
    return int(Decimal(str(value)) * E9)


def contract(
    name: str, kind: ContractKind, strike: float = 0, days: int = 30, lot: int = LOT, underlying: str = "NIFTY"
) -> Contract:
    """Return a contract that expires so many days from now."""
    return Contract(name, underlying, kind, lot * E9, NOW_NS + days * DAY_NS, e9(strike))


# RISK.md B7, S1: forward and strike 24,000, 30 days, 15 %, 6.5 %, scan ranges 2,232 and 4 points.
S1_CONTRACTS = (
    contract("FUT", FUTURE), contract("24000CE", CALL, 24000), contract("24000PE", PUT, 24000),
    contract("25000CE", CALL, 25000),
)  # fmt: skip
S1_PRODUCT = Product("NIFTY", price_scan_e9=e9(2232), vol_scan_e9=e9("0.04"), rate_bp=650)
S1 = Params("s1", S1_CONTRACTS, (S1_PRODUCT,))
S1_VOL = e9("0.15")
S1_MARKET = MarketSnapshot(
    "s1", NOW_NS,
    (Quote("FUT", e9(24000)), *(Quote(c.instrument, 0, iv_e9=S1_VOL) for c in S1_CONTRACTS[1:])),
)  # fmt: skip


def desk(params: Params, market: MarketSnapshot) -> Desk:
    """Return the market valued."""
    return Desk(Valued(market, Catalogue(params)))


def book(funds: float = 0, orders: tuple[OpenOrder, ...] = (), **held: float) -> Book:
    """Return an account with these positions; a name may use ``_`` for what no keyword can hold."""
    positions = tuple(Position(name.lstrip("_"), e9(quantity)) for name, quantity in held.items())
    return Book("desk", "INR", e9(funds), positions, orders, book_seq=7)


def standing(on: Desk, **held: float) -> Standing:
    """Return an account with these positions on a desk."""
    return Standing(book(**held), on)


def request(
    instrument: str, quantity: float, *, order_class: OrderClass = OrderClass.INC, trim: bool = False, price: float = 0
) -> Request:
    """Return a request for so many units, negative for a sell."""
    return Request(
        "r1", "o1", instrument, Side.BUY if quantity > 0 else Side.SELL, e9(abs(quantity)), e9(price), order_class,
        allow_trim=trim, book_seq=7, now_ns=NOW_NS,
    )  # fmt: skip


def open_order(instrument: str, quantity: float, *, price: float = 0, reserved: float = 0) -> OpenOrder:
    """Return an open order for so many units, negative for a sell."""
    side = Side.BUY if quantity > 0 else Side.SELL
    return OpenOrder(f"open-{instrument}", instrument, side, e9(abs(quantity)), e9(price), e9(reserved))
