"""Go programs of the tests, built once into the cache of the peers: modules come pinned by go.sum from the proxy."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Final

from tests.peers.process import CACHE, require_program

BUILD_S: Final = 900
HOW: Final = "install Go 1.26 or newer (.ci/run says from where)"


def require_built(source: Path) -> Path:
    """Return the program built from a folder of ours with main.go, go.mod and go.sum.

    Two tests at a time build once: the program appears whole or not at all, under a name made of what it is built from.
    """
    digest = sha256(b"".join((source / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))).hexdigest()
    program = CACHE / f"{source.name}-{digest[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{source.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(source, program)
    return program


def _build(source: Path, program: Path) -> None:
    go = require_program("go", HOW, "/usr/local/go/bin/go")
    made = Path(tempfile.mkdtemp(prefix=f"{program.name}-", dir=program.parent))
    try:
        # No module of ours is a dependency, and the go.mod of none is looked for above.
        env = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
        argv = [go, "build", "-o", str(made / "program"), "."]
        done = subprocess.run(argv, cwd=source, env=env, capture_output=True, text=True, timeout=BUILD_S, check=False)
        assert done.returncode == 0, f"{source.name} expected to build, go said: {done.stderr[-2000:]}"
        os.rename(made / "program", program)
    finally:
        shutil.rmtree(made, ignore_errors=True)
