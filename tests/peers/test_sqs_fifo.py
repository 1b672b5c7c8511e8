"""SQS FIFO queues: the suite of all sources, and what their message groups promise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.cases import covers, ids
from tests.conformance.peer import Message
from tests.conformance.rig import WITHIN_S, Rig, orders
from tests.peers.process import wait_until
from tests.peers.sqs import FifoElasticMq, SqsContract


@pytest.fixture(scope="module")
def broker() -> Iterator[FifoElasticMq]:
    """One server for the module."""
    broker = FifoElasticMq()
    try:
        broker.start()
        yield broker
    finally:
        broker.end()


def in_groups(count: int, groups: int) -> list[Message]:
    """Return orders that take turns among groups."""
    return [Message(body=m.body, message_id=m.message_id, key=f"g{n % groups}") for n, m in enumerate(orders(count))]


class TestSqsFifo(SqsContract):
    """A FIFO queue."""

    @covers("C9")
    def test_a_group_waits_when_an_earlier_order_is_given_back(self, rig: Rig) -> None:
        """What the engine did not take comes again after a delay, and what follows in its group after it."""
        engine = rig.small_engine()
        engine.holds_risk = True
        sidecar = rig.sidecar(hold_ms=100, retry_s=2).wait_ready()
        rig.peer.send(in_groups(30, 1))
        wait_until(lambda: sidecar.metric("handed_back") >= 10, WITHIN_S, "ten given back")
        engine.holds_risk = False
        rig.wait_effects(30)

        assert list(rig.effects()) == ids(30)
        rig.finish(ids(30))

    @covers("C9")
    def test_each_group_keeps_its_order_with_two_sidecars_of_which_one_dies(self, rig: Rig) -> None:
        """Groups go on beside each other, each in its own order, whoever has them."""
        rig.start_engine()
        rig.sidecar().wait_ready()
        dying = rig.sidecar(env={"WOJAK_FAIL_POINT": "sidecar.after_submit:3"}).wait_ready()
        everything = in_groups(2_000, 8)
        sent = 0
        while sent < 2_000 and (dying.is_running or sent < 400):
            rig.peer.send(everything[sent : sent + 200])
            sent += 200
            rig.wait_effects(sent - 100)
        rig.wait_effects(sent)
        order = [int(i[1:]) for i in rig.effect_order()]

        assert not dying.is_running
        for group in range(8):
            mine = [n for n in order if n % 8 == group]
            assert mine == sorted(mine)
        rig.finish(ids(sent))

    @covers("C13")
    def test_poison_first_in_a_group_does_not_stop_it(self, rig: Rig) -> None:
        """It is parked, and what follows is decided in its order."""
        rig.start_engine()
        rig.sidecar().wait_ready()
        rig.peer.send([Message(body=b"nonsense", key="g0"), *in_groups(15, 1)])
        rig.wait_effects(15)

        assert [body for body, _ in self.wait_dead(rig, 1)] == [b"nonsense"]
        assert rig.effect_order() == ids(15)
        rig.finish(ids(15))
