"""All rows of risk parameters of an engine at once: what a limits file says, as control and the journal carry it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, structs

from protocol.contract_rows import ContractRow, RestrictionRow, VenueRow
from protocol.params import LimitRow, Params

ROWS_MAX = 20_000
Bound = Meta(max_length=ROWS_MAX)


class RiskRows(Struct, array_like=True, frozen=True):
    """The rows that a file can set while the engine runs; the rest of ``params.Params`` takes a start."""

    limits: Annotated[tuple[LimitRow, ...], Bound] = ()
    contracts: Annotated[tuple[ContractRow, ...], Bound] = ()
    venues: Annotated[tuple[VenueRow, ...], Bound] = ()
    restrictions: Annotated[tuple[RestrictionRow, ...], Bound] = ()

    def put_into(self, params: Params) -> Params:
        """Return parameters with these rows in the place of their own."""
        return structs.replace(
            params,
            limits=self.limits,
            contracts=self.contracts,
            venues=self.venues,
            restrictions=self.restrictions,
        )


def rows_of(params: Params) -> RiskRows:
    """Return the rows of an engine's parameters."""
    return RiskRows(params.limits, params.contracts, params.venues, params.restrictions)
