"""Orders over HTTP: a request into deliveries, their settlements into one answer. A plain ASGI application.

Rules: statuses are DESIGN section 5's (DECISIONS 10, 11, 14); an outcome is never made up: without the engine's word
within the deadline the caller hears 504, retry is safe; what is refused here never reached the engine.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec
import structlog
from msgspec import Raw, Struct
from msgspec.structs import replace
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope

from protocol.codes import OutcomeKind
from protocol.edge import ErrorResponse, OrderResponse, http_status, to_replace, to_response
from protocol.errors import FieldError
from protocol.orders import CancelOrder, Command
from runtime.clock import wall_ns
from sidecars.core.decode import decode_command, decode_replace_request, may_use_reserve, new_risk
from sidecars.core.lease import NS_PER_MS
from sidecars.core.source import Delivery, Engines, Settlement, Why
from sidecars.sources.http_body import Bodies, BodiesFullError, ClientGoneError
from sidecars.sources.http_held import applied, held_headers, wait_of
from sidecars.sources.http_keys import Caller, Keys
from sidecars.sources.http_models import HttpError, ItemError, encode_json
from sidecars.sources.http_signature import refused

ORDERS_PATH: Final = "/v1/orders"
NS_PER_S: Final = 1_000_000_000

_IDENTIFIER: Final = re.compile(rb"[A-Za-z0-9._:/@+\-]{1,64}")
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_JSON: Final = (b"content-type", b"application/json")
_items_decoder: Final = msgspec.json.Decoder(list[Raw])

_UNAVAILABLE: Final = {
    Why.ENGINE_AWAY: ("ENGINE_AWAY", "the engine is not connected; the order was not taken, send it again"),
    Why.ENGINE_BUSY: ("ENGINE_BUSY", "the engine takes no new risk now; the order was not taken, send it again"),
    Why.DRAINING: ("DRAINING", "this process is leaving; the order was not taken, send it again"),
    Why.LEASE_OVER: ("DEADLINE", "the engine did not get to the order in time; it was not taken, send it again"),
    Why.SESSION_OVER: ("ENGINE_AWAY", "the engine ended the session; the order was not taken, send it again"),
    Why.NONE: ("CREDITS", "as many orders as the engine allows are unanswered; the order was not taken, send it again"),
}


class Ticket:
    """One request's deliveries: settled one by one, answered when none is left."""

    __slots__ = ("done", "left", "settlements")

    def __init__(self, size: int) -> None:
        self.settlements: list[Settlement | None] = [None] * size
        self.left = 0
        self.done = asyncio.get_running_loop().create_future()

    def settle(self, at: int, settlement: Settlement) -> None:
        """Take the end of delivery ``at``."""
        self.settlements[at] = settlement
        self.left -= 1
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)


class Answer(Struct):
    """What is sent back."""

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]] = []


class Request(Struct):
    """The parts of a request that every order of it shares."""

    caller: Caller
    headers: dict[bytes, bytes]
    received_mono_ns: int
    trace_id: bytes


