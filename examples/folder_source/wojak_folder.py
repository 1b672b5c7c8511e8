"""A folder as a message source: the template of docs/writing-a-source.md, small, whole, and held to the suite.

Facts: a producer writes a file elsewhere and renames it into ``new/``; its name is
``<published ns>-<anything>~<id>.json`` (``.cloudevents.json`` for a CloudEvent). Taking a file is renaming it into
``taken/`` under our own name, which one of several wins; the lease is the file's modification time, which lies ahead;
when it is over anybody may rename it back. Consumers compete, so there is no order across a crash. File systems tell
nobody of a new file in a way that works everywhere, network folders included, so the folder is looked at.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.errors import ConfigError
from sidecars.core.batches import reason_of
from sidecars.core.identity import derive_id, trace_of
from sidecars.core.kinds import Finding, Level, SourceKind
from sidecars.core.lease import NS_PER_MS
from sidecars.core.metrics import Metrics
from sidecars.core.source import Delivery, Engines, Lag, Settlement, Verb, Why

FOLDERS: Final = ("new", "taken", "dead")
MARGIN: Final = 4  # what is left of a lease when we hold it over: a quarter
_NAME: Final = re.compile(r"(?P<published_ns>\d{1,19})-[^~]*~(?P<id>.+?)(?P<event>\.cloudevents)?\.json")


class FolderSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one folder.

    Attributes:
        folder: It has the folders new, taken and dead.
        principal: Who its orders speak for.
        lease_ms: For how long a file is ours; extended while the engine thinks.
        look_ms: How often the folder is looked at.
    """

    folder: Annotated[str, Meta(min_length=1)]
    principal: Annotated[str, Meta(min_length=1, max_length=64)]
    lease_ms: Annotated[int, Meta(ge=500)] = 30_000
    look_ms: Annotated[int, Meta(ge=1)] = 50


class FolderSource:
    """The folder source."""

    tells_reserved = False
    tells_account = False

    def __init__(self, name: str, settings: FolderSettings) -> None:
        self.name = name
        self.lease_extend_ms = settings.lease_ms
        self._settings = settings
        self._folder = Path(settings.folder)
        self._owner = secrets.token_hex(8)
        self._fault = ""
        self._lag: Lag | None = None

    # Session

    async def open(self, flow: Engines) -> None:
        """See that the folders are there.

        Raises:
            ConfigError: If one is not.
        """
        missing = [name for name in FOLDERS if not (self._folder / name).is_dir()]
        if missing:
            raise ConfigError([f"{self.name}: folder {self._folder} expected {', '.join(missing)} in it; make them"])

    async def close(self) -> None:
        """Nothing is open; what was taken comes back when its lease is over."""

    # Receive

    async def receive(self, most: int, most_reserved: int) -> Sequence[Delivery]:
        """Look until something is there."""
        while True:
            try:
                found = self._take(most)
                self._fault = ""
            except OSError as e:
                found, self._fault = [], str(e)
            if found:
                return found
            await asyncio.sleep(self._settings.look_ms / 1000)

    def _take(self, most: int) -> list[Delivery]:
        self._free_expired()
        names = sorted(os.listdir(self._folder / "new"))
        self._lag = Lag(len(names), -1)
        taken = []
        for name in names[:most]:
            try:
                path = self._folder / "taken" / f"{name}@{self._owner}"
                (self._folder / "new" / name).rename(path)  # one of several wins
                self._lease(path)
                taken.append(self._delivery(name, path, path.read_bytes()))
            except FileNotFoundError:
                continue
        return taken

    def _free_expired(self) -> None:
        now = time.time_ns()
        for entry in os.scandir(self._folder / "taken"):
            try:
                if entry.stat().st_mtime_ns < now:
                    Path(entry.path).rename(self._folder / "new" / entry.name.rpartition("@")[0])
            except FileNotFoundError:
                continue  # another was first

    def _lease(self, path: Path) -> None:
        until_ns = time.time_ns() + self._settings.lease_ms * NS_PER_MS
        os.utime(path, ns=(until_ns, until_ns))

    def stop(self, units: frozenset[str]) -> None:
        """Stop nothing: the loop asks for nothing while the whole is stopped."""

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Set the files' times anew; a file that is gone was taken by another."""
        failed = []
        for delivery in deliveries:
            try:
                self._lease(delivery.receipt)
                delivery.lease_until_mono_ns = self._lease_until_ns()
            except OSError:
                failed.append(delivery)
        return failed

    def _lease_until_ns(self) -> int:
        lease_ns = self._settings.lease_ms * NS_PER_MS
        return time.monotonic_ns() + lease_ns - lease_ns // MARGIN

    async def pause(self) -> Sequence[Delivery]:
        """Nothing is pulled but by ``receive``."""
        return ()

    # Settle

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Remove, move to the dead ones with the reason beside it, or put back."""
        failed = []
        for settlement in settlements:
            try:
                self._settle(settlement)
            except FileNotFoundError:
                settlement.is_lost = True  # taken back while we had it
            except OSError as e:
                self._fault = str(e)
                failed.append(settlement)
        return failed

    def _settle(self, settlement: Settlement) -> None:
        path: Path = settlement.delivery.receipt
        name = path.name.rpartition("@")[0]
        match settlement.verb:
            case Verb.ACCEPT:
                path.unlink()
            case Verb.DEAD_LETTER:
                # The reason first: a dead letter is never without.
                (self._folder / "dead" / f"{name}.reason").write_text(reason_of(settlement))
                path.rename(self._folder / "dead" / name)
            case _ if settlement.why is not Why.LEASE_OVER:
                path.rename(self._folder / "new" / name)  # under our name it is surely ours

    async def reply(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """There is no way back, and no delivery carries an address."""
        return ()

    # Observe

    def lag(self) -> Lag | None:
        """Return how many files wait."""
        return self._lag

    def fault(self) -> str:
        """Return why the folder can't be used."""
        return self._fault

    # Translation

    def _delivery(self, name: str, path: Path, body: bytes) -> Delivery:
        match = _NAME.fullmatch(name)
        return Delivery(
            self._settings.principal,
            str(self._folder),
            trace_of(""),
            int(match["published_ns"]) if match else 0,
            time.monotonic_ns(),
            body=body,
            source_id=name,
            derived_id=derive_id("folder", str(self._folder.resolve()), match["id"]) if match else "",
            lease_until_mono_ns=self._lease_until_ns(),
            receipt=path,
            content_type="application/cloudevents+json" if match and match["event"] else "",
        )


async def check(name: str, settings: FolderSettings) -> Sequence[Finding]:
    """See that the folders are there and on one file system, so that a rename is all or nothing."""
    folder = Path(settings.folder)
    missing = [part for part in FOLDERS if not (folder / part).is_dir()]
    if missing:
        return [Finding(Level.FAULT, f"folder {folder}", f"expected {', '.join(missing)} in it; make them")]
    if len({(folder / part).stat().st_dev for part in FOLDERS}) > 1:
        return [Finding(Level.FAULT, f"folder {folder}", "expected one file system; a rename must be all or nothing")]
    return [Finding(Level.FINE, f"folder {folder}", "is there")]


def _make(name: str, settings: FolderSettings, _metrics: Metrics) -> FolderSource:
    return FolderSource(name, settings)


KIND = SourceKind(settings=FolderSettings, make=_make, check=check, dead_letters=None)
