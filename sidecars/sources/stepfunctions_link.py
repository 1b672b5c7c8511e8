"""The calls to Step Functions: boto3 clients, one a role, used from threads; each call has a deadline.

Rules: a poll is never made again by the client, for an answer that got lost has perhaps taken a task with it. A token
that is over (answered, timed out, of another execution) is ``LOST``: the engine has decided, or somebody else will ask.
"""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError

from sidecars.sources.aws_client import client, code_of, is_forbidden
from sidecars.sources.stepfunctions_answers import Ending

POLL_S: Final = 62  # Step Functions answers after 60 s
DONE: Final = ""
LOST: Final = "lost"
NO_ACTIVITY: Final = frozenset({"ActivityDoesNotExist", "InvalidArn"})
_LOST_CODES: Final = frozenset({"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"})


class Polled(NamedTuple):
    """What a poll brought, and when: monotonic ns. None: no task in its 60 s."""

    arrived_ns: int
    task: dict[str, Any] | None


def is_misconfigured(error: BaseException) -> bool:
    """Whether only a person can change it: refused at the start, retried once it has worked."""
    return is_forbidden(error) or code_of(error) in NO_ACTIVITY


class Tokens:
    """The calls that need a token alone. Blocking: made in the threads of a ``Crew``."""

    def __init__(self, threads: int) -> None:
        self._client = client("stepfunctions", threads)

    def answer(self, token: str, ending: Ending) -> str:
        """End a task; return ``DONE``, or ``LOST`` for a token that is over.

        Raises:
            ClientError, BotoCoreError: As Step Functions or the network says.
        """
        if ending.error:
            return self._word(self._client.send_task_failure, taskToken=token, error=ending.error, cause=ending.cause)
        return self._word(self._client.send_task_success, taskToken=token, output=ending.output)

    def heartbeat(self, token: str) -> str:
        """Say that a task is worked on; raises as ``answer``."""
        return self._word(self._client.send_task_heartbeat, taskToken=token)

    @staticmethod
    def _word(call: Any, **arguments: str) -> str:
        try:
            call(**arguments)
        except ClientError as e:  # AWS's own answer; what did not arrive is the caller's to judge
            if code_of(e) in _LOST_CODES:
                return LOST
            raise
        return DONE


class Link:
    """The calls of one source. Blocking too."""

    def __init__(self, activity: str, worker: str, pollers: int) -> None:
        self._activity = activity
        self._worker = worker
        self._polling = client("stepfunctions", pollers, wait_s=POLL_S, attempts=1)
        self._looking = client("stepfunctions", 1)

    def look(self) -> None:
        """Ask for the activity.

        Raises:
            ClientError, BotoCoreError: As Step Functions or the network says.
        """
        self._looking.describe_activity(activityArn=self._activity)

    def poll(self) -> Polled:
        """Wait for a task; raises as ``look``."""
        answer = self._polling.get_activity_task(activityArn=self._activity, workerName=self._worker)
        return Polled(time.monotonic_ns(), answer if answer.get("taskToken") else None)
