"""The calls to SQS: two boto3 clients, used from threads; each call has a deadline, and a word for each entry of it.

Rules: credentials, region and addresses come from the environment as boto3 reads it, and from nowhere else. A call of
ten entries that went through may have failed for some: ``DONE``, ``LOST`` (SQS has taken the message back), or why not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from typing import Any, Final, NamedTuple

from sidecars.sources.aws_client import client, code_of, is_forbidden

BATCH: Final = 10
BATCH_BYTES: Final = 256 << 10
DONE: Final = ""
LOST: Final = "lost"
NO_QUEUE: Final = frozenset({"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"})
_LOST_CODES: Final = frozenset({
    "ReceiptHandleIsInvalid", "MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight",
    "InvalidParameterValue",  # an expired handle of a FIFO queue, or beyond twelve hours
})  # fmt: skip
SYSTEM: Final = ("ApproximateReceiveCount", "SentTimestamp", "MessageGroupId", "MessageDeduplicationId",
                 "SequenceNumber")  # fmt: skip


class Queue(NamedTuple):
    """Where a queue is, and what it is called everywhere."""

    url: str
    arn: str


class Polled(NamedTuple):
    """What a poll brought, and when: monotonic ns."""

    arrived_ns: int
    messages: Sequence[dict[str, Any]]


def is_misconfigured(error: BaseException) -> bool:
    """Whether only a person can change it: refused at the start, retried once it has worked."""
    return is_forbidden(error) or code_of(error) in NO_QUEUE


class Link:
    """The calls of one source. Blocking: made in the threads of a ``Crew``."""

    def __init__(self, wait_s: int, visibility_s: int, pollers: int, settlers: int) -> None:
        self._wait_s = wait_s
        self._visibility_s = visibility_s
        self._polling = client("sqs", pollers, wait_s=wait_s, attempts=1)  # polls are made again by who asked for them
        self._settling = client("sqs", settlers)
        self._urls: dict[str, str] = {}
        self.is_closed = False

    def url_of(self, queue: str) -> str:
        """Return the URL of a queue named so.

        Raises:
            ClientError, BotoCoreError: As SQS or the network says.
        """
        if "://" in queue:
            return queue
        if queue not in self._urls:
            self._urls[queue] = str(self._settling.get_queue_url(QueueName=queue)["QueueUrl"])
        return self._urls[queue]

    def resolve(self, queue: str) -> Queue:
        """Find a queue."""
        url = self.url_of(queue)
        answer = self._settling.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return Queue(url, str(answer["Attributes"]["QueueArn"]))

    def poll(self, url: str, most: int, attempt: str) -> Polled:
        """Wait for messages; ``attempt``: of a FIFO queue, so that the same poll made again brings the same ones."""
        asked = {"ReceiveRequestAttemptId": attempt} if attempt else {}
        answer = self._polling.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=self._wait_s,
            VisibilityTimeout=self._visibility_s,
            MessageSystemAttributeNames=SYSTEM,
            MessageAttributeNames=["All"],
            **asked,
        )
        polled = Polled(time.monotonic_ns(), answer.get("Messages") or ())
        if self.is_closed and polled.messages:  # the loop has ended meanwhile
            self.set_visibility(url, [(str(m["ReceiptHandle"]), 0) for m in reversed(polled.messages)])
            return Polled(polled.arrived_ns, ())
        return polled

    def delete(self, url: str, handles: Sequence[str]) -> list[str]:
        """Delete up to ten messages; return a word for each."""
        entries = [{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(handles)]
        return _words(self._settling.delete_message_batch, url, entries)

    def set_visibility(self, url: str, wanted: Sequence[tuple[str, int]]) -> list[str]:
        """Set for how many seconds up to ten messages stay away from everybody else; return a word for each."""
        entries = [
            {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
            for n, (handle, seconds) in enumerate(wanted)
        ]
        return _words(self._settling.change_message_visibility_batch, url, entries)

    def send(self, url: str, messages: Sequence[dict[str, Any]]) -> list[str]:
        """Send up to ten messages; return a word for each: ``DONE`` only for what SQS has."""
        entries = [{"Id": str(n), **message} for n, message in enumerate(messages)]
        return _words(self._settling.send_message_batch, url, entries, lost=())

    def waiting(self, url: str) -> int:
        """Return about how many messages wait."""
        name = "ApproximateNumberOfMessages"
        return int(self._settling.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])

    def close(self) -> None:
        """Let what a poll still brings go back at once."""
        self.is_closed = True


def _words(
    call: Callable[..., Any], url: str, entries: Sequence[dict[str, Any]], lost: Container[str] = _LOST_CODES
) -> list[str]:
    """Call with up to ten entries; what SQS says nothing of has not been done."""
    answer = call(QueueUrl=url, Entries=entries)
    words = ["SQS said nothing of it"] * len(entries)
    for entry in answer.get("Successful") or ():
        words[int(entry["Id"])] = DONE
    for entry in answer.get("Failed") or ():
        code = str(entry.get("Code", ""))
        words[int(entry["Id"])] = LOST if code in lost else f"{code}: {entry.get('Message', '')}"[:300]
    return words
