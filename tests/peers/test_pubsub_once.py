"""Pub/Sub with exactly-once delivery: what was taken back can't be settled any more, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.cases import ids
from tests.conformance.rig import WITHIN_S, Rig, orders
from tests.peers.process import wait_until
from tests.peers.pubsub import OncePubSub, PubSubPeer


@pytest.fixture(scope="module")
def broker() -> Iterator[OncePubSub]:
    """One server for the module."""
    broker = OncePubSub()
    try:
        broker.start()
        yield broker
    finally:
        broker.end()


@pytest.fixture
def rig(tmp_path: Path, broker: OncePubSub, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A subscription, an engine's place, sidecars, witnesses."""
    rig = Rig(tmp_path, broker.peer(request.node.name))
    yield rig
    rig.close()


def test_each_order_has_one_effect_and_is_settled(rig: Rig) -> None:
    """What was sent is decided once and settled; Pub/Sub confirmed every acknowledgement."""
    rig.start_engine()
    sidecar = rig.sidecar().wait_ready()
    rig.peer.send(orders(500))
    rig.wait_effects(500)
    wait_until(lambda: sidecar.metric("settled", result="ok") == 500, WITHIN_S, "all settles told")

    assert sidecar.metric("settle_errors") == sidecar.metric("redelivered") == sidecar.metric("lost_lease") == 0
    rig.finish(ids(500))


def test_a_frozen_sidecar_hears_that_its_settles_came_too_late(rig: Rig) -> None:
    """It wakes with decided orders whose lease is over: refused, counted as lost, settled by who has them now."""
    assert isinstance(rig.peer, PubSubPeer)
    engine = rig.small_engine()
    engine.answers = False
    frozen = rig.sidecar().wait_ready()
    rig.peer.send(orders(5))
    wait_until(lambda: len(engine.journal.items) == 5, WITHIN_S, "five submits")
    frozen.freeze()
    engine.answers = True
    other = rig.sidecar().wait_ready()
    wait_until(lambda: other.metric("settled", result="ok") == 5, WITHIN_S, "five settles by the other")
    frozen.thaw()
    wait_until(lambda: frozen.metric("lost_lease") >= 5, WITHIN_S, "five leases given up")

    assert frozen.metric("handed_back") == 0
    rig.finish(ids(5))
