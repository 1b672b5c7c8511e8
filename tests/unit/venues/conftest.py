"""The stage on which a gateway meets an engine played by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.venues.stage import Stage


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage on a folder whose path is short enough for sockets."""
    stage = Stage(tmp_path_factory.mktemp("g"))
    yield stage
    stage.close()
