"""What can go wrong with market data: the leaves of MarketError.

Rule: each names the thing, the value it had, what was expected and what to do.
"""

from __future__ import annotations

from protocol.errors import MarketError


class TableError(MarketError):
    """The last-value table can't be used as it is."""

    code = "MARKET_TABLE"

    def __init__(self, path: str, expected: str, was: str, remedy: str) -> None:
        self.path = path
        self.expected = expected
        self.was = was
        super().__init__(f"{self.code}: {path} expected {expected}, was {was}; {remedy}")


class FeedError(MarketError):
    """A feed can't be started as it was told."""

    code = "MARKET_FEED"

    def __init__(self, what: str, expected: str, was: str, remedy: str) -> None:
        self.what = what
        self.expected = expected
        self.was = was
        super().__init__(f"{self.code}: {what} expected {expected}, was {was}; {remedy}")


class RecordingError(MarketError):
    """A recording can't be read; ``line`` counts from 1, 0 = the file as a whole."""

    code = "MARKET_RECORDING"

    def __init__(self, path: str, line: int, expected: str, was: str, remedy: str) -> None:
        self.path = path
        self.line = line
        self.expected = expected
        self.was = was
        where = f"{path}:{line}" if line else path
        super().__init__(f"{self.code}: {where} expected {expected}, was {was}; {remedy}")


class InstrumentError(MarketError):
    """A field of an instrument's definition has a value that can't be taken."""

    code = "MARKET_INSTRUMENT"

    def __init__(self, instrument: str, field: str, value: str, expected: str) -> None:
        self.instrument = instrument
        self.field = field
        self.value = value
        self.expected = expected
        super().__init__(f"{self.code}: {instrument}.{field} expected {expected}, was {value!r}; correct its row")


class StepError(MarketError):
    """A price or a quantity is no whole number of the instrument's steps."""

    code = "MARKET_STEP"

    def __init__(self, instrument: str, field: str, value: str, step: str) -> None:
        self.instrument = instrument
        self.field = field
        self.value = value
        self.step = step
        super().__init__(
            f"{self.code}: {instrument} {field} expected a multiple of {step}, was {value}; "
            "correct the value, or the step in the instrument's row"
        )
