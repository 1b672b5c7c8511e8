"""Threads of a process share the heaps of the C library."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes, threading
from runtime.heap import HEAPS_MAX, share_heaps
assert share_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
heaps, together = set(), threading.Barrier(8)
def take():
    together.wait()
    heaps.add(libc.malloc(64) >> 26)  # a thread's own heap begins at a multiple of 64 MiB
    together.wait()
threads = [threading.Thread(target=take) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(len(heaps), HEAPS_MAX)
"""


def test_eight_threads_allocate_from_as_many_heaps_as_are_set() -> None:
    """Where each would have its own."""
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    assert int(said[0]) <= int(said[1])
    before = PROGRAM.replace("assert share_heaps()", "")
    said = subprocess.run([sys.executable, "-c", before], capture_output=True, text=True, check=True).stdout.split()
    assert int(said[0]) > int(said[1]), "the test could not fail"
