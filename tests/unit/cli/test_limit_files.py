"""Limits files: what is taken, and what is refused with file, line and reason."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from msgspec import structs

from cli.configuration import load, to_wire_params
from cli.example import EXAMPLE
from cli.limit_files import PRESETS, known_to, over_on, preset, read_limits, rows_faults
from cli.limit_rows import ContractKind, LimitKind, LimitsFile
from cli.limit_rules import Known, contract_name
from cli.limits import check
from market.instruments import InstrumentRow
from protocol.codes import Scope
from protocol.contract_rows import ContractName, ContractRow, ContractScope
from protocol.errors import ConfigError
from protocol.params import LimitName, LimitRow

NIFTY = InstrumentRow(
    instrument="NIFTY26NOVFUT", venue="sandbox", currency="INR", price_step="0.05", quantity_step="1", lot="65",
    quantity_max="6500", underlying="NIFTY", contract_class="index_future",
)  # fmt: skip
CALL = structs.replace(NIFTY, instrument="NIFTY26NOV24000CE", contract_class="call")
KNOWN = Known({"demo": "INR"}, frozenset({"s1"}), {"F": NIFTY, CALL.instrument: CALL}, ("sandbox",))
KNOWN = KNOWN._replace(instruments={NIFTY.instrument: NIFTY, CALL.instrument: CALL})
GOOD = """\
[[limits]]
limit = "POSITION_MAX"
scope = "account"
key = "demo"
soft = "4"
value = "5.00"
unit = "units"
effective_from = 2026-01-01
effective_to = 2026-06-30
source = "risk committee, 12 Dec 2025"
version = "3"

[[limits]]
limit = "POSITION_MAX"
scope = "account"
key = "demo"
value = "6.00"
effective_from = 2026-07-01

[[limits]]
limit = "RATE_COUNT"
scope = "strategy"
key = "s1"
value = 9
window_ms = 1050

