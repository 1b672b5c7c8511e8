"""The part of the suite of sources in which the engine says wait, or says nothing; ``source.SourceContract`` has it."""

from __future__ import annotations

import time
from typing import Final

from sidecars.core.settings import SessionSettings
from tests.conformance.cases import covers, ids
from tests.conformance.peer import Message
from tests.conformance.rig import WITHIN_S, Rig, orders
from tests.peers.process import wait_until

KIB: Final = 1 << 10


class PatienceContract:
    """RETRY, no credits, long thinking."""

    def test_retry_is_honoured_in_order_and_gives_nothing_back(self, rig: Rig) -> None:
        """While the engine says RETRY nothing is sent again before its time, then all, in the order a key had."""
        engine = rig.small_engine()
        engine.holds_risk, engine.retry_ms = True, 600
        sidecar = rig.sidecar().wait_ready()
        rig.peer.send([Message(body=m.body, message_id=m.message_id, key="k") for m in orders(20)])
        wait_until(lambda: engine.resumed_ns, WITHIN_S, "a Resume")
        engine.holds_risk = False
        rig.wait_effects(20)
        wait_until(lambda: sidecar.metric("settled", result="ok") == 20, WITHIN_S, "twenty settles told")

        assert engine.resumed_ns[0] - engine.retried_ns[0] >= 600 * 1_000_000
        assert list(rig.effects()) == ids(20) or not rig.peer.keeps_order
        assert sidecar.metric("handed_back") == 0
        rig.finish(ids(20))

    @covers("C12")
    def test_an_engine_that_grants_no_more_stops_the_pulling(self, rig: Rig) -> None:
        """Not more is received than credits and the source's bound allow, memory stays, and then it goes on."""
        engine = rig.small_engine(credits=8, reserved=0)
        engine.answers = False  # and lives: this is about credits, not about an engine that is held dead
        sidecar = rig.sidecar(session=SessionSettings(answer_ms=60_000)).wait_ready()
        before = sidecar.rss_bytes
        count = 6 * rig.peer.bound
        padding = " " * (64 * KIB)
        rig.peer.send([Message(body=m.body + padding.encode(), message_id=m.message_id) for m in orders(count)])
        wait_until(lambda: len(engine.journal.items) == 8, WITHIN_S, "eight submits")
        wait_until(lambda: sidecar.metric("in_flight") == 8, WITHIN_S, "eight in flight told")

        assert sidecar.metric("received") == 8
        assert sidecar.metric("handed_back") == sidecar.metric("redelivered") == 0
        assert sidecar.rss_bytes - before < 2 * rig.peer.bound * 64 * KIB + 16 * KIB * KIB
        assert len(engine.journal.items) == 8
        engine.close()
        rig.small_engine(credits=64)
        rig.wait_effects(count)
        rig.finish(ids(count))

    @covers("C11")
    def test_a_lease_is_extended_while_the_engine_thinks(self, rig: Rig) -> None:
        """With an engine that takes three times the lease nothing comes again, and then it is settled."""
        assert rig.peer.lease_ms, "this source's lease can't be extended: leave the case out, cases.without"
        engine = rig.small_engine()
        engine.answers = False
        sidecar = rig.sidecar(session=SessionSettings(answer_ms=60_000)).wait_ready()
        rig.peer.send(orders(5))
        wait_until(lambda: len(engine.journal.items) == 5, WITHIN_S, "five submits")
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 3 * rig.peer.lease_ms / 1000, WITHIN_S, "three leases")

        assert sidecar.metric("received") == 5
        assert sidecar.metric("lost_lease") == 0
        assert sidecar.metric("lease_extensions", result="ok") >= 5
        engine.close()
        rig.small_engine()
        rig.wait_effects(5)
        rig.finish(ids(5))
