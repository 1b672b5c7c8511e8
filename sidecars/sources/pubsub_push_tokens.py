"""Who pushes: the OIDC token of a request, by Google's keys, for our audience, of the one service account.

Rules (SOURCES section 6.4): the signature is RS256 by a key that Google has now; ``iss`` is Google; ``aud`` is the one
string that is configured; ``email`` is the one account, verified; neither expired nor from the future, with a minute of
skew. Keys are kept as long as their answer says; a key id that nobody knows has them fetched again, once in a while, so
that nobody can have us call. While keys can't be fetched those that are known go on.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import ssl
import time
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import structlog
from google.auth import jwt
from google.auth.exceptions import GoogleAuthError

from runtime.clock import wall_ns
from sidecars.core.crew import Crew
from sidecars.sources.http_models import HttpError

NS_PER_S: Final = 1_000_000_000
ISSUERS: Final = frozenset({"accounts.google.com", "https://accounts.google.com"})
SKEW_S: Final = 60
FETCH_S: Final = 5
BYTES_MAX: Final = 64 << 10
AGE_S: Final = 3_600  # of keys whose answer does not say
AGE_S_MAX: Final = 86_400
AGAIN_NS: Final = 5 * NS_PER_S  # the least time between two fetches for want of a key
TOKEN_BYTES_MAX: Final = 8 << 10
TOKENS_MAX: Final = 16
TRUSTED_S: Final = 300  # Pub/Sub sends one token many times: it is not verified anew each time
_MAX_AGE: Final = re.compile(r"max-age=([0-9]{1,9})")
_jwt: Final[Any] = jwt  # it has no types
_keys: Final = msgspec.json.Decoder(dict[str, str])


class SigningKeys:
    """Google's certificates by key id, from an address or a file."""

    def __init__(self, name: str, where: str) -> None:
        self._crew = Crew(f"{name}-keys", 1)
        self._where = where
        self._log = structlog.get_logger().bind(source=name)
        self._known: dict[str, str] = {}
        self._fresh_until_ns = 0
        self._fetched_ns = -AGAIN_NS
        self._fetching: asyncio.Future[tuple[bytes, int]] | None = None
        self.fetches = 0

    async def get(self, key_id: str) -> dict[str, str]:
        """Return the certificates; fetched again if they are old, or if none has this id and a while has passed.

        Raises:
            HttpError: 503 if there are none.
        """
        now_ns = time.monotonic_ns()
        is_due = now_ns >= self._fresh_until_ns or key_id not in self._known
        if is_due and (not self._known or now_ns - self._fetched_ns >= AGAIN_NS):
            await self._fetch()
        if not self._known:
            text = "Google's keys could not be fetched; send it again"
            raise HttpError(503, "KEYS", text, header=(b"retry-after", b"5"))
        return self._known

    async def _fetch(self) -> None:
        if self._fetching is None:
            self.fetches += 1
            self._fetching = self._crew.run(partial(fetch, self._where))
        fetching = self._fetching
        try:
            async with asyncio.timeout(FETCH_S):
                body, age_s = await asyncio.shield(fetching)
            self._known = _keys.decode(body)
        except (OSError, http.client.HTTPException, ValueError, TimeoutError, msgspec.DecodeError) as e:
            why = str(e) or type(e).__name__
            self._log.error("keys not fetched, those of before count", where=self._where, why=why)
        else:
            self._fresh_until_ns = time.monotonic_ns() + min(age_s, AGE_S_MAX) * NS_PER_S
        finally:
            self._fetched_ns = time.monotonic_ns()
            if self._fetching is fetching and fetching.done():
                self._fetching = None

    def stop(self) -> None:
        """End the thread."""
        self._crew.stop()


class Tokens:
    """Says whether a request is of the one account."""

    def __init__(self, keys: SigningKeys, audience: str, service_account: str) -> None:
        self._keys = keys
        self._audience = audience
        self._account = service_account
        self._trusted: OrderedDict[bytes, int] = OrderedDict()  # until when, UTC seconds

    async def require(self, authorization: bytes) -> None:
        """Let a request pass by its ``authorization`` header.

        Raises:
            HttpError: 401 for no token or a wrong one, 403 for one that is somebody else's, 503 without keys.
        """
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not 0 < len(token) <= TOKEN_BYTES_MAX:
            raise HttpError(401, "TOKEN", "authorization expected Bearer with an OIDC token, was none")
        now_s = wall_ns() // NS_PER_S
        if self._trusted.get(token, 0) > now_s:
            return
        claims = await self._verified(token)
        self._require_ours(claims)
        self._trusted[token] = min(int(claims["exp"]) + SKEW_S, now_s + TRUSTED_S)
        while len(self._trusted) > TOKENS_MAX:
            self._trusted.popitem(last=False)

    async def _verified(self, token: bytes) -> dict[str, Any]:
        try:
            header: dict[str, Any] = _jwt.decode_header(token)
            keys = await self._keys.get(str(header.get("kid", "")))
            if header.get("alg") != "RS256":
                raise ValueError(f"alg expected RS256, was {header.get('alg')!r}")
            found: dict[str, Any] = _jwt.decode(
                token, certs=keys, audience=self._audience, clock_skew_in_seconds=SKEW_S
            )
        except (GoogleAuthError, ValueError, TypeError, KeyError, AttributeError) as e:
            text = " ".join(str(e).split())[:200]
            raise HttpError(401, "TOKEN", f"token expected to be good, was not: {text}") from e
        return dict(found)

    def _require_ours(self, claims: dict[str, Any]) -> None:
        if claims.get("iss") not in ISSUERS:
            raise HttpError(403, "TOKEN_ISSUER", f"iss expected Google's, was {str(claims.get('iss'))[:64]!r}")
        if claims.get("email") != self._account or claims.get("email_verified") is not True:
            was = f"{str(claims.get('email'))[:100]!r}, verified {claims.get('email_verified')!r}"
            raise HttpError(403, "TOKEN_EMAIL", f"email expected {self._account}, verified, was {was}")


def fetch(where: str) -> tuple[bytes, int]:
    """Return the certificates as they stand there, and for how many seconds they count; blocking.

    Raises:
        OSError, HTTPException: As the network or the disk says.
        ValueError: If they are not there, or too large.
    """
    parts = urlsplit(where)
    if parts.scheme not in {"http", "https"}:
        return Path(where).read_bytes()[:BYTES_MAX], AGAIN_NS // NS_PER_S
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.netloc, timeout=FETCH_S, context=ssl.create_default_context())
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=FETCH_S)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        body = answer.read(BYTES_MAX + 1)
    finally:
        connection.close()
    if answer.status != 200 or len(body) > BYTES_MAX:
        raise ValueError(f"{where} expected status 200 and at most {BYTES_MAX} bytes, was {answer.status}, {len(body)}")
    age = _MAX_AGE.search(answer.getheader("cache-control", ""))
    return body, int(age[1]) if age else AGE_S
