"""Step Functions as a peer: LocalStack; each test has an activity, and a state machine whose Map gives its tasks.

Many messages are one execution, for LocalStack looks through all executions at each answer. Differences from AWS:
tests/peers/localstack.py.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from tests.conformance.peer import Broker, Dead, Message, Peer
from tests.conformance.source import SourceContract
from tests.peers.localstack import LocalStack, shared
from tests.peers.process import wait_until
from tests.peers.sqs import KEYS, client_of

ROLE: Final = "arn:aws:iam::000000000000:role/states"
INPUT_BYTES: Final = 200_000
CONCURRENCY: Final = 40
HEARTBEAT_S: Final = 3
BACK_S: Final = 60.0
RETRY: Final = {
    "ErrorEquals": ["Sidecar.Retryable", "States.Timeout", "States.HeartbeatTimeout"],
    "IntervalSeconds": 1, "MaxAttempts": 50, "BackoffRate": 1.0,
}  # fmt: skip


class StepFunctionsContract(SourceContract):
    """What an activity is held to."""

    def poison(self, peer: Peer) -> dict[str, bytes]:
        """Return what an input can carry: a text of less than 256 KiB."""
        found = {}
        for name, body in super().poison(peer).items():
            try:
                if len(body.decode()) < INPUT_BYTES:
                    found[name] = body
            except UnicodeDecodeError:
                continue
        return found


def task_state(activity: str, **changes: Any) -> dict[str, Any]:
    """Return a state that gives the item it has as a task, in the envelope."""
    return {
        "Type": "Task", "Resource": activity, "HeartbeatSeconds": HEARTBEAT_S, "Retry": [RETRY],
        "Parameters": {
            "order.$": "$.order", "content_type.$": "$.content_type", "attributes.$": "$.attributes",
            "id.$": "States.Format('{}/{}', $$.Execution.Id, $.n)", "time.$": "$$.State.EnteredTime",
            "retries.$": "$$.State.RetryCount",
        },
        "ResultSelector": {"answer.$": "$"}, "End": True, **changes,
    }  # fmt: skip


class StepFunctionsBroker(Broker):
    """The shared LocalStack."""

    def __init__(self) -> None:
        self.localstack: LocalStack = shared()
        self._peers: list[StepFunctionsPeer] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.localstack.port

    def start(self) -> None:
        """Start it again if it was stopped; what tests use is made anew, and nothing is left of what was under way."""
        if not self.localstack.is_running:
            self.localstack.start()
            for peer in self._peers:
                peer.create()

    def stop(self) -> None:
        """Stop it."""
        self.localstack.stop()

    def end(self) -> None:
        """Leave it to the next module: it ends with the tests."""
        self.start()

    def peer(self, name: str) -> StepFunctionsPeer:
        """Return an activity with its state machine."""
        peer = StepFunctionsPeer(self, re.sub(r"\W+", "-", name)[:50] + f"-{len(self._peers)}")
        self._peers.append(peer)
        return peer


class StepFunctionsPeer(Peer):
    """One activity, and executions that wait for its tasks."""

    kind = "stepfunctions"
    has_replies = False
    names_all = True
    keeps_order = False
    lease_ms = 2_400
    bound = 16
    many = 2_000

    def __init__(self, broker: StepFunctionsBroker, name: str) -> None:
        self.broker = broker
        self.name = name
        at = "arn:aws:states:eu-west-1:000000000000"
        self.activity, self.machine = f"{at}:activity:{name}", f"{at}:stateMachine:{name}"
        self._sent: dict[str, list[bytes]] = {}  # by execution
        self._seen: set[str] = set()
        self.create()

    @property
    def states(self) -> Any:
        """The producer's client."""
        return self.broker.localstack.states

    def create(self) -> None:
        """Make activity and state machine; nothing runs."""
        self._sent.clear()
        self.states.create_activity(name=self.name)
        task = task_state(self.activity, Catch=[{"ErrorEquals": ["States.ALL"], "Next": "Failed"}])
        inner = {"StartAt": "Place", "States": {"Place": task, "Failed": {"Type": "Pass", "End": True}}}
        each = {
            "Type": "Map", "MaxConcurrency": CONCURRENCY, "End": True,
            "ItemProcessor": {"ProcessorConfig": {"Mode": "INLINE"}, **inner},
        }  # fmt: skip
        self.define(self.name, {"StartAt": "Each", "States": {"Each": each}})

    def define(self, name: str, definition: Mapping[str, Any]) -> str:
        """Make a state machine; return its ARN."""
        answer = self.states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)
        return str(answer["stateMachineArn"])

    def env(self, port: int | None = None) -> Mapping[str, str]:
        """Return credentials and address as boto3 reads them."""
        return {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.broker.port}"}

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Return the settings of a sidecar that works on the activity."""
        return {
            "activity": self.activity, "principal": "bench", "envelope": "task", "heartbeat_s": HEARTBEAT_S,
            "in_flight": self.bound, "pollers": 8, "look_ms": 300, **changes,
        }  # fmt: skip

    def send(self, messages: Sequence[Message]) -> None:
        """Start executions with as many tasks as an input has place for."""
        part: list[Message] = []
        size = 0
        for message in messages:
            if part and size + len(message.body) > INPUT_BYTES:
                self._start(part)
                part, size = [], 0
            part.append(message)
            size += len(message.body) + 100
        self._start(part)

    def _start(self, messages: Sequence[Message]) -> None:
        items = [
            {"n": n, "order": m.body.decode(), "content_type": m.content_type, "attributes": dict(m.headers)}
            for n, m in enumerate(messages)
        ]
        answer = self.states.start_execution(stateMachineArn=self.machine, input=json.dumps(items))
        self._sent[str(answer["executionArn"])] = [m.body for m in messages]

    def _of(self, status: str) -> list[str]:
        answer = self.states.list_executions(stateMachineArn=self.machine, statusFilter=status, maxResults=1000)
        return [str(e["executionArn"]) for e in answer["executions"]]

    def waiting(self) -> int:
        """Return how many tasks the executions have that run, answered ones included."""
        return sum(len(self._sent.get(arn, ())) for arn in self._of("RUNNING"))

    def left(self) -> list[bytes]:
        """Take what is left, also what a sidecar that died has under way: that comes back when its heartbeats end."""
        found: list[bytes] = []
        if self.waiting():
            for _ in range(4):
                threading.Thread(target=self._work, args=(found,), daemon=True).start()
            wait_until(lambda: not self.waiting(), BACK_S, lambda: f"every task to come back, {self.waiting()} run")
        return found

    def _work(self, found: list[bytes]) -> None:
        states = client_of(self.broker.port, "stepfunctions")
        with contextlib.suppress(BotoCoreError, ClientError):  # it waits for 60 s, beyond the end of its test
            while task := self.take(states):
                found.append(json.loads(task["input"])["order"].encode())
                states.send_task_success(taskToken=task["taskToken"], output="{}")

    def take(self, states: Any) -> Any:
        """Take a task as a plain worker does; None if none comes for 60 s."""
        task = states.get_activity_task(activityArn=self.activity)
        return task if task.get("taskToken") else None

    def results(self) -> list[tuple[bytes, dict[str, Any]]]:
        """Return what became of each task of the executions that have ended since the last call."""
        found: list[tuple[bytes, dict[str, Any]]] = []
        for arn in self._of("SUCCEEDED"):
            if arn in self._seen or arn not in self._sent:
                continue
            self._seen.add(arn)
            output = json.loads(self.states.describe_execution(executionArn=arn)["output"])
            found += zip(self._sent[arn], output, strict=True)
        return found

    def dead(self) -> list[Dead]:
        """Return the tasks that failed for people to see, of executions that have ended."""
        return [Dead(body, r["Cause"]) for body, r in self.results() if r.get("Error") == "Order.Invalid"]

    def failures(self) -> list[tuple[str, str]]:
        """Return execution and error of each attempt that failed, oldest first."""
        return [
            (arn, str(event["activityFailedEventDetails"]["error"]))
            for arn in self._sent
            for event in self.states.get_execution_history(executionArn=arn, maxResults=1000)["events"]
            if event["type"] == "ActivityFailed"
        ]

    def close(self) -> None:
        """Leave nothing running."""
        if self.broker.localstack.is_running:
            for arn in self._of("RUNNING"):
                self.states.stop_execution(executionArn=arn)