class OrdersApi:
    """``POST /v1/orders``, DELETE and PUT of ``/v1/orders/{account}/{client_order_id}``; the rest goes to ``other``."""

    def __init__(
        self,
        keys: Keys,
        offer: Callable[[Delivery], None],
        waiting: Callable[[], int],
        *,
        request_ms: int,
        body_bytes_max: int,
        orders_max: int,
        answers: dict[str, int],
        other: ASGI3Application,
    ) -> None:
        """``offer`` queues a delivery, ``waiting`` counts those queued; ``answers`` counts statuses."""
        self.flow: Engines
        self._keys = keys
        self._offer = offer
        self._waiting = waiting
        self._request_ns = request_ms * NS_PER_MS
        self._answers = answers
        self._other = other
        self._bodies = Bodies(body_bytes_max)
        self._orders_max = orders_max
        self._random = random.SystemRandom()
        self._log = structlog.get_logger()

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        if not (path == ORDERS_PATH or path.startswith(ORDERS_PATH + "/")):
            await self._other(scope, receive, send)
            return
        try:
            answer = await self._answer(scope, receive)
        except HttpError as e:
            answer = self._refusal(e)
        except ClientGoneError:
            return
        except Exception as e:  # noqa: BLE001  the caller must hear that nothing is certain
            self._log.exception("request failed", error=type(e).__name__)
            answer = self._refusal(HttpError(500, "INTERNAL", "failed here; the outcome is unknown, retry is safe"))
        await self._send(answer, send)

    async def _answer(self, scope: Any, receive: ASGIReceiveCallable) -> Answer:
        received_ns = time.monotonic_ns()
        method = scope["method"]
        is_root = scope["path"] == ORDERS_PATH
        allowed = ("POST",) if is_root else ("DELETE", "PUT")
        if method not in allowed:
            raise _method_error(method, ", ".join(allowed))
        headers = dict(scope["headers"])
        caller, digest = self._keys.authenticate(scope, headers)
        request = Request(caller, headers, received_ns, _trace_id(headers))
        if method == "DELETE":
            return await self._cancel(request, scope["raw_path"])
        if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
            was = headers.get(b"content-type", b"none").decode("latin-1")[:64]
            raise HttpError(415, "CONTENT_TYPE", f"content-type expected application/json, was {was}")
        if not self.flow.is_open:
            raise self._unavailable(self.flow.why_closed)
        body = await self._body(headers, receive, digest)
        if method == "PUT":
            return await self._replace(request, scope["raw_path"], body)
        if body.lstrip()[:1] == b"[":
            return await self._orders(request, body)
        return await self._order(request, body)

    # One order, one cancel, many orders

    async def _order(self, request: Request, body: bytes) -> Answer:
        try:
            command, created_at_ns = _new_order(body, request.headers.get(b"idempotency-key"))
        except FieldError as e:
            raise _field_error(e) from e
        self._charge(request, new_risk(command))
        ticket = Ticket(1)
        wait_s = wait_of(request.headers.get(b"prefer"))
        self._submit(request, command, created_at_ns, ticket, 0, wait_s)
        await ticket.done
        answer = self._settled(request, command, ticket.settlements[0])
        answer.headers += applied(wait_s)
        return answer

    async def _cancel(self, request: Request, raw_path: bytes) -> Answer:
        command = CancelOrder(*_named(raw_path))
        ticket = Ticket(1)
        self._submit(request, command, None, ticket, 0)
        await ticket.done
        return self._settled(request, command, ticket.settlements[0])

    async def _replace(self, request: Request, raw_path: bytes, body: bytes) -> Answer:
        account, orig_client_order_id = _named(raw_path)
        try:
            asked = decode_replace_request(body)
            client_order_id = _own_id(asked.client_order_id, request.headers.get(b"idempotency-key"))
            command = to_replace(asked, account, orig_client_order_id, client_order_id)
        except FieldError as e:
            raise _field_error(e) from e
        self._charge(request, 1)
        ticket = Ticket(1)
        self._submit(request, command, asked.created_at_ns, ticket, 0)
        await ticket.done
        return self._settled(request, command, ticket.settlements[0])

    async def _orders(self, request: Request, body: bytes) -> Answer:
        if b"idempotency-key" in request.headers:
            raise HttpError(400, "FIELD", "Idempotency-Key expected with one order only; in an array each item has its "
                            "own client_order_id", "Idempotency-Key")  # fmt: skip
        try:
            bodies = _items_decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise HttpError(400, "FIELD", f"body expected a JSON array of orders ({e})", "body") from e
        if not 1 <= len(bodies) <= self._orders_max:
            raise HttpError(400, "FIELD", f"body expected 1 to {self._orders_max} orders, was {len(bodies)}", "body")
        parsed = [_parse_item(bytes(item)) for item in bodies]
        risk = sum(new_risk(p[0]) for p in parsed if not isinstance(p, HttpError))
        self._charge(request, risk)
        ticket = Ticket(len(parsed))
        results: list[ItemError | Command] = []
        for at, item in enumerate(parsed):
            if isinstance(item, HttpError):
                results.append(ItemError(item.body, item.status))
                continue
            try:
                self._submit(request, item[0], item[1], ticket, at)
                results.append(item[0])
            except HttpError as e:  # its traceback holds this frame, so this frame keeps only what it says
                results.append(ItemError(e.body, e.status))
        if ticket.left:
            await ticket.done
        shown = [self._item(request, r, ticket.settlements[at]) for at, r in enumerate(results)]
        return Answer(200, encode_json(shown))

    async def _body(self, headers: dict[bytes, bytes], receive: ASGIReceiveCallable, digest: bytes) -> bytes:
        try:
            body = await self._bodies.read(headers, receive)
        except BodiesFullError as e:
            raise self._unavailable(Why.NONE) from e
        if digest and sha256(body).digest() != digest:
            raise refused("content-digest expected the SHA-256 of the body, was that of another one", "content-digest")
        return body

    # Towards the loop

    def _submit(
        self, request: Request, command: Command, created_at_ns: int | None, ticket: Ticket, at: int, wait_s: int = 0
    ) -> None:
        """Queue one delivery; refuse it here when the engine could not take it."""
        account = command.account
        flow = self.flow.of(account)
        if not flow.is_open:
            raise self._unavailable(flow.why_closed, account)
        if flow.room(reserved=may_use_reserve(command)) <= self._waiting():
            raise self._unavailable(Why.NONE, account)
        ticket.left += 1
        self._offer(
            Delivery(
                request.caller.principal, account, request.trace_id, created_at_ns or wall_ns(),
                request.received_mono_ns, command, lease_until_mono_ns=request.received_mono_ns + self._request_ns,
                receipt=(ticket, at),
                held_until_mono_ns=request.received_mono_ns + wait_s * NS_PER_S if wait_s else 0,
            )
        )  # fmt: skip

    def _charge(self, request: Request, orders: int) -> None:
        wait_ns = request.caller.take(orders, request.received_mono_ns) if orders else 0
        if wait_ns:
            raise HttpError(
                429, "RATE_LIMITED", f"the key's own rate allows {orders} more in {wait_ns // NS_PER_MS} ms",
                header=_retry_after(-(-wait_ns // NS_PER_S)),
            )  # fmt: skip

    # Towards the caller

    def _settled(self, request: Request, command: Command, settlement: Settlement | None) -> Answer:
        assert settlement is not None
        response = self._response(request, command, settlement)
        assert settlement.outcome is not None
        replayed = settlement.outcome.kind is OutcomeKind.DUPLICATE
        headers = [(b"idempotent-replayed", b"true")] if replayed else []
        headers += held_headers(settlement.outcome, command, ORDERS_PATH)
        return Answer(http_status(settlement.outcome), encode_json(response), headers)

    def _response(self, request: Request, command: Command, settlement: Settlement) -> OrderResponse:
        """Return the outcome as the caller sees it; HttpError when there is none."""
        if settlement.outcome is not None:
            return to_response(
                settlement.outcome, command, request.trace_id, settlement.mode.name, settlement.durable_after_ns
            )
        if not settlement.is_unknown:
            raise self._unavailable(settlement.why, command.account)
        order_id = command.orig_client_order_id if isinstance(command, CancelOrder) else command.client_order_id
        raise HttpError(
            504, "OUTCOME_UNKNOWN", f"no answer in time for {order_id}; the outcome is unknown, retry is safe: "
            "send it again with the same client_order_id",
        )  # fmt: skip

    def _item(
        self, request: Request, result: ItemError | Command, settlement: Settlement | None
    ) -> OrderResponse | ItemError:
        if isinstance(result, ItemError):
            return result
        assert settlement is not None
        try:
            response = self._response(request, result, settlement)
        except HttpError as e:
            return ItemError(e.body, e.status)
        assert settlement.outcome is not None
        return replace(response, http_status=http_status(settlement.outcome))

    def _unavailable(self, why: Why, account: str = "") -> HttpError:
        code, text = _UNAVAILABLE[why]
        shard = self.flow.shard_of(account) if account else None
        if shard is not None:
            text = f"shard {shard}, where account {account} is: {text}"
        return HttpError(503, code, text, header=_retry_after(self._random.randint(1, 2)))

    def _refusal(self, error: HttpError) -> Answer:
        return Answer(error.status, encode_json(ErrorResponse(error.body)), error.headers)

    async def _send(self, answer: Answer, send: ASGISendCallable) -> None:
        status = str(answer.status)
        self._answers[status] = self._answers.get(status, 0) + 1
        headers = [_JSON, (b"content-length", b"%d" % len(answer.body)), *answer.headers]
        if self.flow.why_closed is Why.DRAINING:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})


