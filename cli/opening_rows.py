"""The file of account truth from before the journal began: positions, cash, collateral, exchange rates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct

from protocol.edge import Identifier

CurrencyText = Annotated[str, Meta(min_length=1, max_length=16, pattern=r"^[A-Za-z0-9._-]+$")]


class OpeningPositionRow(Struct, frozen=True, forbid_unknown_fields=True):
    """A position held before the journal began: signed quantity and the price it is valued at, decimal strings."""

    account: Identifier
    instrument: Identifier
    quantity: str
    price: str


class OpeningCashRow(Struct, frozen=True, forbid_unknown_fields=True):
    """Cash held before the journal began: a decimal string in the currency."""

    account: Identifier
    currency: CurrencyText
    cash: str


class OpeningCollateralRow(Struct, frozen=True, forbid_unknown_fields=True):
    """What was pledged before the journal began: its value, a decimal string in the currency, and what is taken off."""

    account: Identifier
    asset: Identifier
    value: str
    currency: CurrencyText
    haircut_bp: Annotated[int, Meta(ge=0, le=10_000)] = 0


class OpeningFxRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One unit of ``of`` is ``rate`` units of ``to``, a decimal string."""

    of: CurrencyText
    to: CurrencyText
    rate: str


class OpeningFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The file named by ``wojak.opening_file``."""

    positions: tuple[OpeningPositionRow, ...] = ()
    cash: tuple[OpeningCashRow, ...] = ()
    collateral: tuple[OpeningCollateralRow, ...] = ()
    fx: tuple[OpeningFxRow, ...] = ()

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield the accounts that are named, each with its place."""
        for table in ("positions", "cash", "collateral"):
            for n, row in enumerate(getattr(self, table)):
                yield f"{table}[{n}]", row.account
