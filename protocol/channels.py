"""ZeroMQ sockets as the four shapes the protocol uses. The only module that imports zmq.

Rules: nothing here blocks but ``Waiter.wait``; every queue is bounded; a send that can't be done says so
and its caller ends the session. Never recv_multipart or send_multipart here: they cost 2-2.5 µs more a
message than two plain calls.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import zmq
from zmq.utils import z85

from protocol.errors import ConfigError

NOBLOCK: Final = zmq.NOBLOCK
SNDMORE: Final = zmq.SNDMORE
RCVMORE: Final = zmq.RCVMORE
IPC_PATH_BYTES_MAX: Final = 107  # sun_path of Linux, less the closing NUL
MESSAGE_BYTES_MAX: Final = 8 << 20
KEY_CHARS: Final = 40  # a CURVE key as Z85 text
ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
ZAP_MAX: Final = 16
HEARTBEAT_MS: Final = 2_000
IDENTITY_BYTES_MIN: Final = 16
"""A peer chooses its identity at random and this long, so that no other can send a frame that looks like it."""


class CurveKeys(NamedTuple):
    """What a client shows and expects: its own pair and the server's public key, Z85 text."""

    public: str
    secret: str
    server: str


def new_key_pair() -> tuple[str, str]:
    """Return a new CURVE pair (public, secret) as Z85 text."""
    public, secret = zmq.curve_keypair()
    return public.decode("ascii"), secret.decode("ascii")


def public_key_of(secret: str) -> str:
    """Return the public key of a secret one.

    Raises:
        ValueError: If it is no key.
    """
    try:
        return zmq.curve_public(secret.encode("ascii")).decode("ascii")
    except (zmq.ZMQError, UnicodeEncodeError) as e:
        raise ValueError("expected a CURVE key of 40 Z85 characters") from e


def encode_key(key: bytes) -> str:
    """Return the 32 bytes of a key as Z85 text."""
    return z85.encode(key).decode("ascii")


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


def make_private(endpoint: str) -> None:
    """Let only this user open a bound ipc socket; other addresses have no file."""
    if endpoint.startswith("ipc://"):
        os.chmod(endpoint.removeprefix("ipc://"), 0o600)


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


