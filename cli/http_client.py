"""The two HTTP addresses of a deployment as a person uses them: send an order, read the books.

Rule: an order is sent again under the same client_order_id while nobody answered for certain (no connection, 503,
504), within a bounded time; then the person is told that sending it again is safe.
"""

from __future__ import annotations

import secrets
import ssl
import time
from collections.abc import Generator
from typing import Any, Final
from urllib.parse import quote

import httpx

from protocol.errors import WojakError
from runtime.clock import monotonic_ns, wall_ns
from sidecars.sources.http_signature import Target, sign

TIMEOUT_S: Final = 5.0
GIVE_UP_NS: Final = 10_000_000_000
PAUSE_S: Final = 0.1
NS_PER_S: Final = 1_000_000_000
UNCERTAIN: Final = frozenset({502, 503, 504})


class NoAnswerError(WojakError):
    """Nobody answered for certain."""

    code = "NO_ANSWER"

    def __init__(self, url: str, why: str, advice: str) -> None:
        self.url = url
        super().__init__(f"{self.code}: {url}: {why}; {advice}")


class AnsweredError(WojakError):
    """The other side refused the request itself: its key, its form, its address."""

    code = "HTTP"

    def __init__(self, status: int, code: str, text: str, field: str = "") -> None:
        self.status = status
        super().__init__(f"{code} ({status}){f' {field}' if field else ''}: {text}")


class Signature(httpx.Auth):
    """Signs each request anew, as the HTTP source checks it: a repeat after no answer has its own nonce and time."""

    requires_request_body = True

    def __init__(self, key_id: str, secret: str) -> None:
        self._key_id = key_id
        self._secret = secret.encode()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the headers."""
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        request.headers.update(
            sign(
                Target(request.method, path, query, {name.lower(): value for name, value in request.headers.items()}),
                request.content,
                key_id=self._key_id,
                secret=self._secret,
                created_s=wall_ns() // NS_PER_S,
                nonce=secrets.token_urlsafe(12),
            )
        )
        yield request


class OrdersClient:
    """Sends orders, replaces and cancels."""

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        auth: Signature | None = None,
        trust: ssl.SSLContext | bool = True,  # httpx has it so
    ) -> None:
        self._url = url
        self._client = httpx.Client(
            base_url=url, headers=headers, auth=auth, verify=trust, timeout=TIMEOUT_S, trust_env=False
        )

    def send(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return what became of an order.

        Raises:
            NoAnswerError, AnsweredError: If there is no outcome.
        """
        return self._until_answered("POST", "/v1/orders", json=body)

    def cancel(self, account: str, client_order_id: str) -> dict[str, Any]:
        """Return what became of a cancel; raises as ``send`` does."""
        return self._until_answered("DELETE", _path(account, client_order_id))

    def replace(self, account: str, orig_client_order_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return what became of a replace; raises as ``send`` does."""
        return self._until_answered("PUT", _path(account, orig_client_order_id), json=body)

    def close(self) -> None:
        """Leave."""
        self._client.close()

    def _until_answered(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        deadline = monotonic_ns() + GIVE_UP_NS
        while True:
            why = ""
            try:
                response = self._client.request(method, path, **options)
            except httpx.HTTPError as e:
                why = str(e) or type(e).__name__
            else:
                answer = _json(response)
                if "outcome" in answer:
                    return answer
                if response.status_code not in UNCERTAIN:
                    raise _refused(response, answer)
                why = str(_refused(response, answer))
            if monotonic_ns() > deadline:
                raise NoAnswerError(
                    self._url, why, "is it running (wojak up)? Sending it again with the same --id is safe"
                )
            time.sleep(PAUSE_S)  # the other side is away: nothing tells us when it is back


class BooksClient:
    """Reads the books."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Return an answer of the REST API.

        Raises:
            NoAnswerError: If it can't be reached, or does not have ``min_seq`` in time.
            AnsweredError: If it refuses the question.
        """
        try:
            response = self._client.get(path, params={k: v for k, v in query.items() if v not in ("", None)})
        except httpx.HTTPError as e:
            raise NoAnswerError(self._url, str(e) or type(e).__name__, "is it running? start it: wojak up") from e
        answer = _json(response)
        if response.status_code == 200:
            return answer
        if response.status_code in UNCERTAIN:
            raise NoAnswerError(self._url, str(_refused(response, answer)), "try again")
        raise _refused(response, answer)

    def close(self) -> None:
        """Leave."""
        self._client.close()


def _path(account: str, client_order_id: str) -> str:
    return f"/v1/orders/{quote(account, safe='')}/{quote(client_order_id, safe='')}"


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _refused(response: httpx.Response, answer: dict[str, Any]) -> AnsweredError:
    error = answer.get("error", {})
    text = error.get("text") or response.text[:200] or response.reason_phrase
    return AnsweredError(response.status_code, error.get("code", "HTTP"), text, error.get("field") or "")
