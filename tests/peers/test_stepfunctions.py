"""Step Functions: the suite of all sources against LocalStack, and what only this source does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from msgspec import convert

from sidecars.core.kinds import Level
from sidecars.sources.stepfunctions_answers import RETRYABLE, Ending
from sidecars.sources.stepfunctions_check import check
from sidecars.sources.stepfunctions_link import DONE, LOST, Tokens
from sidecars.sources.stepfunctions_settings import StepFunctionsSettings
from tests.conformance.cases import covers, ids, without
from tests.conformance.peer import Message
from tests.conformance.rig import WITHIN_S, Rig, order, orders
from tests.peers.process import wait_until
from tests.peers.sqs import SqsPeer, client_of
from tests.peers.stepfunctions import (
    HEARTBEAT_S,
    RETRY,
    StepFunctionsBroker,
    StepFunctionsContract,
    StepFunctionsPeer,
    task_state,
)


@pytest.fixture(scope="module")
def broker() -> Iterator[StepFunctionsBroker]:
    """The server of this worker."""
    broker = StepFunctionsBroker()
    yield broker
    broker.end()


def states_of(rig: Rig) -> StepFunctionsPeer:
    """Return the activity of a rig."""
    assert isinstance(rig.peer, StepFunctionsPeer)
    return rig.peer


def results_of(rig: Rig, count: int) -> dict[bytes, dict[str, Any]]:
    """Wait for so many ended tasks; return what became of each by its order."""
    found: dict[bytes, dict[str, Any]] = {}

    def look() -> bool:
        found.update(states_of(rig).results())
        return len(found) >= count

    wait_until(look, WITHIN_S, lambda: f"{count} results, were {found}; {rig.tell()}")
    return found


@without("test_order_is_kept_also_across_a_crash", "test_the_answer_is_published_before_the_message_is_settled")
class TestStepFunctions(StepFunctionsContract):
    """An activity."""

    def test_a_task_ends_with_the_answer(self, rig: Rig) -> None:
        """The decision is the output; a refusal by the gate and an order that is none are errors of their own."""
        rig.start_engine()
        rig.sidecar().wait_ready()
        good, rejected, invalid = order("good"), order("far", quantity="1000000"), order("bad", price=1)
        batch = b"[" + order("a") + b"," + order("b") + b"]"
        rig.peer.send([Message(body=body) for body in (good, rejected, invalid, batch)])
        found = results_of(rig, 4)

        assert found[good]["answer"]["outcome"] == "ACCEPTED"
        assert found[rejected]["Error"] == "Order.Rejected"
        assert json.loads(found[rejected]["Cause"])["outcome"] == "REJECTED"
        assert found[invalid]["Error"] == "Order.Invalid"
        assert [a["client_order_id"] for a in found[batch]["answer"]] == ["a", "b"]
        rig.finish(["good", "a", "b"])

    @covers("C21")
    def test_a_task_whose_poll_was_lost_comes_again_and_has_one_effect(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Step Functions hands a token out once: after its heartbeat time-out the Retry makes a new one."""
        peer = states_of(rig)
        for name, value in peer.env().items():
            monkeypatch.setenv(name, value)
        rig.start_engine()
        rig.peer.send(orders(1))
        assert peer.take(client_of(peer.broker.port, "stepfunctions"))  # to somebody who never speaks of it again
        rig.peer.send(orders(3, 1))
        sidecar = rig.sidecar().wait_ready()
        rig.wait_effects(4)
        wait_until(lambda: sidecar.metric("redelivered") >= 1, WITHIN_S, "a later attempt told")

        rig.finish(ids(4))

    @covers("C21")
    def test_a_token_counts_once_and_a_later_attempt_has_another(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A second answer, and a heartbeat after the first, are lost and no error; given back, the token is new."""
        peer = states_of(rig)
        for name, value in peer.env().items():
            monkeypatch.setenv(name, value)
        rig.peer.send(orders(1))
        states, tokens = client_of(peer.broker.port, "stepfunctions"), Tokens(1)
        first = peer.take(states)["taskToken"]
        heard = tokens.heartbeat(first)
        back = tokens.answer(first, Ending(error=RETRYABLE, cause="DRAINING"))
        second = peer.take(states)["taskToken"]
        done = tokens.answer(second, Ending(output="{}"))
        wait_until(lambda: peer.waiting() == 0, WITHIN_S, "an end")

        assert first != second
        assert (heard, back, done) == (DONE, DONE, DONE)
        assert (tokens.answer(second, Ending(output="{}")), tokens.heartbeat(second)) == (LOST, LOST)

    def test_what_the_engine_does_not_take_is_given_back_and_comes_again(self, rig: Rig) -> None:
        """Held too long, its task fails with an error that the state machine tries again."""
        engine = rig.small_engine()
        engine.holds_risk = True
        sidecar = rig.sidecar(hold_ms=100).wait_ready()
        rig.peer.send(orders(5))
        wait_until(lambda: sidecar.metric("handed_back") >= 5, WITHIN_S, "five given back")
        engine.holds_risk = False
        rig.wait_effects(5)

        assert sidecar.metric("lost_lease") == 0
        rig.finish(ids(5))

    def test_a_drain_that_waits_for_its_polls_leaves_no_task_to_a_time_out(self, rig: Rig) -> None:
        """A task that a poll brings while the sidecar leaves is given back at once, as its retries show."""
        engine = rig.small_engine()
        engine.is_mute = True
        sidecar = rig.sidecar(pollers=2, drain_polls_s=61, drain_ms=70_000).wait_ready()
        wait_until(lambda: sidecar.metric("credits") > 0, WITHIN_S, "credits")
        sidecar.server.signal(15)
        wait_until(lambda: "DRAINING" in sidecar.ask("/readyz")[1], WITHIN_S, "a drain")
        rig.peer.send(orders(2))
        assert sidecar.server.process is not None
        assert sidecar.server.process.wait(30) == 0, sidecar.said
        errors = [e for _, e in states_of(rig).failures()]

        assert errors == [RETRYABLE] * 2
        assert len(rig.peer.left()) == 2


# A token that came over another source


class Callback(SqsPeer):
    """A queue that a state machine sends orders with their tokens to."""

    def __init__(self, broker: StepFunctionsBroker, name: str) -> None:
        self.states_peer = broker.peer(name)
        self.localstack = broker.localstack
        super().__init__(broker, name)  # type: ignore[arg-type]  # all that is asked of a broker is there
        send = {
            "Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken", "End": True,
            "HeartbeatSeconds": 2 * HEARTBEAT_S,
            "Parameters": {
                "QueueUrl": self.url(self.queue), "MessageBody.$": "$.order",
                "MessageAttributes": {"task_token": {"DataType": "String", "StringValue.$": "$$.Task.Token"}},
            },
        }  # fmt: skip
        self.machine = self.states_peer.define(f"{name}-callback", {"StartAt": "Send", "States": {"Send": send}})

    @property
    def _client(self) -> Any:
        return self.localstack.sqs

    def env(self, port: int | None = None) -> Mapping[str, str]:
        """Return credentials and address, of Step Functions too."""
        return self.states_peer.env(port)

    def run(self, body: bytes) -> str:
        """Start an execution with an order; return its ARN."""
        order_ = json.dumps({"order": body.decode()})
        return str(self.localstack.states.start_execution(stateMachineArn=self.machine, input=order_)["executionArn"])

    def result(self, execution: str) -> dict[str, Any]:
        """Wait for the end of an execution."""

        def look() -> dict[str, Any] | None:
            found = self.localstack.states.describe_execution(executionArn=execution)
            return None if found["status"] == "RUNNING" else dict(found)

        found = wait_until(look, WITHIN_S, f"the end of {execution}")
        assert found is not None
        return found


@pytest.fixture
def callback(broker: StepFunctionsBroker, tmp_path: Any) -> Iterator[Rig]:
    """A queue of callbacks."""
    rig = Rig(tmp_path, Callback(broker, f"callback-{tmp_path.name}"[:60]))
    yield rig
    rig.close()


@covers("C21")
def test_a_token_that_came_over_sqs_is_answered_before_its_message_is_settled(callback: Rig) -> None:
    """The execution ends with the decision also when the sidecar dies right after it; the message is then settled."""
    queue = callback.peer
    assert isinstance(queue, Callback)
    callback.start_engine()
    dying = callback.sidecar(task_tokens=True, env={"WOJAK_FAIL_POINT": "sidecar.after_settle:1"})
    good = queue.run(order("good"))
    wait_until(lambda: not dying.is_running, WITHIN_S, "a death right after the settle")
    answer = queue.result(good)
    other = callback.sidecar(task_tokens=True).wait_ready()
    ends = {name: queue.result(queue.run(body)) for name, body in
            {"invalid": order("bad", price=1), "rejected": order("far", quantity="1000000")}.items()}  # fmt: skip
    wait_until(
        lambda: other.metric("settled", result="parked") == 1, WITHIN_S, lambda: f"one parked told; {callback.tell()}"
    )

    assert json.loads(answer["output"])["client_order_id"] == "good"
    assert (ends["invalid"]["status"], ends["invalid"]["error"]) == ("FAILED", "Order.Invalid")
    assert ends["rejected"]["error"] == "Order.Rejected"
    callback.finish(["good"], dead=1)


@covers("C21")
def test_a_token_is_kept_alive_with_its_message(callback: Rig) -> None:
    """While the engine thinks for longer than HeartbeatSeconds, the state waits: its heartbeats come."""
    queue = callback.peer
    assert isinstance(queue, Callback)
    engine = callback.small_engine()
    engine.holds_risk = True
    sidecar = callback.sidecar(task_tokens=True).wait_ready()
    slow = queue.run(order("slow"))
    wait_until(lambda: sidecar.metric("lease_extensions", result="ok") >= 6, 2 * WITHIN_S, "six extensions")
    engine.holds_risk = False

    ended = queue.result(slow)
    assert ended["status"] == "SUCCEEDED", (ended.get("error"), ended.get("cause"), callback.tell())
    callback.finish(["slow"])


def test_a_token_where_none_is_taken_is_refused(callback: Rig) -> None:
    """Somebody waits for an answer that this sidecar is not told to give: a dead letter says so."""
    queue = callback.peer
    assert isinstance(queue, Callback)
    callback.start_engine()
    callback.sidecar().wait_ready()
    queue.run(order("x"))
    wait_until(lambda: queue.count(queue.dead_queue) == 1, WITHIN_S, "a dead letter")

    assert queue.dead()[0].reason.startswith("TASK_TOKEN: ")
    callback.finish([])


# Check


def test_check_says_what_would_break_a_promise(broker: StepFunctionsBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A definition without heartbeats or retries, an activity that is not there: each with what to do."""
    peer = broker.peer("looked-at")
    for name, value in peer.env().items():
        monkeypatch.setenv(name, value)
    retry = {**RETRY, "IntervalSeconds": 1}
    machines = {
        name: peer.define(f"looked-at-{name}", {"StartAt": "Place", "States": {"Place": state}})
        for name, state in {
            "good": task_state(peer.activity, Retry=[retry]),
            "bad": {"Type": "Task", "Resource": peer.activity, "End": True},
        }.items()
    }

    def look(**changes: object) -> dict[str, Level]:
        settings = convert(peer.settings(**changes), StepFunctionsSettings)
        return {f.what: f.level for f in asyncio.run(check("sfn", settings))}

    good, bad = look(state_machine=machines["good"]), look(state_machine=machines["bad"])
    gone = look(activity=peer.activity + "-gone")

    assert [what for what, level in good.items() if level is not Level.FINE] == []
    assert {w for w, level in bad.items() if level is Level.FAULT} == {"Place: HeartbeatSeconds", "Place: Retry"}
    assert gone == {"encryption": Level.FINE, f"activity {peer.activity}-gone": Level.FAULT}
    assert look()["state_machine"] is Level.ADVICE
