"""The sidecars that `wojak up` runs: their names, places and bounds, and what is refused before anything starts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from cli.configuration import Loaded, load
from cli.example import EXAMPLE
from cli.held_file import hold
from cli.paths import SOCKET_NAME_BYTES_MAX
from cli.processes import SIDECAR, STOP_GRACE_MS, kind_of, process_names, sidecar_name, source_of, specs
from cli.sidecar_process import require_usable, run_sidecar, sidecar_health, unusable
from protocol.errors import ConfigError
from tests.tidy_rules import ROOT

ROW: dict[str, Any] = {"queue": "orders", "principal": "local", "dead_letter_queue": "orders.dead"}


def loaded(
    folder: Path, *sidecars: str, kind: str = "rabbitmq", more: str = "", own: Mapping[str, Mapping[str, str]] = {}
) -> Loaded:
    """Return the example with these sources, each with a sidecar; ``own``: settings of one of them in addition."""
    rows = []
    for name in sidecars:
        settings = ", ".join(f'{key} = "{value}"' for key, value in {**ROW, **own.get(name, {})}.items())
        rows.append(
            f'[[sources]]\nsource = "{name}"\nprincipals = ["local"]\n\n[[sidecars]]\nsource = "{name}"\n'
            f'kind = "{kind}"\nsettings = {{ {settings} }}\n{more}\n'
        )
    path = folder / "wojak.toml"
    path.write_text(EXAMPLE + "\n" + "\n".join(rows))
    return load(path)


def test_a_sidecar_is_a_process_that_starts_last_and_stops_first(tmp_path: Path) -> None:
    """After all it needs, before the demonstration flow; the supervisor waits for its drain and goes on without it."""
    deployment = loaded(tmp_path, "desk-mq", "1", more="drain_ms = 7000")
    names = process_names(deployment, flow=True)
    assert names[-4:] == ("api", "sidecar-desk-mq", "sidecar-1", "flow")
    assert [kind_of(n) for n in names[-3:-1]] == [(SIDECAR, 0), (SIDECAR, 0)]
    assert [source_of(n) for n in names[-4:]] == ["", "desk-mq", "1", ""]
    spec = {s.name: s for s in specs(deployment, names)}["sidecar-desk-mq"]
    assert spec.stop_within_ms == 7000 + STOP_GRACE_MS
    assert spec.is_one_of_several
    assert spec.again_ms > 0


def test_a_sidecar_that_another_runs_is_not_started(tmp_path: Path) -> None:
    """The key supervised leaves it to `wojak sidecar run`."""
    assert not any(source_of(n) for n in process_names(loaded(tmp_path, "mq", more="supervised = false"), flow=True))


def test_the_longest_name_of_a_source_has_a_short_socket_of_its_own(tmp_path: Path) -> None:
    """Names of 64 characters that differ in the last one only have different files, within the bound of a socket."""
    deployment = loaded(tmp_path, "x" * 63 + "1", "x" * 63 + "2")
    files = {Path(sidecar_health(deployment, row).socket_path) for row in deployment.config.sidecars}
    assert len(files) == 2
    assert all(len(file.name) <= SOCKET_NAME_BYTES_MAX for file in files)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("port = 8081", "sidecars[0].port: expected another port than http.port (8081), was 8081"),
        ("port = 9999", "sidecars[1].port: expected another port than sidecars[0].port (9999), was 9999"),
    ],
)
def test_a_port_is_used_once(tmp_path: Path, more: str, expected: str) -> None:
    """A metrics port of a sidecar is none of the other processes'."""
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, "a", "b", more=more)
    assert expected in refused.value.problems


def test_a_name_that_can_be_no_file_is_refused(tmp_path: Path) -> None:
    """Logs, locks and epochs are files named after the source."""
    with pytest.raises(ConfigError, match=re.escape("sidecars[0].source: expected a name without '/', was 'a/b'")):
        loaded(tmp_path, "a/b")


def test_an_unknown_kind_is_refused_with_the_kinds_there_are(tmp_path: Path) -> None:
    """Before anything starts, with what to do."""
    (fault,) = unusable(loaded(tmp_path, "mq", kind="carrier-pigeon"))
    assert fault.startswith("sidecars[0].kind: expected one of kafka, ")
    assert "rabbitmq" in fault
    assert fault.endswith("was 'carrier-pigeon'; correct it, or install the package that brings it")


def test_a_missing_client_is_refused_with_the_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is absent as Python sees it: importing it fails."""
    client = tmp_path / "packages" / "aiormq"
    client.mkdir(parents=True)
    (client / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'aiormq'\", name='aiormq')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(client.parent), str(ROOT)]))
    (fault,) = unusable(loaded(tmp_path, "mq"))
    assert fault.startswith("sidecars[0]: kind rabbitmq: expected its client to be installed, was not")
    assert fault.endswith("pip install 'wojak[rabbitmq]'")


def test_wrong_settings_and_a_missing_address_are_named_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sidecar is looked at, connecting to nothing; what is fine says nothing."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("AMQP_URL", raising=False)
    monkeypatch.setenv("GOOD_URL", "amqp://u:p@127.0.0.1:1/")
    own = {"two": {"qeue": "typo"}, "three": {"url_env": "GOOD_URL"}}
    deployment = loaded(tmp_path, "one", "two", "three", own=own)
    faults = list(unusable(deployment))
    assert [fault.partition(":")[0] for fault in faults] == ["sidecars[0]", "sidecars[1]"]
    assert "AMQP_URL" in faults[0]
    assert "qeue" in faults[1]
    require_usable(deployment, deployment.config.sidecars[2])


def test_a_second_process_for_one_source_is_told_who_was_first(tmp_path: Path) -> None:
    """Two on one state folder would take each other's messages and addresses."""
    deployment = loaded(tmp_path, "mq")
    deployment.paths.state.mkdir()
    fd = hold(deployment.paths.state / f"{sidecar_name('mq')}.lock")
    try:
        with pytest.raises(ConfigError, match=f"was carried by pid {os.getpid()}; .*supervised = false"):
            run_sidecar(deployment, deployment.config.sidecars[0])
    finally:
        os.close(fd)


def test_the_commented_sidecar_of_the_example_has_no_fault(tmp_path: Path) -> None:
    """Whoever removes the comment signs has a configuration that loads."""
    start = EXAMPLE.index("# [[sources]]")
    end = EXAMPLE.index("\n\n", start)
    rows = "\n".join(line.removeprefix("# ") for line in EXAMPLE[start:end].splitlines())
    path = tmp_path / "wojak.toml"
    path.write_text(EXAMPLE[:start] + rows + EXAMPLE[end:])
    (row,) = load(path).config.sidecars
    assert (row.source, row.kind) == ("desk-mq", "rabbitmq")
    assert row.settings == structs.replace(row, settings=ROW).settings
