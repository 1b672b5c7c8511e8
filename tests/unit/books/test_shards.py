"""The REST API over the books of two shards: one answer for a caller, and always said which shard it is of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from books.settings import ApiSettings, ShardStore
from protocol.codes import Code, OutcomeKind
from tests.unit.books.test_api import Client, Place, serving
from tests.unit.journal.samples import ordered, write_batches
from tests.unit.journal.stories import STARTED


def booked(folder: Path, account: str, count: int) -> Place:
    """Return a shard whose books have so many orders of one account, and a refusal."""
    place = Place(folder)
    refused = ordered("big", kind=OutcomeKind.REJECTED, code=Code.VENUE_DOWN, account=account)
    names = [f"{account}-{n}" for n in range(count)]
    batches: list[list[Any]] = [[STARTED], [ordered(n, account=account) for n in names], [refused]]
    write_batches(place.journal, batches)
    place.book()
    return place


@pytest.fixture
def two(tmp_path: Path) -> list[Place]:
    """Account a0 on shard 0 with five orders, account a1 on shard 1 with three."""
    return [booked(tmp_path / "0", "a0", 5), booked(tmp_path / "1", "a1", 3)]


def settings(two: list[Place]) -> ApiSettings:
    first, second = two
    more = ShardStore(str(second.path), str(second.journal))
    return first.settings(more_shards=(more,), account_shards={"a0": 0, "a1": 1})


@pytest.fixture
async def client(two: list[Place]) -> AsyncIterator[Client]:
    async with serving(settings(two)) as client:
        yield client


async def test_an_order_is_found_on_its_accounts_shard(client: Client) -> None:
    """The caller names the account, as ever; the answer says the shard whose records it counts."""
    answer = (await client.get("/v1/orders/a1/a1-2")).json()
    assert (answer["order"]["client_order_id"], answer["shard"], answer["as_of_seq"]) == ("a1-2", 1, 5)
    assert (await client.get("/v1/orders/a0/a1-2")).status_code == 404


async def test_the_history_of_an_account_that_moved_is_still_found(two: list[Place]) -> None:
    """It came to nothing before it moved, and what it did there stays there."""
    moved = msgspec.structs.replace(settings(two), account_shards={"a0": 0, "a1": 0})
    async with serving(moved) as client:
        answer = (await client.get("/v1/orders/a1/a1-0")).json()
        assert answer["shard"] == 1


@pytest.mark.parametrize("limit", [1, 2, 4, 100])
async def test_pages_go_through_all_shards_once(client: Client, limit: int) -> None:
    """Every order once, shard by shard, whatever the size of a page; each page is of one shard."""
    seen: list[str] = []
    cursor: int | None = 0
    while cursor is not None:
        page = (await client.get("/v1/orders", params={"limit": limit, "cursor": cursor})).json()
        assert {o["account"] for o in page["orders"]} == {f"a{page['shard']}"}
        seen += [o["client_order_id"] for o in page["orders"]]
        cursor = page["cursor"]
    assert seen == [*(f"a0-{n}" for n in range(5)), "big", *(f"a1-{n}" for n in range(3)), "big"]


async def test_a_shard_without_such_rows_is_passed_over(tmp_path: Path) -> None:
    """The caller gets the rows of the next shard, not an empty page; where no shard has any, the end."""
    empty = Place(tmp_path / "0")
    write_batches(empty.journal, [[STARTED]])
    empty.book()
    async with serving(settings([empty, booked(tmp_path / "1", "a1", 3)])) as client:
        page = (await client.get("/v1/orders")).json()
        assert (page["shard"], len(page["orders"]), page["cursor"]) == (1, 4, None)
        none = (await client.get("/v1/trades")).json()
        assert (none["trades"], none["cursor"]) == ([], None)


async def test_one_shard_can_be_asked_for(client: Client) -> None:
    """Its cursor is its own, and a shard that is none is refused by name."""
    page = (await client.get("/v1/orders", params={"shard": 1, "limit": 2})).json()
    rest = (await client.get("/v1/orders", params={"shard": 1, "cursor": page["cursor"]})).json()
    assert [o["client_order_id"] for o in (*page["orders"], *rest["orders"])] == ["a1-0", "a1-1", "a1-2", "big"]
    refused = await client.get("/v1/orders", params={"shard": 2})
    assert refused.status_code == 400
    assert refused.json()["error"]["field"] == "shard"


async def test_a_record_is_waited_for_where_it_is(client: Client) -> None:
    """Each shard numbers its own records: min_seq needs an account or a shard beside it."""
    assert (await client.get("/v1/orders", params={"account": "a0", "min_seq": 7})).status_code == 200
    assert (await client.get("/v1/orders", params={"account": "a1", "min_seq": 7})).status_code == 503
    refused = await client.get("/v1/orders", params={"min_seq": 1})
    assert (refused.status_code, refused.json()["error"]["field"]) == (400, "min_seq")


async def test_status_sums_and_shows_each(client: Client) -> None:
    """Records are added up, and each shard stands there for itself."""
    status = (await client.get("/v1/status")).json()
    assert status["as_of_seq"] == 12
    assert {n: s["as_of_seq"] for n, s in status["shards"].items()} == {"0": 7, "1": 5}


async def test_readiness_says_which_shard_can_not_be_read(two: list[Place]) -> None:
    """A store that is gone stops nobody else: ready for the others, and not at all when all are gone."""
    two[1].path.unlink()
    async with serving(settings(two)) as client:
        ready = await client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["shards"]["0"] == "ready"
        assert "STORE" in ready.json()["shards"]["1"]
        assert (await client.get("/v1/orders/a0/a0-1")).status_code == 200
        assert (await client.get("/v1/orders/a1/a1-1")).status_code == 503
        two[0].path.unlink()
        assert (await client.get("/readyz")).status_code == 503


async def test_alone_nothing_speaks_of_shards(two: list[Place]) -> None:
    """With one shard the API is what it was: no shard in an answer, none asked for."""
    async with serving(two[0].settings()) as client:
        for path in ("/v1/orders", "/v1/orders/a0/a0-1", "/v1/status", "/readyz"):
            answer = (await client.get(path)).json()
            assert "shard" not in answer
            assert "shards" not in answer
        assert (await client.get("/v1/orders", params={"shard": 0})).status_code == 400
