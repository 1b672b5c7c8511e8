"""Processes that orders must not wait for say so to the scheduler. Each runs in a process of its own: it is one way."""

from __future__ import annotations

import os
import subprocess
import sys

from runtime.priority import BEHIND_ORDERS


def _said(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_standing_behind_orders_lowers_the_priority() -> None:
    """Nice 10 above what it was, or the 19 that is the end of the scale."""
    before = os.nice(0)
    code = "import os; from runtime.priority import *; stand_behind_orders(); print(os.nice(0))"

    assert _said(code) == str(min(19, before + BEHIND_ORDERS))


def test_running_where_idle_is_the_idle_policy() -> None:
    """The kernel runs it only where nobody else wants to."""
    code = "import os; from runtime.priority import *; run_where_idle(); print(os.sched_getscheduler(0))"

    assert _said(code) == str(os.SCHED_IDLE)
