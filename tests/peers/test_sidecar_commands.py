"""The whole way with the commands of a person: a configured broker, its sidecar, dead letters listed and put back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.peer import Message
from tests.peers.process import wait_until
from tests.peers.rabbitmq import RabbitMq
from tests.processes.stack import Stack

WITHIN_S = 30.0
ORDER = {
    "account": "demo", "strategy": "manual", "instrument": "BTCUSDT", "side": "BUY", "quantity": "0.01",
    "order_type": "MARKET", "time_in_force": "IOC",
}  # fmt: skip


@pytest.fixture
def broker() -> Iterator[RabbitMq]:
    """A server of its own."""
    broker = RabbitMq()
    try:
        broker.start()
        yield broker
    finally:
        broker.end()


def test_an_order_goes_from_a_queue_to_the_venue_and_a_refused_one_to_the_dead_letters(
    broker: RabbitMq, tmp_path: Path
) -> None:
    """Configured in wojak.toml, run by `wojak sidecar run`; what is refused is seen, mended in time and put back."""
    queue = broker.peer("desk")

    def edit(text: str) -> str:
        rows = (
            '[[sources]]\nsource = "desk-mq"\nprincipals = ["local"]\n\n[[sidecars]]\nsource = "desk-mq"\n'
            'kind = "rabbitmq"\nsupervised = false\n'
            f'[sidecars.settings]\nqueue = "{queue.queue}"\nprincipal = "local"\n'
            f'dead_letter_queue = "{queue.dead_queue}"\n\n'
        )
        return text.replace("[http]", rows + "[http]", 1)

    with Stack(tmp_path, env=queue.env(), edit=edit) as stack:
        stack.start()
        stack.wait_ready()
        sidecar = stack.launch("sidecar", "run", "desk-mq")
        try:
            queue.send(
                [
                    Message(body=json.dumps({**ORDER, "client_order_id": "q1"}).encode(), message_id="m1"),
                    Message(
                        body=json.dumps({**ORDER, "client_order_id": "q2", "colour": "red"}).encode(), message_id="m2"
                    ),
                ]
            )
            wait_until(lambda: stack.status().accepted == 1, WITHIN_S, "an accepted order")
            listed = wait_until(
                lambda: "m2" in (said := stack.wojak("sidecar", "dlq", "ls", "desk-mq").stdout) and said, WITHIN_S,
                "a dead letter",
            )  # fmt: skip
            shown = stack.wojak("sidecar", "dlq", "show", "desk-mq", "1").stdout
            checked = stack.wojak("sidecar", "check", "desk-mq")
            back = stack.wojak("sidecar", "dlq", "replay", "desk-mq", "--all")
            unknown = stack.wojak("sidecar", "run", "nobody")
            wait_until(lambda: "m2" in stack.wojak("sidecar", "dlq", "ls", "desk-mq").stdout, WITHIN_S, "it again")
        finally:
            sidecar.terminate()
            assert sidecar.wait(WITHIN_S) == 0, stack.said()
            queue.close()

    assert "colour" in str(listed)
    assert "reason      FIELD: colour" in shown
    assert '"colour": "red"' in shown
    assert "x-delivery-limit" in checked.stdout
    assert checked.returncode == 1
    assert "1 put back" in back.stdout
    assert (unknown.returncode != 0, "desk-mq" in unknown.stderr) == (True, True)
