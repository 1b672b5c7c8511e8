"""Leases and checkpoints of shards in a DynamoDB table: one row a shard, every change on a condition.

Rules (SOURCES section 8): a row is changed only by who holds it, and only if nobody else has changed it since: owner
and counter stand in the condition, so a late loser can rewind nothing. Every write by the owner is a renewal, and may
carry a checkpoint. A lease is over when its counter has not moved for its time on the observer's own clock; wall clocks
are not compared. Each life of a process is another owner, each take another epoch. A write whose answer was lost is
found again: owner and epoch are ours, so what stands there is ours too. Blocking: made in the threads of a ``Crew``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct, structs

from sidecars.sources.aws_client import client

READER: Final = "reader"  # the table's partition key: group and stream
SHARD: Final = "shard"  # its sort key
SHARD_END: Final = "SHARD_END"
NOBODY: Final = "-"  # DynamoDB takes empty texts only outside of keys, and older servers nowhere
TRIES: Final = 2


class Lease(Struct, frozen=True):
    """One row.

    Attributes:
        shard: Its id.
        owner: Who reads it; ``NOBODY`` = it is free.
        counter: Moves with every write of the owner.
        epoch: Moves with every change of the owner.
        checkpoint: The number up to which all is answered; empty = nothing yet; ``SHARD_END`` = all, for ever.
        parents: The shards that must be at their end first.
        lease_ms: After so long without a write others may take it.
        wanted_by: Who asks the owner for it; ``NOBODY`` = nobody.
    """

    shard: str
    owner: str = NOBODY
    counter: int = 0
    epoch: int = 0
    checkpoint: str = ""
    parents: tuple[str, ...] = ()
    lease_ms: int = 0
    wanted_by: str = NOBODY

    @property
    def is_ended(self) -> bool:
        """Whether everything of the shard is answered and nothing more can come."""
        return self.checkpoint == SHARD_END


class LeaseLostError(Exception):
    """Another one holds the shard now."""


class LeaseRowError(Exception):
    """A row is none of ours: somebody else writes into the table, or another release."""


class LeaseTable:
    """The rows of one group and one stream."""

    def __init__(self, table: str, reader: str, writers: int) -> None:
        # Never tried again inside a call: a first write that went through would let the second one fail.
        self._dynamodb = client("dynamodb", writers, attempts=1)
        self._table = table
        self._reader = reader

    def rows(self) -> dict[str, Lease]:
        """Return all rows by shard, as they are after every write that was answered before.

        Raises:
            ClientError, BotoCoreError: As DynamoDB or the network says; likewise below.
        """
        asked: dict[str, Any] = {
            "TableName": self._table, "ConsistentRead": True, "KeyConditionExpression": "#reader = :reader",
            "ExpressionAttributeNames": {"#reader": READER},
            "ExpressionAttributeValues": {":reader": _text(self._reader)},
        }  # fmt: skip
        found = {}
        while True:
            answer = self._dynamodb.query(**asked)
            found.update({item[SHARD]["S"]: _lease(item) for item in answer["Items"]})
            if "LastEvaluatedKey" not in answer:
                return found
            asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def create(self, shard: str, parents: Sequence[str]) -> None:
        """Have a row for a shard, free and from its beginning; one that is there stays as it is."""
        item = _item(Lease(shard, parents=tuple(parents)))
        try:
            self._dynamodb.put_item(
                TableName=self._table, Item={READER: _text(self._reader), **item},
                ConditionExpression="attribute_not_exists(#shard)", ExpressionAttributeNames={"#shard": SHARD},
            )  # fmt: skip
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            return

    def take(self, lease: Lease, owner: str, lease_ms: int) -> Lease | None:
        """Become the owner; None if somebody was faster, or its owner lives."""
        taken = structs.replace(
            lease, owner=owner, counter=lease.counter + 1, epoch=lease.epoch + 1, lease_ms=lease_ms, wanted_by=NOBODY
        )
        return taken if self._write(lease, taken) else None

    def renew(self, lease: Lease, checkpoint: str) -> Lease:
        """Write that we live and how far we are; return the row as it is then.

        Raises:
            LeaseLostError: Another one has it.
        """
        return self._change(lease, checkpoint, lease.owner)

    def release(self, lease: Lease, checkpoint: str) -> None:
        """Write how far we are, and let anybody have it; who wanted it stays noted.

        Raises:
            LeaseLostError: Another one has it.
        """
        self._change(lease, checkpoint, NOBODY)

    def want(self, lease: Lease, by: str) -> None:
        """Ask the owner for a shard; not if somebody else has asked already."""
        try:
            self._dynamodb.update_item(
                TableName=self._table, Key=self._key(lease.shard), UpdateExpression="SET #wanted_by = :by",
                ConditionExpression="#owner = :owner AND #wanted_by = :before",
                ExpressionAttributeNames={"#owner": "owner", "#wanted_by": "wanted_by"},
                ExpressionAttributeValues={
                    ":by": _text(by), ":owner": _text(lease.owner), ":before": _text(lease.wanted_by),
                },
            )  # fmt: skip
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            return

    def delete(self, lease: Lease) -> None:
        """Remove the row of a shard that is at its end and that the stream has forgotten."""
        try:
            self._dynamodb.delete_item(
                TableName=self._table, Key=self._key(lease.shard), ConditionExpression="#checkpoint = :end",
                ExpressionAttributeNames={"#checkpoint": "checkpoint"},
                ExpressionAttributeValues={":end": _text(SHARD_END)},
            )  # fmt: skip
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            return

    def _key(self, shard: str) -> dict[str, Any]:
        return {READER: _text(self._reader), SHARD: _text(shard)}

    def _change(self, lease: Lease, checkpoint: str, owner: str) -> Lease:
        """Write as the owner; the condition fails also when an earlier write went through unheard."""
        before = lease
        for _ in range(TRIES):
            wanted = structs.replace(before, owner=owner, counter=before.counter + 1, checkpoint=checkpoint)
            if (written := self._write(before, wanted)) is not None:
                return written
            now = self._find(lease.shard)
            if now is None or now.owner != lease.owner or now.epoch != lease.epoch:
                raise LeaseLostError(f"{lease.shard} is held by {now.owner if now else 'nobody'}")
            before = now  # nobody but us writes under this owner and epoch
        raise LeaseLostError(f"{lease.shard} changed while it was ours")

    def _write(self, before: Lease, after: Lease) -> Lease | None:
        """Change a row if owner and counter are as before; return it as it is then, None if they were not.

        A request for the row by another one is not undone by a renewal.
        """
        sets = {"owner": _text(after.owner), "counter": _number(after.counter), "epoch": _number(after.epoch),
                "checkpoint": _text(after.checkpoint or NOBODY), "lease_ms": _number(after.lease_ms)}  # fmt: skip
        if after.epoch != before.epoch:
            sets["wanted_by"] = _text(after.wanted_by)
        try:
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key=self._key(before.shard),
                UpdateExpression="SET " + ", ".join(f"#{n} = :{n}" for n in sets),
                ConditionExpression="#owner = :was_owner AND #counter = :was_counter",
                ExpressionAttributeNames={f"#{n}": n for n in sets},
                ExpressionAttributeValues={
                    **{f":{n}": v for n, v in sets.items()},
                    ":was_owner": _text(before.owner),
                    ":was_counter": _number(before.counter),
                },
                ReturnValues="ALL_NEW",
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            return None
        return _lease(answer["Attributes"])

    def _find(self, shard: str) -> Lease | None:
        answer = self._dynamodb.get_item(TableName=self._table, Key=self._key(shard), ConsistentRead=True)
        return _lease(answer["Item"]) if "Item" in answer else None


# Translation


def _text(value: str) -> dict[str, str]:
    return {"S": value}


def _number(value: int) -> dict[str, str]:
    return {"N": str(value)}


def _item(lease: Lease) -> dict[str, Any]:
    return {
        SHARD: _text(lease.shard),
        "owner": _text(lease.owner),
        "counter": _number(lease.counter),
        "epoch": _number(lease.epoch),
        "checkpoint": _text(lease.checkpoint or NOBODY),
        "parents": {"L": [_text(parent) for parent in lease.parents]},
        "lease_ms": _number(lease.lease_ms),
        "wanted_by": _text(lease.wanted_by),
    }


def _lease(item: Mapping[str, Any]) -> Lease:
    try:
        return _read(item)
    except (KeyError, TypeError, ValueError) as e:
        raise LeaseRowError(f"row expected as this source writes it, was {str(dict(item))[:200]} ({e!r})") from e


def _read(item: Mapping[str, Any]) -> Lease:
    checkpoint = item["checkpoint"]["S"]
    if checkpoint not in {NOBODY, SHARD_END}:
        int(checkpoint)
    return Lease(
        shard=item[SHARD]["S"],
        owner=item["owner"]["S"],
        counter=int(item["counter"]["N"]),
        epoch=int(item["epoch"]["N"]),
        checkpoint="" if checkpoint == NOBODY else checkpoint,
        parents=tuple(parent["S"] for parent in item["parents"]["L"]),
        lease_ms=int(item["lease_ms"]["N"]),
        wanted_by=item["wanted_by"]["S"],
    )
