"""Contract rows under which no order could pass, exits neither: found for every instrument on every date they change.

Rule: what shuts the way out of a position is refused before it can run, wherever the rows of several scopes meet.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from cli.limit_rows import LimitsFile
from cli.limit_rules import Known
from cli.limit_wire import to_contract_row
from market.errors import InstrumentError
from market.instruments import to_params
from protocol.contract_rows import ContractName, resolve_contract
from protocol.params import InstrumentParams
from protocol.units import format_e9


def resolution_faults(file: LimitsFile, known: Known) -> Iterator[str]:
    """Yield a fault for each instrument that could not be left on some date, as the rows resolve on it.

    Only of rows that have no fault by themselves: call it when ``limit_faults`` found none.
    """
    rows = [to_contract_row(row) for row in file.contracts]
    dates = sorted({0, *(r.effective_from for r in rows), *(next_date(r.effective_to) for r in rows if r.effective_to)})
    for instrument in known.instruments.values():
        try:
            params = to_params(instrument)
        except InstrumentError:
            continue
        said: set[str] = set()
        for date in dates:
            found = resolve_contract(
                rows, date, venue=params.venue, contract_class=params.contract_class, underlying=params.underlying,
                instrument=params.instrument,
            )  # fmt: skip
            for name, why in _shut(params, {n: r.value for n, r in found.items()}):
                if why in said or name not in found:
                    continue
                said.add(why)
                place = next(n for n, row in enumerate(rows) if row is found[name])
                since = f" from {date}" if date else ""
                where = f"contracts[{place}].value"
                yield f"{where}: {why} for {instrument.instrument}{since}: nobody could leave a position"


def _shut(params: InstrumentParams, found: dict[ContractName, int]) -> Iterator[tuple[ContractName, str]]:
    """Yield the parameter and the reason where no order could pass, exits neither."""
    lot = found.get(ContractName.LOT, params.lot_e9)
    least = found.get(ContractName.QUANTITY_MIN, params.quantity_min_e9)
    for name, most in (
        (ContractName.FREEZE, found.get(ContractName.FREEZE)),
        (ContractName.QUANTITY_MAX, found.get(ContractName.QUANTITY_MAX, params.quantity_max_e9)),
    ):
        if most is not None and most < max(lot, least):
            culprit = name if name in found else ContractName.LOT if ContractName.LOT in found else name
            larger = f"expected {name.name} of at least lot {format_e9(lot)} and QUANTITY_MIN {format_e9(least)}"
            yield culprit, f"{larger}, was {format_e9(most)}"
    low, high = found.get(ContractName.BAND_LOW), found.get(ContractName.BAND_HIGH)
    if low is not None and high is not None and low > high:
        why = f"expected BAND_LOW of at most BAND_HIGH {format_e9(high)}, was {format_e9(low)}"
        yield ContractName.BAND_LOW, why


def next_date(trading_date: int) -> int:
    """Return the day after a date, both yyyymmdd."""
    day = dt.date(trading_date // 10_000, trading_date // 100 % 100, trading_date % 100)
    return int(f"{day + dt.timedelta(days=1):%Y%m%d}") if day < dt.date.max else trading_date
