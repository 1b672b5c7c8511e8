"""Control over tcp through the real command line: keys made by ``wojak keys``, an operator's and a reader's."""

from __future__ import annotations

import shutil
from pathlib import Path

from cli.configuration import load
from tests.peers.process import free_ports
from tests.processes.stack import Stack, wait_until


def test_an_operator_elsewhere_kills_and_a_reader_may_not(tmp_path: Path) -> None:
    """Two other configurations that connect: the kill stands in the engine's state under the key's name."""
    (port,) = free_ports(1)
    listen = (
        f'[control]\nlisten = "tcp://127.0.0.1:{port}"\nkey_file = "keys/engine.secret"\nallowed_dir = "allowed"\n\n'
    )
    here = tmp_path / "here"
    here.mkdir()
    with Stack(here, edit=lambda text: text.replace("[feed]", f"{listen}[feed]", 1)) as stack:
        for name in ("engine", "operator", "reader"):
            assert stack.wojak("keys", "new", name, "--role", name).returncode == 0
        assert stack.wojak("keys", "new", "engine", "--role", "engine").returncode == 2
        (here / "allowed").mkdir()
        for name in ("operator", "reader"):
            shutil.copy(here / "keys" / f"{name}.public", here / "allowed")
            there = tmp_path / name
            there.mkdir()
            shutil.copy(here / "keys" / f"{name}.secret", there)
            shutil.copy(here / "keys" / "engine.public", there)
            connect = (
                f'[control]\nconnect = "tcp://127.0.0.1:{port}"\nclient_key_file = "{name}.secret"\n'
                'server_key_file = "engine.public"\n\n'
            )
            text = stack.config.read_text().replace(listen, connect)
            (there / "wojak.toml").write_text(text)
            load(there / "wojak.toml")
        stack.start()
        reader, operator = (str(tmp_path / n / "wojak.toml") for n in ("reader", "operator"))
        refused = stack.wojak("kill", "--global", "--reason", "x", "--config", reader)
        assert refused.returncode == 1
        assert "AUTH_NOT_PERMITTED: key reader has role reader" in refused.stderr
        assert stack.wojak("limits", "show", "--config", reader).returncode == 0
        assert stack.status().halted == []
        killed = stack.wojak("kill", "--global", "--reason", "from afar", "--config", operator)
        assert killed.returncode == 0, killed.stdout + killed.stderr
        (halted,) = stack.status().halted
        assert (halted.state, halted.operator, halted.reason) == ("HALTED", "operator", "from afar")
        (here / "allowed" / "operator.public").unlink()
        away = stack.wojak("resume", "--global", "--config", operator)
        assert away.returncode == 1
        assert "ENGINE_AWAY" in away.stderr
        log = stack.deployment.paths.logs / "engine.log"
        wait_until(lambda: "is not allowed" in log.read_text(), 10.0, "the refused key in the log")
        assert stack.stop() == 0, stack.said()