[[contracts]]
parameter = "LOT"
scope = "underlying"
key = "NIFTY"
value = "75"
"""


def read(folder: Path, text: str) -> LimitsFile:
    path = folder / "limits.toml"
    path.write_text(text)
    return read_limits(path, KNOWN).file


def refused(folder: Path, text: str) -> list[str]:
    """Return the faults as they are shown, without the line that names the file."""
    with pytest.raises(ConfigError) as why:
        read(folder, text)
    first, *faults = str(why.value).splitlines()
    assert str(folder / "limits.toml") in first
    return [f.removeprefix("  - ") for f in faults]


def test_rows_become_exact_dated_integers(tmp_path: Path) -> None:
    """Decimal text is 1e-9, dates are yyyymmdd, milliseconds are nanoseconds; source and version travel along."""
    path = tmp_path / "limits.toml"
    path.write_text(GOOD)
    wire = read_limits(path, KNOWN).wire
    e9 = 10**9
    assert wire.limits[0] == LimitRow(
        LimitName.POSITION_MAX, Scope.ACCOUNT, "demo", 5 * e9, 0, 0, None, 4 * e9, 20260101, 20260630,
        "risk committee, 12 Dec 2025", "3",
    )  # fmt: skip
    assert wire.limits[2].window_ns == 1_050_000_000
    assert wire.contracts == (ContractRow(ContractName.LOT, ContractScope.UNDERLYING, "NIFTY", 75 * e9),)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('limit = "POSITION_MAX"', 'limit = "POSITION"', "line 2: limits[0].limit: "),
        ('soft = "4"', 'sotf = "4"', "line 5: limits[0].sotf: unknown key"),
        ('soft = "4"', 'soft = "5.01"', "line 5: limits[0].soft: expected at most the value (5.00), was '5.01'"),
        ("[[contracts]]", "[[contract]]", "line 27: contract: unknown key; expected one of presets, limits"),
        ('value = "5.00"', "value = 5", 'line 6: limits[0].value: expected a decimal string such as "5.00"'),
        ('value = "5.00"', 'value = "5 lots"', "line 6: limits[0].value: expected a decimal"),
        ("value = 9", 'value = "9"', "line 24: limits[2].value: expected a whole number for RATE_COUNT, was '9'"),
        ('unit = "units"', 'unit = "USDT"', "line 7: limits[0].unit: expected 'units', was 'USDT'"),
        ('key = "demo"', 'key = "nobody"', "line 4: limits[0].key: expected one of demo, was 'nobody'"),
        ("2026-06-30", "2026-07-01", "line 13: limits[1]: expected one row for POSITION_MAX account demo on each"),
        ("effective_to = 2026-06-30\n", "", "limits[0] too, from 2026-07-01 on"),
        ("2026-06-30", "2025-06-30", "line 9: limits[0].effective_to: expected 2026-01-01 or later, was 2025-06-30"),
        ("2026-06-30", '"30 June"', "line 9: limits[0].effective_to: "),
        ("value = 9", "value = 0", "line 24: limits[2].value: expected at least 1, or a reserve_exit"),
        ("window_ms = 1050", "window_ms = 1050\nsoft = 8", "line 26: limits[2].soft: expected only with"),
        ("window_ms = 1050", "", "line 20: limits[2].window_ms: expected the interval"),
        ('scope = "underlying"\nkey = "NIFTY"\nvalue = "75"', 'scope = "global"\nvalue = "7.5"', "line 30: contracts"),
        ('value = "75"', 'value = "7000"', "line 31: contracts[0].value: expected QUANTITY_MAX of at least the lot"),
        ('scope = "underlying"\nkey = "NIFTY"', 'scope = "class"\nkey = "swap"', "line 30: contracts[0].key: expected"),
        ("[[limits]]", "[[limits]", "expected TOML: "),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_file_line_and_reason(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """Unknown keys, wrong units, overlapping dates, what forbids exits: each is refused where it stands."""
    assert old in GOOD
    found = refused(tmp_path, GOOD.replace(old, new, 1))
    assert any(expected in fault for fault in found), found


def test_all_faults_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    """A fault in one row hides none in another."""
    text = GOOD.replace('soft = "4"', "soft = true").replace("window_ms = 1050", "window = 1")
    assert [f.split(":")[0] for f in refused(tmp_path, text)] == ["line 5", "line 25"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_holds_cited_rows_without_a_fault(name: str) -> None:
    """Each row has a source and is valid where there is what it is about; what is missing is said."""
    given = preset(name)
    assert all(row.source for row in (*given.limits, *given.contracts))
    assert given.missing
    keys = {(r.scope, r.key) for r in given.contracts}
    classes = {key for scope, key in keys if scope == "class"} or {"none"}
    underlyings = {key for scope, key in keys if scope == "underlying"} or {""}
    rows = [
        structs.replace(
            NIFTY,
            instrument=f"{c} {u}",
            contract_class=c,
            underlying=u,
            currency=given.currency,
            lot="",
            price_step="0.05",
        )
        for c in classes
        for u in underlyings
    ]
    known = Known({"demo": given.currency}, frozenset(), {r.instrument: r for r in rows}, ("sandbox",))
    checked = LimitsFile(limits=given.limits, contracts=given.contracts)
    checked_here = tuple(r for r in checked.contracts if contract_name(r.parameter) in _checked())
    assert rows_faults(structs.replace(checked, contracts=checked_here), known) == []


def _checked() -> frozenset[ContractName]:
    from risk.gate.catalogue import CHECKED_CONTRACTS

    return CHECKED_CONTRACTS


def test_a_presets_rows_stand_beside_the_files(tmp_path: Path) -> None:
    """A contract row of the file replaces the preset's; a limit beside the preset's is refused; what lacks is said."""
    path = tmp_path / "limits.toml"
    path.write_text('presets = ["nse-fo"]\n' + GOOD)
    rows = read_limits(path, KNOWN)
    lots = [r for r in rows.file.contracts if (r.parameter, r.key) == ("LOT", "NIFTY")]
    assert [r.value for r in lots] == ["75"]
    assert any(r.limit == "RATE_COUNT" and r.window_ms == 1050 and r.scope == "global" for r in rows.file.limits)
    assert any(
        "INCOMPLETE: preset nse-fo has no row for limit-price protection of futures" in r for r in rows.incomplete
    )
    own = GOOD.replace('scope = "strategy"\nkey = "s1"\n', "")
    (fault,) = refused(tmp_path, 'presets = ["nse-fo"]\n' + own)
    assert fault.startswith(
        "line 21: limits[2]: expected no row for RATE_COUNT global on trading dates for which preset"
    )
    (both,) = refused(tmp_path, 'presets = ["nse-fo", "crypto-perp"]\n' + GOOD)
    assert "presets[0]: expected no row for RATE_COUNT global" in both
    assert "presets[0]: expected one of crypto-perp, nse-fo" in refused(tmp_path, 'presets = ["nse"]\n' + GOOD)[0]


def test_a_row_that_is_over_is_said(tmp_path: Path) -> None:
    """On a date behind the last row of a contract parameter nothing is guessed: the gap is named."""
    text = GOOD + "effective_to = 2026-02-28\n"
    file = read(tmp_path, text)
    assert over_on(file, dt.date(2026, 2, 28)) == []
    (line,) = over_on(file, dt.date(2026, 3, 1))
    assert line.startswith("INCOMPLETE: LOT of underlying NIFTY has no row on 2026-03-01: the last one ends 2026-02-28")


def test_the_configuration_names_its_limits_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows come from that file, with its faults and lines; rows in both places are refused."""
    start = EXAMPLE.index("# Limits: every scope")
    end = EXAMPLE.index("# The trading day")
    risk = '[risk]\nlimits_file = "limits.toml"\n\n'
    path = tmp_path / "wojak.toml"
    path.write_text(EXAMPLE[:start] + risk + EXAMPLE[end:])
    file = tmp_path / "limits.toml"
    file.write_text('[[limits]]\nlimit = "ORDER_VALUE_MAX"\nvalue = "7"\nunit = "USDT"\n')
    (row,) = to_wire_params(load(path).config).limits
    assert (row.name, row.value) == (LimitName.ORDER_VALUE_MAX, 7 * 10**9)
    assert check(config=path) == 0
    assert "limits.toml: 1 limits" in capsys.readouterr().out
    file.write_text(file.read_text().replace("USDT", "EUR"))
    with pytest.raises(ConfigError, match="in which it is counted, was 'EUR'"):
        load(path)
    path.write_text(EXAMPLE[:start] + risk + EXAMPLE[start:])
    with pytest.raises(ConfigError, match="limits: expected no rows beside"):
        load(path)


def test_the_names_of_files_are_the_engines() -> None:
    """Every limit and contract parameter that the protocol has, and no other, has a name in files."""
    assert {*LimitKind.__args__} == set(LimitName.__members__)  # type: ignore[attr-defined]
    assert {contract_name(name) for name in ContractKind.__args__} == set(ContractName)  # type: ignore[attr-defined]


def test_what_a_configuration_knows() -> None:
    """Names and currencies are those of its tables."""
    import tomllib

    from cli.settings import WojakConfig
    from runtime.config import convert

    known = known_to(convert(tomllib.loads(EXAMPLE), WojakConfig, "example"), ("sandbox",))
    assert known.currencies == {"demo": "USDT", "flow": "USDT"}
