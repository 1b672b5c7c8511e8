"""Contract rows that an instrument can't take, or that nobody could leave a position under: ``risk.gate.row_rules``."""

from __future__ import annotations

from collections.abc import Iterator

from cli.limit_rows import LimitsFile
from cli.limit_rules import Known
from cli.limit_wire import to_contract_row
from market.errors import InstrumentError
from market.instruments import InstrumentRow, to_params
from protocol.params import InstrumentParams
from risk.gate.row_rules import contract_faults


def resolution_faults(file: LimitsFile, known: Known) -> Iterator[str]:
    """Yield a fault for each contract row that an instrument can't take on some date, as the rows resolve on it.

    Only of rows that have no fault by themselves: call it when ``limit_faults`` found none.
    """
    params = [found for row in known.instruments.values() if (found := _params_of(row)) is not None]
    for place, why in contract_faults(params, [to_contract_row(row) for row in file.contracts]):
        yield f"contracts[{place}].value: {why}"


def _params_of(row: InstrumentRow) -> InstrumentParams | None:
    """Return an instrument's parameters; None of a row with a fault, which is said where it stands."""
    try:
        return to_params(row)
    except InstrumentError:
        return None
