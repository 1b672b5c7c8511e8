"""docs/risk.md: every check of the gate with its source, parameters, route, exemptions and example, from the code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from cli.limit_files import PRESETS, Preset, preset
from cli.limit_rules import CONTRACT_UNITS, MONEY, limit_unit, scopes_of
from cli.limit_text import Row, dates_of, name_of, value_of
from cli.limit_wire import to_contract_row, to_limit_row
from engine.explaining import ENVELOPE
from protocol.codes import Code
from protocol.contract_rows import ContractName
from protocol.params import LimitName
from risk.gate.catalogue import CATALOGUE, CHECKED_CONTRACTS, CHECKED_LIMITS
from risk.gate.explaining import CODE_OF
from risk.gate.forward import FORWARDABLE, SANDBOXABLE
from risk.gate.further_catalogue import BEYOND
from risk.gate.further_checks import COMPLETE_CHECKS
from risk.gate.row_rules import SOFT
from risk.gate.termed import TERMED_COMPLETE_CHECKS

INTRO: Final = """\
Every new order passes these checks in this order; the first that refuses gives the code, and value, limit, scope and
reference stand in the answer, the journal and `/v1/breaches`. Rates come last, so that a refused order uses no token.
What an exit is: [concepts](concepts.md); cancels are refused for identity only. What other commands are refused for,
and what a late send is checked for: [risk checks](risk-checks.md).

*house* = a decision of this project that no rule asks for; *practice* = what others do. Regulations and circulars were
read through secondary quotations. A = accepted, R = refused; P = position. `wojak limits explain` shows every check of
one order, with the rows it reads and the one that binds.
"""
ROUTES: Final = """\
**Routes.** *reject*: the order is refused. *risk service*: where the code is routed to the
[risk service](risk-service.md), a breach holds the order for it, above a soft value too. An exit is held
for a bounded time at most, then sent. *paper*: where the code is routed `sandbox`, a breach of an order that increases
makes it paper, in a ledger of its own that no other check reads ([routes](risk-service.md)).
Rows resolve on the engine's trading date: of limits every scope with a row is
checked and the tightest binds, so a specific row never loosens a wider one; of contract parameters the most specific
row wins: instrument, underlying, class, venue, global. Checks that no row concerns cost nothing.
"""
LIMITS: Final = "Rows of `[[limits]]`: [keys](reference/config.md), [files](operate.md).\n"
CONTRACTS: Final = "Rows of `[[contracts]]`; what no row says is as in `[[instruments]]`, or not checked.\n"
ROWS: Final = (
    'Rows that come with Wojak: `risk.presets = ["nse-fo"]`. Cited ones only; `wojak limits check` says what is absent '
    "as INCOMPLETE.\n"
)


def risk_page(written: str) -> str:
    """Return the page."""
    presets = [line for name in PRESETS for line in _preset(name, preset(name))]
    return "\n".join(
        [
            "# Risk: every check\n", written, INTRO, "## Checks\n", *_checks(), "", ROUTES, "## Limits\n", LIMITS,
            *_limits(), "", "## Contract parameters\n", CONTRACTS, *_contracts(), "", "## Presets\n", ROWS, *presets,
        ]
    )  # fmt: skip


def ordered() -> list[Code]:
    """Return the codes in the order in which their checks run."""
    codes = [CODE_OF[check.__name__] for check in COMPLETE_CHECKS]
    termed = [CODE_OF[check.__name__] for check in TERMED_COMPLETE_CHECKS]
    for place, code in enumerate(termed):
        if code not in codes:  # of termed orders only: behind what it stands behind
            codes.insert(codes.index(termed[place - 1]) + 1, code)
    before = [*ENVELOPE, Code.ID_CONFLICT, Code.CANCELLED_BEFORE_ARRIVAL]
    return list(dict.fromkeys([*before, *codes, *BEYOND]))


def _checks() -> Iterator[str]:
    yield "| code | refuses | parameters | route | exits | source | example |\n|---|---|---|---|---|---|---|"
    for code in ordered():
        check = CATALOGUE[code]
        rows = [*(n.name for n in check.limits), *(_contract(n) for n in check.contracts)]
        parameters = ", ".join(part for part in (check.settings, *rows) if part) or "–"
        route = f"{check.route}, or risk service" if code in FORWARDABLE else check.route
        route = f"{route}, or paper" if code in SANDBOXABLE else route
        yield (
            f"| `{code.name}` | {check.refuses} | {parameters} | {route} | {check.exits} | {check.source} "
            f"| {check.example} |"
        )


def _limits() -> Iterator[str]:
    yield "| limit | counts | scopes | soft value | read by |\n|---|---|---|---|---|"
    for name in sorted(CHECKED_LIMITS):
        scopes = ", ".join(scopes_of(name))
        yield (
            f"| `{name.name}` | {_unit(limit_unit(name))} | {scopes} | {'yes' if name in SOFT else '–'} "
            f"| {_readers(name)} |"
        )


def _contracts() -> Iterator[str]:
    yield "| parameter | counts | read by |\n|---|---|---|"
    for name in sorted(CHECKED_CONTRACTS):
        yield f"| `{_contract(name)}` | {_unit(CONTRACT_UNITS.get(name, MONEY))} | {_readers(name)} |"


def _preset(name: str, given: Preset) -> Iterable[str]:
    yield f"### {name}\n"
    yield f"{given.title}; sources read last on {given.checked_on}.\n"
    yield "| row | value | when | source |\n|---|---|---|---|"
    rows: list[Row] = [*map(to_limit_row, given.limits), *map(to_contract_row, given.contracts)]
    for row in rows:
        yield f"| {name_of(row)} | {value_of(row)} | {dates_of(row) or 'always'} | {row.source} |"
    yield "\nMissing:\n"
    yield from (f"- {missing.what}: {missing.why}" for missing in given.missing)
    yield ""


def _readers(name: LimitName | ContractName) -> str:
    """Return the codes of the checks that read a row; of two enumerations equal numbers are not the same name."""
    rows = {code: (*CATALOGUE[code].limits, *CATALOGUE[code].contracts) for code in ordered()}
    return ", ".join(f"`{code.name}`" for code, names in rows.items() if any(n is name for n in names))


def _contract(name: ContractName) -> str:
    return f"{name.name.removesuffix('_NS')}_MS" if name.name.endswith("_NS") else name.name


def _unit(unit: str) -> str:
    return "money, in the currency" if unit == MONEY else unit
