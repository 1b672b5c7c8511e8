"""Asks a running engine over its control socket, this host's or one over tcp."""

from __future__ import annotations

import getpass
from typing import Final, NamedTuple

import msgspec

from cli.asking import AwayError, RefusedError, answer_to
from cli.configuration import Loaded
from cli.paths import Paths, read_token
from protocol.channels import Context, CurveKeys
from protocol.control import (
    ControlBody,
    ControlReply,
    ControlRequest,
    EngineStatus,
    Status,
    reply_decoder,
)
from runtime.keys import read_public, read_secret

CONTROL: Final = "control"


class EngineAwayError(AwayError):
    """The engine did not answer."""

    code = "ENGINE_AWAY"


class Remote(NamedTuple):
    """An engine over tcp."""

    endpoint: str
    keys: CurveKeys


def client_of(loaded: Loaded) -> EngineClient:
    """Return a client of the engine that the configuration says: this host's, or the one it connects to."""
    control = loaded.config.control
    if not control.connect:
        return EngineClient(loaded.paths)
    own = read_secret(loaded.resolve(control.client_key_file))
    server = read_public(loaded.resolve(control.server_key_file))
    keys = CurveKeys(own.public_key, own.secret_key, server.public_key)
    return EngineClient(loaded.paths, remote=Remote(shifted(control.connect, loaded.paths.shard), keys))


def shifted(endpoint: str, shard: int) -> str:
    """Return the tcp address of a shard: each has the port after the one before."""
    host, _, port = endpoint.rpartition(":")
    return f"{host}:{int(port) + shard}"


class EngineClient:
    """Control of one engine."""

    def __init__(self, paths: Paths, *, operator: str = "", remote: Remote | None = None) -> None:
        self._endpoint = paths.endpoint(CONTROL) if remote is None else remote.endpoint
        self._keys = remote.keys if remote is not None else None
        self._token = read_token(paths.token) if remote is None else ""
        self._operator = operator or getpass.getuser()
        self._context = Context()

    def ask(self, body: ControlBody, *, timeout_ms: int = 2_000) -> ControlReply:
        """Return the engine's answer.

        Raises:
            EngineAwayError: If none came in time. What was asked may have been done: look at the status.
            RefusedError: If the engine says no.
        """
        request = msgspec.msgpack.encode(ControlRequest(self._token, self._operator, body))
        message = answer_to(request, self._context, self._endpoint, timeout_ms, self._keys)
        if message is None:
            raise EngineAwayError("the engine", self._endpoint, timeout_ms, "start it: wojak up")
        reply = reply_decoder.decode(message)
        if not reply.ok:
            raise RefusedError(reply.text)
        return reply

    def status(self, *, timeout_ms: int = 2_000) -> EngineStatus:
        """Return how the engine is; raises as ``ask`` does."""
        status = self.ask(Status(), timeout_ms=timeout_ms).status
        assert status is not None
        return status

    def close(self) -> None:
        """Leave."""
        self._context.close()
