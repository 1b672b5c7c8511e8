"""The certificates that SNS signs with: fetched once from where they may come from, kept, checked for their time.

Rules: whoever asks decides before whether the address may be called at all. No redirect is followed, nothing is read
beyond a bound, a fetch has a deadline; what failed is not asked for again for a while, so that nobody can have us call.
"""

from __future__ import annotations

import asyncio
import calendar
import http.client
import ssl
import time
from collections import OrderedDict
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from runtime.clock import wall_ns
from sidecars.core.crew import Crew
from sidecars.sources.http_models import HttpError

T = TypeVar("T")
FETCH_S: Final = 5
BYTES_MAX: Final = 64 << 10
KEPT_MAX: Final = 16
FAILED_NS: Final = 30 * 1_000_000_000
FETCHES_MAX: Final = 2
KEY_BITS_MIN: Final = 2048


class Certificate(NamedTuple):
    """A key and when it counts, UTC seconds."""

    key: RSAPublicKey
    from_s: int
    until_s: int

    def verify(self, signature: bytes, signed: bytes, version: str) -> bool:
        """Whether a signature is by this key; version 1 is SHA-1, 2 is SHA-256."""
        try:
            # SHA-1 only where the settings ask for version 1.
            self.key.verify(signature, signed, PKCS1v15(), SHA1() if version == "1" else SHA256())  # noqa: S303
        except InvalidSignature:
            return False
        return True


class Certificates:
    """Those that are known, by address."""

    def __init__(self, name: str) -> None:
        self._crew = Crew(f"{name}-certificate", FETCHES_MAX)
        self._known: OrderedDict[str, Certificate] = OrderedDict()
        self._failed: OrderedDict[str, tuple[int, str]] = OrderedDict()  # when, monotonic; why
        self._fetching: dict[str, asyncio.Future[bytes]] = {}
        self.fetches = 0

    async def get(self, url: str) -> Certificate:
        """Return the certificate at an address that may be called.

        Raises:
            HttpError: 503 if it can't be had now, 403 if it is none that counts now.
        """
        found = self._known.get(url)
        if found is None:
            found = await self._fetch(url)
        now_s = wall_ns() // 1_000_000_000
        if not found.from_s <= now_s <= found.until_s:
            self._known.pop(url, None)
            raise HttpError(403, "CERTIFICATE", f"certificate expected to count now, is not valid: {url}")
        return found

    async def _fetch(self, url: str) -> Certificate:
        now_ns = time.monotonic_ns()
        at_ns, why = self._failed.get(url, (0, ""))
        if why and now_ns - at_ns < FAILED_NS:
            raise _unavailable(why)
        fetch = self._fetching.get(url)
        if fetch is None:
            if len(self._fetching) >= FETCHES_MAX:
                raise _unavailable("other certificates are being fetched")
            self.fetches += 1
            fetch = self._fetching[url] = self._crew.run(partial(fetch_pem, url))
            fetch.add_done_callback(lambda _done: self._fetching.pop(url, None))
        try:
            async with asyncio.timeout(FETCH_S):
                pem = await asyncio.shield(fetch)
            found = parse(pem)
        except (OSError, http.client.HTTPException, ValueError, TimeoutError) as e:
            text = str(e) or type(e).__name__
            _keep(self._failed, url, (now_ns, text))
            raise _unavailable(text) from e
        _keep(self._known, url, found)
        return found

    def stop(self) -> None:
        """End the threads."""
        self._crew.stop()


def _keep(kept: OrderedDict[str, T], url: str, thing: T) -> None:
    kept[url] = thing
    kept.move_to_end(url)
    while len(kept) > KEPT_MAX:
        kept.popitem(last=False)


def _unavailable(why: str) -> HttpError:
    text = f"the certificate of SNS could not be fetched ({why[:200]}); send it again"
    return HttpError(503, "CERTIFICATE", text, header=(b"retry-after", b"5"))


def fetch_pem(url: str) -> bytes:
    """Fetch a file; blocking.

    Raises:
        OSError, HTTPException: As the network says.
        ValueError: If it is not there, or too large.
    """
    parts = urlsplit(url)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.netloc, timeout=FETCH_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=FETCH_S)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        body = answer.read(BYTES_MAX + 1)
    finally:
        connection.close()
    if answer.status != 200 or len(body) > BYTES_MAX:
        raise ValueError(f"{url} expected status 200 and at most {BYTES_MAX} bytes, was {answer.status}, {len(body)}")
    return body


def parse(pem: bytes) -> Certificate:
    """Return what a certificate says.

    Raises:
        ValueError: If it is none, or its key is no RSA key of 2,048 bits or more.
    """
    certificate = x509.load_pem_x509_certificate(pem)
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey) or key.key_size < KEY_BITS_MIN:
        raise ValueError(f"certificate expected with an RSA key of {KEY_BITS_MIN} bits or more, was another")
    return Certificate(key, _seconds(certificate.not_valid_before_utc), _seconds(certificate.not_valid_after_utc))


def _seconds(at: datetime) -> int:
    return calendar.timegm(at.utctimetuple())
