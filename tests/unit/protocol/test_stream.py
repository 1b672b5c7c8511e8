"""The event stream: whatever is lost, repeated or late, what comes out is every frame once and in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import stream as stream_module
from protocol.errors import RemoteProtocolError
from protocol.frames import FRAME, FRAME_MAGIC, LENGTH, FrameHeader, read_header
from protocol.stream import FrameStream
from tests.unit.journal.samples import clocked


def frames_of(sizes: list[int], *, begin: int = 1) -> list[bytes]:
    """Return chained frames with so many records each."""
    from zlib import crc32

    from protocol.records import record_encoder

    made: list[bytes] = []
    seq, prev = begin, 0
    for size in sizes:
        raw = [record_encoder.encode(record) for record in clocked(*range(seq, seq + size))]
        body = b"".join(LENGTH.pack(len(r)) + r for r in raw)
        front = FRAME.pack(FRAME_MAGIC, 0, len(body), size, seq, 1, 0, 1, prev)
        prev = crc32(front[8:] + body)
        made.append(front[:4] + LENGTH.pack(prev) + front[8:] + body)
        seq += size
    return made


def last_of(frame: bytes) -> int:
    """Return the last record's number."""
    header = read_header(frame)
    assert isinstance(header, FrameHeader)
    return header.first_seq + header.records - 1


@given(data=st.data(), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_every_frame_comes_out_once_and_in_order(data: st.DataObject, sizes: list[int]) -> None:
    """Any of them may be lost or repeated on the stream; the history fills what is missing, in pieces of any size."""
    frames = frames_of(sizes)
    reader = FrameStream()
    out: list[bytes] = []
    for frame in frames:
        for _ in range(data.draw(st.integers(0, 2))):
            out += reader.published(frame)
        if reader.has_gap and data.draw(st.booleans()):
            behind = [f for f in frames if last_of(f) > reader.seq and last_of(f) <= last_of(frame)]
            out += reader.filled(behind[: data.draw(st.integers(0, len(behind)))])
    while reader.seq < last_of(frames[-1]):
        behind = [f for f in frames if last_of(f) > reader.seq]
        out += reader.filled(behind[: data.draw(st.integers(1, len(behind)))])
    assert out == frames
    assert not reader.has_gap


def test_what_does_not_fit_while_a_gap_is_open_comes_from_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that is far behind keeps a bounded number of bytes, and still knows that there is more."""
    frames = frames_of([1] * 10)
    monkeypatch.setattr(stream_module, "WAITING_BYTES_MAX", 2 * len(frames[0]))
    reader = FrameStream()
    assert [reader.published(f) for f in frames[1:]] == [[]] * 9
    assert reader.dropped == 7
    assert reader.filled(frames[:1]) == frames[:3]
    assert reader.has_gap
    assert reader.filled(frames[3:]) == frames[3:]
    assert not reader.has_gap


def test_another_history_is_refused() -> None:
    """A frame with the right number behind another chain is not the one that goes on here."""
    reader = FrameStream()
    reader.published(frames_of([2])[0])
    (_, other) = frames_of([3, 1], begin=0)
    with pytest.raises(RemoteProtocolError):
        reader.published(other)


@pytest.mark.parametrize("change", [b"", b"WKB1", b"\0" * 60])
def test_what_is_no_frame_is_refused(change: bytes) -> None:
    """Bytes that are no frame end the reader, they never pass for one."""
    with pytest.raises(RemoteProtocolError):
        FrameStream().published(change)
    frame = bytearray(frames_of([1])[0])
    frame[-1] ^= 1
    with pytest.raises(RemoteProtocolError):
        FrameStream().filled([bytes(frame)])
