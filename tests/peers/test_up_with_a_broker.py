"""`wojak up` with RabbitMQ beside HTTP: supervised, drained with the rest, and a broker that is away stops nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.peer import Message
from tests.peers.process import wait_until
from tests.peers.rabbitmq import RabbitMq, RabbitMqPeer
from tests.processes.stack import Stack

WITHIN_S = 60.0
NAME = "sidecar-desk-mq"
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


@pytest.fixture
def queue(broker: RabbitMq) -> Iterator[RabbitMqPeer]:
    """A queue of it."""
    queue = broker.peer("up")
    yield queue
    queue.close()


def stack_of(folder: Path, queue: RabbitMqPeer) -> Stack:
    rows = (
        '[[sources]]\nsource = "desk-mq"\nprincipals = ["local"]\n\n[[sidecars]]\nsource = "desk-mq"\n'
        f'kind = "rabbitmq"\n[sidecars.settings]\nqueue = "{queue.queue}"\nprincipal = "local"\n'
        f'dead_letter_queue = "{queue.dead_queue}"\n\n[http]'
    )
    return Stack(folder, env=queue.env(), edit=lambda text: text.replace("[http]", rows, 1))


def order(name: str) -> Message:
    body = json.dumps({**ORDER, "client_order_id": name}).encode()
    return Message(body=body, message_id=f"m-{name}")


def sidecar_line(stack: Stack) -> str:
    """Return what `wojak status` says of the sidecar."""
    return next(line for line in stack.wojak("status").stdout.splitlines() if line.startswith(NAME))


def test_orders_of_a_queue_are_carried_by_what_up_started_also_after_a_kill(
    queue: RabbitMqPeer, tmp_path: Path
) -> None:
    """Sent = one effect each = settled, with a kill -9 of the sidecar on the way; exit code 0."""
    with stack_of(tmp_path, queue) as stack:
        stack.start()
        queue.send([order(f"a{n}") for n in range(20)])
        wait_until(lambda: stack.status().accepted >= 1, WITHIN_S, "an accepted order")
        pid = stack.kill(NAME)
        queue.send([order(f"b{n}") for n in range(20)])
        stack.wait_restarted(NAME, pid)
        wait_until(lambda: stack.status().accepted == 40, WITHIN_S, "every order")
        wait_until(lambda: queue.waiting() == 0, WITHIN_S, "an empty queue")
        assert sidecar_line(stack).split()[1] == "ready"
        assert stack.stop() == 0, stack.said()
    assert queue.left() == []


def test_a_broker_that_is_away_is_waited_for_while_http_trades(
    broker: RabbitMq, queue: RabbitMqPeer, tmp_path: Path
) -> None:
    """Away at the start: said with what to do, HTTP trades, the sidecar stays; back: its orders come by themselves."""
    queue.send([order("early")])
    broker.stop()
    with stack_of(tmp_path, queue) as stack:
        stack.start()
        said = wait_until(lambda: f"! {NAME} is not ready: " in (said := stack.said()) and said, WITHIN_S, "it said")
        assert "broker: " in said
        assert "Connection refused" in said
        assert "What it lacks: wojak sidecar check desk-mq" in said
        assert stack.wojak("order", "buy", "BTCUSDT", "0.01").returncode == 0
        checked = stack.wojak("sidecar", "check", "desk-mq")
        assert checked.returncode == 1
        assert "✘" in checked.stdout
        assert "not ready" in sidecar_line(stack)
        pid = stack.processes()[NAME].pid
        broker.start()
        wait_until(lambda: stack.status().accepted == 2, WITHIN_S, "the order of the queue")
        assert stack.processes()[NAME].pid == pid
        assert stack.stop() == 0, stack.said()
