"""The REST API: decimal strings, closed filters, paging, one error shape, and waiting for a record."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import msgspec
import pytest

from books.api import create_app, run
from books.projector import Projector
from books.settings import ApiSettings
from books.sqlite import SqliteStore
from books.store import Progress
from journal.recovery import recover
from protocol.channels import Context, Publisher
from protocol.codes import Code, OutcomeKind
from protocol.errors import ConfigError
from tests.unit.journal.samples import E9, SMALL, ordered, write_batches
from tests.unit.journal.stories import STARTED, Story

Client = httpx.AsyncClient


@contextlib.asynccontextmanager
async def serving(settings: ApiSettings) -> AsyncIterator[Client]:
    """Run the application in this loop (litestar's own test client blocks it while a request waits)."""
    app = create_app(settings)
    started, stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            started.set()
            await stop.wait()

    # A task of its own, since a fixture ends in another task than it began in.
    life = asyncio.create_task(live())
    await asyncio.wait([life, asyncio.create_task(started.wait())], return_when=asyncio.FIRST_COMPLETED)
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://books") as client:
            yield client
    finally:
        stop.set()
        await life


class Place:
    """A journal, its books and their API."""

    def __init__(self, folder: Path) -> None:
        self.journal, self.path = folder / "journal", folder / "books.sqlite"
        self.stored = f"ipc://{folder}/stored"

    def book(self) -> int:
        """Bring the books up to the journal; return their watermark."""
        store = SqliteStore(self.path)
        projector = Projector(self.journal, store, "books")
        while projector.step(1000):
            pass
        projector.close()
        store.close()
        return projector.mark.seq

    def settings(self, **more: Any) -> ApiSettings:
        """Return the settings of the API here."""
        return ApiSettings(str(self.path), str(self.journal), **more)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    refused = ordered("big", kind=OutcomeKind.REJECTED, code=Code.VENUE_DOWN)
    write_batches(place.journal, [[STARTED], [ordered(f"o{n}", quantity_e9=E9 // 100) for n in range(5)], [refused]])
    place.book()
    return place


@pytest.fixture
async def client(place: Place) -> AsyncIterator[Client]:
    async with serving(place.settings()) as client:
        yield client


async def test_an_order_is_shown_in_words_and_decimal_strings(client: Client) -> None:
    """Names of FIX, enumerations by name, no number that lost its decimals."""
    answer = (await client.get("/v1/orders/demo/o0")).json()

    assert answer["as_of_seq"] == 7
    order = answer["order"]
    shown = [order[k] for k in ("side", "order_type", "status", "quantity", "price", "avg_price", "open", "ledger")]
    assert shown == ["BUY", "LIMIT", "PENDING_NEW", "0.01", "100", "0", True, "paper"]
    assert (order["accepted_seq"], order["day"], order["trace_id"]) == (2, 20260102, (b"t" * 16).hex())


async def test_an_unknown_order_says_how_far_the_books_are(client: Client) -> None:
    """A 404 names the key and the record it is as of."""
    answer = await client.get("/v1/orders/demo/nobody")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "ORDER_NOT_FOUND"
    assert answer.json()["as_of_seq"] == 7


async def test_an_order_id_may_hold_a_slash(place: Place) -> None:
    """The edge takes ids with a slash, so the books find them."""
    write_batches(place.journal, [[ordered("a/b:c")]])
    place.book()
    async with serving(place.settings()) as client:
        for path in ("/v1/orders/demo/a/b:c", "/v1/orders/demo/a%2Fb:c"):
            assert (await client.get(path)).json()["order"]["client_order_id"] == "a/b:c"


async def test_pages_follow_the_cursor(client: Client) -> None:
    """Each order once, in the order of acceptance; the last page has no cursor."""
    names: list[str] = []
    cursor: int | None = 0
    while cursor is not None:
        page = (await client.get("/v1/orders", params={"limit": 2, "cursor": cursor})).json()
        names += [o["client_order_id"] for o in page["orders"]]
        cursor = page["cursor"]

    assert names == ["o0", "o1", "o2", "o3", "o4", "big"]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("account=demo&open=true", 5),
        ("account=demo&open=false", 1),
        ("account=demo&strategy=mm", 6),
        ("account=demo&instrument=ETHUSDT", 0),
        ("day=20260102", 6),
        ("code=VENUE_DOWN", 1),
    ],
)
async def test_filters(client: Client, query: str, count: int) -> None:
    """The closed list of filters answers."""
    assert len((await client.get(f"/v1/orders?{query}")).json()["orders"]) == count


@pytest.mark.parametrize(
    ("path", "field", "named"),
    [
        ("/v1/orders?colour=red", "colour", "account"),
        ("/v1/orders?strategy=mm", "filters", "account+strategy"),
        ("/v1/orders?limit=501", "limit", "500"),
        ("/v1/orders?limit=0", "limit", "1"),
        ("/v1/orders?limit=1e3", "limit", "whole number"),
        ("/v1/orders?limit=%D9%A3", "limit", "whole number"),
        ("/v1/orders?limit=" + "9" * 5000, "limit", "whole number"),
        ("/v1/orders?cursor=-1", "cursor", "whole number"),
        ("/v1/orders?account=demo&open=yes", "open", "true or false"),
        ("/v1/orders?code=WHAT", "code", "QTY_MAX"),
        ("/v1/orders?day=today", "day", "whole number"),
        ("/v1/orders?account=", "account", "1 to"),
        ("/v1/orders?account=a&account=b", "account", "one value"),
        ("/v1/positions?day=20260102", "day", "account"),
        ("/v1/orders/demo/o0?x=1", "x", "min_seq"),
    ],
)
async def test_a_bad_question_names_what_was_wrong(client: Client, path: str, field: str, named: str) -> None:
    """400 with the parameter, its value and what is accepted, in the one error shape."""
    answer = await client.get(path)
    error = answer.json()["error"]

    assert answer.status_code == 400
    assert (error["code"], error["field"]) == ("QUERY", field)
    assert named in error["text"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v2/x", 404), ("POST", "/v1/orders", 405)])
async def test_every_error_has_one_shape(client: Client, method: str, path: str, status: int) -> None:
    """What the framework refuses looks like what we refuse."""
    answer = await client.request(method, path)

    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"code", "text"}


async def test_trades_positions_and_breaches_are_there(tmp_path: Path) -> None:
    """Each list shows what the journal means, with decimals."""
    place = Place(tmp_path)
    records = Story(Random(4)).write(200)
    write_batches(place.journal, [records[n : n + 4] for n in range(0, len(records), 4)])
    place.book()
    async with serving(place.settings()) as client:
        trades = (await client.get("/v1/trades?account=demo")).json()["trades"]
        (position,) = (await client.get("/v1/positions?account=demo")).json()["positions"]
        breaches = (await client.get("/v1/breaches?code=QTY_MAX")).json()["breaches"]

    assert trades[0]["fee"] == "0.000000003"
    assert position["fees"] == {"USDT": f"0.{len(trades) * 3:09d}".rstrip("0")}
    assert float(position["quantity"]).is_integer()
    assert "at most 5" in breaches[0]["text"]


async def test_a_record_to_come_is_waited_for(place: Place) -> None:
    """With min_seq the answer waits until the writer says that the record is stored."""
    context = Context()
    stored = Publisher(context, place.stored, 100)
    async with serving(place.settings(stored_endpoint=place.stored)) as client:
        asked = asyncio.create_task(client.get("/v1/orders/demo/late", params={"min_seq": 8}))
        await asyncio.sleep(0)
        write_batches(place.journal, [[ordered("late")]])
        seq = place.book()
        while not asked.done():  # again and again: a subscription takes a moment
            stored.send(seq.to_bytes(8, "little"))
            await asyncio.wait([asked], timeout=0.01)
        answer = asked.result()
    context.close()

    assert (answer.status_code, answer.json()["as_of_seq"]) == (200, 8), answer.text


async def test_a_record_that_does_not_come_is_503_with_the_lag(place: Place) -> None:
    """The wait is bounded and the answer says how far the books are."""
    context = Context()
    stored = Publisher(context, place.stored, 100)
    for endpoint in ("", place.stored):
        async with serving(place.settings(stored_endpoint=endpoint)) as client:
            answer = await client.get("/v1/orders?min_seq=9")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.json()["as_of_seq"] == 7
        assert "lag 2" in answer.json()["error"]["text"]
    stored.close()
    context.close()


async def test_status_measures_the_lag_itself(place: Place, client: Client) -> None:
    """Records that the books do not have show, with the writer dead or not."""
    assert (await client.get("/v1/status")).json()["lag_seq"] == 0
    store = SqliteStore(place.path)
    store.publish(Progress(0, 3, 1, 2))
    store.close()
    write_batches(place.journal, [[ordered("x"), ordered("y")]])
    status = (await client.get("/v1/status")).json()

    assert (status["as_of_seq"], status["journal_seq"], status["lag_seq"]) == (7, 9, 2)
    assert status["lag_ms"] > 1_000_000
    assert (status["ledger"], status["trading_date"], status["store_retries"]) == ("paper", 20260102, 2)


async def test_health_readiness_and_metrics_tell_the_truth(place: Place) -> None:
    """Alive without a store; ready only with one that is close enough."""
    async with serving(place.settings(lag_seq_max=1)) as client:
        assert (await client.get("/readyz")).status_code == 200
        write_batches(place.journal, [[ordered("x"), ordered("y")]])
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        text = (await client.get("/metrics")).text
    assert "wojak_books_lag_records 2.0" in text
    assert 'wojak_books_http_answers_total{path="/readyz",status="503"} 1.0' in text


async def test_without_a_store_the_answer_is_503(tmp_path: Path) -> None:
    """The books may come later; then the same process answers."""
    place = Place(tmp_path)
    async with serving(place.settings()) as client:
        assert (await client.get("/v1/orders")).json()["error"]["code"] == "STORE_UNAVAILABLE"
        assert (await client.get("/healthz")).status_code == 200
        write_batches(place.journal, [[STARTED, ordered("a")]])
        place.book()
        assert (await client.get("/v1/orders")).json()["as_of_seq"] == 2


async def test_a_store_made_anew_is_opened_anew(place: Place, client: Client) -> None:
    """A removed and rebuilt file is not read from the grave."""
    assert (await client.get("/v1/status")).json()["as_of_seq"] == 7
    for path in place.path.parent.glob("books.sqlite*"):
        path.unlink()
    SqliteStore(place.path).close()

    assert (await client.get("/v1/status")).json()["as_of_seq"] == 0


async def test_the_openapi_document_lists_paths_and_filters(client: Client) -> None:
    """/schema is what a client generator needs."""
    document = (await client.get("/schema/openapi.json")).json()
    names = {p["name"] for p in document["paths"]["/v1/orders"]["get"]["parameters"]}

    assert set(document["paths"]) >= {"/v1/orders", "/v1/trades", "/v1/positions", "/v1/breaches", "/v1/status"}
    assert names == {"account", "open", "strategy", "instrument", "day", "code", "limit", "cursor", "min_seq"}


def test_a_port_in_use_is_named(place: Place) -> None:
    """The start stops with the address and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError) as refused:
            run(place.settings(port=taken.getsockname()[1]))

    assert "in use" in str(refused.value)


def test_recovery_is_not_needed_to_read(place: Place) -> None:
    """The API holds no lock: an engine may start beside it."""
    assert recover(place.journal, None, SMALL).next_seq == 8


def test_the_process_serves_and_leaves_with_0(place: Place) -> None:
    """The real server on a real port answers, and ends in order when it is asked to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import msgspec, sys; from books.settings import ApiSettings; from books.api import run; "
        "run(msgspec.json.decode(sys.argv[1], type=ApiSettings))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, msgspec.json.encode(place.settings(port=port)).decode()],
        env={"PATH": "/usr/bin", "PYTHONPATH": str(Path(__file__).parents[3])},
        stderr=subprocess.DEVNULL,
    )
    try:
        transport = httpx.HTTPTransport(retries=20)  # each retry of a refused connection waits longer
        with httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{port}") as client:
            assert client.get("/v1/orders/demo/o0").json()["order"]["quantity"] == "0.01"
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
