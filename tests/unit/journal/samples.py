"""Records, journals and a disk whose power can be cut, for the tests of the journal and the books."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec

from journal.disk import Disk
from journal.format import JournalSettings
from journal.lock import FolderLock
from journal.recovery import Recovered, recover
from journal.writer import JournalWriter
from protocol.codes import Code, OrderType, OutcomeKind, Side, TimeInForce
from protocol.decisions import CancelDecision, NewDecision
from protocol.orders import CancelOrder, Command, NewOrder
from protocol.records import CancelRequested, Clocked, Ordered, Record
from protocol.session import Facts, Item

SMALL = JournalSettings(segment_bytes=4096, batch_bytes_max=1024, prepare_ahead=False)
E9 = 10**9


def item(command: Command, seq: int = 1) -> Item:
    """Return a command as a sidecar hands it over."""
    return Item(seq, "http-1", 1, 0, "lane", "demo", b"t" * 16, 10**18, msgspec.Raw(msgspec.msgpack.encode(command)))


def ordered(
    name: str,
    *,
    account: str = "demo",
    kind: OutcomeKind = OutcomeKind.ACCEPTED,
    code: Code = Code.OK,
    takes_key: bool = True,
    quantity_e9: int = 10 * E9,
    side: Side = Side.BUY,
    instrument: str = "BTCUSDT",
    strategy: str = "mm",
    facts: Facts | None = None,
) -> Ordered:
    """Return the record of a decided new order."""
    order = NewOrder(account, name, strategy, instrument, side, OrderType.LIMIT, TimeInForce.DAY, quantity_e9, 100 * E9)
    order_id = f"P-{account}-{name}" if takes_key else ""
    decision = NewDecision(kind, code, order_id, 1, 26, takes_key=takes_key, facts=facts)
    return Ordered("http", item(order), None, decision)


def cancel(name: str, *, account: str = "demo") -> CancelRequested:
    """Return the record of a tombstone."""
    return CancelRequested(
        "http", item(CancelOrder(account, name)), CancelDecision(OutcomeKind.ACCEPTED, Code.TOMBSTONE)
    )


class Opened(NamedTuple):
    """An engine's hold of a journal."""

    records: list[tuple[int, int, int, Record]]
    recovered: Recovered
    writer: JournalWriter
    lock: FolderLock

    def close(self) -> None:
        """Let go as a dying process does."""
        self.writer.close()
        self.lock.close()


def open_journal(
    folder: Path,
    settings: JournalSettings = SMALL,
    disk: Disk | None = None,
    wall_ns: Callable[[], int] = lambda: 7,
) -> Opened:
    """Lock, recover and start the next epoch."""
    lock = FolderLock(folder)
    try:
        records: list[tuple[int, int, int, Record]] = []
        recovered = recover(folder, lambda *r: records.append(r), settings, disk=disk)
        writer = JournalWriter(folder, recovered, settings, wall_ns, disk)
    except BaseException:
        lock.close()
        raise
    writer.start(recovered.epoch_max + 1)
    return Opened(records, recovered, writer, lock)


def write_batches(folder: Path, batches: Iterable[Iterable[Record]], settings: JournalSettings = SMALL) -> Recovered:
    """Append the batches to the journal under a new epoch, batch n at now_ns n."""
    opened = open_journal(folder, settings)
    for n, batch in enumerate(batches, start=1):
        for record in batch:
            opened.writer.append(record)
        opened.writer.commit(n)
    opened.close()
    return opened.recovered


def clocked(*numbers: int) -> list[Record]:
    """Return small records that tell each other apart."""
    return [Clocked(n) for n in numbers]


class PowerCutError(BaseException):
    """The machine went dark; BaseException, since no code of a dead machine runs on."""


class PowerDisk(Disk):
    """A disk that forgets what was not synced when the power goes, sector by sector.

    Args:
        random: Which unsynced sectors and names survive.
        cut_at: Number of the operation in which the power goes; 0 = never.
    """

    def __init__(self, random: Random, cut_at: int = 0) -> None:
        self.operations = 0
        self._random = random
        self._cut_at = cut_at
        self._durable: dict[int, bytes] = {}
        self._pending: dict[int, list[tuple[int, bytes]]] = {}
        self._names: dict[Path, dict[str, int]] = {}

    def open(self, path: Path, *, create: bool = False) -> int:
        fd = super().open(path, create=create)
        inode = os.fstat(fd).st_ino
        if create:
            self._durable[inode] = b""
            self._pending[inode] = []
        elif inode not in self._durable:
            self._durable[inode] = path.read_bytes()
            self._pending[inode] = []
        self._names.setdefault(path.parent, self._listing(path.parent) if not create else {})
        return fd

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self._pending[os.fstat(fd).st_ino].append((offset, bytes(data)))
        written = super().pwrite(fd, data, offset)
        self._tick()
        return written

    def fdatasync(self, fd: int) -> None:
        self._tick(before=True)
        stat = os.fstat(fd)
        self._durable[stat.st_ino] = os.pread(fd, stat.st_size, 0)
        self._pending[stat.st_ino].clear()
        self._tick()

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._tick()

    def fsync_folder(self, folder: Path) -> None:
        self._tick(before=True)
        self._names[folder] = self._listing(folder)
        self._tick()

    def cut_power(self) -> None:
        """Leave on disk what a machine would find when it comes back."""
        for folder, durable in self._names.items():
            current = self._listing(folder)
            names = durable if self._random.random() < 0.5 else current
            contents = {name: self._content(inode) for name, inode in names.items()}
            for name in current:
                (folder / name).unlink()
            for name, content in contents.items():
                (folder / name).write_bytes(content)
            if self._random.random() < 0.5:
                (folder / "durable").unlink(missing_ok=True)

    def _tick(self, *, before: bool = False) -> None:
        self.operations += not before
        if self._cut_at and self.operations + before == self._cut_at and (not before or self._random.random() < 0.5):
            raise PowerCutError

    def _listing(self, folder: Path) -> dict[str, int]:
        return {p.name: p.stat().st_ino for p in folder.iterdir() if p.stat().st_ino in self._durable}

    def _content(self, inode: int) -> bytes:
        content = bytearray(self._durable[inode])
        for offset, data in self._pending[inode]:
            for at in range(0, len(data), 512):
                if self._random.random() < 0.5:
                    sector = data[at : at + 512]
                    content.extend(bytes(max(0, offset + at + len(sector) - len(content))))
                    content[offset + at : offset + at + len(sector)] = sector
        return bytes(content)
