"""``wojak sidecar check`` for Kinesis: rights, and settings of stream and table that would break the promises.

Nothing is changed. The rights to read are seen by reading one record; the right to write leases by a change on a
condition that no row can meet, which is refused another way where the right is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from sidecars.core.kinds import Finding, Level
from sidecars.sources.aws_client import BROKEN, LOCAL, client, code_of, is_forbidden, text_of
from sidecars.sources.kinesis_leases import READER, SHARD
from sidecars.sources.kinesis_link import is_throttled
from sidecars.sources.kinesis_settings import KinesisSettings
from sidecars.sources.sqs_check import look_at_target

RETENTION_GOOD_H: Final = 96
LEASE_GOOD_MS: Final = 5_000
POLL_MIN_MS: Final = 200  # five reads a second and shard
NOT_MET: Final = "ConditionalCheckFailedException"
NO_ROW: Final = "wojak-check-no-such-row"


async def check(name: str, settings: KinesisSettings) -> Sequence[Finding]:
    """Return what was looked at, and what to change."""
    return await asyncio.to_thread(_check, settings)


def _check(settings: KinesisSettings) -> list[Finding]:
    kinesis, dynamodb, sqs = (client(service, 1) for service in ("kinesis", "dynamodb", "sqs"))
    found = [_encryption(str(c.meta.endpoint_url)) for c in (kinesis, dynamodb)]
    found += _stream(kinesis, settings)
    found += _table(dynamodb, settings)
    found += look_at_target(sqs, settings.dead_letter_queue, "dead letters")
    return found + _own(settings)


def _encryption(endpoint: str) -> Finding:
    if endpoint.startswith(("https://", *LOCAL)):
        return Finding(Level.FINE, "encryption", endpoint)
    return Finding(Level.ADVICE, "encryption", f"{endpoint}: orders pass readable; use https")


# The stream


def _stream(kinesis: Any, settings: KinesisSettings) -> list[Finding]:
    what = f"stream {settings.stream}"
    try:
        summary = kinesis.describe_stream_summary(StreamName=settings.stream)["StreamDescriptionSummary"]
    except BROKEN as e:
        return [Finding(Level.FAULT, what, _missing(e, "kinesis:DescribeStreamSummary"))]
    status = summary["StreamStatus"]
    shards = f"{summary.get('OpenShardCount', '?')} open shards"
    if status == "DELETING":
        found = [Finding(Level.FAULT, what, "is being deleted")]
    else:
        found = [Finding(Level.FINE, what, f"is there, {status}, {shards}: {summary['StreamARN']}")]
    return [*found, judge_retention(int(summary["RetentionPeriodHours"])), *_reads(kinesis, settings.stream)]


def judge_retention(hours: int) -> Finding:
    """Return what the stream's retention means: what is older is gone, read or not."""
    if hours < RETENTION_GOOD_H:
        text = f"{hours} h: an order that waits longer vanishes unseen; use {RETENTION_GOOD_H} (a long weekend) or more"
        return Finding(Level.ADVICE, "RetentionPeriodHours", text)
    return Finding(Level.FINE, "RetentionPeriodHours", f"{hours} h")


