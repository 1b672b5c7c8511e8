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


class Parts(NamedTuple):
    """Shared by the sessions of sidecars, gateways and operators; ``alarm`` tells a person."""

    settings: EngineSettings
    core: Core
    writer: JournalWriter
    records: RecordReader
    table: TableReader
    meters: Meters
    alarm: Callable[[str], None]
