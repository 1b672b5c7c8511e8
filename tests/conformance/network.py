"""The part of the suite of sources in which the broker or the way to it fails; ``source.SourceContract`` has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.cases import covers, ids
from tests.conformance.peer import Broker
from tests.conformance.rig import WITHIN_S, Rig, orders
from tests.peers.process import wait_until
from tests.peers.proxy import Proxy


class NetworkContract:
    """Broker away, connection cut, dead, slow."""

    @pytest.fixture
    def proxy(self, broker: Broker) -> Iterator[Proxy]:
        """A place between sidecar and broker where faults are made."""
        assert broker.has_network, "no network lies between: leave its cases out, cases.without"
        with Proxy(broker.port) as proxy:
            yield proxy

    # Faults of the broker and the network

    def test_a_broker_that_stops_is_waited_for(self, rig: Rig, broker: Broker) -> None:
        """It says that it is not ready, and goes on by itself when the broker is back."""
        rig.start_engine()
        sidecar = rig.sidecar().wait_ready()
        rig.peer.send(orders(50))
        rig.wait_effects(50)
        broker.stop()
        wait_until(lambda: "broker" in sidecar.ask("/readyz")[1], WITHIN_S, "not ready for want of a broker")
        broker.start()
        rig.peer.send(orders(50, 50))
        rig.wait_effects(100)

        wait_until(lambda: sidecar.is_ready, WITHIN_S, "ready again")
        rig.finish(ids(100))

    @covers("C5", "C6")
    def test_a_connection_that_is_cut_again_and_again_loses_nothing(self, rig: Rig, proxy: Proxy) -> None:
        """Settles that went nowhere come again and are answered as before."""
        rig.start_engine()
        rig.sidecar(port=proxy.port).wait_ready()
        for round_ in range(5):
            rig.peer.send(orders(100, 100 * round_))
            wait_until(lambda n=round_: len(rig.effects()) > 100 * n, WITHIN_S, "effects")  # type: ignore[misc]
            proxy.cut()
        rig.wait_effects(500)

        rig.finish(ids(500))

    @covers("C6")
    def test_a_dead_link_is_noticed(self, rig: Rig, proxy: Proxy) -> None:
        """A connection through which nothing passes any more, and that nobody closed, is given up and made anew."""
        rig.start_engine()
        sidecar = rig.sidecar(port=proxy.port).wait_ready()
        rig.peer.send(orders(20))
        rig.wait_effects(20)
        proxy.drops_packets = True
        wait_until(lambda: "broker" in sidecar.ask("/readyz")[1], WITHIN_S, "a dead link noticed")
        proxy.cut()
        proxy.mend()
        rig.peer.send(orders(20, 20))
        rig.wait_effects(40)

        rig.finish(ids(40))

    def test_a_slow_network_only_slows(self, rig: Rig, proxy: Proxy) -> None:
        """With 100 ms more each way everything arrives once."""
        proxy.latency_s = 0.1
        rig.start_engine()
        rig.sidecar(port=proxy.port).wait_ready()
        rig.peer.send(orders(200))
        rig.wait_effects(200)
        proxy.mend()

        rig.finish(ids(200))
