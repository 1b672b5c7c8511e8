"""wojak.toml: what is accepted, what is refused, and what the processes are told."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from cli.configuration import load, to_opening, to_wire_params
from cli.example import EXAMPLE, write_example
from cli.paths import paths_of, prepare, read_token
from cli.processes import SIDECAR, START_ORDER, STOP_ORDER, specs
from cli.wiring import STARTERS, engine_settings
from protocol.channels import IPC_PATH_BYTES_MAX
from protocol.codes import Scope
from protocol.errors import ConfigError
from protocol.params import LimitName


def write(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the example with changes and return its path."""
    text = EXAMPLE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "wojak.toml"
    path.write_text(text)
    return path


def test_the_example_gives_exact_parameters(tmp_path: Path) -> None:
    """Decimal strings become integers in 1e-9, milliseconds nanoseconds, counts stay counts."""
    params = to_wire_params(load(write(tmp_path)).config)
    assert params.instruments[0].tick_e9 == 100_000_000
    assert params.order_age_max_ns == 60_000_000_000
    limits = {(r.name, r.scope, r.key): r for r in params.limits}
    assert limits[LimitName.POSITION_MAX, Scope.ACCOUNT, "demo"].value == 5_000_000_000
    assert limits[LimitName.OPEN_COUNT_MAX, Scope.ACCOUNT, "flow"].value == 500
    assert limits[LimitName.RATE_COUNT, Scope.STRATEGY, "manual"].window_ns == 1_000_000_000


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([('mode = "paper"', 'mode = "live"')], 'wojak.mode: expected "paper", was "live"'),
        ([("port = 8080", 'port = 8080\nstore = "couchbase"')], "books.couchbase.connection: expected couchbases://host"),
        ([("port = 8080", 'port = 8080\nstore = "couchbase"')], "books.couchbase.password_env: expected environment"),
        ([("port = 8080", "port = 8081")], "http.port: expected another port than books.port"),
        ([('key = "demo"', 'key = "nobody"')], "limits[0].key: expected one of demo, flow, was 'nobody'"),
        ([('value = "50"', "value = 50")], "limits[0].value: expected a decimal string"),
        ([('value = "50"', 'value = "5e1"')], "limits[0].value: expected a decimal string"),
        ([('value = "50"', 'value = "50"\nvalue_max = "49"')], "limits[0].value_max: expected at least the value (50)"),
        ([('value = "50"', 'value = "50"\nvalue_max = 60')], "limits[0].value_max: expected a decimal string"),
        ([("[feed]", "[gateway]\ncancel_on_engine_loss_ms = 900\n\n[feed]")], "gateway.cancel_on_engine_loss_ms:"),
        ([("value = 500", 'value = "500"')], "limits[5].value: expected a whole number for OPEN_COUNT_MAX"),
        ([("window_ms = 1000\n", "")], "limits[6].window_ms: expected the interval that RATE_COUNT counts in"),
        ([('account = "demo"            # yours', 'account = "flow"')], "accounts[1].account: expected a name"),
        (
            [('account = "demo"            # yours', 'account = "desk/1"')],
            "accounts[0].account: expected a name without '/'",
        ),
        ([('tick = "0.1"', 'tick = "0.15"')], "instruments[0]"),
        ([('venue = "sandbox"', 'venue = "moon"')], "instruments[0].venue: expected one of sandbox, was 'moon'"),
        ([('source = "synthetic"', 'source = "binance"')], "feed.path: expected a recording"),
        ([('host = "127.0.0.1"\nport = 8081', 'host = "0.0.0.0"\nport = 8081')], "http.keys: expected at least"),
        ([('loopback_principal = "local"', 'loopback_principal = "me"')], "http.loopback_principal: expected"),
        ([('principals = ["local"]', "principals = []")], 'sources: expected source "http" to list'),
        ([("# opening_file", "opening_file")], "wojak.opening_file: expected a file that can be read"),
    ],
)  # fmt: skip
def test_a_fault_is_named_by_key_value_and_expectation(
    tmp_path: Path, changes: list[tuple[str, str]], expected: str
) -> None:
    """Each rule that spans keys refuses with one line that an operator can act on."""
    with pytest.raises(ConfigError) as refused:
        load(write(tmp_path, *changes))
    assert any(p.startswith(expected) for p in refused.value.problems), refused.value.problems


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    """Two faults are two lines, not two attempts."""
    with pytest.raises(ConfigError) as refused:
        load(write(tmp_path, ("port = 8080", "port = 8081"), ('key = "demo"', 'key = "nobody"')))
    assert len(refused.value.problems) == 2


