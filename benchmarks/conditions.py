"""On what a figure was measured: without it, a figure says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from msgspec import Struct

from benchmarks.stack import ROOT
from risk.gate import fused


class Conditions(Struct, frozen=True):
    """Where and with what a run was made. ``load``: of the machine in the minute before, 1.0 = one busy core."""

    python: str
    is_compiled: bool
    cores: int
    cpu: str
    memory_gib: int
    disk: str
    kernel: str
    commit: str
    load: float

    def __str__(self) -> str:
        python = f"python {self.python}{', hot modules compiled' if self.is_compiled else ''}"
        return (
            f"{python} · {self.cores} cores · {self.cpu} · {self.memory_gib} GiB · {self.disk} · "
            f"linux {self.kernel} · commit {self.commit} · load before {self.load:.2f}"
        )


def conditions(folder: Path) -> Conditions:
    """Return the conditions of runs whose files are in ``folder``."""
    return Conditions(
        python=platform.python_version(),
        is_compiled=not str(fused.__file__).endswith(".py"),
        cores=len(os.sched_getaffinity(0)),
        cpu=_cpu(),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30,
        disk=_disk(folder),
        kernel=platform.release(),
        commit=_commit(),
        load=os.getloadavg()[0],
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _disk(folder: Path) -> str:
    """Return file system and device of the folder; a figure on tmpfs is none, and says so."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text("utf-8").splitlines():
        device, where, kind = line.split()[:3]
        if folder.absolute().is_relative_to(where) and len(where) >= len(best[0]):
            best = (where, f"{kind} on {device}" + (" (memory: syncs cost nothing here)" if kind == "tmpfs" else ""))
    return best[1]


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