class Authenticator(Channel):
    """Says who may finish a CURVE handshake with this context's sockets (ZeroMQ's RFC 27, ZAP).

    Without one a CURVE server takes any key; with one it asks here, and whoever is refused is never connected and gets
    nothing. Bound before any socket that asks; it is read by the loop that owns those sockets.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context.socket(zmq.REP, 0))
        bind(self.socket, ZAP_ENDPOINT)

    def answer(self, is_allowed: Callable[[str], bool]) -> list[str]:
        """Answer up to ``ZAP_MAX`` handshakes; return the keys that were refused.

        Args:
            is_allowed: Whether the holder of a public key (Z85) may connect.
        """
        refused: list[str] = []
        for _ in range(ZAP_MAX):
            frames: list[bytes] = []
            try:
                frames.append(self.socket.recv(NOBLOCK))
            except zmq.Again:
                break
            while self.socket.getsockopt(RCVMORE):
                frames.append(self.socket.recv(NOBLOCK))
            # version, request id, domain, address, identity, mechanism, credentials
            is_curve = len(frames) == 7 and frames[5] == b"CURVE" and len(frames[6]) == 32
            key = encode_key(frames[6]) if is_curve else ""
            ok = bool(key) and is_allowed(key)
            if not ok:
                refused.append(key or "no key")
            status = (b"200", b"OK", key.encode()) if ok else (b"400", b"not allowed", b"")
            request_id = frames[1] if len(frames) > 1 else b""
            for frame in (b"1.0", request_id, *status):
                self.socket.send(frame, SNDMORE | NOBLOCK)
            self.socket.send(b"", NOBLOCK)
        return refused


class CurveRouter(Channel):
    """A ROUTER over tcp with CURVE: each message comes with the public key that its sender proved to hold."""

    def __init__(self, context: Context, endpoint: str, hwm: int, secret_key: str) -> None:
        super().__init__(context.socket(zmq.ROUTER, hwm))
        self.socket.router_mandatory = 1
        self.socket.curve_server = 1
        self.socket.curve_secretkey = secret_key.encode("ascii")
        self.socket.zap_domain = b"wojak"
        self.socket.heartbeat_ivl = HEARTBEAT_MS
        self.socket.heartbeat_timeout = 3 * HEARTBEAT_MS
        bind(self.socket, endpoint)

    @property
    def endpoint(self) -> str:
        """The address as bound: with the port that the system chose, if it did."""
        return str(self.socket.getsockopt_string(zmq.LAST_ENDPOINT))

    def receive(self, most: int) -> list[tuple[bytes, str, bytes]]:
        """Return up to ``most`` (identity, public key, body) that are there now."""
        received: list[tuple[bytes, str, bytes]] = []
        for _ in range(most):
            try:
                identity = self.socket.recv(NOBLOCK)
            except zmq.Again:
                break
            body = self.socket.recv(NOBLOCK, copy=False)
            whole = not body.more
            while self.socket.getsockopt(RCVMORE):
                self.socket.recv(NOBLOCK)
            if whole:
                received.append((identity, str(body.get("User-Id")), body.bytes))
        return received

    def send(self, identity: bytes, body: bytes) -> bool:
        """Hand over a message; False if the peer is gone or does not take it."""
        return _send(self.socket, identity, body)


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
        return _send(self.socket, identity, body)


class Dealer(Channel):
    """One session's client side. Keeps nothing for an engine that is not connected.

    ``identity``: at least 16 random bytes; made here if empty. ``keys``: for a server with CURVE.
    """

    def __init__(
        self, context: Context, endpoint: str, hwm: int, identity: bytes = b"", keys: CurveKeys | None = None
    ) -> None:
        super().__init__(context.socket(zmq.DEALER, hwm))
        if keys is not None:
            self.socket.curve_serverkey = keys.server.encode("ascii")
            self.socket.curve_publickey = keys.public.encode("ascii")
            self.socket.curve_secretkey = keys.secret.encode("ascii")
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


class TopicPublisher(Channel):
    """A Publisher that knows which of its topics anybody has ever asked for, so that others need not be encoded.

    XPUB hands up what subscribers ask for. What they take back is not believed: one could say so for all the others,
    and a listener that dies and comes back must miss nothing that it would not have missed at a Publisher.

    Args:
        topics: All there are. A subscriber's prefix asks for each that it begins, or that begins it.
    """

    def __init__(self, context: Context, endpoint: str, hwm: int, topics: Iterable[bytes]) -> None:
        super().__init__(context.socket(zmq.XPUB, hwm))
        self._unheard = set(topics)
        bind(self.socket, endpoint)

    def is_heard(self, topic: bytes) -> bool:
        """Whether anybody has asked for the topic so far."""
        return topic not in self._unheard

    def receive(self, most: int) -> bool:
        """Take up to ``most`` words of subscribers that are there now; return whether a topic is newly asked for."""
        unheard = len(self._unheard)
        for word in _receive(self.socket, most):
            if word[:1] == b"\x01":
                asked = word[1:]
                self._unheard = {t for t in self._unheard if not (t.startswith(asked) or asked.startswith(t))}
        return len(self._unheard) < unheard

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


def _send(socket: zmq.Socket[bytes], identity: bytes, body: bytes) -> bool:
    send = socket.send
    try:
        send(identity, SNDMORE | NOBLOCK)
        send(body, NOBLOCK)
    except zmq.ZMQError as e:
        if e.errno in {zmq.EAGAIN, zmq.EHOSTUNREACH}:
            return False
        raise
    return True


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
