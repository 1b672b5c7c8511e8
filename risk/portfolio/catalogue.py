"""Contracts and products as columns: made once per parameters, read by every valuation.

Rule: row n is ``params.contracts[n]``; what depends on prices or time is not here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from market.pricing import Floats
from protocol.units import E9
from risk.portfolio.errors import RiskParamsError
from risk.portfolio.params import ContractKind, Params, Product, Settlement

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
ROOT_E9: Final = float(E9)


class Catalogue:
    """The columns; each is an array of one value a contract.

    Attributes:
        index: Instrument → row.
        products: In the order of ``underlying``, which holds their number.
        expiries: For each product its expiries, nearest first, ns; ``bucket`` is the contract's place among them.
    """

    def __init__(self, params: Params) -> None:
        contracts = params.contracts
        self.params = params
        self.index = {c.instrument: n for n, c in enumerate(contracts)}
        self.products: tuple[Product, ...] = params.products
        number = {p.underlying: n for n, p in enumerate(params.products)}
        if len(self.index) < len(contracts) or len(number) < len(params.products):
            raise RiskParamsError("contracts, products", "one row a name", "a name twice")
        missing = sorted({c.underlying for c in contracts} - number.keys())
        if missing:
            raise RiskParamsError(f"contracts of {missing[0]}", "a product with its scan ranges", "no product")
        self.underlying: Ints = np.array([number[c.underlying] for c in contracts], np.int64)
        self.expiry_ns: Ints = np.array([c.expiry_ns for c in contracts], np.int64)
        self.is_call: Bools = np.array([c.kind is ContractKind.CALL for c in contracts], bool)
        self.is_option: Bools = np.array([c.kind is not ContractKind.FUTURE for c in contracts], bool)
        self.is_delivered: Bools = np.array([c.settlement is Settlement.DELIVERY for c in contracts], bool)
        self.strike: Floats = np.array([c.strike_e9 for c in contracts], np.float64) / ROOT_E9
        self.multiplier: Floats = np.array([c.multiplier_e9 for c in contracts], np.float64) / ROOT_E9
        self.tick: Floats = np.array([c.tick_e9 for c in contracts], np.float64) / ROOT_E9
        if np.any(self.is_option & ((self.strike <= 0) | (self.expiry_ns <= 0))):
            wrong = contracts[int(np.argmax(self.is_option & ((self.strike <= 0) | (self.expiry_ns <= 0))))]
            raise RiskParamsError(f"contract {wrong.instrument}", "a strike and an expiry", "an option without")
        self.expiries = tuple(
            tuple(sorted({c.expiry_ns for c in contracts if c.underlying == p.underlying})) for p in params.products
        )
        place = [{e: k for k, e in enumerate(of)} for of in self.expiries]
        self.bucket: Ints = np.array([place[number[c.underlying]][c.expiry_ns] for c in contracts], np.int64)

    def of_product(self, name: str, scale: float = 1.0) -> Floats:
        """Return one field of each contract's product as a column, times ``scale``."""
        column = np.array([getattr(p, name) for p in self.products], np.float64) * scale
        return np.asarray(column[self.underlying])
