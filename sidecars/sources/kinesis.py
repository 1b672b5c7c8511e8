"""AWS Kinesis as a message source: the shards of a stream, shared by leases in DynamoDB, read in order, checkpointed.

Facts (SOURCES section 8): at least once; the order is the shard's, and a partition key stays in its shard until that
is split or merged: then its children go on when the parent is answered to its end. A record can't be given back, only
read again; what is settled is a number below which all is answered. Reads are polls, five a second and shard, of all
its readers together: orders wait a tenth of a second on the average. An iterator lives five minutes.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import structlog

from protocol.errors import ConfigError
from sidecars.core.crew import Crew
from sidecars.core.lease import NS_PER_MS
from sidecars.core.source import Delivery, Engines, Lag, Settlement, Verb
from sidecars.sources.aws_client import BROKEN, CALL_S, code_of, text_of
from sidecars.sources.kinesis_dead import parked
from sidecars.sources.kinesis_keeper import FAILED, WRITERS, Keeper
from sidecars.sources.kinesis_leases import LeaseTable
from sidecars.sources.kinesis_link import EXPIRED, READ_MAX, Link, Read, is_misconfigured, is_throttled
from sidecars.sources.kinesis_reading import Reading, asked_of
from sidecars.sources.kinesis_records import delivery_of
from sidecars.sources.kinesis_settings import KinesisSettings
from sidecars.sources.sqs_dead import in_calls
from sidecars.sources.sqs_link import DONE
from sidecars.sources.sqs_link import Link as QueueLink

BACKOFF_MS: Final = 100
BACKOFF_MS_MAX: Final = 10_000
BACKOFF_DOUBLINGS_MAX: Final = 7
THROTTLED_MS: Final = 1_000
WINDOW_MAX: Final = 10_000  # answered records of a shard that wait behind one that is not
LETTER_THREADS: Final = 2
# Shards are saved side by side; who waits for one whose row is being written is saved with the next write of it.
SETTLES_AT_ONCE: Final = 32
RETENTION_PART: Final = 2  # of the retention: who is so far behind is about to lose orders
MS_PER_H: Final = 3_600_000
WARN_S: Final = 60


class KinesisSource:
    """The Kinesis source: ``sidecars.core.source.Source``."""

    tells_reserved = False
    tells_account = False
    settles_at_once = SETTLES_AT_ONCE

    def __init__(self, name: str, settings: KinesisSettings) -> None:
        """Read the environment; nothing is called before ``open``.

        Raises:
            ConfigError: If the settings or the environment can't be used.
        """
        if problems := settings.problems():
            raise ConfigError([f"{name}.{p}" for p in problems])
        self.name = name
        self._settings = settings
        self._log = structlog.get_logger().bind(source=name)
        self._jitter = random.SystemRandom()
        self._link = Link(settings.stream, settings.pollers)
        self._letters = QueueLink(1, 30, 1, LETTER_THREADS)
        self._dead_url = ""
        self._arrived = asyncio.Event()
        self._wake: asyncio.TimerHandle | None = None
        self._first = 0  # whose turn it is among the shards
        self._stopped: frozenset[str] = frozenset()
        self._fault = "not connected yet"
        self._failures = 0
        self._warned_ns = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_open = False
        self._keeper = self._new_keeper()
        self.lease_extend_ms = self._keeper.extend_ms

    def _new_keeper(self) -> Keeper:
        table = self._settings.lease_table
        return Keeper(
            self._settings, self._link, f"{socket.gethostname()[:64]}/{secrets.token_hex(8)}", self._log,
            on_changed=self._arrived.set, table_of=lambda reader: LeaseTable(table, reader, WRITERS),
        )  # fmt: skip

    # Session

    async def open(self, flow: Engines) -> None:
        """Find stream, table and queue, take shards; an AWS that can't be reached is waited for.

        Raises:
            ConfigError: If AWS refuses us, or something is not there.
        """
        self._readers = Crew(f"{self.name}-read", self._settings.pollers)
        self._parkers = Crew(f"{self.name}-park", LETTER_THREADS)
        try:
            await self._connect()
        except FAILED as e:
            if is_misconfigured(e) or not isinstance(e, BROKEN):
                raise ConfigError([f"{self.name}: AWS refused ({e}); see: wojak sidecar check {self.name}"]) from e
            self._bad(e)
            self._spawn(self._stay())

    async def close(self) -> None:
        """Save what is answered, release the shards."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._wake is not None:
            self._wake.cancel()
        await self._keeper.close()
        for crew in (self._readers, self._parkers):
            crew.stop()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        async with asyncio.timeout(CALL_S):
            self._dead_url = await self._parkers.run(partial(self._letters.url_of, self._settings.dead_letter_queue))
        await self._keeper.open()
        self._is_open = True
        self._fault = ""
        self._log.info("connected", stream=self._keeper.stream.arn, shards=sorted(self._keeper.readings))

    async def _stay(self) -> None:
        """Try to connect, more and more slowly, until it is done."""
        while not self._is_open:
            self._failures += 1
            await asyncio.sleep(self._wait_ms(self._failures) / 1000)
            try:
                await self._connect()
            except FAILED as e:
                self._bad(e)
        self._arrived.set()

    def _bad(self, error: BaseException) -> None:
        self._fault = text_of(error)
        self._log.warning("not connected", why=self._fault)

    def _wait_ms(self, failures: int) -> int:
        wait_ms = min(BACKOFF_MS << min(max(0, failures - 1), BACKOFF_DOUBLINGS_MAX), BACKOFF_MS_MAX)
        return self._jitter.randint(wait_ms // 2, wait_ms)

    # Receive

    async def receive(self, most: int, most_reserved: int) -> Sequence[Delivery]:
        """Wait for records; nothing is awaited after they have been handed out."""
        while True:
            self._arrived.clear()
            self._start_reads(most)
            if taken := self._take(most):
                return taken
            await self._arrived.wait()

    def _unanswered(self) -> int:
        return sum(r.window.unanswered for r in self._keeper.readings.values())

    def _readable(self) -> list[Reading]:
        """Return the shards that may be read, each with its turn to be the first."""
        found = [
            r
            for r in self._keeper.readings.values()
            if not (r.is_read or r.is_yielding or r.asked or r.buffer or len(r.window) > WINDOW_MAX)
            and r.shard not in self._stopped
        ]
        self._first = (self._first + 1) % len(found) if found else 0
        return found[self._first :] + found[: self._first]

    def _start_reads(self, most: int) -> None:
        """Read where there is room for what comes (R6), no shard more often than it may be."""
        now_ns = time.monotonic_ns()
        readable = self._readable()
        due = [r for r in readable if r.due_ns <= now_ns]
        room = min(most, self._settings.prefetch - self._unanswered()) - asked_of([*self._keeper.readings.values()])
        for left, reading in zip(range(len(due), 0, -1), due, strict=True):
            asked = min(READ_MAX, -(-room // left))
            if asked <= 0:
                break
            room -= asked
            reading.due_ns = now_ns + self._settings.poll_ms * NS_PER_MS
            turn = reading.begin_read(asked)
            read = self._readers.run(partial(self._read, reading.shard, reading.iterator, reading.after, asked))
            read.add_done_callback(partial(self._on_read, reading, turn))
        self._wake_at(min((r.due_ns for r in readable), default=0), now_ns)

    def _wake_at(self, due_ns: int, now_ns: int) -> None:
        """Look again when the next shard may be read."""
        if self._wake is not None:
            self._wake.cancel()
        self._wake = None
        if due_ns > now_ns:
            self._wake = asyncio.get_running_loop().call_later((due_ns - now_ns) / 1e9, self._arrived.set)

    def _read(self, shard: str, iterator: str, after: int, most: int) -> tuple[str, Read | BaseException]:
        """Read, in a thread; return with which iterator, for the next try."""
        try:
            iterator = iterator or self._link.iterator(shard, after)
            return iterator, self._link.read(iterator, most)
        except BROKEN as e:
            return iterator, e

    def _on_read(self, reading: Reading, turn: int, read: asyncio.Future[tuple[str, Read | BaseException]]) -> None:
        reading.end_read()
        self._arrived.set()
        if read.cancelled():
            return
        error = read.exception()
        if error is not None:
            self._log.error("a read failed in an unknown way", why=repr(error))
            self._put_off(reading, error)
            return
        iterator, found = read.result()
        if isinstance(found, BaseException):
            if turn == reading.turn:
                reading.iterator = "" if code_of(found) == EXPIRED else iterator
                self._put_off(reading, found)
        elif reading.take_read(found, turn):
            self._look_behind(reading)

    def _put_off(self, reading: Reading, error: BaseException) -> None:
        """Try again later; an iterator that is too old is not worth a wait."""
        if code_of(error) == EXPIRED:
            self._log.info("iterator expired", shard=reading.shard, after=reading.after)
            return
        if is_throttled(error):
            wait_ms = self._jitter.randint(THROTTLED_MS // 2, THROTTLED_MS * 3 // 2)
        else:
            reading.failures += 1
            reading.iterator = "" if is_misconfigured(error) else reading.iterator
            wait_ms = self._wait_ms(reading.failures)
            if not reading.fault:
                self._log.warning("reading fails", shard=reading.shard, why=text_of(error))
            reading.fault = text_of(error)
        reading.due_ns = time.monotonic_ns() + wait_ms * NS_PER_MS

    def _take(self, most: int) -> list[Delivery]:
        """Hand out what was read, shard by shard."""
        now_ns = time.monotonic_ns()
        taken: list[Delivery] = []
        for reading in self._keeper.readings.values():
            buffer = reading.buffer
            while buffer and len(taken) < most:
                record = buffer.popleft()
                receipt = reading.hand_out(record)
                receipt.delivery = delivery_of(
                    record, receipt, self._keeper.stream, self._settings, reading.shard, now_ns, reading.until_ns
                )
                taken.append(receipt.delivery)
        return taken

    def stop(self, units: frozenset[str]) -> None:
        """Read nothing of these shards until told otherwise; what was read of them and not taken is read again."""
        self._stopped = units
        for shard in units:
            reading = self._keeper.readings.get(shard)
            if reading is not None and (reading.buffer or reading.asked):
                reading.forget_buffer()
        self._arrived.set()

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Renew the leases of the shards they are of; return those for which that failed."""
        readings = {id(d.receipt.window.reading): d.receipt.window.reading for d in deliveries}
        failed = {id(reading) for reading in await self._keeper.save(readings.values())}
        return [d for d in deliveries if id(d.receipt.window.reading) in failed]

    async def pause(self) -> Sequence[Delivery]:
        """Read nothing more; the leases stay. What was read and not handed out is read again."""
        for reading in self._keeper.readings.values():
            reading.forget_buffer()
        return ()

    # Settle

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Park what goes to the dead letters; save how far all is answered; read again what the engine left."""
        done: list[Settlement] = []
        dead: list[Settlement] = []
        again: dict[int, Reading] = {}
        for settlement in settlements:
            receipt = settlement.delivery.receipt
            settlement.is_lost = receipt.window.is_fenced
            if settlement.is_lost:
                continue
            if settlement.verb is Verb.ACCEPT or receipt.is_answered:
                done.append(settlement)
            elif settlement.verb is Verb.DEAD_LETTER:
                dead.append(settlement)
            else:
                again[id(receipt.window)] = receipt.window.reading
        failed = await self._park(dead, done) if dead else []
        touched: dict[int, Reading] = {}
        for settlement in done:
            receipt = settlement.delivery.receipt
            settlement.is_lost = receipt.window.is_fenced
            if not settlement.is_lost:
                receipt.window.answer(receipt)
                touched[id(receipt.window)] = receipt.window.reading
        for reading in again.values():
            if not reading.is_lost:
                reading.read_again()
        self._arrived.set()  # there is room
        return [*failed, *await self._save(touched.values(), done)]

    async def _park(self, dead: Sequence[Settlement], done: list[Settlement]) -> list[Settlement]:
        """Send what people should see; only what SQS has whole is answered then."""
        stream, target = self._keeper.stream, self._settings.dead_letter_queue
        letters = [parked(s, stream, target) for s in dead]
        messages = [(n, message) for n, letter in enumerate(letters) for message in letter]
        calls = in_calls([message for _, message in messages])
        words = await asyncio.gather(*(self._send([messages[n][1] for n in call]) for call in calls))
        bad: dict[int, str] = {}
        for call, said in zip(calls, words, strict=True):
            bad.update({messages[n][0]: word for n, word in zip(call, said, strict=True) if word != DONE})
        for n, settlement in enumerate(dead):
            if n in bad:
                self._log.error("dead letter not sent", why=bad[n], id=settlement.delivery.source_id)
            else:
                done.append(settlement)
        return [dead[n] for n in bad]

    async def _send(self, messages: Sequence[dict[str, Any]]) -> list[str]:
        try:
            async with asyncio.timeout(CALL_S):
                return await self._parkers.run(partial(self._letters.send, self._dead_url, messages))
        except BROKEN as e:
            return [text_of(e)] * len(messages)

    async def _save(self, touched: Iterable[Reading], done: Sequence[Settlement]) -> Sequence[Settlement]:
        """Write checkpoints, not too soon after the last ones; return what is to be tried again."""
        due = [r for r in touched if r.window.is_due]
        if not due:
            return ()
        wait_ns = max(r.saved_ns for r in due) + self._settings.checkpoint_ms * NS_PER_MS - time.monotonic_ns()
        if wait_ns > 0:
            await asyncio.sleep(wait_ns / 1e9)
        failed = {id(reading) for reading in await self._keeper.save(due, only_due=True)}
        again = []
        for settlement in done:
            receipt = settlement.delivery.receipt
            if receipt.offset < receipt.window.committed:
                continue
            settlement.is_lost = receipt.window.is_fenced
            if not settlement.is_lost and id(receipt.window.reading) in failed:
                again.append(settlement)
        return again

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Reply to nobody: a record has no place for an address."""
        return ()

    # Observe

    def lag(self) -> Lag | None:
        """Return how far behind we are; how much waits nobody knows."""
        behind = [r.behind_ms for r in self._keeper.readings.values()]
        return Lag(-1, max(behind) * NS_PER_MS) if behind else None

    def fault(self) -> str:
        """Return why nothing can be read, or saved."""
        faults = dict.fromkeys(r.fault for r in self._keeper.readings.values() if r.fault)
        return self._fault or self._keeper.fault or "; ".join(faults)

    def _look_behind(self, reading: Reading) -> None:
        """Warn who is about to lose orders: what is older than the stream's retention is gone."""
        now_ns = time.monotonic_ns()
        limit_ms = self._keeper.stream.retention_h * MS_PER_H // RETENTION_PART
        if reading.behind_ms > limit_ms and now_ns - self._warned_ns > WARN_S * 1_000_000_000:
            self._warned_ns = now_ns
            hours = reading.behind_ms // MS_PER_H
            self._log.error("orders are about to be lost unread", shard=reading.shard, behind_h=hours)
