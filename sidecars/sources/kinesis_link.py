"""The calls to Kinesis: one boto3 client for reads, one for everything else, used from threads.

Rules: a read is made once, who asked for it makes it again with the same iterator, which brings the same records; the
answer to a read is as Kinesis gives it, without the time zones that boto3 makes of times. Blocking: made in the threads
of a ``Crew``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sidecars.sources.aws_client import client, code_of, is_forbidden

READ_MAX: Final = 10_000
READ_S: Final = 2  # beside what every answer may take: one may have ten MiB
NOT_FOUND: Final = "ResourceNotFoundException"
EXPIRED: Final = "ExpiredIteratorException"
THROTTLED: Final = frozenset({
    "ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException", "ThrottlingException",
    "Throttling",
})  # fmt: skip


class Stream(NamedTuple):
    """A stream in one of its lives: made anew under its name it is another one."""

    name: str
    arn: str
    created_s: int
    retention_h: int


class Shard(NamedTuple):
    """A shard as the stream lists it."""

    id: str
    parents: tuple[str, ...]


class Read(NamedTuple):
    """What one read brought.

    Attributes:
        records: In the order of the shard.
        iterator: For the next read; empty = the shard is at its end.
        behind_ms: How far behind the newest record of the shard it is.
    """

    records: Sequence[dict[str, Any]]
    iterator: str
    behind_ms: int


class Link:
    """The calls of one source."""

    def __init__(self, stream: str, pollers: int) -> None:
        self._stream = stream
        self._reading = client("kinesis", pollers, wait_s=READ_S, attempts=1)
        self._asking = client("kinesis", 1)

    def describe(self) -> Stream:
        """Return the stream.

        Raises:
            ClientError, BotoCoreError: As Kinesis or the network says; likewise below.
        """
        found = self._asking.describe_stream_summary(StreamName=self._stream)["StreamDescriptionSummary"]
        return Stream(
            self._stream, str(found["StreamARN"]), int(found["StreamCreationTimestamp"].timestamp()),
            int(found["RetentionPeriodHours"]),
        )  # fmt: skip

    def shards(self) -> dict[str, Shard]:
        """Return every shard that still has records to read, by id, closed ones too."""
        found: dict[str, Shard] = {}
        asked: dict[str, str] = {"StreamName": self._stream}
        while True:
            answer = self._asking.list_shards(**asked)
            found.update((s["ShardId"], _shard(s)) for s in answer["Shards"])
            if not answer.get("NextToken"):
                return found
            asked = {"NextToken": answer["NextToken"]}

    def iterator(self, shard: str, after: int) -> str:
        """Return where reading begins: behind the record of a number, or with the oldest if that is negative."""
        place = (
            {"ShardIteratorType": "TRIM_HORIZON"}
            if after < 0
            else {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": str(after)}
        )
        return str(self._reading.get_shard_iterator(StreamName=self._stream, ShardId=shard, **place)["ShardIterator"])

    def read(self, iterator: str, most: int) -> Read:
        """Return up to so many records."""
        answer = self._reading.get_records(ShardIterator=iterator, Limit=min(most, READ_MAX))
        return Read(
            answer["Records"],
            str(answer.get("NextShardIterator") or ""),  # absent at the end of a shard
            int(answer.get("MillisBehindLatest") or 0),
        )


def is_throttled(error: BaseException) -> bool:
    """Whether Kinesis asks for patience: the limits of a shard are all its readers' together."""
    return code_of(error) in THROTTLED


def is_misconfigured(error: BaseException) -> bool:
    """Whether only a person can change it: refused at the start, retried once it has worked."""
    return is_forbidden(error) or code_of(error) == NOT_FOUND


def _shard(found: dict[str, Any]) -> Shard:
    parents = (found.get("ParentShardId"), found.get("AdjacentParentShardId"))
    return Shard(str(found["ShardId"]), tuple(str(parent) for parent in parents if parent))
