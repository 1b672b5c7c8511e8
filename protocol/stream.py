"""The event stream in order, whatever was lost: frames as they come in, frames without a gap out. No I/O here.

Rules: a frame is handed on once and only behind the one before it, by number and by chain. Frames ahead of a gap wait
for it to be filled, a bounded number of bytes of them; what does not fit is dropped, the history has it too.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from protocol.errors import RemoteProtocolError
from protocol.frames import FrameHeader, frame_is_whole, read_header

WAITING_BYTES_MAX: Final = 16 << 20


class FrameStream:
    """One reader's place in the stream.

    Args:
        after_seq: The last record already used, the end of a batch; 0 = from the beginning.
        after_crc: The chain there; None = not known, the first frame is taken as it is.

    Attributes:
        seq: The last record handed on.
        crc: The chain there.
        dropped: Frames that did not fit while a gap was open.
    """

    def __init__(self, after_seq: int = 0, after_crc: int | None = None) -> None:
        self.seq = after_seq
        self.crc = 0 if not after_seq else after_crc
        self.dropped = 0
        self._known_seq = after_seq  # the stream surely reaches so far
        self._waiting: deque[tuple[FrameHeader, bytes]] = deque()
        self._waiting_bytes = 0

    @property
    def has_gap(self) -> bool:
        """Whether frames behind ``seq`` are known to be missing: ask the history for them."""
        return self.seq < self._known_seq

    def published(self, frame: bytes) -> list[bytes]:
        """Take one frame of the stream; return those that may be used now, in order.

        Raises:
            RemoteProtocolError: If it is no whole frame, or of another history.
        """
        header = _header_of(frame)
        if header.first_seq + header.records - 1 <= self.seq:
            return []  # the history was faster
        if header.first_seq > self.seq + 1:
            self._known_seq = max(self._known_seq, header.first_seq + header.records - 1)
            if self._waiting_bytes + len(frame) > WAITING_BYTES_MAX:
                self.dropped += 1
            else:
                self._waiting.append((header, frame))
                self._waiting_bytes += len(frame)
            return []
        return [self._use(header, frame), *self._release()]

    def filled(self, frames: list[bytes]) -> list[bytes]:
        """Take what the history answered; return what may be used now, in order.

        Raises:
            RemoteProtocolError: If a frame is not whole, does not go on where the one before ended, or is of
                another history.
        """
        used: list[bytes] = []
        for frame in frames:
            header = _header_of(frame)
            if header.first_seq + header.records - 1 <= self.seq:
                continue  # the stream was faster
            used.append(self._use(header, frame))
        return used + self._release()

    def _use(self, header: FrameHeader, frame: bytes) -> bytes:
        if header.first_seq != self.seq + 1 or (self.crc is not None and header.prev_crc != self.crc):
            chain = "unknown" if self.crc is None else f"{self.crc:08x}"
            raise RemoteProtocolError(
                "the event stream",
                f"record {self.seq + 1} behind chain {chain}",
                f"{header.first_seq} behind {header.prev_crc:08x}",
            )
        self.seq, self.crc = header.first_seq + header.records - 1, header.crc
        return frame

    def _release(self) -> list[bytes]:
        """Return what waited and goes on from here."""
        used: list[bytes] = []
        waiting = self._waiting
        while waiting and waiting[0][0].first_seq <= self.seq + 1:
            header, frame = waiting.popleft()
            self._waiting_bytes -= len(frame)
            if header.first_seq + header.records - 1 > self.seq:
                used.append(self._use(header, frame))
        return used


def _header_of(frame: bytes) -> FrameHeader:
    header = read_header(frame)
    if header is None or not frame_is_whole(frame, header) or not header.records:
        raise RemoteProtocolError("the event stream", "a whole frame", f"{len(frame)} bytes that are none")
    return header
