"""The event stream without gaps, for a reader in another process: PUB as it comes, what was missed from the follower.

Rule: frames come out once, in order. What can go wrong on the other side and what happens here:
- slow or gone: the request is sent again after ``ASK_AGAIN_MS``; meanwhile frames wait, a bounded number of bytes;
- silent: with nothing published for ``QUIET_MS`` the history is asked whether the last frames were lost;
- asked below what is kept: ``HistoryGoneError`` says from where it can go on;
- lying: a frame that does not go on where the one before ended ends it (RemoteProtocolError).
"""

from __future__ import annotations

from typing import Final

import msgspec

from protocol.channels import Channel, Context, Dealer, Subscriber, Waiter
from protocol.errors import HistoryGoneError, RemoteProtocolError
from protocol.history import Frames, Gone, Later, Since, answer_decoder, encode_history
from protocol.stream import FrameStream
from runtime.clock import monotonic_ns

EVENTS_HWM: Final = 10_000
HISTORY_HWM: Final = 8
RECEIVE_MAX: Final = 1_000
ASK_AGAIN_MS: Final = 1_000
QUIET_MS: Final = 1_000
NS_PER_MS: Final = 1_000_000


class EventStream:
    """One reader of one engine's events.

    Args:
        context: Whose sockets these are.
        events_endpoint: The engine's PUB socket.
        history_endpoint: The follower's socket.
        after_seq: The last record already used, the end of a batch; 0 = from the beginning.
    """

    def __init__(self, context: Context, events_endpoint: str, history_endpoint: str, after_seq: int = 0) -> None:
        self._published = Subscriber(context, events_endpoint, EVENTS_HWM)
        self._history = Dealer(context, history_endpoint, HISTORY_HWM)
        self._waiter = Waiter(self._published, self._history)
        self._stream = FrameStream(after_seq)
        self._asked_at_ns = 0  # 0 = nothing is asked
        self._ask_at_ns = 0  # not before
        self._heard_ns = 0  # 0: what came before we listened is asked for at once
        self.refilled = 0

    @property
    def seq(self) -> int:
        """The last record handed on."""
        return self._stream.seq

    def add_fd(self, fd: int) -> None:
        """Wake up for this descriptor too."""
        self._waiter.add_fd(fd)

    def add(self, channel: Channel) -> None:
        """Wake up for this channel too; who reads it is the caller."""
        self._waiter.add(channel)

    def poll(self, wait_ms: int) -> list[bytes]:
        """Return the frames that go on behind the last one; wait at most so long for the first.

        Raises:
            HistoryGoneError: If what was missed is no longer kept.
            RemoteProtocolError: If what comes is no event stream, or another history.
        """
        frames = self._take()
        if not frames:
            self._ask()
            self._waiter.wait(max(1, min(wait_ms, ASK_AGAIN_MS)))
            frames = self._take()
        self._ask()
        return frames

    def close(self) -> None:
        """Let go of the sockets."""
        self._published.close()
        self._history.close()

    def _take(self) -> list[bytes]:
        frames: list[bytes] = []
        for frame in self._published.receive(RECEIVE_MAX):
            self._heard_ns = monotonic_ns()
            frames += self._stream.published(frame)
        for body in self._history.receive(HISTORY_HWM):
            frames += self._answered(body)
        return frames

    def _answered(self, body: bytes) -> list[bytes]:
        self._asked_at_ns = 0
        try:
            answer = answer_decoder.decode(body)
        except msgspec.DecodeError as e:
            raise RemoteProtocolError("the event history", "an answer", str(e)) from e
        if isinstance(answer, Gone):
            raise HistoryGoneError(answer.after_seq, answer.oldest_seq)
        if isinstance(answer, Later):
            self._ask_at_ns = monotonic_ns() + answer.retry_after_ms * NS_PER_MS
            return []
        if not isinstance(answer, Frames):
            raise RemoteProtocolError("the event history", "frames", answer.text)
        self._heard_ns = monotonic_ns()
        if answer.frames:
            self.refilled += len(answer.frames)
        elif self._stream.has_gap:  # the follower is not so far yet
            self._ask_at_ns = monotonic_ns() + HISTORY_HWM * NS_PER_MS
        frames = self._stream.filled(answer.frames)
        if self._stream.seq < answer.last_seq:
            self._heard_ns = 0  # there is more: ask on at once
        return frames

    def _ask(self) -> None:
        """Ask for what is missing, one request at a time."""
        now_ns = monotonic_ns()
        if self._asked_at_ns and now_ns - self._asked_at_ns < ASK_AGAIN_MS * NS_PER_MS:
            return
        is_quiet = now_ns - self._heard_ns >= QUIET_MS * NS_PER_MS
        if now_ns >= self._ask_at_ns and (self._stream.has_gap or is_quiet):
            sent = self._history.send(encode_history(Since(self._stream.seq)))
            self._asked_at_ns = now_ns if sent else 0
