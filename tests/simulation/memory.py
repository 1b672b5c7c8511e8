"""Sockets and time without a kernel: the shapes of protocol.channels in memory, and a clock that is moved by hand.

Between a dealer and a router lies a link with two ways. A frame may be on a way for some time; a way may be blocked
(what is sent arrives when the block ends), lose what is sent next, deliver it twice or behind the next; a link may be
cut, with part of what was on it lost. Without a fault a frame is there at once, once, in order, as ZeroMQ promises.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from random import Random

HWM = 10_000
SWAP_NS = 30_000_000  # how long a frame stays behind that others overtake
OnOutput = Callable[[str, bytes], None]


class CrashError(SystemExit):
    """The process died here. A SystemExit, for asyncio lets nothing else through; no code of a dead process runs on."""


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

    def __init__(self, clock: VirtualClock, on_output: OnOutput) -> None:
        self.clock = clock
        self.routers: dict[str, MemoryRouter] = {}
        self.identities = 0
        self.frames = 0
        self.on_output: OnOutput = on_output
        self.struck: Callable[[str], None] = lambda _: None  # a fault took effect
        self.detours: dict[str, MemoryRouter] = {}  # addresses that lead to a zombie for now

    def close(self, linger_ms: int = 0) -> None:
        """Nothing to let go of."""

    def drop(self, router: MemoryRouter) -> None:
        """The process behind a router is gone, with all it had not read."""
        if self.routers.get(router.endpoint) is router:
            del self.routers[router.endpoint]
        router.arriving.clear()
        router.links.clear()


class Way:
    """One direction of a link: what happens to the next frame on it."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self._due_ns = 0
        self.delay_ns = 0
        self.blocked_until_ns = 0
        self.lose = 0
        self.double = 0
        self.swap = 0

    def due(self) -> list[int]:
        """Return when each copy of the frame that is sent now arrives, monotonic ns."""
        net = self._net
        now_ns = net.clock.monotonic
        if self.lose:
            self.lose -= 1
            net.struck("loss")
            return []
        if self.blocked_until_ns > now_ns:
            net.struck("partition")
        elif self.delay_ns:
            net.struck("delay")
        due_ns = max(now_ns + self.delay_ns, self.blocked_until_ns, self._due_ns)
        if self.swap:
            self.swap -= 1
            net.struck("reorder")
            return [due_ns + SWAP_NS]
        self._due_ns = due_ns
        if self.double:
            self.double -= 1
            net.struck("duplication")
            return [due_ns, due_ns]
        return [due_ns]

    def heal(self) -> None:
        """Nothing goes wrong any more with what is sent from here on."""
        self.delay_ns = self.blocked_until_ns = self.lose = self.double = self.swap = 0


class Channel:
    """What a Waiter can look at."""

    fd = 0

    @property
    def readable(self) -> bool:
        return False

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
        self.arriving: list[tuple[int, int, bytes, bytes]] = []  # a heap of (due, number, identity, body)
        self.links: dict[bytes, MemoryDealer] = {}
        self.on_output: OnOutput | None = context.on_output
        context.routers[endpoint] = self

    @property
    def readable(self) -> bool:
        return bool(self.arriving) and self.arriving[0][0] <= self.net.clock.monotonic

    def receive(self, most: int) -> list[tuple[bytes, bytes]]:
        arriving, now_ns = self.arriving, self.net.clock.monotonic
        found: list[tuple[bytes, bytes]] = []
        while arriving and arriving[0][0] <= now_ns and len(found) < most:
            _, _, identity, body = heapq.heappop(arriving)
            found.append((identity, body))
        return found

    def arrive(self, due_ns: int, identity: bytes, body: bytes) -> None:
        self.net.frames += 1
        heapq.heappush(self.arriving, (due_ns, self.net.frames, identity, body))

    def send(self, identity: bytes, body: bytes) -> bool:
        dealer = self.links.get(identity)
        if dealer is None or not dealer.is_connected_to(self) or len(dealer.arriving) >= HWM:
            return False
        if self.on_output is not None:
            self.on_output(self.endpoint, body)
        for due_ns in dealer.down.due():
            dealer.arrive(due_ns, body)
        return True

    def lose_from(self, identity: bytes, random: Random) -> None:
        """Lose the end of what a peer had on the way."""
        ours = sorted(entry for entry in self.arriving if entry[2] == identity)
        lost = {entry[1] for entry in ours[random.randint(0, len(ours)) :]}
        self.arriving = [entry for entry in self.arriving if entry[1] not in lost]
        heapq.heapify(self.arriving)


