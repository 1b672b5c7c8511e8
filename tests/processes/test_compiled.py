"""The compiled build is the same engine: it is made from this checkout, and the tests that decide hold on it too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
BUILD_S: Final = 900  # two minutes of one core, which others of the tests want too
TESTS_S: Final = 600
TESTS: Final = (
    "tests/unit/risk", "tests/unit/engine", "tests/unit/journal", "tests/unit/market", "tests/golden",
    "tests/simulation/test_hand_over_rules.py", "tests/simulation/test_simulation.py",
    *(f"tests/unit/sidecars/test_{name}.py" for name in (
        "batches", "envelopes", "kafka_commits", "loop", "plain", "session", "session_property", "shards", "window",
    )),
)  # fmt: skip


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the compiled distribution, built by the same target as ``make compile``."""
    assert shutil.which("cc"), "no C compiler: expected cc (apt install gcc python3-dev)"
    folder = tmp_path_factory.mktemp("compiled")
    sources = folder / "sources"  # not here: setuptools leaves a build folder beside what it builds
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in tracked.decode().split("\0"):
        if name and (ROOT / name).exists():
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, sources / name)
    built = subprocess.run(
        ["make", "compile", f"BIN={Path(sys.executable).parent}", f"COMPILED={folder / 'installed'}", "SETUP="],
        check=False, cwd=sources, capture_output=True, text=True, timeout=BUILD_S,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
    return folder / "installed"


def environment(compiled: Path) -> dict[str, str]:
    """Return an environment in which the compiled packages come before the sources."""
    return {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": f"{compiled}:{ROOT}"}


def test_the_hot_modules_are_compiled(compiled: Path) -> None:
    """Each module that setup.py names is machine code there, and is what a process imports."""
    names = (
        "engine.orders, engine.sidecars, engine.reports, risk.gate.fused, journal.writer, market.table, market.feed, "
    )
    names += "sidecars.core.session, sidecars.core.plain, sidecars.sources.kafka_records"
    code = f"import {names}; print(all(m.__file__.endswith('.so') for m in ({names})))"
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment(compiled), capture_output=True, text=True, check=True
    )
    assert said.stdout == "True\n"


def test_what_decides_holds_compiled(compiled: Path) -> None:
    """Gate, engine, journal, feed, golden journals, simulation and sidecars pass compiled, all but planted defects."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-o", "pythonpath=", "-m", "not plants", "-p", "no:cacheprovider", *TESTS],
        check=False, cwd=ROOT, env=environment(compiled), capture_output=True, text=True, timeout=TESTS_S,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
