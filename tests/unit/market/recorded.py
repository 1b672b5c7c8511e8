"""Where the recorded sessions are, and the instruments they were recorded from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from market.instruments import InstrumentRow, to_params
from protocol.params import InstrumentParams

ROOT: Final = Path(__file__).resolve().parents[3]
DATA: Final = Path(os.environ.get("WOJAK_TEST_DATA") or ROOT.parent / "shared" / "data")

LINEAR: Final = "btcusdt_20240808.gz"
INVERSE: Final = "btcusd_perp_20240808.gz"
SPOT: Final = "spot_btcusdt_20240808.gz"

ORIGIN: Final = "github.com/nkaz001/hftbacktest, commit 5f3ec40b2afb764e0fea112f941ed85523ef4e88, MIT"
FILES: Final = {
    LINEAR: ("examples/usdm", "0ad7b3a0f5cff220761ea890cfd6e3c15f6899edc7f94637ec915043d7a72251"),
    INVERSE: ("examples/cm", "795efa5540bfca87d20181df5c444741a8cc31810689c429a4004cbbd0b3a374"),
    SPOT: ("examples/spot", "5d263f4c5379cfc27379ef0e22779aa33804463d1b69c292e9c0714e31f2e1b4"),
}

BTCUSDT: Final[InstrumentParams] = to_params(
    InstrumentRow("BTCUSDT", "SANDBOX", "USDT", price_step="0.1", quantity_step="0.001", quantity_max="1000")
)
BTCUSD_PERP: Final[InstrumentParams] = to_params(
    InstrumentRow(
        "BTCUSD_PERP",
        "SANDBOX",
        "BTC",
        price_step="0.1",
        quantity_step="1",
        quantity_max="100000",
        kind="inverse",
        multiplier="100",
    )
)
# The venue's lot is 0.00001, but its depth stream shows sizes with more decimals (25.426189).
SPOT_BTCUSDT: Final[InstrumentParams] = to_params(
    InstrumentRow(
        "BTCUSDT",
        "SANDBOX",
        "USDT",
        price_step="0.01",
        quantity_step="0.00000001",
        lot="0.00001",
        quantity_max="1000",
        kind="spot",
    )
)


def recorded(name: str) -> Path:
    """Return the path of a recorded session; its absence is a failure, never a skip (DECISIONS 52)."""
    path = DATA / name
    folder, sha256 = FILES[name]
    assert path.is_file(), (
        f"{path} expected the recording {folder}/{name} of {ORIGIN}, sha256 {sha256}, was absent; "
        "put it there, or set WOJAK_TEST_DATA to the folder that has it"
    )
    return path