class MemoryDealer(Channel):
    """channels.Dealer: one identity for its life, so that a connection made anew goes on as the same peer."""

    def __init__(self, context: Net, endpoint: str, hwm: int, identity: bytes = b"") -> None:
        self.net = context
        self.endpoint = endpoint
        context.identities += 1
        self.identity = identity or b"peer-%016d" % context.identities
        self.arriving: list[tuple[int, int, bytes]] = []
        self.up, self.down = Way(context), Way(context)
        self.router: MemoryRouter | None = None
        self.connects_at_ns = 0
        self.is_dead = False

    @property
    def readable(self) -> bool:
        return bool(self.arriving) and self.arriving[0][0] <= self.net.clock.monotonic

    def receive(self, most: int) -> list[bytes]:
        arriving, now_ns = self.arriving, self.net.clock.monotonic
        found: list[bytes] = []
        while arriving and arriving[0][0] <= now_ns and len(found) < most:
            found.append(heapq.heappop(arriving)[2])
        return found

    def arrive(self, due_ns: int, body: bytes) -> None:
        self.net.frames += 1
        heapq.heappush(self.arriving, (due_ns, self.net.frames, body))

    def is_connected_to(self, router: MemoryRouter) -> bool:
        return self.router is router and self.net.clock.monotonic >= self.connects_at_ns

    def send(self, body: bytes) -> bool:
        router = self.net.detours.get(self.endpoint) or self.net.routers.get(self.endpoint)
        if router is None or self.is_dead or self.net.clock.monotonic < self.connects_at_ns:
            return False
        if router is not self.router:
            self._attach(router)
        for due_ns in self.up.due():
            router.arrive(due_ns, self.identity, body)
        return True

    def cut(self, random: Random) -> None:
        """Lose the connection for a while, and with it the end of what was on either way."""
        self.connects_at_ns = self.net.clock.monotonic + random.choice((1, 20, 500)) * 10**6
        self.arriving = sorted(self.arriving)[: random.randint(0, len(self.arriving))]
        if self.router is not None:
            self.router.lose_from(self.identity, random)

    def close(self) -> None:
        if self.router is not None and self.router.links.get(self.identity) is self:
            del self.router.links[self.identity]
        self.router = None
        self.arriving.clear()

    def die(self) -> None:
        """The process behind it is gone: nothing more leaves or arrives."""
        self.close()
        self.is_dead = True

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self.up.heal()
        self.down.heal()

    def _attach(self, router: MemoryRouter) -> None:
        if self.router is not None and self.router.links.get(self.identity) is self:
            del self.router.links[self.identity]
        now_ns = self.net.clock.monotonic
        self.arriving = [entry for entry in self.arriving if entry[0] <= now_ns]
        heapq.heapify(self.arriving)
        self.router = router
        router.links[self.identity] = self


class MemoryPublisher(Channel):
    """channels.Publisher."""

    def __init__(self, context: Net, endpoint: str, hwm: int) -> None:
        self.endpoint = endpoint
        self.on_output: OnOutput | None = context.on_output

    def send(self, body: bytes | bytearray | memoryview) -> None:
        if self.on_output is not None:
            self.on_output(self.endpoint, bytes(body))


class MemoryWaiter:
    """channels.Waiter: never waits."""

    def __init__(self, *channels: Channel) -> None:
        self._channels = deque(channels)

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
