"""The read-only REST API of the books.

Rules: every answer says ``as_of_seq``, the record it reflects; filters are a closed list, each with its index;
one error shape: ``{"error": {"code", "text", "field"?}}``. OpenAPI is at /schema.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import uvicorn
from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Operation, Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import FromPath
from litestar.types import Message, Scope
from msgspec import UNSET, UnsetType

from books.access import Books, NotYetError
from books.answers import (
    BooksStatus,
    BreachesPage,
    Fault,
    FaultAnswer,
    Health,
    OneOrder,
    OrdersPage,
    PositionsPage,
    TradesPage,
)
from books.errors import QueryError, StoreUnavailableError
from books.metrics import CONTENT_TYPE, ApiMetrics
from books.queries import LIMIT_DEFAULT, Query, parse_min_seq, parse_query
from books.settings import ApiSettings
from books.shards import AllBooks
from books.store import FILTERS, LIMIT_MAX, Page, Reader, accepted_filters
from books.views import OrderView, view
from protocol.errors import ConfigError, StoreError, WojakError
from runtime import clock, logs
from runtime.openapi_page import PlainPage
from runtime.priority import stand_behind_orders
from runtime.signals import StopSignal

API_VERSION: Final = "1"
SHARDS_NOTE: Final = "Of several shards each page is of one and says which; shard=<number> asks for that one only."
_NS_PER_MS: Final = 1_000_000
_BACKLOG: Final = 128
_SHUTDOWN_S: Final = 3
_AGAIN: Final = {"Retry-After": "1"}

Asked = Request[Any, Any, State]


class OrderNotFoundError(StoreError):
    """There is no order with this key in the books."""

    code = "ORDER_NOT_FOUND"

    def __init__(self, account: str, client_order_id: str, as_of_seq: int) -> None:
        self.as_of_seq = as_of_seq
        super().__init__(
            f"no order {client_order_id!r} of account {account!r} as of record {as_of_seq}; "
            "just sent? ask with min_seq=<seq of its outcome>"
        )


class NotReadyError(StoreError):
    """The books are too far behind to be read as current."""

    code = "NOT_READY"

    def __init__(self, lag_seq: int, lag_seq_max: int) -> None:
        super().__init__(f"lag_seq expected at most {lag_seq_max}, was {lag_seq}; is the books writer running?")


# What /schema says of the lists


def _documented(kind: str) -> type[Operation]:
    """Return an OpenAPI operation with the query parameters of a list."""
    notes = {
        "limit": f"1 to {LIMIT_MAX}, {LIMIT_DEFAULT} if absent",
        "cursor": "from the answer before",
        "min_seq": "wait up to 1 s until the books have this record, else 503",
        "open": "true or false",
        "day": "trading date, yyyymmdd",
        "code": "such as QTY_MAX",
    }
    names = [*sorted(frozenset().union(*FILTERS[kind])), "limit", "cursor", "min_seq"]
    parameters = [
        Parameter(name, "query", Schema(type=OpenAPIType.STRING), description=notes.get(name, "exact match"))
        for name in names
    ]

    @dataclasses.dataclass
    class Listed(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*(self.parameters or []), *parameters]
            self.description = f"Filters, alone or as joined by +: {accepted_filters(kind)}. {SHARDS_NOTE}"

    return Listed


# Handlers


@get("/v1/orders", operation_class=_documented("orders"))
async def list_orders(request: Asked) -> OrdersPage:
    """Orders, open and closed."""
    return OrdersPage(*await _list(request, "orders"))


@get("/v1/trades", operation_class=_documented("trades"))
async def list_trades(request: Asked) -> TradesPage:
    """Fills."""
    return TradesPage(*await _list(request, "trades"))


@get("/v1/positions", operation_class=_documented("positions"))
async def list_positions(request: Asked) -> PositionsPage:
    """Positions."""
    return PositionsPage(*await _list(request, "positions"))


@get("/v1/breaches", operation_class=_documented("breaches"))
async def list_breaches(request: Asked) -> BreachesPage:
    """Refusals, each with its rule and what it met."""
    return BreachesPage(*await _list(request, "breaches"))


@get("/v1/orders/{account:str}/{client_order_id:path}")
async def get_order(request: Asked, account: FromPath[str], client_order_id: FromPath[str]) -> OneOrder:
    """One order by its key; ``min_seq`` waits up to 1 s for a record."""
    key = account, client_order_id.removeprefix("/")  # a path parameter, since an id may hold a slash
    min_seq = parse_min_seq(request.query_params.multi_items())
    every = _books(request)
    home = every.shard_of(account)
    await every.shards[home].require(min_seq)
    # An account that was moved when it had come to nothing has left its history where it was: asked last.
    as_of_seq = 0
    for shard in (home, *(n for n in range(len(every.shards)) if n != home)):
        row, seq = await every.shards[shard].read(lambda reader: reader.order_as_of(*key))
        if row is not None:
            shown = view(row)
            assert isinstance(shown, OrderView)
            return OneOrder(seq, shown, UNSET if every.is_one else shard)
        as_of_seq = as_of_seq or seq
    raise OrderNotFoundError(*key, as_of_seq)


@get("/v1/status")
async def get_status(request: Asked) -> BooksStatus:
    """How far the books are behind the journal."""
    return await _status_of_all(_books(request))


@get("/healthz", include_in_schema=False)
async def healthz() -> Health:
    """Whether the process runs."""
    return Health("ok")


@get("/readyz", include_in_schema=False)
async def readyz(request: Asked) -> Health:
    """Whether the books can be read as current."""
    lag_seq_max: int = request.app.state.lag_seq_max
    every = _books(request)
    shards: dict[str, str] = {}
    failed: StoreError | None = None
    for shard, books in enumerate(every.shards):
        try:
            await _require_current(books, lag_seq_max)
            shards[str(shard)] = "ready"
        except StoreError as e:
            failed, shards[str(shard)] = e, str(e)
    if failed is not None and "ready" not in shards.values():
        raise failed
    return Health("ready", UNSET if every.is_one else shards)


async def _require_current(books: Books, lag_seq_max: int) -> None:
    status = await _status(books)
    if status.lag_seq > lag_seq_max:
        raise NotReadyError(status.lag_seq, lag_seq_max)


@get("/metrics", include_in_schema=False)
async def get_metrics(request: Asked) -> Response[bytes]:
    """Prometheus text."""
    metrics: ApiMetrics = request.app.state.metrics
    with contextlib.suppress(StoreError):  # counted; the gauges keep their last value
        status = await _status_of_all(_books(request))
        metrics.as_of_seq.set(status.as_of_seq)
        metrics.lag_seq.set(status.lag_seq)
        metrics.lag_ms.set(status.lag_ms)
    return Response(metrics.render(), media_type=CONTENT_TYPE)


def _books(request: Asked) -> AllBooks:
    books: AllBooks = request.app.state.books
    return books


async def _list(request: Asked, kind: str) -> tuple[int, int | None, list[Any], int | UnsetType]:
    every = _books(request)
    query = parse_query(kind, request.query_params.multi_items(), by_shard=not every.is_one)
    while True:
        start = every.start_of(query)
        books = every.shards[start.shard]
        await books.require(query.min_seq)
        page = await books.read(partial(_page, kind, query, start.cursor))
        cursor = every.cursor_after(start, page.cursor)
        if page.rows or not cursor:
            rows = [view(row) for row in page.rows]
            return page.as_of_seq, cursor or None, rows, UNSET if every.is_one else start.shard
        query = query._replace(cursor=cursor)  # a shard without such rows; at most as often as there are shards


def _page(kind: str, query: Query, cursor: int, reader: Reader) -> Page:
    return reader.list_rows(kind, query.filters, query.limit, cursor)


async def _status_of_all(every: AllBooks) -> BooksStatus:
    each = [await _status(books) for books in every.shards]
    first = each[0]
    if every.is_one:
        return first
    return BooksStatus(
        sum(s.as_of_seq for s in each), sum(s.journal_seq for s in each), sum(s.lag_seq for s in each),
        max(s.lag_ms for s in each), max(s.epoch for s in each), first.ledger,
        max(s.trading_date for s in each), min(s.stored_at_ns for s in each), sum(s.store_retries for s in each),
        {str(shard): status for shard, status in enumerate(each)},
    )  # fmt: skip


async def _status(books: Books) -> BooksStatus:
    mark, progress, journal_seq = await books.lag()
    lag_seq, lag_ms = journal_seq - mark.seq, progress.lag_ms
    if lag_seq and progress.stored_at_ns:
        lag_ms = max(lag_ms, (clock.wall_ns() - progress.stored_at_ns) // _NS_PER_MS)
    return BooksStatus(
        mark.seq, journal_seq, lag_seq, lag_ms, mark.epoch, mark.state.ledger, mark.state.trading_date,
        progress.stored_at_ns, progress.retries,
    )  # fmt: skip


# Errors


def _fault(error: WojakError, status: int, **more: Any) -> Response[FaultAnswer]:
    fault = Fault(error.code, str(error).removeprefix(f"{error.code}: "), getattr(error, "field", UNSET))
    headers = _AGAIN if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Response(FaultAnswer(fault, **more), status_code=status, headers=headers)


def _on_query(_: Asked, error: QueryError) -> Response[FaultAnswer]:
    return _fault(error, HTTPStatus.BAD_REQUEST)


def _on_not_found(_: Asked, error: OrderNotFoundError) -> Response[FaultAnswer]:
    return _fault(error, HTTPStatus.NOT_FOUND, as_of_seq=error.as_of_seq)


def _on_not_yet(_: Asked, error: NotYetError) -> Response[FaultAnswer]:
    return _fault(error, HTTPStatus.SERVICE_UNAVAILABLE, as_of_seq=error.as_of_seq)


def _on_unavailable(request: Asked, error: WojakError) -> Response[FaultAnswer]:
    request.app.state.metrics.retries.inc()
    return _fault(error, HTTPStatus.SERVICE_UNAVAILABLE)


def _on_http(_: Asked, error: HTTPException) -> Response[FaultAnswer]:
    status = HTTPStatus(error.status_code)
    return Response(FaultAnswer(Fault(status.name, error.detail or status.phrase)), status_code=status)


def _on_anything(request: Asked, error: Exception) -> Response[FaultAnswer]:
    request.app.state.log.error("request failed", path=request.url.path, exc_info=error)
    fault = Fault("INTERNAL", "the books API failed on this request; its log says why")
    return Response(FaultAnswer(fault), status_code=HTTPStatus.INTERNAL_SERVER_ERROR)


# The application


def create_app(settings: ApiSettings) -> Litestar:
    """Return the ASGI application."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        books = app.state.books = AllBooks(settings)
        books.open()
        try:
            yield
        finally:
            books.close()

    async def count(message: Message, scope: Scope) -> None:
        if message["type"] == "http.response.start":
            path = str(scope.get("path_template") or "other")
            metrics.answers.labels(path, str(message["status"])).inc()

    metrics = ApiMetrics()
    return Litestar(
        [
            list_orders, list_trades, list_positions, list_breaches, get_order, get_status, healthz, readyz,
            get_metrics,
        ],
        lifespan=[lifespan],
        before_send=[count],
        state=State({"metrics": metrics, "lag_seq_max": settings.lag_seq_max, "log": logs.configure("books-api")}),
        openapi_config=OpenAPIConfig(
            title="Wojak books", version=API_VERSION, description="Orders, trades, positions and breaches, read-only.",
            render_plugins=[PlainPage(), JsonRenderPlugin(path="/openapi.json")],
        ),
        exception_handlers={
            QueryError: _on_query,
            OrderNotFoundError: _on_not_found,
            NotYetError: _on_not_yet,
            NotReadyError: _on_unavailable,
            StoreUnavailableError: _on_unavailable,
            StoreError: _on_unavailable,
            HTTPException: _on_http,
            Exception: _on_anything,
        },
        logging_config=None,
    )  # fmt: skip


def run(settings: ApiSettings) -> None:
    """Serve until SIGTERM or SIGINT, then return.

    Raises:
        ConfigError: If the address can't be taken.
    """
    stop = StopSignal()
    stand_behind_orders()
    with _listen(settings) as listener:
        config = uvicorn.Config(
            create_app(settings),
            loop="uvloop",
            http="httptools",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        _Server(config, stop).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends in order. uvicorn raises the signal again when it is done; ``stop``'s handler takes it, not the default."""

    def __init__(self, config: uvicorn.Config, stop: StopSignal) -> None:
        super().__init__(config)
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, unless asked to stop before uvicorn listened for it."""
        self.should_exit = self._stop.is_set
        await super().startup(sockets)


def _listen(settings: ApiSettings) -> socket.socket:
    """Bind here, so that a port in use is a message and not a stack trace."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(_BACKLOG)
    except OSError as e:
        listener.close()
        problem = (
            f"api address {settings.host}:{settings.port} can't be taken: {e.strerror}; "
            "stop what uses it, or choose another port"
        )
        raise ConfigError([problem]) from e
    return listener
