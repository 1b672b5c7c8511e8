"""What every source must do, claimed against its real broker; a source's tests inherit ``SourceContract``.

They give it a ``broker`` fixture (module scope) that is a started ``tests.conformance.peer.Broker``. A case of SOURCES
section 12 that a test covers stands in ``covers``; tests/conformance/matrix.py says of each case and source how it is
shown. How to write a source and its tests: docs/writing-a-source.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.conformance.cases import covers, ids
from tests.conformance.network import NetworkContract
from tests.conformance.patience import PatienceContract
from tests.conformance.peer import Broker, Message, Peer
from tests.conformance.rig import WITHIN_S, Rig, order, orders
from tests.peers.process import wait_until

KIB = 1 << 10
SIDECAR_POINTS = [
    "sidecar.after_receive", "sidecar.after_submit", "sidecar.after_outcome", "sidecar.before_settle",
    "sidecar.after_settle",
]  # fmt: skip
ENGINE_POINTS = [
    "engine.after_receive", "engine.after_decide", "engine.after_write", "engine.after_sync", "engine.after_outcome",
]  # fmt: skip
POISON = {
    "empty": b"",
    "no object": b"7",
    "cut off": order("p")[:-5],
    "binary": bytes(range(256)),
    "wrong encoding": order("p").replace(b'"p"', b'"\xff\xfe"'),
    "nested too deep": b"[" * 100_000,
    "too large": order("p", strategy="x" * 300 * KIB),
    "unknown field": order("p", colour="red"),
    "a number for a price": order("p", price=59990),
    "a field twice": order("p").replace(b"{", b'{"side":"SELL",', 1),
    "no list of orders": b"[]",
}
NO_DRAIN_S = 20.0


class SourceContract(PatienceContract, NetworkContract):
    """Inherited by the tests of each source."""

    @pytest.fixture
    def peer(self, broker: Broker, request: pytest.FixtureRequest) -> Peer:
        """A resource of its own for each test; the rig closes it."""
        return broker.peer(request.node.name)

    @pytest.fixture
    def rig(self, tmp_path: Path, peer: Peer) -> Iterator[Rig]:
        """An engine's place, sidecars, witnesses."""
        rig = Rig(tmp_path, peer)
        yield rig
        rig.close()

    # Effects and settles

    def test_each_order_has_one_effect_and_is_settled(self, rig: Rig) -> None:
        """What was sent is decided once, settled, and nothing is left."""
        rig.start_engine()
        sidecar = rig.sidecar().wait_ready()
        rig.peer.send(orders(20))
        rig.wait_effects(20)
        wait_until(lambda: sidecar.metric("settled", result="ok") == 20, WITHIN_S, "twenty settles told")

        assert sidecar.metric("received") == 20
        assert sidecar.metric("redelivered") == 0
        rig.finish(ids(20))

    def test_nothing_is_settled_before_its_outcome(self, rig: Rig) -> None:
        """An engine that says nothing leaves every message with the broker, however the sidecar ends."""
        engine = rig.small_engine()
        engine.is_mute = True
        sidecar = rig.sidecar().wait_ready()
        rig.peer.send(orders(20))
        wait_until(lambda: len(engine.journal.items) >= 20, WITHIN_S, "twenty submits")
        sidecar.kill()

        assert len(rig.peer.left()) == 20

    @covers("C1", "C2", "C4")
    @pytest.mark.parametrize("point", SIDECAR_POINTS)
    def test_a_sidecar_that_dies_loses_nothing_and_repeats_nothing(self, rig: Rig, point: str) -> None:
        """Kill -9 after receive, submit, outcome, before and after settle: redelivered, one effect, settled."""
        rig.start_engine()
        dying = rig.sidecar(env={"WOJAK_FAIL_POINT": f"{point}:2"})
        rig.peer.send(orders(2))
        wait_until(lambda: dying.is_running is False or dying.is_ready, WITHIN_S, "a sidecar")
        sent = 2
        while dying.is_running and sent < 2_000:
            rig.peer.send(orders(20, sent))
            sent += 20
            wait_until(lambda n=sent: len(rig.effects()) >= n or not dying.is_running, WITHIN_S, "effects")  # type: ignore[misc]
        assert dying.server.kill() == -9

        rig.sidecar().wait_ready()
        rig.wait_effects(sent)
        rig.finish(ids(sent))

    @covers("C3")
    @pytest.mark.parametrize("point", ENGINE_POINTS)
    def test_an_engine_that_dies_loses_nothing_and_repeats_nothing(self, rig: Rig, point: str) -> None:
        """Kill -9 between receipt, journal and answer: submitted again, answered as it was the first time."""
        rig.start_engine({"WOJAK_FAIL_POINT": f"{point}:12"})  # its start writes too
        sidecar = rig.sidecar()
        rig.peer.send(orders(100))
        sent = 100
        wait_until(lambda: rig.engine_has_died() or sidecar.is_ready, WITHIN_S, "a sidecar or a dead engine")
        while not rig.engine_has_died() and sent < 2_000:
            rig.peer.send(orders(20, sent))
            sent += 20
            # One batch after the other: all at once may be decided in fewer than there are turns to die in.
            wait_until(lambda n=sent: rig.engine_has_died() or len(rig.effects()) >= n, WITHIN_S, "effects")  # type: ignore[misc]
        wait_until(rig.engine_has_died, WITHIN_S, f"death at {point}")
        rig.kill_engine()
        rig.start_engine()
        rig.wait_effects(sent)

        rig.finish(ids(sent))

    @covers("C8")
    def test_duplicates_have_one_effect_and_a_conflict_is_parked(self, rig: Rig) -> None:
        """Same message again, same order in another message: one effect; another order under its id: dead letter."""
        rig.start_engine()
        rig.sidecar().wait_ready()
        first = orders(1)[0]
        again = Message(body=first.body, message_id="another-1")
        changed = Message(body=order("o000000", quantity="0.002"), message_id="another-2")
        rig.peer.send([first, first, again, changed, orders(2)[1]])
        rig.wait_effects(2)
        letters = self.wait_dead(rig, 1)

        assert letters == [(changed.body, "ID_CONFLICT")]
        rig.finish(ids(2))

    def test_a_message_without_an_id_of_the_order_has_one_of_its_own(self, rig: Rig) -> None:
        """The id derived from the message is the same at each delivery, and differs between messages."""
        assert rig.peer.has_message_id, "this source has no id of its own: leave the case out, cases.without"
        rig.start_engine()
        dying = rig.sidecar(env={"WOJAK_FAIL_POINT": "sidecar.before_settle:1"})
        rig.peer.send([Message(body=order(), message_id=f"m{n}") for n in range(3)])
        wait_until(lambda: not dying.is_running, WITHIN_S, "a death before the settle")
        rig.sidecar().wait_ready()
        effects = rig.wait_effects(3)

        rig.finish(list(effects))
        assert len(effects) == 3

    # Several, frozen, in order

    @covers("C8")
    def test_two_sidecars_share_the_work(self, rig: Rig) -> None:
        """Both take part, and no order has two effects."""
        rig.start_engine()
        both = [rig.sidecar().wait_ready() for _ in range(2)]
        rig.peer.send(orders(400))
        rig.wait_effects(400)
        wait_until(lambda: sum(s.metric("received") for s in both) >= 400, WITHIN_S, "figures of both")

        rig.finish(ids(400))

    @covers("C7")
    def test_a_frozen_sidecar_is_replaced_and_harms_nothing_when_it_wakes(self, rig: Rig) -> None:
        """The broker gives what it holds to another; thawed, it settles nothing and gives nothing back of that."""
        frozen = rig.sidecar()
        wait_until(lambda: "broker" not in frozen.ask("/readyz")[1] and frozen.ask("/readyz")[0], WITHIN_S, "a link")
        rig.peer.send(orders(20))
        frozen.freeze()
        rig.start_engine()
        rig.sidecar().wait_ready()
        rig.wait_effects(20)
        frozen.thaw()
        rig.peer.send(orders(20, 20))
        rig.wait_effects(40)

        rig.finish(ids(40))

    @covers("C9")
    def test_order_is_kept_also_across_a_crash(self, rig: Rig) -> None:
        """Effects come in the order in which one producer sent, with one sidecar after the other."""
        assert rig.peer.keeps_order, "this source promises no order: leave the case out, cases.without"
        rig.start_engine()
        dying = rig.sidecar(env={"WOJAK_FAIL_POINT": "sidecar.after_outcome:3"})
        rig.peer.send([Message(body=m.body, message_id=m.message_id, key="k") for m in orders(300)])
        wait_until(lambda: not dying.is_running, WITHIN_S, "a death")
        rig.sidecar().wait_ready()
        rig.wait_effects(300)

        assert rig.effect_order() == ids(300)
        rig.finish(ids(300))

    # Drain

    @covers("C14")
    @pytest.mark.parametrize("within_s", [1, 15])
    def test_a_drain_ends_in_time_and_gives_back_what_has_no_answer(self, rig: Rig, within_s: int) -> None:
        """With an engine that says nothing it leaves within its time, and a successor finds every message at once."""
        engine = rig.small_engine()
        engine.is_mute = True
        sidecar = rig.sidecar(drain_ms=within_s * 1000).wait_ready()
        rig.peer.send(orders(100))
        wait_until(lambda: len(engine.journal.items) >= rig.peer.bound, WITHIN_S, "submits")
        began = os.times().elapsed
        code = sidecar.drain(within_s + NO_DRAIN_S)

        assert os.times().elapsed - began < within_s + 2
        assert code in {0, 3}, sidecar.said
        assert sorted(rig.peer.left()) == [m.body for m in orders(100)]

    @covers("C14")
    def test_a_drain_under_load_loses_nothing(self, rig: Rig) -> None:
        """What the engine answers in time is settled, the rest is another sidecar's."""
        rig.start_engine()
        first = rig.sidecar().wait_ready()
        rig.peer.send(orders(1_000))
        wait_until(rig.effects, WITHIN_S, "the first effects")
        assert first.drain() == 0, first.said
        rig.sidecar().wait_ready()
        rig.wait_effects(1_000)

        rig.finish(ids(1_000))

    def test_an_engine_that_leaves_is_waited_for(self, rig: Rig) -> None:
        """Drained by its engine the sidecar stays, holds nothing, and goes on with the next engine."""
        rig.start_engine()
        sidecar = rig.sidecar().wait_ready()
        rig.peer.send(orders(200))
        wait_until(rig.effects, WITHIN_S, "the first effects")
        rig.stack.stop("engine")
        rig.peer.send(orders(200, 200))
        rig.start_engine()
        rig.wait_effects(400)

        assert sidecar.is_running
        rig.finish(ids(400))

    # Poison

    @covers("C13")
    def test_poison_is_parked_with_its_reason_and_blocks_nobody(self, rig: Rig) -> None:
        """Each kind of nonsense becomes a dead letter, unchanged, with a reason; the orders around it pass."""
        rig.start_engine()
        sidecar = rig.sidecar().wait_ready()
        poison = [Message(body=body, message_id=f"p{n}") for n, body in enumerate(self.poison(rig.peer).values())]
        rig.peer.send([*poison, *orders(5)])
        rig.wait_effects(5)
        letters = self.wait_dead(rig, len(poison))

        assert sorted(body for body, _ in letters) == sorted(m.body for m in poison)
        assert [reason for _, reason in letters if not reason.startswith("FIELD: ")] == []
        wait_until(lambda: sidecar.metric("settled", result="parked") == len(poison), WITHIN_S, "parked ones told")
        rig.finish(ids(5))

    def poison(self, peer: Peer) -> dict[str, bytes]:
        """Return what is no order, by name; a source whose broker refuses one of these itself leaves it out."""
        return POISON

    @covers("C13")
    def test_what_says_too_little_is_parked(self, rig: Rig) -> None:
        """A foreign version of an event, no id anywhere: dead letter."""
        rig.start_engine()
        rig.sidecar().wait_ready()
        event = {"specversion": "2.0", "id": "1", "source": "s", "type": "t", "data": {}}
        newer = Message(body=msgspec.json.encode(event), message_id="e", content_type="application/cloudevents+json")
        nameless = [] if rig.peer.names_all else [Message(body=order())]
        rig.peer.send([newer, *nameless])
        letters = dict(self.wait_dead(rig, 1 + len(nameless)))

        assert "event.specversion" in letters[newer.body]
        assert all("client_order_id" in letters[m.body] for m in nameless)
        rig.finish([])

    def test_what_is_not_permitted_is_parked(self, rig: Rig) -> None:
        """An order of a principal who may not trade is refused by the engine, shown to people, and settled."""
        rig.start_engine()
        rig.sidecar(principal="nobody").wait_ready()
        rig.peer.send(orders(1))
        letters = self.wait_dead(rig, 1)

        assert letters == [(orders(1)[0].body, "AUTH_NOT_PERMITTED")]
        rig.finish([])

    # Formats and replies

    def test_a_batch_is_settled_when_every_item_has_an_end(self, rig: Rig) -> None:
        """Two orders of three have an effect, the third its reason in the dead letter of the message."""
        assert rig.peer.has_message_id, "items without an id need the message's: leave the case out, cases.without"
        rig.start_engine()
        rig.sidecar().wait_ready()
        body = b"[" + order("a") + b"," + order("b", price=1) + b"," + order() + b"]"
        rig.peer.send([Message(body=body, message_id="batch")])
        effects = rig.wait_effects(2)
        letters = self.wait_dead(rig, 1)

        (derived,) = set(effects) - {"a"}
        assert derived.endswith("/2")
        assert letters[0][0] == body
        assert letters[0][1].startswith("[1] FIELD: price")
        rig.finish(["a", derived])

    def test_events_are_opened_in_both_modes(self, rig: Rig) -> None:
        """A CloudEvent carries an order as its data, or as the body with the event in the attributes."""
        rig.start_engine()
        rig.sidecar().wait_ready()
        event = {"specversion": "1.0", "id": "1", "source": "/desk", "type": "order"}
        structured = msgspec.json.encode({**event, "data": msgspec.Raw(order("structured"))})
        sent = [Message(body=structured, content_type="application/cloudevents+json", message_id="1")]
        if rig.peer.has_headers:
            headers = {f"ce-{k}": v for k, v in event.items()}
            sent.append(Message(body=order("binary"), headers=headers, message_id="2", content_type="application/json"))
        rig.peer.send(sent)
        rig.wait_effects(len(sent))

        rig.finish(["structured", "binary"][: len(sent)])

    def test_orders_are_cancelled_and_replaced_by_message(self, rig: Rig) -> None:
        """A cancel finds its order, a replace its own id; both are settled by their outcome."""
        rig.start_engine()
        sidecar = rig.sidecar().wait_ready()
        account = msgspec.json.decode(order())["account"]
        changes = [
            {"account": account, "replace_client_order_id": "o000000", "price": "59980", "client_order_id": "r"},
            {"account": account, "cancel_client_order_id": "o000001"},
            {"account": account, "cancel_client_order_id": "not-there-yet"},
        ]
        rig.peer.send(orders(2))
        rig.wait_effects(2)
        rig.peer.send([Message(body=msgspec.json.encode(c), message_id=f"c{n}") for n, c in enumerate(changes)])
        wait_until(lambda: sidecar.metric("settled") == 5, WITHIN_S, "the cancels settled: not every source has order")
        rig.peer.send([Message(body=order("not-there-yet"), message_id="late")])
        wait_until(lambda: sidecar.metric("settled") == 6, WITHIN_S, "six settles told")

        assert sidecar.metric("settled", result="parked") == 0
        rig.finish(ids(2))

    def test_the_answer_is_published_before_the_message_is_settled(self, rig: Rig) -> None:
        """Each producer that asks hears what became of its order; an address that is not allowed is refused."""
        assert rig.peer.has_replies, "this source has no way back: leave the case out, cases.without"
        rig.start_engine()
        dying = rig.sidecar(env={"WOJAK_FAIL_POINT": "sidecar.after_settle:1"})
        rig.peer.send([Message(body=order("asked"), message_id="1", reply_to=rig.peer.reply_to)])
        wait_until(lambda: not dying.is_running, WITHIN_S, "a death right after the settle")
        answer = msgspec.json.decode(rig.peer.replies()[0])
        rig.sidecar().wait_ready()
        rig.peer.send([Message(body=order("elsewhere"), message_id="2", reply_to="somebody-else")])
        letters = self.wait_dead(rig, 1)

        assert (answer["outcome"], answer["client_order_id"]) == ("ACCEPTED", "asked")
        assert letters[0][1].startswith("REPLY_TO")
        rig.finish(["asked"])

    # Many

    def test_many_messages_are_each_decided_once(self, rig: Rig) -> None:
        """Sent = one effect each = settled, with two sidecars, one of which is killed on the way."""
        count = rig.peer.many
        rig.start_engine()
        killed = rig.sidecar(prefetch=500) if "prefetch" in rig.peer.settings() else rig.sidecar()
        rig.sidecar().wait_ready()
        killed.wait_ready()
        for at in range(0, count, 10_000):
            rig.peer.send(orders(min(10_000, count - at), at))
            if at == 0:
                wait_until(lambda: len(rig.effects()) > 1_000, WITHIN_S, "effects")
                killed.kill()
        rig.wait_effects(count, 4 * WITHIN_S)

        rig.finish(ids(count))

    def wait_dead(self, rig: Rig, count: int) -> list[tuple[bytes, str]]:
        """Wait for so many dead letters; return body and reason of each."""
        found: list[tuple[bytes, str]] = []

        def look() -> bool:
            found.extend((d.body, d.reason) for d in rig.peer.dead())
            return len(found) >= count

        wait_until(look, WITHIN_S, lambda: f"{count} dead letters, were {found}; {rig.tell()}")
        assert len(found) == count
        return found
