"""SNS before SQS as a peer: moto's server as our own child. It delivers what a topic gets into its queues, as SNS does.

Differences from AWS: no FIFO order, nothing throttled, any credentials, nothing kept over a restart, slow: for the
envelope and for the attributes of queues that ElasticMQ does not have, for nothing else.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.conformance.peer import Message
from tests.peers.process import Server, free_ports, is_listening, require_program, wait_until
from tests.peers.sqs import SqsPeer, client_of

START_S: Final = 60.0
HOW: Final = "install it: pip install 'wojak[dev]'"


class Moto:
    """One server; what a ``SqsPeer`` needs of a broker."""

    def __init__(self) -> None:
        program = require_program("moto_server", HOW, f"{os.path.dirname(sys.executable)}/moto_server")
        self.folder = Path(tempfile.mkdtemp(prefix="wojak-moto-"))
        (self.port,) = free_ports(1)
        self._server = Server([program, "-H", "127.0.0.1", "-p", str(self.port)], self.folder)
        self.client: Any = None
        self.sns: Any = None

    def start(self) -> None:
        """Start it."""
        self._server.start()
        wait_until(lambda: is_listening(self.port), START_S, lambda: f"moto to listen: {self._server.said()[-2000:]}")
        self.client = client_of(self.port)
        self.sns = client_of(self.port, "sns")

    def end(self) -> None:
        """Leave nothing running."""
        self._server.end()


class SnsPeer(SqsPeer):
    """A queue that is subscribed to a topic; what is sent goes to the topic."""

    keeps_order = False

    def __init__(self, broker: Moto, name: str, *, is_raw: bool = False) -> None:
        super().__init__(broker, name)  # type: ignore[arg-type]  # all that is asked of a broker is there
        self._sns = broker.sns
        self.topic = str(self._sns.create_topic(Name=name)["TopicArn"])
        self._sns.subscribe(
            TopicArn=self.topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:eu-west-1:123456789012:{self.queue}",
            Attributes={"RawMessageDelivery": "true"} if is_raw else {},
        )  # fmt: skip

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings of a sidecar that opens envelopes of the topic."""
        return super().settings(**{"envelope": "sns", "topics": [self.topic], **changes})

    def send(self, messages: list[Message]) -> None:  # type: ignore[override]
        """Publish to the topic."""
        for message in messages:
            entry = self._entry(message)
            self._sns.publish(
                TopicArn=self.topic, Message=entry["MessageBody"], MessageAttributes=entry["MessageAttributes"]
            )
