"""Puts the engine into reduce-only while nothing shows that its clock is right (RISK.md A2, TIME_CLOCK_UNSYNCED).

Ages, sessions and rates are all counted on that clock. A sample comes from the kernel once a second, and only where a
limit asks for it; it is an input, so what it says stands in the record that reduces, and recovery needs no clock. A
start counts as a sample. At most one record a minute: an operator who resumes has that long. Good samples need none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engine.parts import Parts
from engine.unsynced import decide_unsynced, unsynced_text
from runtime.kernel_clock import kernel_offset_ns

SAMPLE_NS: Final = 1_000_000_000
SAID_NS: Final = 60_000_000_000


class SyncedClock:
    """Samples the kernel's clock for the loop's housekeeping."""

    def __init__(self, parts: Parts, sample: Callable[[], int | None] = kernel_offset_ns) -> None:
        self._core = parts.core
        self._writer = parts.writer
        self._make_room = parts.make_room
        self._alarm = parts.alarm
        self._sample = sample
        self._offset_ns = 0
        self._sampled_ns = 0  # monotonic, of the newest sample; 0 = not looked yet
        self._due_ns = 0
        self._quiet_until_ns = 0

    def watch(self, now_ns: int, monotonic_ns: int) -> None:
        """Take a sample if one is due and asked for, and reduce. One test where no limit asks."""
        state = self._core.state
        if state.watches.clock is None:
            self._sampled_ns = 0
            return
        if monotonic_ns < self._due_ns:
            return
        self._due_ns = monotonic_ns + SAMPLE_NS
        offset_ns = self._sample()
        if offset_ns is not None:
            self._offset_ns, self._sampled_ns = offset_ns, monotonic_ns
        elif not self._sampled_ns:
            self._offset_ns, self._sampled_ns = 0, monotonic_ns
        record = decide_unsynced(state, self._offset_ns, monotonic_ns - self._sampled_ns)
        if record is None or monotonic_ns < self._quiet_until_ns:
            return
        self._quiet_until_ns = monotonic_ns + SAID_NS
        self._make_room(now_ns)
        seq = self._writer.next_seq
        self._core.apply(seq, now_ns, self._writer.append(record), record)
        self._alarm(f"{unsynced_text(record)}; reduce-only until the clock is right and: wojak resume --global")
