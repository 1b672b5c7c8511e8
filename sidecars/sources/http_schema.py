"""What is slow and for people: health, readiness, metrics, the OpenAPI page. A Litestar application.

Rule: the document is made from the Structs that decode and encode (protocol.edge), so it can't tell another story.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import PathItem, Schema, SecurityScheme

from protocol.baskets import BasketRequest
from protocol.edge import ErrorResponse, NewOrderRequest, OrderResponse, ReplaceRequest
from protocol.exits import ExitReplaceRequest
from protocol.oco import OcoRequest
from runtime.openapi_page import PlainPage
from sidecars.core.metrics import Metrics
from sidecars.sources.http_keys import UNAUTHENTICATED
from sidecars.sources.http_models import Health, ItemError, Readiness, encode_error
from sidecars.sources.http_signature import EXAMPLE

REF: Final = "#/components/schemas/{name}"
NEW_ORDER: Final = {
    "account": "demo", "strategy": "manual", "instrument": "BTCUSDT", "side": "BUY", "quantity": "0.01",
    "order_type": "LIMIT", "time_in_force": "DAY", "price": "61800.5", "client_order_id": "a1",
}  # fmt: skip
SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"key": []}, {"signature": []}, {"certificate": []}]
REPLACE_ORDER: Final = {"client_order_id": "a2", "quantity": "0.02", "price": "61750"}
ACCEPTED: Final = {
    "outcome": "ACCEPTED", "client_order_id": "a1", "account": "demo", "code": "OK", "text": "",
    "order_id": "P-0123456789abcdef", "checks_passed": 12, "position_after": "0.01", "position_limit": "5",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "seq": 42, "mode": "PAPER", "durable_in_us": 118,
}  # fmt: skip
REFUSED: Final = {
    **ACCEPTED, "outcome": "REJECTED", "code": "QTY_MAX", "order_id": None, "position_after": None,
    "position_limit": None, "checks_passed": 7,
    "text": "QTY_MAX expected at most 10, was 11 (instrument BTCUSDT)",
}  # fmt: skip
REPLAYED: Final = {**ACCEPTED, "durable_in_us": None, "duplicate_of": "a1", "order_state": "FILLED"}
ERRORS: Final = {
    400: ("FIELD", "quantity expected a decimal string such as \"0.01\", was '1e30'", "quantity"),
    401: ("UNAUTHENTICATED", UNAUTHENTICATED, None),
    405: ("METHOD_NOT_ALLOWED", "method expected POST, was PUT", None),
    408: ("SLOW_CLIENT", "expected the whole request within 10 s", None),
    413: ("BODY_TOO_LARGE", "body expected at most 262144 bytes, was 10485760 bytes", "body"),
    415: ("CONTENT_TYPE", "content-type expected application/json, was text/plain", None),
    429: ("RATE_LIMITED", "the key's own rate allows 1 more in 12 ms", None),
    503: ("ENGINE_AWAY", "the engine is not connected; the order was not taken, send it again", None),
    504: ("OUTCOME_UNKNOWN", "no answer in time for a1; the outcome is unknown, retry is safe: send it again", None),
}


def make_app(readiness: Callable[[], Readiness], metrics: Metrics) -> Litestar:
    """Return the application of everything but orders."""

    @get("/healthz", summary="Whether the process runs")
    async def healthz() -> Health:
        return Health("ok")

    @get("/readyz", summary="Whether orders are taken now (503 if not); of several shards, which are")
    async def readyz() -> Response[Readiness]:
        state = readiness()
        return Response(state, status_code=200 if state.ready else 503)

    @get("/metrics", summary="Prometheus metrics", media_type="text/plain; version=0.0.4; charset=utf-8")
    async def metrics_text() -> bytes:
        return metrics.text()

    app = Litestar(
        [healthz, readyz, metrics_text],
        openapi_config=OpenAPIConfig(
            title="Wojak orders", version="1", description="Orders in, outcomes out. Every price and quantity is a "
            "decimal string. A repeat of a client_order_id gets the first answer again.", path="/schema",
            render_plugins=[PlainPage(), JsonRenderPlugin(path="/openapi.json")],
        ),
        exception_handlers={HTTPException: _http_error, Exception: _failure},
        logging_config=None,
    )  # fmt: skip
    _add_orders(app)
    return app


def _add_orders(app: Litestar) -> None:
    document = app.openapi_schema
    models = (
        NewOrderRequest, BasketRequest, OcoRequest, ExitReplaceRequest, ReplaceRequest, OrderResponse, ErrorResponse,
        ItemError,
    )  # fmt: skip
    _, schemas = msgspec.json.schema_components(models, ref_template=REF)
    document.components.schemas.update(cast("dict[str, Schema]", schemas))
    assert document.paths is not None
    document.components.security_schemes = {
        "bearer": SecurityScheme(type="http", scheme="bearer", description="Authorization: Bearer <secret>"),
        "key": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
        "signature": SecurityScheme(
            type="apiKey", name="Signature-Input", security_scheme_in="header",
            description="RFC 9421 with hmac-sha256: Signature-Input and Signature, over at least @method, @path, "
            "content-digest (POST, PUT; RFC 9530, sha-256) and idempotency-key if it is there; created, nonce, keyid "
            f"are needed. {EXAMPLE}",
        ),
        "certificate": SecurityScheme(type="mutualTLS", description="A client certificate, where TLS is configured so"),
    }  # fmt: skip
    document.paths.update(cast("dict[str, PathItem]", order_paths()))


BASKET: Final = {
    "account": "demo",
    "strategy": "manual",
    "client_order_id": "b1",
    "legs": [
        {"instrument": "BTCUSDT", "side": "BUY", "quantity": "0.01", "price": "61800.0"},
        {"instrument": "BTCUSDT", "side": "SELL", "quantity": "0.01", "price": "61900.0"},
    ],
}


EXIT: Final = {
    "account": "demo",
    "strategy": "manual",
    "client_order_id": "x1",
    "instrument": "BTCUSDT",
    "side": "SELL",
    "quantity": "0.01",
    "order_type": "MARKET",
    "cancels": ["o2"],
}

OCO: Final = {
    "account": "demo",
    "strategy": "manual",
    "client_order_id": "g1",
    "instrument": "BTCUSDT",
    "side": "SELL",
    "oco": [
        {"quantity": "0.01", "price": "63000.0", "reduce_only": True},
        {"quantity": "0.01", "stop_price": "61000.0", "reduce_only": True},
    ],
}


def order_paths() -> dict[str, Any]:
    """Return the OpenAPI paths of orders and cancels."""
    post = _post()
    delete: dict[str, Any] = {
        "operationId": "CancelOrder",
        "summary": "Cancel what still works of an order",
        "description": "Idempotent. An unknown id is remembered (202): an order of it that comes later is refused.",
        "security": SECURITY,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "maxLength": 64}}
            for name in ("account", "client_order_id")
        ],
        "responses": {**_outcomes(), **_errors(400, 401, 405, 503, 504)},
    }
    put = {
        "operationId": "ReplaceOrder",
        "summary": "Give an order that works another quantity or price",
        "description": "The path names the order, by its first id or that of a later replace. The body's "
        "client_order_id is this request's own: repeat it until it is answered. 201 says that the venue was asked; its "
        "answer is in the books and the event stream.",
        "security": SECURITY,
        "parameters": [
            *delete["parameters"], _header("Idempotency-Key", "The request's own id, for a body without one")
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": REF.format(name="ReplaceRequest")}, "example": REPLACE_ORDER
                }
            },
        },
        "responses": {**_outcomes(), **_errors(400, 401, 405, 408, 413, 415, 429, 503, 504)},
    }  # fmt: skip
    one_order = {"delete": delete, "put": put}
    return {"/v1/orders": {"post": post}, "/v1/orders/{account}/{client_order_id}": one_order}


def _post() -> dict[str, Any]:
    """Return how orders are sent."""
    one = {"$ref": REF.format(name="NewOrderRequest")}
    basket = {"$ref": REF.format(name="BasketRequest")}
    exit_replace = {"$ref": REF.format(name="ExitReplaceRequest")}
    oco = {"$ref": REF.format(name="OcoRequest")}
    each = [one, basket, oco, exit_replace]
    many = {"type": "array", "minItems": 1, "maxItems": 500, "items": {"oneOf": each}}
    return {
        "operationId": "PostOrders",
        "summary": "Send one order, a basket, an OCO group, an exit in the place of others, or an array of them",
        "description": "A body with legs is a basket: all of them are taken, or none. "
        "A body with oco is two orders of which the one cancels the other: the first goes to the venue, the second "
        "when its stop price is reached and the first is over. "
        "A body with cancels is an exit: those are cancelled first, what then remains is sent. "
        "Repeat it until it is answered: the same client_order_id never makes a second order.",
        "security": SECURITY,
        "parameters": [
            _header("Idempotency-Key", "The client_order_id, for a body without one"),
            _header(
                "Prefer",
                "wait=N: rather than HELD (202) hear what comes of the order, within N seconds of the request, "
                "30 at most; for one order",
            ),
            _header("traceparent", "W3C trace context; its trace id comes back as trace_id"),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"oneOf": [*each, many]},
                    "examples": {
                        "one": {"value": NEW_ORDER},
                        "basket": {"value": BASKET},
                        "oco": {"value": OCO},
                        "exit": {"value": EXIT},
                        "many": {"value": [NEW_ORDER]},
                    },
                }
            },
        },
        "responses": {
            "200": _many("An array: per item an outcome or an error, each with its http_status"),
            **_outcomes(),
            **_errors(400, 401, 405, 408, 413, 415, 429, 503, 504),
        },
    }


def _outcomes() -> dict[str, Any]:
    return {
        "201": _outcome("Accepted, and durable", {"accepted": ACCEPTED, "replayed": REPLAYED}),
        "202": _outcome(
            "Held, or taken as paper (Location: where the books answer what comes of it); or a cancel that came before "
            "its order",
            {},
        ),
        "403": _outcome("The key may not trade this account with this strategy", {}),
        "409": _outcome("The id belongs to an order with other content", {}),
        "421": _outcome("The account belongs to another shard than the one that was asked: the map is wrong here", {}),
        "422": _outcome("Refused: code and text say why", {"refused": REFUSED}),
        "500": _outcome("The engine failed on it (INTERNAL): final, without effect, and the same on a repeat", {}),
    }


def _outcome(text: str, examples: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": REF.format(name="OrderResponse")}}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    replayed = {"description": "true when this repeats the first answer", "schema": {"type": "string"}}
    return {
        "description": text,
        "headers": {"Idempotent-Replayed": replayed},
        "content": {"application/json": content},
    }


def _many(text: str) -> dict[str, Any]:
    items = {"oneOf": [{"$ref": REF.format(name=name)} for name in ("OrderResponse", "ItemError")]}
    example = [{**ACCEPTED, "http_status": 201}]
    content = {"schema": {"type": "array", "items": items}, "example": example}
    return {"description": text, "content": {"application/json": content}}


def _errors(*statuses: int) -> dict[str, Any]:
    schema = {"$ref": REF.format(name="ErrorResponse")}
    answers: dict[str, Any] = {}
    for status in statuses:
        code, text, field = ERRORS[status]
        example = {"error": {"code": code, "text": text, "field": field}}
        answers[str(status)] = {
            "description": code,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    return answers


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}


def _http_error(_request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    codes = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}
    texts = {404: "no such path; see /schema", 405: "this path does not take this method; see /schema"}
    code = codes.get(error.status_code, "REQUEST")
    body = encode_error(code, texts.get(error.status_code, error.detail))
    return Response(body, status_code=error.status_code, headers=error.headers, media_type="application/json")


def _failure(_request: Request[Any, Any, Any], _error: Exception) -> Response[bytes]:
    return Response(encode_error("INTERNAL", "failed here"), status_code=500, media_type="application/json")
