"""Named places where a test kills the process with SIGKILL, as a power cut or the kernel would.

Armed by the environment only: ``WOJAK_FAIL_POINT=<name>:<hit>[:<times>]`` kills at hit number ``hit`` of that
place, in at most ``times`` lives of the process (default 1); every kill appends a line to the file named by
``WOJAK_FAIL_LOG``, which is also how a restarted process knows how often it has died. Unarmed, a hit costs one call.
"""

from __future__ import annotations

import os
import signal
from typing import Final

ENV_POINT: Final = "WOJAK_FAIL_POINT"
ENV_LOG: Final = "WOJAK_FAIL_LOG"

# Every name that exists; a misspelt one must not pass as "survived".
POINTS: Final = frozenset(
    {
        "engine.after_receive",
        "engine.after_decide",
        "engine.after_write",
        "engine.after_sync",
        "engine.after_venue_send",
        "engine.after_outcome",
        "engine.after_report",
        "sidecar.after_receive",
        "sidecar.after_submit",
        "sidecar.after_outcome",
        "sidecar.before_settle",
        "sidecar.after_settle",
        "gateway.after_receive",
        "gateway.after_sync",
        "gateway.before_report",
        "gateway.after_report",
        "books.after_read",
        "books.before_commit",
        "books.after_commit",
        "follower.after_step",
        "follower.in_snapshot",
        "follower.after_snapshot",
        "feed.after_publish",
        "feed.mid_write",
    }
)


class _Armed:
    """One armed place of this process."""

    def __init__(self, spec: str, log_path: str) -> None:
        name, _, rest = spec.partition(":")
        hit_text, _, times_text = rest.partition(":")
        if name not in POINTS or not hit_text.isdigit():
            raise ValueError(
                f"{ENV_POINT} expected <name>:<hit>[:<times>] with a name of {sorted(POINTS)}, was {spec!r}"
            )
        self.name = name
        self.hits_left = int(hit_text)
        self.log_path = log_path
        if log_path and _lines(log_path, name) >= int(times_text or 1):
            self.hits_left = 0

    def hit(self) -> None:
        if self.hits_left == 0:
            return
        self.hits_left -= 1
        if self.hits_left:
            return
        if self.log_path:
            with open(self.log_path, "a", encoding="ascii") as log:
                log.write(f"{self.name} {os.getpid()}\n")
        os.kill(os.getpid(), signal.SIGKILL)


def _lines(path: str, name: str) -> int:
    try:
        with open(path, encoding="ascii") as log:
            return sum(line.startswith(f"{name} ") for line in log)
    except FileNotFoundError:
        return 0


_armed: _Armed | None = (
    _Armed(os.environ[ENV_POINT], os.environ.get(ENV_LOG, "")) if os.environ.get(ENV_POINT) else None
)


def hit(name: str) -> None:
    """Die here if this place is armed and its turn has come."""
    if _armed is not None and _armed.name == name:
        _armed.hit()
