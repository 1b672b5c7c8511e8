"""The recorded linear session, read once for all tests of this room."""

from __future__ import annotations

import pytest

from market import replay
from market.formats import binance
from market.formats.binance import Message
from market.recording import RecordingInfo, info
from market.replay import Recording
from tests.unit.market.recorded import BTCUSDT, LINEAR, recorded


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
