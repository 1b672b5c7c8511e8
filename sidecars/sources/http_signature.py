"""Signed requests: HTTP message signatures (RFC 9421) with hmac-sha256, the body by its Content-Digest (RFC 9530).

Rule: the signature covers all that makes the order (method, path, body, its id), is young, and counts once. What was
wrong is told as far as the sender knows it himself; an unknown key and a wrong signature are the same answer, after the
same work. Both sides are here: ``sign`` for senders, ``parse`` and ``Signed.matches`` for the source.

Source: RFC 9421 sections 2 and 3.3.3, RFC 9530 section 2 (2024); the window is that of Binance, "timestamp <
serverTime + 1000 && serverTime - timestamp <= recvWindow" (developers.binance.com, request security, 2025).
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest
from hmac import digest as hmac_digest
from typing import Final

from msgspec import Struct

from sidecars.sources.http_models import HttpError

COMPONENTS_MAX: Final = 16
AHEAD_S: Final = 1
NONCE_CHARS_MIN: Final = 8
LABEL: Final = "wojak"
ACCEPT: Final = (
    b"accept-signature",
    b'wojak=("@method" "@path" "content-digest");created;nonce;keyid;alg="hmac-sha256"',
)
EXAMPLE: Final = (
    'wojak=("@method" "@path" "content-digest");created=1700000000;nonce="n-123456";keyid="desk-1";alg="hmac-sha256"'
)
WITH_BODY: Final = frozenset({"POST", "PUT"})

_COMPONENT: Final = r'"(?:@[a-z-]{1,32}|[a-z0-9!#$%&\'*+.^_`|~-]{1,64})"'
_INPUT: Final = re.compile(
    rf"(?P<label>[a-z*][a-z0-9_.*-]{{0,31}})="
    rf"(?P<params>\((?P<components>{_COMPONENT}(?: {_COMPONENT}){{0,{COMPONENTS_MAX - 1}}})\)"
    r'(?P<rest>(?:;[a-z]{1,16}=(?:[0-9]{1,12}|"[ !#-\[\]-~]{0,128}")){1,8}))'
)
_PARAMETER: Final = re.compile(r';([a-z]{1,16})=(?:([0-9]{1,12})|"([^"]*)")')
_SIGNATURE: Final = re.compile(r"(?P<label>[a-z*][a-z0-9_.*-]{0,31})=:(?P<value>[A-Za-z0-9+/]{43}=):")
_DIGEST: Final = re.compile(r"(?:^|, ?)sha-256=:([A-Za-z0-9+/]{43}=):(?=$|,)")
_KNOWN: Final = frozenset({"created", "expires", "nonce", "keyid", "alg", "tag"})


class Target(Struct):
    """What of a request can be signed: names of ``fields`` in lower case, a field that came twice is joined by ", "."""

    method: str
    path: str
    query: str
    fields: Mapping[str, str]

    def component(self, name: str) -> str | None:
        """Return the value of a component; None if the request has none, or the name is not known."""
        match name:
            case "@method":
                return self.method
            case "@path":
                return self.path or "/"
            case "@query":
                return f"?{self.query}"
            case "@authority":
                host = self.fields.get("host")
                return None if host is None else re.sub(r":(80|443)$", "", host.strip().lower())
            case _:
                value = None if name.startswith("@") else self.fields.get(name)
                return None if value is None else value.strip()


class Signed(Struct):
    """A request's signature, read and not yet believed. ``digest`` is the SHA-256 its body must have; b"" = no body."""

    key_id: str
    created_s: int
    base: bytes
    signature: bytes
    digest: bytes

    def matches(self, secret: bytes) -> bool:
        """Whether the secret made this signature, in constant time."""
        return compare_digest(hmac_digest(secret, self.base, "sha256"), self.signature)


def sign(target: Target, body: bytes, *, key_id: str, secret: bytes, created_s: int, nonce: str) -> dict[str, str]:
    """Return the headers that sign a request.

    Args:
        target: The request as it is sent; ``content-digest`` need not be among its fields.
        body: As sent; empty for a cancel.
        key_id: Name of the key at the source.
        secret: What both sides know.
        created_s: Now, UTC seconds.
        nonce: Any 8 to 128 characters; no two requests of one second have the same.
    """
    added: dict[str, str] = {}
    covered = ["@method", "@path"]
    if target.method in WITH_BODY:
        added["content-digest"] = f"sha-256=:{b64encode(sha256(body).digest()).decode()}:"
        covered.append("content-digest")
    if "idempotency-key" in target.fields:
        covered.append("idempotency-key")
    listed = " ".join(f'"{name}"' for name in covered)
    params = f'({listed});created={created_s};nonce="{nonce}";keyid="{key_id}";alg="hmac-sha256"'
    whole = Target(target.method, target.path, target.query, {**target.fields, **added})
    signature = hmac_digest(secret, _base(whole, covered, params), "sha256")
    added["signature-input"] = f"{LABEL}={params}"
    added["signature"] = f"{LABEL}=:{b64encode(signature).decode()}:"
    return added


