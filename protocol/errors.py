"""The error tree: its root and what can go wrong on a wire. Leaves of other rooms derive from these.

WojakError
├── ConfigError            every fault of a configuration at once, before anything starts
├── FieldError             one field of an outside message: its name, the value it had, what was expected
├── ProtocolError          a message that breaks the protocol
│   ├── LocalProtocolError     our fault
│   ├── RemoteProtocolError    the peer's fault
│   └── HistoryGoneError       what a reader missed is no longer kept
├── SourceError, VenueError, JournalError, StoreError, MarketError   (leaves in their rooms)
└── FencedError            another instance owns what this one held

Wording: ``CODE: what expected X, was Y (which=…); what to do``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from msgspec import DecodeError

NOT_DECODED: Final = (DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises of bytes that are no message: also of text that is no UTF-8, and of arrays nested too deep."""


class WojakError(Exception):
    """Root of every error that Wojak raises on purpose. ``code`` is stable; tests match it, never the text."""

    code: ClassVar[str] = "WOJAK"


class ConfigError(WojakError):
    """The configuration can't be used. Carries every fault found, one line each.

    ``lines``: where in the file each stands, counted from 1; 0 = not known.
    """

    code = "CONFIG"

    def __init__(self, problems: Sequence[str], path: str = "wojak.toml", lines: Sequence[int] = ()) -> None:
        self.problems = tuple(problems)
        self.path = path
        self.lines = tuple(lines) or (0,) * len(self.problems)
        said = "\n".join(
            f"  - line {line}: {p}" if line else f"  - {p}" for line, p in zip(self.lines, self.problems, strict=True)
        )
        super().__init__(f"{self.code}: {path} can't be used:\n{said}")


class FieldError(WojakError):
    """A field of an outside message has a value that can't be taken."""

    code = "FIELD"

    def __init__(self, field: str, value: str, expected: str) -> None:
        self.field = field
        self.value = value
        self.expected = expected
        super().__init__(f"{self.code}: {field} expected {expected}, was {value!r}")


class ProtocolError(WojakError):
    """A message breaks the protocol."""

    code = "PROTOCOL"


class LocalProtocolError(ProtocolError):
    """We were about to send what the protocol forbids."""

    code = "PROTOCOL_LOCAL"


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol forbids."""

    code = "PROTOCOL_REMOTE"

    def __init__(self, peer: str, expected: str, was: str) -> None:
        self.peer = peer
        self.expected = expected
        self.was = was
        super().__init__(f"{self.code}: {peer} expected {expected}, was {was}; its session is ended")


class HistoryGoneError(ProtocolError):
    """Events that a reader missed are no longer kept."""

    code = "HISTORY_GONE"

    def __init__(self, after_seq: int, oldest_seq: int) -> None:
        self.after_seq = after_seq
        self.oldest_seq = oldest_seq
        super().__init__(
            f"{self.code}: events behind record {after_seq} expected to be kept, the oldest is {oldest_seq}; "
            f"go on behind record {oldest_seq - 1}, and take what was before from the books"
        )


class FencedError(WojakError):
    """Another instance owns what this one held; this one must stop."""

    code = "FENCED"

    def __init__(self, what: str, ours: str, theirs: str) -> None:
        self.what = what
        self.ours = ours
        self.theirs = theirs
        super().__init__(f"{self.code}: {what} expected ours ({ours}), was {theirs}; stop this instance")


class SourceError(WojakError):
    """A message source failed."""

    code = "SOURCE"


class VenueError(WojakError):
    """A venue failed."""

    code = "VENUE"


class JournalError(WojakError):
    """The journal can't be used as it is."""

    code = "JOURNAL"


class StoreError(WojakError):
    """The books' store failed."""

    code = "STORE"


class MarketError(WojakError):
    """Market data can't be used as it is."""

    code = "MARKET"
