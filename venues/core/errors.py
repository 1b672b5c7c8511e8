"""What can go wrong at a gateway: the leaves of VenueError."""

from __future__ import annotations

from protocol.errors import VenueError


class LogDamagedError(VenueError):
    """The gateway's log holds bytes that no crash explains. The start stops; nothing is cut."""

    code = "VENUE_LOG_DAMAGED"

    def __init__(self, path: str, offset: int, expected: str, was: str) -> None:
        self.path = path
        self.offset = offset
        self.expected = expected
        self.was = was
        super().__init__(
            f"{self.code}: {path} at offset {offset} expected {expected}, was {was}; "
            "restore the file from a copy, or move the folder away and resolve its open orders by hand"
        )


class LogBehindError(VenueError):
    """The engine holds reports that this log does not: it is not the log they came from, or its end is lost."""

    code = "VENUE_LOG_BEHIND"

    def __init__(self, path: str, engine_seq: int, log_seq: int) -> None:
        self.path = path
        self.engine_seq = engine_seq
        self.log_seq = log_seq
        super().__init__(
            f"{self.code}: {path} expected reports up to at least {engine_seq} (durable at the engine), "
            f"was {log_seq}; restore the gateway's own folder"
        )


class LogInUseError(VenueError):
    """Another gateway holds the folder."""

    code = "VENUE_LOG_IN_USE"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"{self.code}: {path} expected no other gateway on it, was locked; stop that one or choose another folder"
        )


class LogInstrumentError(VenueError):
    """An open order of the log names an instrument that the configuration no longer has."""

    code = "VENUE_LOG_INSTRUMENT"

    def __init__(self, order_id: str, instrument: str) -> None:
        self.order_id = order_id
        self.instrument = instrument
        super().__init__(
            f"{self.code}: order {order_id} expected its instrument {instrument} in the configuration, was absent; "
            "put it back until the order is closed"
        )
