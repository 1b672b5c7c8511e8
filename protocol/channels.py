"""ZeroMQ sockets as the four shapes the protocol uses. The only module that imports zmq.

Rules: nothing here blocks but ``Waiter.wait``; every queue is bounded; a send that can't be done says so
and its caller ends the session. Never recv_multipart or send_multipart here: they cost 2-2.5 µs more a
message than two plain calls.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

import zmq

from protocol.errors import ConfigError

NOBLOCK: Final = zmq.NOBLOCK
SNDMORE: Final = zmq.SNDMORE
RCVMORE: Final = zmq.RCVMORE
IPC_PATH_BYTES_MAX: Final = 107  # sun_path of Linux, less the closing NUL
MESSAGE_BYTES_MAX: Final = 8 << 20
IDENTITY_BYTES_MIN: Final = 16
"""A peer chooses its identity at random and this long, so that no other can send a frame that looks like it."""


class Context:
    """One ZeroMQ context a process."""

    def __init__(self, io_threads: int = 1) -> None:
        self._zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads)

    def socket(self, kind: int, hwm: int) -> zmq.Socket[bytes]:
        """Return a bounded socket that keeps nothing for a peer that is gone."""
        socket = self._zmq.socket(kind)
        socket.set_hwm(hwm)
        socket.linger = 0
        socket.maxmsgsize = MESSAGE_BYTES_MAX
        return socket

    def close(self, linger_ms: int = 0) -> None:
        """End every socket of this process; what is unsent has ``linger_ms`` to leave."""
        self._zmq.destroy(linger=linger_ms)


def bind(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Bind, replacing the file of a dead ipc socket.

    Raises:
        ConfigError: If the address can't be taken: in use, no folder, or a path too long for a socket.
    """
    path = endpoint.removeprefix("ipc://") if endpoint.startswith("ipc://") else ""
    size = len(os.fsencode(path))
    if size > IPC_PATH_BYTES_MAX:
        socket.close(linger=0)
        raise ConfigError(
            [f"endpoint {endpoint} expected at most {IPC_PATH_BYTES_MAX} bytes, was {size}: shorten state_dir"]
        )
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as e:
        socket.close(linger=0)  # nobody else holds it, and an open one hangs the end of its context
        why = f"endpoint {endpoint} can't be bound: {e.strerror}; is another process using it? choose another address"
        raise ConfigError([why]) from e


class Channel:
    """What all shapes share: a socket that a Waiter can watch and an owner closes."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket

    @property
    def fd(self) -> int:
        """Edge-triggered readiness: after it fires, and after every send, receive until empty."""
        return int(self.socket.getsockopt(zmq.FD))

    @property
    def readable(self) -> bool:
        """Whether a receive would return something now."""
        return bool(int(self.socket.getsockopt(zmq.EVENTS)) & int(zmq.POLLIN))

    def close(self) -> None:
        """Close; what is unsent is dropped."""
        self.socket.close(linger=0)


class Router(Channel):
    """The engine's side of sessions: many peers, each with an identity."""

    def __init__(self, context: Context, endpoint: str, hwm: int) -> None:
        super().__init__(context.socket(zmq.ROUTER, hwm))
        self.socket.router_mandatory = 1
        # A peer that comes back under its identity replaces its own dead connection.
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        bind(self.socket, endpoint)

    def receive(self, most: int) -> list[tuple[bytes, bytes]]:
        """Return up to ``most`` (identity, body) that are there now.

        A message of another number of frames is none of ours and shifts the pairs behind it until the end of this call,
        where the place in the stream is checked, once: asking after each frame costs 0.5 µs a message. What was
        shifted comes from identities nobody has (``IDENTITY_BYTES_MIN``), is refused, and its senders ask again.
        """
        recv = self.socket.recv
        received: list[tuple[bytes, bytes]] = []
        append = received.append
        try:
            for _ in range(most):
                append((recv(NOBLOCK), recv(NOBLOCK)))
        except zmq.Again:
            pass
        while self.socket.getsockopt(RCVMORE):
            self.socket.recv(NOBLOCK)
        return received

    def send(self, identity: bytes, body: bytes) -> bool:
        """Hand over a message; False if the peer is gone or does not take it: end its session."""
        send = self.socket.send
        try:
            send(identity, SNDMORE | NOBLOCK)
            send(body, NOBLOCK)
        except zmq.ZMQError as e:
            if e.errno in {zmq.EAGAIN, zmq.EHOSTUNREACH}:
                return False
            raise
        return True