def _reads(kinesis: Any, stream: str) -> list[Finding]:
    try:
        shards = kinesis.list_shards(StreamName=stream)["Shards"]
    except BROKEN as e:
        return [Finding(Level.FAULT, "kinesis:ListShards", _missing(e, "it"))]
    found = [Finding(Level.FINE, "kinesis:ListShards", "works")]
    try:
        iterator = kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shards[-1]["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
    except BROKEN as e:
        return [*found, Finding(Level.FAULT, "kinesis:GetShardIterator", _missing(e, "it"))]
    found.append(Finding(Level.FINE, "kinesis:GetShardIterator", "works"))
    try:
        kinesis.get_records(ShardIterator=iterator, Limit=1)
    except BROKEN as e:
        if not is_throttled(e):
            return [*found, Finding(Level.FAULT, "kinesis:GetRecords", _missing(e, "it"))]
        text = "throttled: others read this stream too; five reads a second and shard are for all of them together"
        return [*found, Finding(Level.ADVICE, "kinesis:GetRecords", text)]
    return [*found, Finding(Level.FINE, "kinesis:GetRecords", "works")]


# The table


def _table(dynamodb: Any, settings: KinesisSettings) -> list[Finding]:
    table = settings.lease_table
    what = f"table {table}"
    try:
        described = dynamodb.describe_table(TableName=table)["Table"]
    except BROKEN as e:
        return [
            Finding(Level.FAULT, what, _missing(e, "dynamodb:DescribeTable", "make it, see docs/sources/kinesis.md"))
        ]
    keys = {key["KeyType"]: key["AttributeName"] for key in described["KeySchema"]}
    if keys != {"HASH": READER, "RANGE": SHARD}:
        text = f"expected the keys {READER} (HASH) and {SHARD} (RANGE), was {keys}; make another one"
        return [Finding(Level.FAULT, what, text)]
    found = [Finding(Level.FINE, what, f"is there, {described.get('TableStatus', '?')}")]
    key = {READER: {"S": NO_ROW}, SHARD: {"S": NO_ROW}}
    condition = {"ConditionExpression": "attribute_exists(#shard)", "ExpressionAttributeNames": {"#shard": SHARD}}
    asked: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("dynamodb:Query", partial(
            dynamodb.query, TableName=table, ConsistentRead=True, KeyConditionExpression="#r = :r",
            ExpressionAttributeNames={"#r": READER}, ExpressionAttributeValues={":r": {"S": NO_ROW}})),
        ("dynamodb:GetItem", partial(dynamodb.get_item, TableName=table, Key=key)),
        ("dynamodb:PutItem", partial(dynamodb.put_item, TableName=table, Item=key, **condition)),
        ("dynamodb:UpdateItem", partial(
            dynamodb.update_item, TableName=table, Key=key, UpdateExpression="SET epoch = :n",
            ExpressionAttributeValues={":n": {"N": "0"}}, **condition)),
        ("dynamodb:DeleteItem", partial(dynamodb.delete_item, TableName=table, Key=key, **condition)),
    )  # fmt: skip
    return [*found, *(_right(right, call) for right, call in asked), *_expiry(dynamodb, table)]


def _right(right: str, call: Callable[[], Any]) -> Finding:
    try:
        call()
    except BROKEN as e:
        if code_of(e) != NOT_MET:
            return Finding(Level.FAULT, right, _missing(e, "it"))
    return Finding(Level.FINE, right, "works")


def _expiry(dynamodb: Any, table: str) -> list[Finding]:
    what = "time to live of the table"
    try:
        found = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    except BROKEN:
        return [
            Finding(Level.ADVICE, what, "could not be seen; must be off: a row that vanishes begins its shard anew")
        ]
    if found.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}:
        return [Finding(Level.FAULT, what, "expected off, was on; a row that vanishes begins its shard anew")]
    return [Finding(Level.FINE, what, "off")]


# Our settings


def _own(settings: KinesisSettings) -> list[Finding]:
    found = []
    if settings.lease_ms < LEASE_GOOD_MS:
        text = f"{settings.lease_ms} ms: a short pause of this process lets others have its shards; use {LEASE_GOOD_MS}"
        found.append(Finding(Level.ADVICE, "lease_ms", f"{text} or more"))
    if settings.poll_ms < POLL_MIN_MS:
        text = f"{settings.poll_ms} ms: Kinesis allows five reads a second and shard, and throttles; use {POLL_MIN_MS}"
        found.append(Finding(Level.ADVICE, "poll_ms", f"{text} or more"))
    return found


def _missing(error: BaseException, right: str, otherwise: str = "make it") -> str:
    if is_forbidden(error):
        return f"{text_of(error)}; grant {right}, look at the credentials"
    return f"expected to answer, was: {text_of(error)}" + (
        f"; {otherwise}" if code_of(error) == "ResourceNotFoundException" else ""
    )