def test_a_short_secret_is_refused_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key's secret comes from the environment, has a least length, and never stands in a message."""
    monkeypatch.setenv("WOJAK_TEST_KEY", "hunter2")
    key = '[[http.keys]]\nname = "x"\nprincipal = "local"\nsecret_env = "WOJAK_TEST_KEY"\n\n[books]'
    with pytest.raises(ConfigError) as refused:
        load(write(tmp_path, ("[books]", key)))
    assert "expected a secret of at least 16 characters, was 7" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_opening_positions_come_from_their_file(tmp_path: Path) -> None:
    """Positions and cash are decimal strings of known accounts; a stranger is refused."""
    path = write(tmp_path, ("# opening_file", "opening_file"))
    row = '[[positions]]\naccount = "demo"\ninstrument = "BTCUSDT"\nquantity = "-1.5"\nprice = "61000"\n'
    (tmp_path / "opening.toml").write_text(row)
    assert to_opening(load(path)).positions[0].quantity_e9 == -1_500_000_000
    (tmp_path / "opening.toml").write_text(row.replace("demo", "nobody"))
    with pytest.raises(ConfigError, match="nobody"):
        to_opening(load(path))


def test_init_never_replaces_a_file(tmp_path: Path) -> None:
    """What is there stays, to the byte."""
    path = tmp_path / "wojak.toml"
    path.write_text("mine")
    assert not write_example(path)
    assert path.read_text() == "mine"


def test_a_long_state_folder_still_has_short_sockets(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where the folder's own path is too long, sockets move to a private folder named by its hash."""
    folder = tmp_path_factory.mktemp("s")  # a short name: its own path must not be too long
    near = paths_of(folder / ".wojak")
    far = paths_of(folder / ("x" * 90) / ".wojak")
    assert near.run == folder / ".wojak" / "run"
    assert far.run != far.state / "run"
    assert len(far.endpoint("gateway-control").removeprefix("ipc://")) <= IPC_PATH_BYTES_MAX
    assert far.run == paths_of(folder / ("x" * 90) / ".wojak").run


def test_the_control_token_is_made_once_and_private(tmp_path: Path) -> None:
    """Only this user can read it, and a second start keeps it."""
    paths = paths_of(tmp_path / ".wojak")
    prepare(paths)
    token = read_token(paths.token)
    prepare(paths)
    assert read_token(paths.token) == token
    assert paths.token.stat().st_mode & 0o777 == 0o600
    assert paths.run.stat().st_mode & 0o777 == 0o700


def test_every_process_has_a_starter_and_a_place_in_both_orders(tmp_path: Path) -> None:
    """What is started is stopped, and can be started."""
    assert {*STARTERS, SIDECAR} == set(START_ORDER) == set(STOP_ORDER)
    loaded = load(write(tmp_path))
    assert [s.name for s in specs(loaded, START_ORDER)] == list(START_ORDER)
    assert engine_settings(loaded).journal_dir == str(tmp_path / ".wojak" / "journal")


def test_the_example_is_toml_without_secrets() -> None:
    """No secret stands in the file: only where to find one."""
    assert "secret" not in tomllib.loads(EXAMPLE)["http"]
