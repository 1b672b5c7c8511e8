"""Receivers of alerts on this host that do as they are told: take, refuse, dribble, lie, leave."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

Handler = Callable[[socket.socket], None]


class Peer:
    """A TCP server whose handler has each connection in a thread of its own."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            self._handler(connection)

    def close(self) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for thread in self._threads:
            thread.join()


class WebPeer(Peer):
    """Answers each request with the next of its answers, the last one for ever; keeps what came."""

    def __init__(self, *answers: bytes | Handler) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.asked = threading.Event()
        self._answers = list(answers)
        super().__init__(self._answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answer(self, connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        first = reader.readline()
        headers = {"": first.decode()}
        while line := reader.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        self.requests.append((headers, reader.read(int(headers.get("content-length", "0")))))
        self.asked.set()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if callable(answer):
            answer(connection)
        else:
            connection.sendall(answer)


def http_answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).replace("_", "-").encode() + b"\r\n\r\n" + body


def dribble(peer: list[Peer]) -> Handler:
    """Send a byte of a head that never ends every 20 ms, until the other side has enough of it."""

    def send(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while not peer[0].ended.wait(0.02):
            connection.sendall(b"x")

    return send


class MailPeer(Peer):
    """A mail server as a script: says 220, then answers commands; keeps the mails that it took."""

    def __init__(self, *, answers: dict[str, str] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.mails: list[str] = []
        self.logins: list[str] = []
        self.was_secure: list[bool] = []
        self._answers = answers or {}
        self._tls = tls
        super().__init__(self._talk)

    def _talk(self, connection: socket.socket) -> None:
        connection.sendall(self._answers.get("", "220 mail").encode() + b"\r\n")
        is_secure = False
        reader = connection.makefile("rb")
        while line := reader.readline():
            verb = line.split()[0].upper().decode()
            if verb in self._answers:
                connection.sendall(self._answers[verb].encode() + b"\r\n")
                continue
            match verb:
                case "EHLO" | "HELO":
                    more = b"250 AUTH PLAIN" if is_secure or self._tls is None else b"250 STARTTLS"
                    connection.sendall(b"250-mail\r\n" + more + b"\r\n")
                case "STARTTLS":
                    assert self._tls is not None
                    connection.sendall(b"220 go\r\n")
                    connection = self._tls.wrap_socket(connection, server_side=True)
                    reader, is_secure = connection.makefile("rb"), True
                case "AUTH":
                    self.logins.append(line.decode())
                    connection.sendall(b"235 ok\r\n")
                case "DATA":
                    connection.sendall(b"354 go\r\n")
                    lines: list[str] = []
                    while (text := reader.readline()) not in {b".\r\n", b""}:
                        lines.append(text.decode())
                    self.mails.append("".join(lines))
                    self.was_secure.append(is_secure)
                    connection.sendall(b"250 taken\r\n")
                case "QUIT":
                    connection.sendall(b"221 bye\r\n")
                    return
                case _:
                    connection.sendall(b"250 ok\r\n")


@contextlib.contextmanager
def closing(peer: Peer) -> Iterator[Peer]:
    try:
        yield peer
    finally:
        peer.close()


def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def server_tls(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context
