"""The highest engine epoch this sidecar has spoken with, kept on disk (DESIGN 6.10).

Rule: an engine with a lower epoch, or with the same epoch and another instance, is a zombie and gets nothing. The file
is synced before the first command goes to a newer engine, so that a restart of this process forgets no fence.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from protocol.errors import ConfigError, FencedError

FILE_BYTES_MAX: Final = 64 << 10


class Seen(Struct, frozen=True, forbid_unknown_fields=True):
    """The newest engine of one shard: its epoch and its instance in hex."""

    epoch: int
    instance: str


class EpochFile:
    """Durable memory of the newest engine per shard."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _load(path)

    def require_newest(self, shard: int, epoch: int, instance: bytes) -> None:
        """Return once it is durable that this engine is the newest.

        Raises:
            FencedError: If a newer engine, or another one of the same epoch, was seen before.
        """
        seen = self._seen.get(str(shard))
        offered = Seen(epoch, instance.hex())
        if seen == offered:
            return
        if seen is not None and epoch <= seen.epoch:
            raise FencedError(
                f"engine of shard {shard}",
                f"epoch {seen.epoch}, instance {seen.instance}",
                f"epoch {epoch}, instance {offered.instance}",
            )
        self._store({**self._seen, str(shard): offered})

    def _store(self, seen: dict[str, Seen]) -> None:
        temporary = self._path.with_name(self._path.name + ".new")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, msgspec.json.encode(seen))
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._seen = seen


def _load(path: Path) -> dict[str, Seen]:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX)
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise ConfigError([f"state_file: folder {path.parent} does not exist; make it"]) from None
        return {}
    try:
        return msgspec.json.decode(content, type=dict[str, Seen])
    except msgspec.DecodeError as e:
        why = f"state_file {path} expected the newest engine epoch per shard, was unreadable ({e}); see what damaged it"
        raise ConfigError([f"{why}, then remove it"]) from e
