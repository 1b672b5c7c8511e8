"""Jars of servers from Maven Central, kept in the cache of the peers: fetched once, then offline."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.peers.process import CACHE, require_program

FETCH_S: Final = 600
HOW: Final = "install it: apt-get install maven default-jre-headless (.ci/run does)"
_POM: Final = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>wojak</groupId><artifactId>peer</artifactId><version>1</version><dependencies>{}</dependencies></project>
"""
_DEPENDENCY: Final = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


def require_java() -> str:
    """Return the path of java."""
    return require_program("java", HOW)


def require_jars(name: str, *coordinates: str) -> Path:
    """Return the folder with the jars of ``group:artifact:version`` and of all they need.

    Two tests at a time fetch once: the folder appears whole or not at all. One Maven runs at a time, whatever it
    fetches: two would write into one local repository.
    """
    folder = CACHE / name
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / "maven.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                _fetch(folder, coordinates)
    return folder


def _fetch(folder: Path, coordinates: tuple[str, ...]) -> None:
    maven = require_program("mvn", HOW)
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        (made / "pom.xml").write_text(_POM.format("".join(_DEPENDENCY.format(*c.split(":")) for c in coordinates)))
        argv = [maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={made / 'lib'}"]
        done = subprocess.run(argv, cwd=made, capture_output=True, text=True, timeout=FETCH_S, check=False)
        assert done.returncode == 0, (
            f"{' '.join(coordinates)} expected from Maven Central, mvn said: {done.stdout[-2000:]}"
        )
        os.rename(made / "lib", folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
