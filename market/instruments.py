"""The instrument master: rows as people write them, parameters as the engine counts them.

A row holds decimal text (DECISIONS 8, edge family); ``to_params`` gives integers in 1e-9 or an error that names
instrument, field, value and expectation. Rule: a price or a quantity that is no whole number of steps is an
error, never rounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from market.errors import InstrumentError, StepError
from protocol.contract_rows import ContractClass
from protocol.errors import FieldError
from protocol.orders import Name
from protocol.params import ContractKind, InstrumentParams, InstrumentStatus
from protocol.units import format_e9, parse_e9

MS_NS: Final = 1_000_000
COLLAR_BP_MAX: Final = 9_999  # below 100 %: a bound of 0 would let a MARKET order count for nothing
DECIMALS_KEPT_MAX: Final = 200_000  # texts a converter remembers; then it starts anew

_KINDS: Final = {"linear": ContractKind.LINEAR, "inverse": ContractKind.INVERSE, "spot": ContractKind.SPOT}
_STATUSES: Final = {"open": InstrumentStatus.OPEN, "suspended": InstrumentStatus.SUSPENDED}


class InstrumentRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One instrument as a configuration file has it. Prices, quantities and fees are decimal strings.

    Attributes:
        price_step: Immutable unit prices are counted in. ``quantity_step`` likewise.
        tick: Smallest price change the venue takes today, a multiple of ``price_step``; empty = ``price_step``.
        lot: Smallest quantity change, a multiple of ``quantity_step``; empty = ``quantity_step``.
        multiplier: Units of the underlying per contract; for inverse contracts the contract's value.
        quantity_min: Smallest order; empty = one lot.
        collar_bp: A price farther than this from the reference is refused; basis points.
        tick_age_max_ms: A reference older than this is stale.
        expiry_ns: UTC nanoseconds; 0 = never.
        taker_fee_bp: Basis points of the value, at most nine decimals; negative is a rebate. Likewise maker.
        underlying: Positions of one underlying are limited together; empty = none.
        contract_class: Kind of contract, by which ``contracts`` rows of scope ``class`` and rules of a class hold.
    """

    instrument: Name
    venue: Name
    currency: str
    price_step: str
    quantity_step: str
    quantity_max: str
    kind: Literal["linear", "inverse", "spot"] = "linear"
    tick: str = ""
    lot: str = ""
    multiplier: str = "1"
    quantity_min: str = ""
    collar_bp: Annotated[int, Meta(ge=1, le=COLLAR_BP_MAX)] = 500
    tick_age_max_ms: Annotated[int, Meta(ge=1)] = 5_000
    status: Literal["open", "suspended"] = "open"
    expiry_ns: Annotated[int, Meta(ge=0)] = 0
    taker_fee_bp: str = "0"
    maker_fee_bp: str = "0"
    underlying: str = ""
    contract_class: Literal["none", "equity", "index_future", "stock_future", "call", "put", "spot", "perpetual"] = (
        "none"
    )


def to_params(row: InstrumentRow) -> InstrumentParams:
    """Return the row in exact integers.

    Raises:
        InstrumentError: Naming instrument, field, value and what was expected.
    """
    price_step = _positive(row, "price_step", row.price_step)
    quantity_step = _positive(row, "quantity_step", row.quantity_step)
    lot = _multiple(row, "lot", row.lot or row.quantity_step, "quantity_step", quantity_step)
    quantity_min = _multiple(row, "quantity_min", row.quantity_min or row.lot or row.quantity_step, "lot", lot)
    quantity_max = _multiple(row, "quantity_max", row.quantity_max, "lot", lot)
    if quantity_max < quantity_min:
        raise InstrumentError(
            row.instrument, "quantity_max", row.quantity_max, f"at least quantity_min {format_e9(quantity_min)}"
        )
    if not row.currency:
        raise InstrumentError(row.instrument, "currency", row.currency, 'a currency, such as "USDT"')
    return InstrumentParams(
        instrument=row.instrument,
        venue=row.venue,
        currency=row.currency,
        kind=_KINDS[row.kind],
        price_step_e9=price_step,
        quantity_step_e9=quantity_step,
        tick_e9=_multiple(row, "tick", row.tick or row.price_step, "price_step", price_step),
        lot_e9=lot,
        multiplier_e9=_positive(row, "multiplier", row.multiplier),
        quantity_min_e9=quantity_min,
        quantity_max_e9=quantity_max,
        collar_bp=row.collar_bp,
        tick_age_max_ns=row.tick_age_max_ms * MS_NS,
        status=_STATUSES[row.status],
        expiry_ns=row.expiry_ns,
        taker_fee_bp_e9=_parse(row, "taker_fee_bp", row.taker_fee_bp),
        maker_fee_bp_e9=_parse(row, "maker_fee_bp", row.maker_fee_bp),
        underlying=row.underlying,
        contract_class=ContractClass[row.contract_class.upper()],
    )


def to_master(rows: Iterable[InstrumentRow]) -> dict[str, InstrumentParams]:
    """Return all instruments by name.

    Raises:
        InstrumentError: If a row can't be taken or two rows have one name.
    """
    master: dict[str, InstrumentParams] = {}
    for row in rows:
        if row.instrument in master:
            raise InstrumentError(row.instrument, "instrument", row.instrument, "one row an instrument")
        master[row.instrument] = to_params(row)
    return master


class Steps(dict[str, int]):
    """Decimal text → whole steps, exactly; remembers what it converted, because texts repeat.

    ``steps[text]`` raises StepError if the value is no multiple of the step, FieldError if it is no decimal or
    is negative.
    """

    def __init__(self, instrument: str, field: str, step_e9: int) -> None:
        super().__init__()
        self._instrument = instrument
        self._field = field
        self._step_e9 = step_e9

    def __missing__(self, text: str) -> int:
        value = parse_e9(text, self._field)
        if value < 0:
            raise FieldError(self._field, text, "a value of at least 0")
        steps = to_steps(self._instrument, self._field, value, self._step_e9)
        if len(self) >= DECIMALS_KEPT_MAX:
            self.clear()
        self[text] = steps
        return steps


def to_steps(instrument: str, field: str, value_e9: int, step_e9: int) -> int:
    """Return ``value_e9`` in steps.

    Raises:
        StepError: If it is no whole number of them.
    """
    steps, rest = divmod(value_e9, step_e9)
    if rest:
        raise StepError(instrument, field, format_e9(value_e9), format_e9(step_e9))
    return steps


def _parse(row: InstrumentRow, field: str, text: str) -> int:
    try:
        return parse_e9(text, field)
    except FieldError as e:
        raise InstrumentError(row.instrument, field, e.value, e.expected) from e


def _positive(row: InstrumentRow, field: str, text: str) -> int:
    value = _parse(row, field, text)
    if value <= 0:
        raise InstrumentError(row.instrument, field, text, "more than 0")
    return value


def _multiple(row: InstrumentRow, field: str, text: str, unit: str, unit_e9: int) -> int:
    value = _positive(row, field, text)
    if value % unit_e9:
        raise InstrumentError(row.instrument, field, text, f"a multiple of {unit} {format_e9(unit_e9)}")
    return value
