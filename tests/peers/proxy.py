"""A small fault proxy: TCP through us, cut, black-holed, or late, as a test says.

It is ours because the tests need three faults and no tool chain for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Final, Self

CHUNK_BYTES: Final = 1 << 16
START_S: Final = 5.0


class Proxy:
    """Forwards connections to an address of this host from a port of its own, in a thread.

    ``port``: for a broker that tells its clients where to connect, and so must know it before; 0 = any.
    """

    def __init__(self, upstream_port: int, port: int = 0) -> None:
        self._upstream_port = upstream_port
        self.port = port
        self.latency_s = 0.0
        self.drops_packets = False  # connections stay, nothing passes: a link that died without a word
        self.refuses = False
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(START_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()

    def cut(self, *, refuse: bool = False) -> None:
        """End every connection with a reset; with ``refuse``, also those to come until ``mend``."""
        self.refuses = refuse
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(START_S)

    def mend(self) -> None:
        """Let everything pass again."""
        self.refuses, self.drops_packets, self.latency_s = False, False, 0.0

    def close(self) -> None:
        """Stop."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S)

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self.refuses:
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            return
        else:
            both = {writer, up_writer}
            self._writers |= both
            try:
                await asyncio.wait(
                    [
                        asyncio.create_task(self._pump(reader, up_writer, writer)),
                        asyncio.create_task(self._pump(up_reader, writer)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                self._writers -= both
                up_writer.transport.abort()
        finally:
            writer.transport.abort()

    def instead(self, data: bytes) -> bytes:
        """Return what is answered to a client instead of passing on what it sent; empty = pass it on."""
        return b""

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter | None = None
    ) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(CHUNK_BYTES):
                while self.drops_packets:  # noqa: ASYNC110  set by another thread, for some seconds of a test
                    await asyncio.sleep(0.02)
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                if back is not None and (answer := self.instead(data)):
                    back.write(answer)
                    continue
                writer.write(data)
                await writer.drain()