class Dealer(Channel):
    """One session's client side. Keeps nothing for an engine that is not connected.

    ``identity``: at least 16 random bytes; made here if empty.
    """

    def __init__(self, context: Context, endpoint: str, hwm: int, identity: bytes = b"") -> None:
        super().__init__(context.socket(zmq.DEALER, hwm))
        self.socket.identity = identity or b"d" + os.urandom(IDENTITY_BYTES_MIN)  # a leading zero is the library's own
        self.socket.immediate = 1
        self.socket.reconnect_ivl = 20
        self.socket.reconnect_ivl_max = 500
        self.socket.connect(endpoint)

    def receive(self, most: int) -> list[bytes]:
        """Return up to ``most`` messages that are there now."""
        return _receive(self.socket, most)

    def send(self, body: bytes) -> bool:
        """Hand over a message; False while there is no connection or it takes no more."""
        try:
            self.socket.send(body, NOBLOCK)
        except zmq.Again:
            return False
        return True


class Publisher(Channel):
    """Sends to whoever listens; a slow listener loses messages and sees it by the sequence."""

    def __init__(self, context: Context, endpoint: str, hwm: int) -> None:
        super().__init__(context.socket(zmq.PUB, hwm))
        bind(self.socket, endpoint)

    def send(self, body: bytes | bytearray | memoryview) -> None:
        """Publish; never blocks."""
        self.socket.send(body, NOBLOCK)


class Subscriber(Channel):
    """Listens to publishers, filtered by prefix."""

    def __init__(self, context: Context, endpoint: str, hwm: int, topics: Iterable[bytes] = (b"",)) -> None:
        super().__init__(context.socket(zmq.SUB, hwm))
        for prefix in topics:
            self.socket.subscribe(prefix)
        self.socket.reconnect_ivl = 20
        self.socket.reconnect_ivl_max = 500
        self.socket.connect(endpoint)

    def receive(self, most: int) -> list[bytes]:
        """Return up to ``most`` messages that are there now."""
        return _receive(self.socket, most)


class Waiter:
    """Waits until one of several channels can be read, or a file descriptor is ready."""

    def __init__(self, *channels: Channel) -> None:
        self._poller = zmq.Poller()
        for channel in channels:
            self._poller.register(channel.socket, zmq.POLLIN)

    def add(self, channel: Channel) -> None:
        """Watch one more channel."""
        self._poller.register(channel.socket, zmq.POLLIN)

    def add_fd(self, fd: int) -> None:
        """Watch one more file descriptor."""
        self._poller.register(fd, zmq.POLLIN)

    def remove(self, channel: Channel) -> None:
        """Stop watching."""
        self._poller.unregister(channel.socket)

    def wait(self, timeout_ms: int) -> bool:
        """Return whether anything is ready within ``timeout_ms``; -1 waits without end."""
        return bool(self._poller.poll(timeout_ms))

    def wait_for(self, timeout_ms: int) -> list[object]:
        """Return what is ready within ``timeout_ms``: sockets (``channel.socket``) and file descriptors.

        Asking an empty socket costs 3.4 µs; who watches several asks those in the answer only.
        """
        return [ready for ready, _ in self._poller.poll(timeout_ms)]


def _receive(socket: zmq.Socket[bytes], most: int) -> list[bytes]:
    recv = socket.recv
    received: list[bytes] = []
    append = received.append
    try:
        for _ in range(most):
            append(recv(NOBLOCK))
    except zmq.Again:
        pass
    return received
