"""Sockets and time without a kernel: the shapes of protocol.channels in memory, and a clock that is moved by hand.

A session may be cut at any point: what was queued behind the point is lost, on both ways. Inside a session nothing is
lost, doubled or reordered, as ZeroMQ promises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

HWM = 10_000
OnOutput = Callable[[str, bytes], None]


class CrashError(BaseException):
    """The process died here; BaseException, since no code of a dead process runs on."""


class VirtualClock:
    """Wall and monotonic time in ns. Stands in for ``time`` and ``runtime.clock`` alike."""

    def __init__(self) -> None:
        self.wall = 1_780_000_000 * 10**9
        self.monotonic = 10**9

    def advance(self, ns: int) -> None:
        self.wall += ns
        self.monotonic += ns

    def wall_ns(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        return self.monotonic


class Net:
    """Which router answers at which address now. Stands in for ``channels.Context``."""

    def __init__(self, on_output: OnOutput) -> None:
        self.routers: dict[str, MemoryRouter] = {}
        self.identities = 0
        self.on_output = on_output

    def close(self, linger_ms: int = 0) -> None:
        """Nothing to let go of."""

    def drop(self, router: MemoryRouter) -> None:
        """The process behind a router is gone, with all it had not read."""
        if self.routers.get(router.endpoint) is router:
            del self.routers[router.endpoint]
        router.inbox.clear()
        router.links.clear()


class Channel:
    """What a Waiter can look at."""

    fd = 0
    inbox: deque[object]

    @property
    def readable(self) -> bool:
        return bool(self.inbox)

    @property
    def socket(self) -> Channel:
        """What a Waiter names it by."""
        return self

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryRouter(Channel):
    """channels.Router."""

    def __init__(self, context: Net, endpoint: str, hwm: int) -> None:
        self.net = context
        self.endpoint = endpoint
        self.inbox: deque[tuple[bytes, bytes]] = deque()  # type: ignore[assignment]
        self.links: dict[bytes, MemoryDealer] = {}
        context.routers[endpoint] = self

    def receive(self, most: int) -> list[tuple[bytes, bytes]]:
        return [self.inbox.popleft() for _ in range(min(most, len(self.inbox)))]

    def send(self, identity: bytes, body: bytes) -> bool:
        dealer = self.links.get(identity)
        if dealer is None or dealer.identity != identity or len(dealer.inbox) >= HWM:
            return False
        self.net.on_output(self.endpoint, body)
        dealer.inbox.append(body)
        return True


class MemoryDealer(Channel):
    """channels.Dealer."""

    def __init__(self, context: Net, endpoint: str, hwm: int, identity: bytes = b"") -> None:
        self.net = context
        self.endpoint = endpoint
        self.identity = b""
        self.inbox: deque[bytes] = deque()  # type: ignore[assignment]
        self._router: MemoryRouter | None = None

    def receive(self, most: int) -> list[bytes]:
        return [self.inbox.popleft() for _ in range(min(most, len(self.inbox)))]

    def send(self, body: bytes) -> bool:
        router = self.net.routers.get(self.endpoint)
        if router is None:
            return False
        if router is not self._router:
            self._attach(router)
        router.inbox.append((self.identity, body))
        return True

    def cut(self, random: Random) -> None:
        """Lose the connection; a random part of what was on the way arrives all the same."""
        router, identity = self._router, self.identity
        self._router, self.identity = None, b""
        for _ in range(random.randint(0, len(self.inbox))):
            self.inbox.pop()
        if router is None:
            return
        router.links.pop(identity, None)
        ours = [entry for entry in router.inbox if entry[0] == identity]
        lost = {id(entry) for entry in ours[random.randint(0, len(ours)) :]}
        kept = [entry for entry in router.inbox if id(entry) not in lost]
        router.inbox.clear()
        router.inbox.extend(kept)

    def close(self) -> None:
        if self._router is not None:
            self._router.links.pop(self.identity, None)
            self._router, self.identity = None, b""
        self.inbox.clear()

    def _attach(self, router: MemoryRouter) -> None:
        self.net.identities += 1
        self._router, self.identity = router, b"peer-%016d" % self.net.identities
        router.links[self.identity] = self
        self.inbox.clear()


class MemoryPublisher(Channel):
    """channels.Publisher."""

    def __init__(self, context: Net, endpoint: str, hwm: int) -> None:
        self.net = context
        self.endpoint = endpoint
        self.inbox = deque()

    def send(self, body: bytes | bytearray | memoryview) -> None:
        self.net.on_output(self.endpoint, bytes(body))


class MemoryWaiter:
    """channels.Waiter: never waits."""

    def __init__(self, *channels: Channel) -> None:
        self._channels = list(channels)

    def add(self, channel: Channel) -> None:
        self._channels.append(channel)

    def remove(self, channel: Channel) -> None:
        self._channels.remove(channel)

    def add_fd(self, fd: int) -> None:
        """No descriptor ever becomes ready here."""

    def wait(self, timeout_ms: int) -> bool:
        return bool(self.wait_for(timeout_ms))

    def wait_for(self, timeout_ms: int) -> list[Channel]:
        return [channel for channel in self._channels if channel.readable]
