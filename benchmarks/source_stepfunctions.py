"""Step Functions for ``wojak bench source``: tasks of LocalStack that wait, and the plain client that answers them.

The plain client is boto3 at its best: as many threads as the sidecar has polls, each of which takes a task, decodes
its input and the order in that, and answers it. LocalStack gives some dozens of tasks a second: the ratio says what a
sidecar takes away from that, not what one can carry. ``python -m benchmarks.source_stepfunctions ACTIVITY COUNT FILE``
is that client.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Struct

from benchmarks.granter import Granted
from benchmarks.source_kinds import BrokerBench, read_orders, tell
from runtime.clock import monotonic_ns
from sidecars.sources.aws_client import client
from sidecars.sources.stepfunctions_link import POLL_S

POLLERS: Final = 8


class StepFunctionsBench(BrokerBench):
    """LocalStack."""

    kind = "stepfunctions"
    per_s = 100
    changes: ClassVar[Mapping[str, Any]] = {"pollers": POLLERS, "in_flight": 100, "look_ms": 60_000}

    def make_broker(self) -> Any:
        """Return the broker."""
        from tests.peers.stepfunctions import StepFunctionsBroker

        return StepFunctionsBroker()

    def arguments(self, peer: Any) -> Sequence[str]:
        """Return the activity."""
        return (peer.activity,)


class _Input(Struct):
    """What the state machine of the tests makes of an order."""

    order: str


_read_input: Final = msgspec.json.Decoder(_Input).decode


class _Worker:
    """What the threads of the plain client share."""

    def __init__(self, activity: str, count: int) -> None:
        self._states = client("stepfunctions", POLLERS, wait_s=POLL_S)
        self._activity = activity
        self._left = count
        self._lock = threading.Lock()
        self._done = threading.Event()
        self.first_ns = self.last_ns = 0

    def run(self) -> Granted:
        """Answer all; return when the first came and when the last was answered."""
        for _ in range(POLLERS):
            threading.Thread(target=self._work, daemon=True).start()
        self._done.wait()  # the last polls last for their 60 s
        return Granted(self.first_ns, self.last_ns)

    def _work(self) -> None:
        while self._left > 0:
            task = self._states.get_activity_task(activityArn=self._activity)
            if not task.get("taskToken"):
                continue
            self.first_ns = self.first_ns or monotonic_ns()
            read_orders((_read_input(task["input"]).order.encode(),))
            self._states.send_task_success(taskToken=task["taskToken"], output="{}")
            with self._lock:
                self._left -= 1
                self.last_ns = monotonic_ns()
                if self._left == 0:
                    self._done.set()


def main() -> None:
    """Be the plain client."""
    activity, count, path = sys.argv[1:]
    tell(path, _Worker(activity, int(count)).run())


if __name__ == "__main__":
    main()
