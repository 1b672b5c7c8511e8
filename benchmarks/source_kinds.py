"""What a kind of source brings for ``wojak bench source``: its broker, the settings under load, its plain client.

The plain client (DECISIONS 42) is the library at its best: it receives in batches, with the sidecar's prefetch, decodes
each body into the order Struct (``read_orders``), and settles in batches. It is a process of its own, the module of the
kind run with what ``arguments`` says, the number of messages and the file for its times.
"""

from __future__ import annotations

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import msgspec

from benchmarks.errors import BenchError
from benchmarks.granter import Granted
from protocol.edge import decode_new_order

KINDS: Final = {  # imported when used: each needs its client
    "kafka": "benchmarks.source_kafka:KafkaBench",
    "kinesis": "benchmarks.source_kinesis:KinesisBench",
    "pubsub": "benchmarks.source_pubsub:PubSubBench",
    "pubsub_push": "benchmarks.source_pubsub_push:PubSubPushBench",
    "rabbitmq": "benchmarks.source_rabbitmq:RabbitMqBench",
    "sns": "benchmarks.source_sns:SnsBench",
    "sqs": "benchmarks.source_sqs:SqsBench",
    "stepfunctions": "benchmarks.source_stepfunctions:StepFunctionsBench",
}


class SourceBench(Protocol):
    """What the benchmark asks of a kind."""

    kind: str
    rss_mib_max: int  # the most that its sidecar may have resident
    per_s: int  # messages of a run for each of its --seconds: about what the plain client carries in a few seconds

    def start(self) -> None:
        """Start the broker."""

    def end(self) -> None:
        """Leave nothing running."""

    def resource(self, name: str) -> Any:
        """Return a new, empty resource (``tests.conformance.peer.Peer``)."""

    def settings(self, peer: Any) -> dict[str, Any]:
        """Return the settings of the sidecar under load."""

    def plain(self, peer: Any, count: int, path: Path) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return command and environment of the plain client, which writes ``Granted`` to ``path`` at its end."""


class BrokerBench(ABC):
    """A kind whose broker is the tests' own peer: these benchmarks run in a checkout."""

    kind: ClassVar[str]
    per_s: ClassVar[int] = 5_000
    rss_mib_max: ClassVar[int] = 80
    changes: ClassVar[Mapping[str, Any]]
    """To the settings that the peer has for tests."""

    def __init__(self) -> None:
        self._broker = self.make_broker()

    @abstractmethod
    def make_broker(self) -> Any:
        """Return the broker, not started (``tests.conformance.peer.Broker``)."""

    @abstractmethod
    def arguments(self, peer: Any) -> Sequence[str]:
        """Return what the plain client is told of the resource."""

    def start(self) -> None:
        """Start the broker."""
        self._broker.start()

    def end(self) -> None:
        """Leave nothing running."""
        self._broker.end()

    def resource(self, name: str) -> Any:
        """Return a new, empty resource."""
        return self._broker.peer(name)

    def settings(self, peer: Any) -> dict[str, Any]:
        """Return the settings of the sidecar under load."""
        return dict(peer.settings(**self.changes))

    def plain(self, peer: Any, count: int, path: Path) -> tuple[Sequence[str], Mapping[str, str]]:
        """Return command and environment of the plain client."""
        argv = [sys.executable, "-m", type(self).__module__, *self.arguments(peer), str(count), str(path)]
        return argv, peer.env()


def bench_of(kind: str) -> SourceBench:
    """Return what a kind brings.

    Raises:
        BenchError: If a package that it needs is not installed.
    """
    module, _, name = KINDS[kind].partition(":")
    try:
        made: SourceBench = getattr(importlib.import_module(module), name)()
    except ModuleNotFoundError as e:
        how = f"pip install 'wojak[{kind}]'; its broker comes with the tests of a checkout"
        raise BenchError(f"{kind} expected its packages to be installed, was not ({e}): {how}") from e
    return made


def read_orders(bodies: Iterable[bytes]) -> None:
    """Decode each body into the edge's Struct of a new order, as an edge does; a plain client needs no more of it.

    Raises:
        FieldError: If one is no order: the client then read something else than was sent.
    """
    for body in bodies:
        decode_new_order(body)


def tell(path: str, read: Granted) -> None:
    """Write what the plain client measured."""
    Path(path).write_bytes(msgspec.json.encode(read))
