"""A supervised process ends with its supervisor: the kernel sends SIGTERM when the parent dies."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # Source: prctl(2), linux/prctl.h


def end_with(parent_pid: int) -> None:
    """Ask for SIGTERM at the parent's death; end at once if it died before this call."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:
        raise SystemExit(0)
