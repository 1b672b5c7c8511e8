"""The recorded linear session, read once for all tests of this room; and where a feed plays it."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from market import replay
from market.formats import binance
from market.formats.binance import Message
from market.recording import RecordingInfo, info
from market.replay import Recording
from protocol.channels import Context
from tests.unit.market.recorded import BTCUSDT, LINEAR, recorded

LINES = 600


@pytest.fixture(scope="session")
def messages() -> list[Message]:
    """All lines of the linear recording."""
    return list(binance.read(recorded(LINEAR), BTCUSDT))


@pytest.fixture(scope="session")
def linear_info() -> RecordingInfo:
    """The import report of the linear recording."""
    return info(recorded(LINEAR), BTCUSDT)


@pytest.fixture(scope="session")
def recording() -> Recording:
    """The linear recording in exchange order."""
    return replay.load(recorded(LINEAR), BTCUSDT)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="wf") as name:
        yield Path(name)


@pytest.fixture
def context() -> Iterator[Context]:
    """The sockets of one test."""
    context = Context()
    yield context
    context.close()


@pytest.fixture(scope="session")
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 600 lines of the recording: 14 diffs, the snapshot, two seconds."""
    path = tmp_path_factory.mktemp("r") / "short"
    with gzip.open(recorded(LINEAR), "rb") as file:
        path.write_bytes(b"".join(next(file) for _ in range(LINES)))
    return path


@pytest.fixture(scope="session")
def short(short_path: Path) -> Recording:
    """The short recording as it is replayed."""
    return replay.load(short_path, BTCUSDT)
