"""Gets what peers need, while other tests run already: on a new machine servers are downloaded or built for minutes.

``python -m tests.peers.early`` calls ``prepare()`` of each module of this folder that has one, one after the other.
What a peer's ``prepare()`` gets it keeps in the cache of the peers under a lock, so that a test that needs it waits for
it, and gets it itself if this failed; so nothing here is an error.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def preparations() -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the name of each peer's module that gets something, and its function."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in {"__init__", Path(__file__).stem} and not path.stem.startswith("test_"):
            module = importlib.import_module(f"tests.peers.{path.stem}")
            if hasattr(module, "prepare"):
                yield path.stem, module.prepare


def main() -> None:
    """Prepare all."""
    for name, prepare in preparations():
        try:
            prepare()
        except Exception:  # noqa: BLE001  the test that needs it says it better
            print(f"{name}: not prepared", file=sys.stderr)
            traceback.print_exc()


def start() -> subprocess.Popen[bytes]:
    """Start it as a process of its own."""
    argv = [sys.executable, "-m", "tests.peers.early"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(argv, cwd=ROOT, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)


def stop(process: subprocess.Popen[bytes], within_s: float = 20.0) -> None:
    """End it with what it started.

    By SIGTERM: whatever runs in a shell's background ignores SIGINT, and so does all that it starts.
    """
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    # As Ctrl-C, so that nothing unfinished stays in the cache.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
