"""What every part of the loop works on: one core, one journal, one table of prices."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from engine.core import Core
from engine.meters import Meters
from engine.settings import EngineSettings
from journal.reader import RecordReader
from journal.writer import JournalWriter
from market.table import TableReader
from runtime.metrics import Board


class Parts(NamedTuple):
    """Shared by the sessions of sidecars, gateways and operators.

    Attributes:
        alarm: Tells a person.
        make_room: Syncs the batch under ``now_ns`` if it is so full that the next message might not fit. Nothing leaves
            by that: answers wait for the end of the turn as ever.
        board: What the loop last told of itself.
    """

    settings: EngineSettings
    core: Core
    writer: JournalWriter
    records: RecordReader
    table: TableReader
    meters: Meters
    alarm: Callable[[str], None]
    make_room: Callable[[int], None]
    board: Board
