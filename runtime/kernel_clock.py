"""What the kernel says of its clock: whether something keeps it synchronised, and how far off it may be (adjtimex(2)).

chrony, ntpd and systemd-timesyncd tell the kernel what they know; reading it needs no privilege and no network. Rule:
no answer is not a good answer. Where there is no such call (not Linux), where it is forbidden, or while nobody keeps
the clock, there is no sample.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final

NS_PER_US: Final = 1_000
UNSYNCHRONISED: Final = 0x0040  # STA_UNSYNC
IN_NS: Final = 0x2000  # STA_NANO: the offset is in ns, else in µs
ERROR: Final = 5  # TIME_ERROR: what adjtimex returns for a clock that nobody keeps
_long = ctypes.c_long


class Timex(ctypes.Structure):
    """``struct timex`` of Linux, <sys/timex.h>; ``modes`` 0 = only read."""

    _fields_ = (  # type: ignore[mutable-override]
        ("modes", ctypes.c_uint), ("offset", _long), ("freq", _long), ("maxerror", _long), ("esterror", _long),
        ("status", ctypes.c_int), ("constant", _long), ("precision", _long), ("tolerance", _long), ("seconds", _long),
        ("fraction", _long), ("tick", _long), ("ppsfreq", _long), ("jitter", _long), ("shift", ctypes.c_int),
        ("stabil", _long), ("jitcnt", _long), ("calcnt", _long), ("errcnt", _long), ("stbcnt", _long),
        ("tai", ctypes.c_int), ("reserved", ctypes.c_int * 11),
    )  # fmt: skip


def offset_of(answer: int, said: Timex) -> int | None:
    """Return how far the clock is off, in ns: the larger of the offset still to be slewed and the estimated error.

    None where the kernel says that nobody keeps the clock. ``answer``: what the call returned.
    """
    if answer < 0 or answer == ERROR or said.status & UNSYNCHRONISED:
        return None
    offset_ns: int = said.offset if said.status & IN_NS else said.offset * NS_PER_US
    error_ns: int = said.esterror * NS_PER_US
    return offset_ns if abs(offset_ns) >= error_ns else error_ns


def kernel_offset_ns() -> int | None:
    """Ask the kernel once, some microseconds; None = no sample."""
    if _adjtimex is None:
        return None
    said = Timex()
    return offset_of(_adjtimex(ctypes.byref(said)), said)


def _call() -> Callable[..., int] | None:
    try:
        call = ctypes.CDLL(None, use_errno=True).adjtimex
    except (AttributeError, OSError):
        return None
    call.argtypes = [ctypes.POINTER(Timex)]
    call.restype = ctypes.c_int
    return call


_adjtimex: Final = _call()