def parse(target: Target, now_s: int, window_s: int) -> Signed:
    """Return the signature of a request, which is not checked yet.

    Args:
        target: The request as it came.
        now_s: Now, UTC seconds.
        window_s: How old a signature may be.

    Raises:
        HttpError: 401 naming what is missing, malformed, not covered, or too old.
    """
    given, value = _INPUT.fullmatch(target.fields["signature-input"]), target.fields.get("signature", "")
    if given is None:
        raise refused(f"signature-input expected one signature such as {EXAMPLE}", "signature-input")
    signature = _SIGNATURE.fullmatch(value)
    if signature is None or signature["label"] != given["label"]:
        raise refused(f"signature expected {given['label']}=:<base64 of 32 bytes>:", "signature")
    covered = given["components"][1:-1].split('" "')
    _require_covered(target, covered)
    texts, numbers = _parameters(given["rest"])
    _require_young(numbers, now_s, window_s)
    digest = _digest(target) if target.method in WITH_BODY else b""
    return Signed(
        texts["keyid"],
        numbers["created"],
        _base(target, covered, given["params"]),
        b64decode(signature["value"]),
        digest,
    )


def refused(text: str, field: str | None = None) -> HttpError:
    """Return the answer to a signature that is none."""
    return HttpError(401, "SIGNATURE", text, field, ACCEPT)


def wrong(signed: Signed) -> HttpError:
    """Return the answer to a signature by no key: with it the sender can compare what each side has signed."""
    return refused(
        "signature is by no key of this keyid over this request; its signature base here (RFC 9421 section 2.5) has "
        f"{len(signed.base)} bytes, SHA-256 {sha256(signed.base).hexdigest()}", "signature",
    )  # fmt: skip


def _require_covered(target: Target, covered: list[str]) -> None:
    if len(set(covered)) != len(covered):
        raise refused("signature-input expected each component once", "signature-input")
    needed = ["@method", "@path"]
    needed += ["content-digest"] if target.method in WITH_BODY else []
    needed += ["idempotency-key"] if "idempotency-key" in target.fields else []
    if missing := [name for name in needed if name not in covered]:
        raise refused(
            f"signature-input expected to cover {', '.join(needed)}, lacked {', '.join(missing)}", "signature-input"
        )
    if absent := next((name for name in covered if target.component(name) is None), None):
        raise refused(f"signature-input covers {absent}, which this request does not have", "signature-input")


def _parameters(rest: str) -> tuple[dict[str, str], dict[str, int]]:
    texts: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for name, number, text in _PARAMETER.findall(rest):
        if name in texts or name in numbers or name not in _KNOWN:
            raise refused(f"signature-input expected each of {', '.join(sorted(_KNOWN))} at most once, was {name}",
                          "signature-input")  # fmt: skip
        if number:
            numbers[name] = int(number)
        else:
            texts[name] = text
    if "created" not in numbers or "keyid" not in texts or len(texts.get("nonce", "")) < NONCE_CHARS_MIN:
        raise refused(f'signature-input expected created=<UTC seconds>, keyid="…" and a nonce="…" of at least '
                      f"{NONCE_CHARS_MIN} characters", "signature-input")  # fmt: skip
    if texts.get("alg", "hmac-sha256") != "hmac-sha256":
        raise refused(f'alg expected "hmac-sha256", was "{texts["alg"]}"', "signature-input")
    return texts, numbers


def _require_young(numbers: dict[str, int], now_s: int, window_s: int) -> None:
    created_s, expires_s = numbers["created"], numbers.get("expires", now_s)
    if not now_s - window_s <= created_s <= now_s + AHEAD_S or expires_s < now_s:
        what = f"created={created_s}" + (f";expires={expires_s}" if "expires" in numbers else "")
        raise HttpError(
            401, "SIGNATURE_STALE", f"created expected at most {window_s} s ago and {AHEAD_S} s ahead by the clock "
            f"here ({now_s}), expires not before it, was {what}; set the clock, sign again", "signature-input", ACCEPT,
        )  # fmt: skip


def _digest(target: Target) -> bytes:
    found = _DIGEST.search(target.fields["content-digest"])
    if found is None:
        raise refused("content-digest expected sha-256=:<base64 of 32 bytes>:", "content-digest")
    return b64decode(found[1])


def _base(target: Target, covered: list[str], params: str) -> bytes:
    lines = [f'"{name}": {target.component(name)}' for name in covered]
    return "\n".join([*lines, f'"@signature-params": {params}']).encode("latin-1")


class Seen:
    """The signatures of one key that have counted, by the second they were made in; bounded.

    A second that is forgotten, because it is old or because there is no place, is below ``floor_s``, and nothing at or
    below that counts any more: what can't be remembered can't be replayed.
    """

    __slots__ = ("_by_second", "_count", "_most", "floor_s")

    def __init__(self, most: int, floor_s: int) -> None:
        """``most`` signatures are kept; none made at or before ``floor_s``, UTC seconds, is taken."""
        self.floor_s = floor_s
        self._most = most
        self._count = 0
        self._by_second: dict[int, set[bytes]] = {}

    def __len__(self) -> int:
        """Return how many are kept."""
        return self._count

    def take(self, signature: bytes, created_s: int) -> bool:
        """Return whether it counts for the first time. The caller has looked at ``floor_s``."""
        seen = self._by_second.setdefault(created_s, set())
        if signature in seen:
            return False
        seen.add(signature)
        self._count += 1
        while self._count > self._most:
            self._forget(min(self._by_second))
        return True

    def forget_before(self, second: int) -> None:
        """Forget what was made before this second."""
        for old in [s for s in self._by_second if s < second]:
            self._forget(old)

    def _forget(self, second: int) -> None:
        self._count -= len(self._by_second.pop(second))
        self.floor_s = max(self.floor_s, second)
