"""Several processes run the tests as one would: the longest files first, each file in one of them, nothing skipped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import schedule
from tests.tidy_rules import ROOT

SECONDS = {"tests/peers/test_a.py": 200, "tests/peers/test_b.py": 30, "tests/unit/test_c.py": 40, "tests/test_d.py": 9}


def run(folder: Path, files: dict[str, str], *options: str, ci: str = "") -> subprocess.CompletedProcess[str]:
    """Run tests of another folder with this project's conftest."""
    folder.mkdir(exist_ok=True)
    (folder / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text("utf-8"), "utf-8")
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CI": ci}
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"),
            "--rootdir", str(folder), *options, str(folder)]  # fmt: skip
    return subprocess.run(argv, check=False, cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def test_the_longest_file_starts_first() -> None:
    """Files start in falling order of what they took."""
    assert schedule.starts(reversed(SECONDS), SECONDS) == [
        "tests/peers/test_a.py", "tests/unit/test_c.py", "tests/peers/test_b.py", "tests/test_d.py",
    ]  # fmt: skip


def test_a_file_without_a_record_counts_as_the_longest_of_its_folder() -> None:
    """The suite of a new broker starts with those of the others, a new unit test with the longest of its room."""
    files = [*SECONDS, "tests/peers/test_new.py", "tests/unit/test_new.py", "tests/other/test_new.py"]
    assert schedule.starts(files, SECONDS) == [
        "tests/peers/test_a.py", "tests/peers/test_new.py", "tests/unit/test_c.py", "tests/unit/test_new.py",
        "tests/peers/test_b.py", "tests/test_d.py", "tests/other/test_new.py",
    ]  # fmt: skip


def test_each_file_is_one_processs_and_all_of_them_work(tmp_path: Path) -> None:
    """Two processes share the files, in the order of the schedule, none of them in pieces."""
    test = "import os, pytest\n@pytest.mark.parametrize('n', range({}))\ndef test_x(n): print(os.getpid())\n"
    files = {f"test_{name}.py": test.format(count) for name, count in zip("abcd", (3, 3, 6, 9), strict=True)}
    done = run(tmp_path, files, "-n", "2", "--dist", "loadfile", "-vv")
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.findall(r"^\[(gw\d)\] .*PASSED (test_\w)\.py::", done.stdout, re.MULTILINE)

    assert len(ran) == 21
    assert len({worker for worker, _ in ran}) == 2
    assert len(set(ran)) == 4, "a file ran in two processes"
    assert {file for _, file in ran[:2]} <= {"test_a", "test_b"}, "equal files start by name, not by their size"


def test_what_files_took_can_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record has what ran, keeps what did not, and lets go of what is not there any more."""
    monkeypatch.setattr(schedule, "SECONDS", tmp_path / "tests" / "seconds.json")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_b.py").touch()
    schedule.SECONDS.write_text('{"tests/test_a.py": 5, "tests/test_b.py": 6, "tests/test_gone.py": 7}')
    text = schedule.record({"tests/test_a.py": 9.6})

    schedule.SECONDS.write_text(text)
    assert schedule.recorded() == {"tests/test_a.py": 10, "tests/test_b.py": 6}


SKIPPED_TESTS = {
    "test_by_itself.py": "import pytest\ndef test_x(): pytest.skip('no time')\n",
    "test_by_a_mark.py": "import pytest\n@pytest.mark.skip('no time')\ndef test_x(): ...\n",
    "test_by_a_fixture.py": "import pytest\n@pytest.fixture\ndef f(): pytest.skip('no time')\ndef test_x(f): ...\n",
}
SKIPPED_MODULES = {
    "test_whole.py": "import pytest\npytest.skip('no time', allow_module_level=True)\n",
    "test_without.py": "import pytest\npytest.importorskip('absent', reason='no time')\ndef test_x(): ...\n",
}


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("files", [SKIPPED_TESTS, SKIPPED_MODULES], ids=["tests", "modules"])
def test_a_skip_is_an_error_in_ci(files: dict[str, str], workers: str, tmp_path: Path) -> None:
    """Whatever skips and however many processes run, in CI each of them fails and says why it was skipped."""
    done = run(tmp_path, files, "-n", workers, "--dist", "loadfile", ci="1")
    assert done.returncode in {1, 2}, done.stdout + done.stderr
    for name in files:
        assert re.search(rf"{name}\S*: expected to run, was skipped \(.*no time\)", done.stdout), done.stdout


def test_a_person_may_skip(tmp_path: Path) -> None:
    """Outside of CI a skip is a skip, and an expected failure is one everywhere."""
    expected = {"test_fails.py": "import pytest\n@pytest.mark.xfail\ndef test_x(): raise AssertionError\n"}
    skipping = run(tmp_path / "one", {**SKIPPED_TESTS, **SKIPPED_MODULES})
    assert skipping.returncode == 0, skipping.stdout
    assert "5 skipped" in skipping.stdout
    assert "1 xfailed" in run(tmp_path / "two", expected, ci="1").stdout