_IDENTIFIER_EXPECTED: Final = "1 to 64 of A-Z a-z 0-9 . _ : / @ + -"


def _method_error(was: str, allowed: str) -> HttpError:
    text = f"method expected {allowed}, was {was[:16]}"
    return HttpError(405, "METHOD_NOT_ALLOWED", text, header=(b"allow", allowed.encode()))


def _retry_after(seconds: int) -> tuple[bytes, bytes]:
    return (b"retry-after", b"%d" % max(1, seconds))


def _field_error(error: FieldError) -> HttpError:
    text = f"{error.field} expected {error.expected}, was {error.value!r}"
    return HttpError(400, "FIELD", text, error.field)


def _named(raw_path: bytes) -> tuple[str, str]:
    """Return account and client_order_id of a path."""
    parts = raw_path.removeprefix(ORDERS_PATH.encode() + b"/").split(b"/")
    if len(parts) != 2:
        raise HttpError(
            404, "NOT_FOUND", "expected /v1/orders/{account}/{client_order_id}, a slash inside either as %2F"
        )
    names = [unquote_to_bytes(part) for part in parts]
    for field, name in zip(("account", "client_order_id"), names, strict=True):
        if not _IDENTIFIER.fullmatch(name):
            raise _field_error(FieldError(field, name.decode("utf-8", "replace")[:64], _IDENTIFIER_EXPECTED))
    return names[0].decode(), names[1].decode()


