"""LocalStack as a peer: Step Functions, SNS and SQS in one process, as our own child; one for all tests of a worker.

It is a Python program with pins of its own (localstack.txt), so it lives in a virtual environment of the cache. It
keeps nothing over a restart: whoever stops it makes its resources anew.

Differences from AWS: a poll for a task looks once a second and goes on for its 60 s when its client is gone, so it
takes a task with it; an answer to an attempt that is over is taken and ignored, or InvalidToken (AWS: TaskTimedOut); a
missed heartbeat is States.Timeout; SNS posts once and never again; no rights, nothing throttled, in memory.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any, Final

from tests.peers.process import CACHE, Server, free_ports, wait_until
from tests.peers.sqs import client_of

NAME: Final = "localstack-4.9.2"
PINS: Final = Path(__file__).with_name("localstack.txt")
INSTALL_S: Final = 1_500
START_S: Final = 90.0
ACCOUNT: Final = "000000000000"
REGION: Final = "eu-west-1"


def prepare() -> Path:
    """Return the Python of a virtual environment with LocalStack; two tests at a time install once."""
    folder = CACHE / NAME
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _install(folder)
    return folder / "bin" / "python"


def _install(folder: Path) -> None:
    made = Path(tempfile.mkdtemp(prefix=f"{NAME}-", dir=CACHE))
    try:
        subprocess.run([sys.executable, "-m", "venv", str(made)], check=True, timeout=INSTALL_S)
        argv = [
            str(made / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "-q",
            "--no-compile",
            "--no-deps",
            "-r",
            str(PINS),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        assert done.returncode == 0, f"LocalStack expected from PyPI as {PINS.name} pins it, was: {done.stderr[-2000:]}"
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


class LocalStack:
    """The process. ``start`` after ``stop`` gives it the same port, and nothing of what it had."""

    def __init__(self) -> None:
        python = prepare()
        self.folder = Path(tempfile.mkdtemp(prefix="wojak-localstack-"))
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        here = f"127.0.0.1:{self.port}"
        self._server = Server(
            [str(python), "-m", "localstack.runtime.main"],
            self.folder,
            {
                "GATEWAY_SERVER": "hypercorn", "GATEWAY_LISTEN": here, "LOCALSTACK_HOST": here, "DNS_ADDRESS": "0",
                "SKIP_SSL_CERT_DOWNLOAD": "1", "DISABLE_EVENTS": "1", "FILESYSTEM_ROOT": str(self.folder / "root"),
                "SERVICES": "stepfunctions,sqs,sns,sts,iam", "PYTHONPATH": "",
            },
        )  # fmt: skip
        (self.folder / "root").mkdir()
        self.states: Any = None
        self.sns: Any = None
        self.sqs: Any = None

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._server.is_running

    def start(self) -> None:
        """Start it, and have it load what is used: the first call of a service takes seconds."""
        self._server.start()
        wait_until(self._is_up, START_S, lambda: f"LocalStack to answer: {self._server.said()[-2000:]}")
        self.states, self.sns, self.sqs = (client_of(self.port, of) for of in ("stepfunctions", "sns", "sqs"))
        self.states.list_activities()
        self.sns.list_topics()
        self.sqs.list_queues()

    def _is_up(self) -> bool:
        assert self.is_running, f"LocalStack ended: {self._server.said()[-2000:]}"
        try:
            with urllib.request.urlopen(f"{self.url}/_localstack/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """Stop it, at once: a poll that waits keeps it from ending by itself."""
        self._server.kill(signal.SIGKILL)

    def end(self) -> None:
        """Leave nothing running and nothing on the disk."""
        self._server.end()
        shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def shared() -> LocalStack:
    """Return the one LocalStack of this worker, started; it ends with the process."""
    found = LocalStack()
    atexit.register(found.end)
    found.start()
    return found
