"""Key files for control over tcp: a secret half for its holder, a public half for a folder of those allowed.

Rule: a secret is a file that only its owner can read, else it is refused. The folder is looked at again whenever it
changed, so that a key is allowed or taken away without a restart. A file there that is no key is named once and
allows nobody.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from protocol.channels import KEY_CHARS, new_key_pair, public_key_of
from protocol.errors import ConfigError
from protocol.orders import Name

PRIVATE: Final = 0o600
PUBLIC_SUFFIX: Final = ".public"
SECRET_SUFFIX: Final = ".secret"  # noqa: S105 - of a file name
ALLOWED_MAX: Final = 1_024
Z85 = Annotated[str, Meta(min_length=KEY_CHARS, max_length=KEY_CHARS)]


class Role(StrEnum):
    """What the holder of a key may do."""

    OPERATOR = "operator"  # everything on the control socket, in the key's name
    READER = "reader"  # look, and change nothing
    SOURCE = "source"  # nothing on the control socket
    ENGINE = "engine"  # an engine's own: shown to clients, allowed nowhere


class AllowedKey(Struct, frozen=True, forbid_unknown_fields=True):
    """The public half."""

    name: Name
    role: Role
    public_key: Z85


class SecretKey(Struct, frozen=True, forbid_unknown_fields=True):
    """The secret half, with the public one."""

    name: Name
    role: Role
    public_key: Z85
    secret_key: Z85


def write_keys(folder: Path, name: str, role: Role) -> tuple[Path, Path]:
    """Make a pair; return the files of the secret and the public half. A file that is there is never replaced.

    Raises:
        ConfigError: If one is there, or can't be written.
    """
    public, secret = new_key_pair()
    secret_path, public_path = folder / f"{name}{SECRET_SUFFIX}", folder / f"{name}{PUBLIC_SUFFIX}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, key in (
            (secret_path, SecretKey(name, role, public, secret)), (public_path, AllowedKey(name, role, public)),
        ):  # fmt: skip
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(key)) + b"\n")
    except OSError as e:
        raise ConfigError([f"keys of {name} in {folder}: expected to write new files: {e.strerror}"], "keys") from e
    return secret_path, public_path


def read_secret(path: Path) -> SecretKey:
    """Return a secret key.

    Raises:
        ConfigError: If it can't be read, is none, or others can read it too.
    """
    try:
        key = msgspec.json.decode(_read(path), type=SecretKey)
    except msgspec.DecodeError as e:
        raise _is_none(path, e) from e
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ConfigError([f"{path}: expected a file that only you can read, was mode {mode:o}; chmod 600"], "keys")
    try:
        public = public_key_of(key.secret_key)
    except ValueError as e:
        raise ConfigError([f"{path}: {e}"], "keys") from e
    if public != key.public_key:
        raise ConfigError([f"{path}: expected the public key of its secret one, was another; make a new pair"], "keys")
    return key


def read_public(path: Path) -> AllowedKey:
    """Return a public key; raises ConfigError if it can't be read or is none."""
    try:
        return msgspec.json.decode(_read(path), type=AllowedKey)
    except msgspec.DecodeError as e:
        raise _is_none(path, e) from e


class AllowedKeys:
    """The public keys in a folder, each under its name.

    ``refuse``: called with a line on each file that allows nobody.
    """

    def __init__(self, folder: Path, refuse: Callable[[str], None]) -> None:
        self._folder = folder
        self._refuse = refuse
        self._seen: tuple[tuple[str, int], ...] | None = None
        self._keys: dict[str, AllowedKey] = {}

    def find(self, public_key: str) -> AllowedKey | None:
        """Return who holds the key, as the folder says now."""
        self._look()
        return self._keys.get(public_key)

    def _look(self) -> None:
        """Read the folder again if a file came, went or changed."""
        try:
            entries = sorted(
                (entry.name, entry.stat().st_mtime_ns)
                for entry in os.scandir(self._folder)
                if entry.name.endswith(PUBLIC_SUFFIX)
            )
        except OSError as e:
            if self._keys:
                self._refuse(f"keys in {self._folder} can't be read, nobody is allowed: {e.strerror}")
            self._seen, self._keys = None, {}
            return
        seen = tuple(entries[:ALLOWED_MAX])
        if seen == self._seen:
            return
        self._seen = seen
        self._keys = {}
        for name, _ in seen:
            self._allow(self._folder / name)
        if len(entries) > ALLOWED_MAX:
            self._refuse(f"keys in {self._folder}: expected at most {ALLOWED_MAX}, was {len(entries)}; the rest is out")

    def _allow(self, path: Path) -> None:
        try:
            key = read_public(path)
        except ConfigError as e:
            self._refuse(str(e))
            return
        if key.public_key in self._keys or any(k.name == key.name for k in self._keys.values()):
            self._refuse(f"{path}: expected a name and a key of its own, was {key.name} again; it allows nobody")
            return
        self._keys[key.public_key] = key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise ConfigError([f"{path}: expected a key file: {e.strerror}; make one: wojak keys new"], "keys") from e


def _is_none(path: Path, error: msgspec.DecodeError) -> ConfigError:
    return ConfigError([f"{path}: expected a key file of wojak keys new: {error}"], "keys")
