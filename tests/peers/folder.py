"""Folders as a peer: the template of a source, found by its entry point as any other package's would be."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.stack import ROOT
from runtime.clock import wall_ns
from tests.conformance.peer import Broker, Dead, Message, Peer

TEMPLATE = ROOT / "examples" / "folder_source"


class Folders(Broker):
    """A place for folders; stopped, the place is not there."""

    has_network = False

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="wojak-folder-"))
        self._away = self.place.with_name(self.place.name + "-away")
        self.packages = self.place.with_name(self.place.name + "-packages")
        self._install()

    def _install(self) -> None:
        """Put what an installation of the template would leave into a folder of its own."""
        info = self.packages / "wojak_folder-0.1.0.dist-info"
        info.mkdir(parents=True)
        project = (TEMPLATE / "pyproject.toml").read_text()
        entry = re.search(r'^\[project\.entry-points\."wojak\.sources"\]\n(.+)$', project, re.MULTILINE)
        assert entry is not None
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wojak-folder\nVersion: 0.1.0\n")
        (info / "entry_points.txt").write_text(f"[wojak.sources]\n{entry[1].replace(chr(34), '')}\n")
        shutil.copy(TEMPLATE / "wojak_folder.py", self.packages)

    @property
    def port(self) -> int:
        """It has none."""
        raise NotImplementedError

    def start(self) -> None:
        """Bring the place back."""
        if self._away.exists():
            self._away.rename(self.place)

    def stop(self) -> None:
        """Take the place away."""
        self.place.rename(self._away)

    def end(self) -> None:
        """Remove everything."""
        for folder in (self.place, self._away, self.packages):
            shutil.rmtree(folder, ignore_errors=True)

    def peer(self, name: str) -> FolderPeer:
        """Return a new folder."""
        return FolderPeer(self, Path(tempfile.mkdtemp(dir=self.place)))


class FolderPeer(Peer):
    """One folder."""

    kind = "folder"
    names_all = True
    has_headers = False
    keeps_order = False
    lease_ms = 2_000
    bound = 50
    many = 2_000

    def __init__(self, broker: Folders, folder: Path) -> None:
        self._broker = broker
        self._folder = folder
        self._sent = 0
        for part in ("new", "taken", "dead", "made"):
            (folder / part).mkdir()

    def env(self, port: int | None = None) -> Mapping[str, str]:
        """Return where the template is installed."""
        return {"PYTHONPATH": os.pathsep.join([str(ROOT), str(self._broker.packages)])}

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings of a sidecar."""
        return {"folder": str(self._folder), "principal": "bench", "lease_ms": self.lease_ms, "look_ms": 5, **changes}

    def send(self, messages: Sequence[Message]) -> None:
        """Write each file elsewhere, then rename it in."""
        for message in messages:
            self._sent += 1
            suffix = ".cloudevents.json" if message.content_type else ".json"
            name = f"{wall_ns()}-{self._sent:08d}~{message.message_id}{suffix}"
            made = self._folder / "made" / name
            made.write_bytes(message.body)
            made.rename(self._folder / "new" / name)

    def waiting(self) -> int:
        """Count the files."""
        return sum(len(os.listdir(self._folder / part)) for part in ("new", "taken"))

    def taken(self) -> int:
        """Count what a sidecar has taken and not settled."""
        return len(os.listdir(self._folder / "taken"))

    def left(self) -> list[bytes]:
        """Take what is new or was taken: no sidecar runs, so leases mean nothing any more."""
        return [self._out(path) for part in ("new", "taken") for path in sorted((self._folder / part).iterdir())]

    def dead(self) -> list[Dead]:
        """Take the dead letters with their reasons."""
        found = []
        for path in sorted((self._folder / "dead").glob("*.json")):
            reason = path.with_name(path.name + ".reason")
            found.append(Dead(self._out(path), self._out(reason).decode()))
        return found

    def _out(self, path: Path) -> bytes:
        content = path.read_bytes()
        path.unlink()
        return content
