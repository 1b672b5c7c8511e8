"""What ends a benchmark without a figure."""

from __future__ import annotations


class BenchError(Exception):
    """A run gave a wrong result, or a process under load died. No WojakError: it never leaves the benchmarks."""

    def __init__(self, text: str) -> None:
        super().__init__(f"BENCH: {text}")
