"""Keeps the leases of the shards that this process reads: takes, renews, saves, gives away, ends.

Rules: what a shard's row says was written by us on the condition that nobody else had; a lease is given up a margin
before others may take it, also when DynamoDB is silent; a shard that another one has asked for is let go only when
nothing of it is unanswered, or after the time of a lease; SHARD_END is written only when all is answered, and then the
children begin.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from random import SystemRandom
from typing import Any, Final, TypeVar

from structlog.stdlib import BoundLogger

from sidecars.core.crew import Crew
from sidecars.core.lease import NS_PER_MS
from sidecars.sources.aws_client import BROKEN, CALL_S, text_of
from sidecars.sources.kinesis_leases import NOBODY, SHARD_END, Lease, LeaseLostError, LeaseRowError, LeaseTable
from sidecars.sources.kinesis_link import Link, Shard, Stream
from sidecars.sources.kinesis_plan import Watch, forgotten, startable, wishes
from sidecars.sources.kinesis_reading import Reading
from sidecars.sources.kinesis_settings import KinesisSettings

T = TypeVar("T")
WRITERS: Final = 4
LOOKS_A_LEASE: Final = 5  # looks at all rows in the time of a lease
BEATS_A_LEASE: Final = 20
MARGIN_NS_MAX: Final = 2_000_000_000  # R7: given up so long before others may take it, of a short lease a fifth
MARGIN_PART: Final = 5
CLOSE_S: Final = 1.0
FAILED: Final = (*BROKEN, LeaseRowError)


class Keeper:
    """See the module."""

    def __init__(
        self,
        settings: KinesisSettings,
        link: Link,
        me: str,
        log: BoundLogger,
        *,
        on_changed: Callable[[], None],
        table_of: Callable[[str], LeaseTable],
    ) -> None:
        """Hold nothing yet.

        ``table_of`` returns the rows of one life of the stream; ``on_changed`` is told when shards come and go.
        """
        self._settings = settings
        self._link = link
        self._me = me
        self._log = log
        self._on_changed = on_changed
        self._table_of = table_of
        self._crew = Crew("kinesis-leases", WRITERS)
        lease_ns = settings.lease_ms * NS_PER_MS
        self._lease_ns = lease_ns - min(MARGIN_NS_MAX, lease_ns // MARGIN_PART)
        self._shuffle = SystemRandom().shuffle
        self._watch = Watch(settings.lease_ms)
        self._listed: dict[str, Shard] = {}
        self._list_due_ns = 0
        self._kick = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._table: LeaseTable
        self.stream: Stream
        self.readings: dict[str, Reading] = {}
        self._fault = self._broken = ""
        self.extend_ms = self._lease_ns // NS_PER_MS

    # Life

    async def open(self) -> None:
        """Find stream and table, and look once.

        Raises:
            ClientError, BotoCoreError, OSError, TimeoutError: As AWS or the network says.
            LeaseRowError: The table is somebody else's.
        """
        await self._find(await self._call(self._link.describe))
        await self._look()
        for work in (self._look_on(), self._beat()):
            self._spawn(work)

    async def close(self) -> None:
        """Save what is answered and let others have the shards at once."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*(self._release(r) for r in self.readings.values()))
        except TimeoutError:
            self._log.warning("leases not released, others wait until they are over")
        self._crew.stop()

    @property
    def fault(self) -> str:
        """Why leases can't be kept now; empty while they can."""
        return self._broken or self._fault

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("leases failed in an unknown way", why=repr(error))
            self._broken = f"leases failed in an unknown way: {error!r}"

    async def _call(self, call: Callable[[], T]) -> T:
        async with asyncio.timeout(CALL_S):
            return await self._crew.run(call)

    def _bad(self, error: BaseException) -> None:
        if not self._fault:
            self._log.warning("leases fail", why=text_of(error))
        self._fault = text_of(error)

    # The rows of all

    async def _look_on(self) -> None:
        """Look again and again, at once when a shard has ended."""
        wait_s = self._settings.lease_ms / LOOKS_A_LEASE / 1000
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    await self._kick.wait()
            except TimeoutError:
                pass
            self._kick.clear()
            try:
                await self._look()
                self._fault = ""
            except FAILED as e:
                self._bad(e)

    async def _look(self) -> None:
        """See who has what, and do what is to be done about it."""
        await self._list()
        began_ns = time.monotonic_ns()
        rows = await self._call(self._table.rows)
        missing = [shard for shard in self._listed.values() if shard.id not in rows]
        if missing:
            await asyncio.gather(*(self._call(partial(self._table.create, s.id, s.parents)) for s in missing))
            rows = await self._call(self._table.rows)
        over = {shard for shard, row in rows.items() if self._watch.is_over(row, began_ns)}
        self._watch.note(rows.values(), time.monotonic_ns())
        self._compare(rows, began_ns)
        may = startable(rows, self._listed.keys())
        self._shuffle(may)
        take, ask = wishes(may, self._me, self.readings.keys(), over)
        await asyncio.gather(
            *(self._take(row) for row in take),
            *(self._call(partial(self._table.want, row, self._me)) for row in ask),
            *(self._call(partial(self._table.delete, row)) for row in forgotten(rows, self._listed.keys())),
        )

    async def _list(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._list_due_ns:
            return
        stream = await self._call(self._link.describe)
        if stream != self.stream:
            self._log.error("the stream was made anew", was=self.stream, now=stream)
            for reading in list(self.readings.values()):
                self._lose(reading, "the stream was made anew")
            await self._find(stream)
        self._listed = await self._call(self._link.shards)
        self._list_due_ns = now_ns + self._settings.discover_ms * NS_PER_MS

    async def _find(self, stream: Stream) -> None:
        self.stream = stream
        self._listed, self._list_due_ns = {}, 0
        self._table = self._table_of(f"{self._settings.group}/{stream.arn}/{stream.created_s}")

    def _compare(self, rows: dict[str, Lease], began_ns: int) -> None:
        """Notice what others did to our shards."""
        for reading in list(self.readings.values()):
            row = rows.get(reading.shard)
            if reading.taken_ns >= began_ns:
                continue
            if reading.shard not in self._listed:
                self._log.error("shard gone, with what was unread", shard=reading.shard, after=reading.checkpoint)
                self._spawn(self._finish(reading))
            elif row is None or (row.owner, row.epoch) != (self._me, reading.lease.epoch):
                if not reading.writing.locked():  # else it is being let go, or was since
                    self._lose(reading, f"held by {row.owner if row else 'nobody'} now")
            elif row.wanted_by not in {NOBODY, self._me}:
                self._yield(reading)

    async def _take(self, row: Lease) -> None:
        began_ns = time.monotonic_ns()
        taken = await self._call(partial(self._table.take, row, self._me, self._settings.lease_ms))
        if taken is None or row.shard in self.readings:
            return
        reading = Reading(taken, began_ns)
        reading.extend(taken, began_ns, began_ns + self._lease_ns, reading.window.committed)
        self.readings[taken.shard] = reading
        self._log.info("shard taken", shard=taken.shard, epoch=taken.epoch, after=taken.checkpoint or "the oldest")
        self._on_changed()

    # Our rows

    async def _beat(self) -> None:
        """See to each shard that we hold, some times in the time of a lease."""
        lease_s = self._settings.lease_ms / 1000
        while True:
            await asyncio.sleep(lease_s / BEATS_A_LEASE)
            now_ns = time.monotonic_ns()
            for reading in list(self.readings.values()):
                self._see_to(reading, now_ns)

    def _see_to(self, reading: Reading, now_ns: int) -> None:
        if now_ns >= reading.until_ns:
            self._lose(reading, "its lease could not be renewed in time")
        elif reading.writing.locked():
            return
        elif reading.is_done:
            self._spawn(self._finish(reading))
        elif reading.is_yielding and self._may_go(reading, now_ns):
            self._spawn(self._release(reading))
        elif now_ns - reading.renewed_ns >= self._settings.lease_ms * NS_PER_MS // 2:
            self._spawn(self.save([reading]))

    def _may_go(self, reading: Reading, now_ns: int) -> bool:
        waited_ns = now_ns - reading.yielding_since_ns
        return not len(reading.window) or waited_ns >= self._settings.lease_ms * NS_PER_MS

    def _yield(self, reading: Reading) -> None:
        if not reading.is_yielding:
            reading.is_yielding, reading.yielding_since_ns = True, time.monotonic_ns()
            reading.forget_buffer()
            self._log.info("shard asked for", shard=reading.shard, unanswered=reading.window.unanswered)

    async def save(self, readings: Iterable[Reading], *, only_due: bool = False) -> Sequence[Reading]:
        """Write how far each is answered, which renews its lease; return those that failed.

        Args:
            readings: Shards.
            only_due: Write nothing where another call, that was waited for, has written all there is.
        """
        kept = [reading for reading in readings if not reading.is_lost]
        done = await asyncio.gather(*(self._renew(reading, only_due) for reading in kept))
        return [reading for reading, is_done in zip(kept, done, strict=True) if not is_done]

    async def _renew(self, reading: Reading, only_due: bool) -> bool:
        failed_writes = reading.failed_writes
        async with reading.writing:
            if reading.is_lost or (only_due and not reading.window.is_due):
                return True
            if reading.failed_writes != failed_writes:
                return False  # who waited tries again later, not all of them now
            began_ns = time.monotonic_ns()
            saved, checkpoint = reading.window.watermark, reading.checkpoint
            try:
                lease = await self._call(partial(self._table.renew, reading.lease, checkpoint))
            except LeaseLostError as e:
                self._lose(reading, str(e))
                return True
            except FAILED as e:
                self._bad(e)
                reading.failed_writes += 1
                return False
            if time.monotonic_ns() >= reading.until_ns:  # given up delivery by delivery meanwhile
                self._lose(reading, "its lease could not be renewed in time")
                return True
            reading.saved_ns = time.monotonic_ns()
            reading.extend(lease, began_ns, began_ns + self._lease_ns, saved)
            if lease.wanted_by not in {NOBODY, self._me}:
                self._yield(reading)
            return True

    async def _finish(self, reading: Reading) -> None:
        """Say that a shard is at its end for ever, and begin with its children."""
        if await self._let_go(reading, is_end=True):
            self._log.info("shard ended", shard=reading.shard)
            self._list_due_ns = 0
            self._kick.set()

    async def _release(self, reading: Reading) -> None:
        if await self._let_go(reading):
            self._log.info("shard released", shard=reading.shard, after=reading.checkpoint or "the oldest")

    async def _let_go(self, reading: Reading, *, is_end: bool = False) -> bool:
        async with reading.writing:
            if reading.is_lost:
                return False
            saved, checkpoint = reading.window.watermark, SHARD_END if is_end else reading.checkpoint
            reading.window.fence()  # what is unanswered comes again to whoever has the shard next
            try:
                await self._call(partial(self._table.release, reading.lease, checkpoint))
            except LeaseLostError as e:
                self._lose(reading, str(e))
                return False
            except FAILED as e:
                self._bad(e)
                self._lose(reading, text_of(e))  # it may have gone through
                return False
            reading.window.committed = max(reading.window.committed, saved)  # who waits to save it has nothing left
            self._lose(reading, "")
            return True

    def _lose(self, reading: Reading, why: str) -> None:
        if reading.is_lost:
            return
        if why:
            self._log.warning("shard lost", shard=reading.shard, why=why, unanswered=reading.window.unanswered)
        reading.lose()
        self.readings.pop(reading.shard, None)
        self._on_changed()
