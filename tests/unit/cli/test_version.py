"""``wojak --version`` says the release that was installed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from cli.main import app

ROOT = Path(__file__).resolve().parents[3]


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    """It was 0.0.0 once, because the command's package is not called as the distribution is."""
    app.version_print()
    release = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert capsys.readouterr().out.strip() == release
