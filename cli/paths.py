"""Where a deployment keeps its files: one state folder, and sockets short enough for the kernel.

Rule: a Unix socket's path has at most 107 bytes, so sockets move to a private folder under the system's temporary
folder when the state folder's own path is too long. Nothing else ever lives outside the state folder.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from protocol.channels import IPC_PATH_BYTES_MAX
from protocol.errors import ConfigError

SOCKET_NAME_BYTES_MAX: Final = 24  # the longest file name used below, with room for one more
TOKEN_BYTES: Final = 32
PRIVATE: Final = 0o700


class Paths(NamedTuple):
    """The files of one deployment."""

    state: Path
    run: Path
    shard: int = 0

    def of(self, shard: int) -> Paths:
        """Return the files of one shard: 0 has those it has alone, another one a folder of its own."""
        return self._replace(shard=shard)

    @property
    def own(self) -> Path:
        """The folder of what each shard has for itself."""
        return self.state / f"shard-{self.shard}" if self.shard else self.state

    @property
    def journal(self) -> Path:
        """The engine's journal."""
        return self.own / "journal"

    @property
    def gateway(self) -> Path:
        """The sandbox gateway's log."""
        return self.own / "gateway"

    @property
    def books(self) -> Path:
        """The embedded store."""
        return self.own / "books.sqlite"

    @property
    def table(self) -> Path:
        """The last-value table."""
        return self.state / "table"

    @property
    def feed(self) -> Path:
        """What the feed remembers between its starts."""
        return self.state / "feed"

    @property
    def flow(self) -> Path:
        """The demonstration flow's send logs."""
        return self.state / "flow"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.state / "logs"

    @property
    def token(self) -> Path:
        """Proof of the right to control the engine: who can read this file may."""
        return self.state / "control.token"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the one supervisor of this state folder; its content is that one's pid."""
        return self.state / "supervisor.lock"

    @property
    def supervisor(self) -> Path:
        """The socket on which the supervisor says what runs."""
        return self.run / "supervisor"

    def health(self, process: str) -> Path:
        """The socket on which a process without HTTP of its own tells how it is."""
        name = f"{process}.health"
        if len(name) > SOCKET_NAME_BYTES_MAX:  # a sidecar of a source with a long name
            name = f"{process[:7]}-{hashlib.sha256(process.encode()).hexdigest()[:9]}.health"
        return self.run / name

    def endpoint(self, name: str) -> str:
        """Return the ipc address of a socket of this shard in the run folder."""
        return f"ipc://{self.run / (f'{name}-{self.shard}' if self.shard else name)}"

    def shared_endpoint(self, name: str) -> str:
        """Return the ipc address of a socket that all shards share: those of the feed."""
        return self.of(0).endpoint(name)


def paths_of(state_dir: Path) -> Paths:
    """Return where everything is, without making anything."""
    state = Path(os.path.abspath(state_dir))
    run = state / "run"
    if len(os.fsencode(run)) + 1 + SOCKET_NAME_BYTES_MAX > IPC_PATH_BYTES_MAX:
        digest = hashlib.sha256(os.fsencode(state)).hexdigest()[:12]
        run = Path(tempfile.gettempdir()) / f"wojak-{digest}"
    return Paths(state, run)


def prepare(paths: Paths) -> None:
    """Make the folders and the control token, all readable by this user only.

    Raises:
        ConfigError: If a folder can't be made or written, or the socket folder belongs to somebody else.
    """
    for folder in (paths.state, paths.run, paths.logs):
        try:
            folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        except OSError as e:
            why = f"wojak.state_dir: expected a folder this user can write, was {folder} ({e.strerror}); choose another"
            raise ConfigError([why]) from e
        if not os.access(folder, os.W_OK | os.X_OK):
            why = f"wojak.state_dir: expected a folder this user can write, was {folder} (Permission denied)"
            raise ConfigError([f"{why}; choose another, or change its owner"])
    found = paths.run.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ConfigError([f"sockets: expected {paths.run} to be a folder of this user, was another's; remove it"])
    paths.run.chmod(PRIVATE)
    _make_token(paths.token)


def _make_token(path: Path) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    except OSError as e:
        raise ConfigError([f"control token: expected {path} to be writable ({e.strerror})"]) from e
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(TOKEN_BYTES))
        file.flush()
        os.fsync(fd)


def read_token(path: Path) -> str:
    """Return the control token.

    Raises:
        ConfigError: If there is none, or this user may not read it.
    """
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        raise ConfigError([f"{path} does not exist: nothing was ever started here; start it: wojak up"]) from None
    except PermissionError:
        raise ConfigError([f"{path} can't be read: controlling this engine takes its owner's rights"]) from None
