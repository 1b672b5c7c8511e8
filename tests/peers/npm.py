"""Servers from npm, kept in the cache of the peers: fetched once as a lock file says, then offline; no script runs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.peers.process import CACHE, PeerMissingError, require_program

FETCH_S: Final = 600
HOW: Final = "install it: apt-get install nodejs npm (.ci/run does)"


def require_node() -> str:
    """Return the path of node."""
    return require_program("node", HOW)


def require_modules(project: Path) -> Path:
    """Return the ``node_modules`` that the lock file of a project names.

    Two tests at a time fetch once: the folder appears whole or not at all, under a name that changes with the lock.
    """
    digest = hashlib.sha256((project / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = CACHE / f"{project.name}-{digest}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _fetch(project, folder)
    return folder / "node_modules"


def _fetch(project: Path, folder: Path) -> None:
    npm = require_program("npm", HOW)
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=CACHE))
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(project / name, made)
        argv = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(argv, cwd=made, capture_output=True, text=True, timeout=FETCH_S, check=False)
        if done.returncode:
            raise PeerMissingError(f"{project.name} expected from npm, which said: {done.stderr[-2000:]}")
        os.rename(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
