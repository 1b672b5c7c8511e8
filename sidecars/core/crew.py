"""Threads of a blocking client, one crew a role, so that a slow poll never delays a settle or an extension.

Rules: a crew has a fixed number of threads, and what waits for one is bounded by whoever hands it over. They are
daemons: a call that hangs, or a poll that waits, does not keep a process that has drained. Cancelling who waits does
not stop the call: a source sees to what a call still brings.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T")


class _Job(NamedTuple):
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    call: Callable[[], Any]


class Crew:
    """Some threads that make calls and hand the results to the loop that asked."""

    def __init__(self, role: str, threads: int) -> None:
        self._jobs: Final[SimpleQueue[_Job | None]] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{role}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Make a call in the next free thread; the future has its result, or what it raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(loop, future, call))
        return future

    def stop(self) -> None:
        """End each thread when it is free; does not wait for them."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.future.cancelled():
                continue
            result, error = None, None
            try:
                result = job.call()
            except Exception as e:  # noqa: BLE001  whatever it is belongs to who asked
                error = e
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                job.loop.call_soon_threadsafe(_deliver, job.future, result, error)
            del job, result, error


def _deliver(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
