"""Account truth in money: what operators set, its records, and how it is shown.

Cash and positions that are set stand in ``records.Adjusted``; collateral and exchange rates have records of their own,
so that an older reader stops at them instead of passing over them.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.errors import FieldError
from protocol.orders import Name
from protocol.units import E9, INT64_MAX

Currency = Annotated[str, Meta(min_length=1, max_length=16, pattern=r"^[A-Za-z0-9._-]+$")]
Reason = Annotated[str, Meta(max_length=256)]
Quantity = Annotated[int, Meta(ge=-INT64_MAX, le=INT64_MAX)]
NotNegative = Annotated[int, Meta(ge=0, le=INT64_MAX)]
HaircutBp = Annotated[int, Meta(ge=0, le=10_000)]
AmountE9 = Annotated[str, Meta(pattern=r"^-?[0-9]{1,30}$")]
"""An amount of any size in 1e-9, as text: sums of money do not fit int64 in every currency."""
ROWS_MAX: Final = 10_000
MONEY_CHARS_MAX: Final = 32
_DECIMAL: Final = re.compile(r"(-?)([0-9]{1,20})(?:\.([0-9]{1,9}))?", re.ASCII)


def parse_money_e9(text: str, field: str) -> int:
    """Return a decimal amount of money in 1e-9; unlike ``units.parse_e9`` it may be beyond int64.

    Raises:
        FieldError: If the text is no plain decimal.
    """
    match = _DECIMAL.fullmatch(text) if len(text) <= MONEY_CHARS_MAX else None
    if match is None:
        shown = text[:MONEY_CHARS_MAX]
        raise FieldError(field, shown, 'a decimal with at most 20 digits and 9 decimals, such as "250000.5"')
    sign, whole, fraction = match.groups()
    value = int(whole) * E9 + int((fraction or "").ljust(9, "0"))
    return -value if sign else value


class CollateralAdjusted(Struct, array_like=True, tag=83, frozen=True):
    """What an account has pledged of an asset is this from here on; amounts in 1e-9, as text. ``value_e9`` 0 = none."""

    account: str
    asset: str
    value_e9: str
    currency: str
    haircut_bp: int
    was_e9: str
    reason: str
    operator: str = ""


class FxMarked(Struct, array_like=True, tag=84, frozen=True):
    """One unit of a currency is ``rate_e9`` units, in 1e-9, of another from here on. ``rate_e9`` 0 = not known."""

    of: str
    to: str
    rate_e9: int
    was_e9: int
    reason: str
    operator: str = ""


class CashRow(Struct, array_like=True, frozen=True):
    """Cash of an account is this; in 1e-9 of the currency, negative = owed. ``adds``: this much more than it is."""

    account: Name
    currency: Currency
    cash_e9: AmountE9
    adds: bool = False


class CollateralRow(Struct, array_like=True, frozen=True):
    """What an account has pledged of an asset is worth this, in 1e-9 of the currency; 0 = nothing."""

    account: Name
    asset: Name
    value_e9: AmountE9
    currency: Currency
    haircut_bp: HaircutBp = 0


class HeldRow(Struct, array_like=True, frozen=True):
    """A position is this, signed, carried at ``price_e9``; in 1e-9. A position that is not 0 needs a price."""

    account: Name
    instrument: Name
    quantity_e9: Quantity
    price_e9: NotNegative = 0


class FxRow(Struct, array_like=True, frozen=True):
    """One unit of a currency is ``rate_e9`` units, in 1e-9, of another; 0 = not known any more."""

    of: Currency
    to: Currency
    rate_e9: NotNegative


class Adjust(Struct, tag="adjust", frozen=True, forbid_unknown_fields=True):
    """Set account truth by hand: everything that is named, or nothing if anything of it can't be."""

    reason: Annotated[str, Meta(min_length=1, max_length=256)]
    cash: Annotated[list[CashRow], Meta(max_length=ROWS_MAX)] = []
    collateral: Annotated[list[CollateralRow], Meta(max_length=ROWS_MAX)] = []
    positions: Annotated[list[HeldRow], Meta(max_length=ROWS_MAX)] = []
    fx: Annotated[list[FxRow], Meta(max_length=ROWS_MAX)] = []


class CompareMoney(Struct, tag="compare_money", frozen=True, forbid_unknown_fields=True):
    """Compare cash and collateral with a broker's statement of whole accounts; ``adopt`` journals theirs.

    Of an account that has a row of cash every currency is compared, and one that is not stated is 0; likewise of
    collateral every asset.
    """

    cash: Annotated[list[CashRow], Meta(max_length=ROWS_MAX)]
    collateral: Annotated[list[CollateralRow], Meta(max_length=ROWS_MAX)]
    adopt: bool
    reason: Reason


class ShowMoney(Struct, tag="show_money", frozen=True, forbid_unknown_fields=True):
    """Ask for the money of every account, and the exchange rates."""


class MoneyDifference(Struct, array_like=True, frozen=True):
    """Cash or collateral that a broker states otherwise; in 1e-9, as text. ``asset`` empty: cash."""

    account: str
    currency: str
    asset: str
    ours_e9: str
    theirs_e9: str
    our_haircut_bp: int = 0
    their_haircut_bp: int = 0
    is_stated: bool = True


class CurrencyMoney(Struct, frozen=True):
    """Money of an account in one currency, 1e-9, as text; ``fees_e9`` paid so far, negative = rebates.

    ``contracts_e9``: what trades of contracts paid and got, to be read with what their positions would close for.
    """

    currency: str
    cash_e9: str
    fees_e9: str
    contracts_e9: str


class PledgedMoney(Struct, frozen=True):
    """Collateral of an account; amounts in 1e-9, as text. ``usable_e9``: after the haircut."""

    asset: str
    value_e9: str
    currency: str
    haircut_bp: int
    usable_e9: str


class AccountMoney(Struct, frozen=True):
    """Money of one account. ``usable_e9``: cash and collateral in its own currency, rounded down; None: no FX mark."""

    account: str
    currency: str
    money: list[CurrencyMoney]
    collateral: list[PledgedMoney]
    usable_e9: str | None


class ShownFx(Struct, frozen=True):
    """An exchange rate, and when it was journaled."""

    of: str
    to: str
    rate_e9: int
    at_ns: int