def _new_order(body: bytes, idempotency_key: bytes | None) -> tuple[Command, int | None]:
    return decode_command(body, lambda own: _own_id(own, idempotency_key))


def _own_id(client_order_id: str | None, idempotency_key: bytes | None) -> str:
    """Return the request's own id: the body's, or the header's."""
    if idempotency_key is not None:
        key = idempotency_key.decode("latin-1")
        if not _IDENTIFIER.fullmatch(idempotency_key):
            raise FieldError("Idempotency-Key", key[:64], _IDENTIFIER_EXPECTED)
        if client_order_id is not None and client_order_id != key:
            raise FieldError("client_order_id", client_order_id, f"the same id as Idempotency-Key ({key})")
        client_order_id = key
    if client_order_id is None:
        raise FieldError("client_order_id", "absent", "an id of your own, in the body or as the Idempotency-Key header")
    return client_order_id


def _parse_item(body: bytes) -> tuple[Command, int | None] | HttpError:
    try:
        return _new_order(body, None)
    except FieldError as e:
        return _field_error(e)


def _trace_id(headers: dict[bytes, bytes]) -> bytes:
    parent = headers.get(b"traceparent")
    if parent is not None and (match := _TRACEPARENT.fullmatch(parent)) and match.group(1).strip(b"0"):
        return bytes.fromhex(match.group(1).decode("ascii"))
    return os.urandom(16)
