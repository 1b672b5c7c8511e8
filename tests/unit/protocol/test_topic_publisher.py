"""A publisher that knows who listens sends what a plain one would, and knows what nobody has asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest
import zmq

from protocol.channels import Context, Subscriber, TopicPublisher, Waiter

WAIT_MS = 10_000  # a test that waits longer for a condition has failed
A, B = b"A\0", b"AB\0"


@pytest.fixture
def context() -> Iterator[Context]:
    """The sockets of one test."""
    context = Context()
    yield context
    context.close()


@pytest.fixture
def endpoint() -> Iterator[str]:
    """An address whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="wt") as name:
        yield f"ipc://{name}/p"


def hear(publisher: TopicPublisher) -> bool:
    """Wait for a word of a subscriber; return whether a topic is newly asked for."""
    assert Waiter(publisher).wait(WAIT_MS)
    return publisher.receive(100)


@pytest.mark.parametrize(
    ("prefix", "heard"),
    [(A, {A}), (B, {B}), (b"", {A, B}), (b"A", {A, B}), (b"AB\0x", {B}), (b"C\0", set())],
)
def test_a_prefix_asks_for_what_begins_with_it(
    context: Context, endpoint: str, prefix: bytes, heard: set[bytes]
) -> None:
    """A topic is heard once somebody asked for it, a part of it, or more; never because of another's topic."""
    publisher = TopicPublisher(context, endpoint, 10, [A, B])
    assert not publisher.is_heard(A)
    subscriber = Subscriber(context, endpoint, 10, [prefix])
    assert hear(publisher) == bool(heard)
    assert {topic for topic in (A, B) if publisher.is_heard(topic)} == heard
    publisher.send(A + b"1")
    publisher.send(B + b"1")
    expected = [topic + b"1" for topic in (A, B) if topic.startswith(prefix)]
    received: list[bytes] = []
    while len(received) < len(expected):
        assert Waiter(subscriber).wait(WAIT_MS)
        received += subscriber.receive(10)
    assert received == expected
    subscriber.close()
    publisher.close()


def test_a_second_listener_is_heard_though_the_first_left(context: Context, endpoint: str) -> None:
    """Whoever goes takes nothing from those who stay or come: what they are sent begins at once and has no hole."""
    publisher = TopicPublisher(context, endpoint, 100, [A])
    first = Subscriber(context, endpoint, 100, [A])
    assert hear(publisher)
    first.close()
    assert not hear(publisher)  # what it took back
    assert publisher.is_heard(A)
    second = Subscriber(context, endpoint, 100, [A])
    assert not hear(publisher)
    for n in range(50):
        publisher.send(A + bytes([n]))
    received: list[bytes] = []
    while len(received) < 50:
        assert Waiter(second).wait(WAIT_MS)
        received += second.receive(100)
    assert received == [A + bytes([n]) for n in range(50)]
    second.close()
    publisher.close()


@pytest.mark.parametrize("lie", [b"\0" + A, b"\0", b"\x02nothing", b"", b"\1" * 5_000])
def test_a_peer_that_lies_silences_nobody(context: Context, endpoint: str, lie: bytes) -> None:
    """Taking back what others asked for, or saying what is no word at all, changes nothing for those who listen."""
    publisher = TopicPublisher(context, endpoint, 10, [A, B])
    listener = Subscriber(context, endpoint, 10, [A])
    assert hear(publisher)
    liar = context.socket(zmq.XSUB, 10)
    liar.connect(endpoint)
    liar.send(lie)
    liar.send(b"\1B")  # comes after the lie: the lie has been taken when this has
    liar.send(b"\1" + B)
    while not publisher.is_heard(B):
        hear(publisher)
    publisher.send(A + b"1")
    assert Waiter(listener).wait(WAIT_MS)
    assert listener.receive(10) == [A + b"1"]
    liar.close(linger=0)
    listener.close()
    publisher.close()
