"""Who asks over HTTP: keys that are shown, keys that sign, client certificates; each speaks for a principal.

Rule: a sidecar authenticates, the engine authorises (DECISIONS 11). Secrets come from the environment or a file, those
that are shown are kept as SHA-256 only; all are compared in constant time and never logged. The rate is the
principal's, whichever of its keys is used, and never stops a cancel or an exit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from protocol.errors import ConfigError
from protocol.orders import Name
from runtime.clock import wall_ns
from sidecars.sources import http_signature
from sidecars.sources.http_models import HttpError
from sidecars.sources.http_signature import AHEAD_S, Seen, Target

SECRET_CHARS_MIN: Final = 16
SIGNING_SECRET_CHARS_MIN: Final = 32
NS_PER_S: Final = 1_000_000_000
UNAUTHENTICATED: Final = (
    "expected a known key as Authorization: Bearer <secret> or X-API-Key: <secret>, or a signature (RFC 9421)"
)
NO_SECRET: Final = bytes(32)  # compared with where no key has the name, so that both take the same time


class HttpKey(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One API key.

    Attributes:
        principal: Who the key speaks for; the engine knows its accounts and strategies.
        secret_env: Environment variable that holds the secret; or
        secret_file: file that holds it (its last newline does not count).
        name: What a signature names as its keyid; needed for a key that signs.
        kind: ``bearer`` is shown with each request; ``hmac`` signs each request and is never sent.
        orders_per_s: New risk the principal may send a second, the same for all its keys; 0 = no limit of its own.
        burst: How many of these may come at once; 0 = one second's worth.
    """

    principal: Name
    name: str = ""
    kind: Literal["bearer", "hmac"] = "bearer"
    secret_env: str = ""
    secret_file: str = ""
    orders_per_s: Annotated[int, Meta(ge=0)] = 0
    burst: Annotated[int, Meta(ge=0)] = 0


class HttpCertificate(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A client certificate: ``identity`` is the name in it that the listener's setting chooses; else as ``HttpKey``."""

    identity: Annotated[str, Meta(min_length=1, max_length=1024)]
    principal: Name
    orders_per_s: Annotated[int, Meta(ge=0)] = 0
    burst: Annotated[int, Meta(ge=0)] = 0


class SignatureSettings(Struct, frozen=True):
    """How old a signature may be, and how many of a key are remembered."""

    window_s: int = 30
    seen_max: int = 65_536


SIGNATURES: Final = SignatureSettings()


class Caller:
    """An authenticated caller: a principal and what is left of its rate (a token bucket in integer nanoseconds)."""

    __slots__ = ("_burst_ns", "_cost_ns", "_full_at_ns", "principal", "rate")

    def __init__(self, principal: str, orders_per_s: int = 0, burst: int = 0) -> None:
        self.principal = principal
        self.rate = (orders_per_s, burst)
        self._cost_ns = NS_PER_S // orders_per_s if orders_per_s else 0
        self._burst_ns = self._cost_ns * (burst or orders_per_s)
        self._full_at_ns = 0

    def take(self, orders: int, now_ns: int) -> int:
        """Take ``orders`` from the rate; return 0, or the ns after which as many can be taken."""
        if not self._cost_ns:
            return 0
        debt_ns = max(0, self._full_at_ns - now_ns)
        full_at_ns = now_ns + debt_ns + orders * self._cost_ns
        excess_ns = full_at_ns - now_ns - self._burst_ns
        # An array larger than the burst passes when nothing is owed, and is paid for afterwards.
        if excess_ns > 0 and debt_ns > 0:
            return min(excess_ns, debt_ns)
        self._full_at_ns = full_at_ns
        return 0


class Signer(Struct):
    """A key that signs."""

    secret: bytes
    caller: Caller
    seen: Seen


class Keys:
    """All keys and certificates of one sidecar."""

    def __init__(
        self,
        keys: Sequence[HttpKey],
        loopback_principal: str,
        environ: Mapping[str, str] = os.environ,
        *,
        certificates: Sequence[HttpCertificate] = (),
        signatures: SignatureSettings = SIGNATURES,
        is_certificate_required: bool = False,
        now_s: Callable[[], int] = lambda: wall_ns() // NS_PER_S,
    ) -> None:
        """Read the secrets.

        Raises:
            ConfigError: Naming every key whose secret is absent, unreadable, too short, or another key's.
        """
        self._now_s = now_s
        self._signatures = signatures
        self._shown: dict[bytes, tuple[bytes, Caller]] = {}
        self._signers: dict[str, Signer] = {}
        self._certificates: dict[str, Caller] = {}
        self._environ = environ
        self._is_certificate_required = is_certificate_required
        self._started_s = now_s() + AHEAD_S
        self.loopback_principal = loopback_principal
        self._loopback = Caller(loopback_principal) if loopback_principal else None
        self.read(keys, certificates)

    def read(self, keys: Sequence[HttpKey], certificates: Sequence[HttpCertificate]) -> None:
        """Read the secrets, anew if they were read before: what has been spent of rates and seen of signatures stays.

        Raises:
            ConfigError: As when made; what was read before then stays.
        """
        problems: list[str] = []
        callers = _callers(keys, certificates, self._known_callers(), problems)
        shown: dict[bytes, tuple[bytes, Caller]] = {}
        signers: dict[str, Signer] = {}
        digests: set[bytes] = set()
        for at, key in enumerate(keys):
            where = f"keys[{at}]"
            secret = _secret(key, where, self._environ, problems)
            if not secret:
                continue
            digest = sha256(secret.encode()).digest()
            if digest[:8] in digests:
                problems.append(f"{where}: expected a secret of its own, was that of another key; make a new one")
            digests.add(digest[:8])
            if key.kind == "bearer":
                shown[digest[:8]] = (digest, callers[key.principal])
            elif not key.name or key.name in signers:
                problems.append(f"{where}.name: expected a name of its own for a key that signs, was {key.name!r}")
            else:
                known = self._signers.get(key.name)
                seen = known.seen if known is not None else Seen(self._signatures.seen_max, self._started_s)
                signers[key.name] = Signer(secret.encode(), callers[key.principal], seen)
        if not keys and not certificates and not self.loopback_principal:
            problems.append("keys: expected at least one key (or loopback_principal for a demonstration), was none")
        if problems:
            raise ConfigError(problems)
        self._shown, self._signers = shown, signers
        self._certificates = {c.identity: callers[c.principal] for c in certificates}

    def _known_callers(self) -> dict[str, Caller]:
        callers = [c for _, c in self._shown.values()] + [s.caller for s in self._signers.values()]
        return {c.principal: c for c in [*callers, *self._certificates.values()]}

    def authenticate(self, scope: Any, headers: Mapping[bytes, bytes]) -> tuple[Caller, bytes]:
        """Return who asks, and the SHA-256 that the body must have (b"" for any).

        Raises:
            HttpError: If nobody known does: 401, or as ``signed``.
        """
        certified = self._certified(scope) if self._certificates else None
        if b"signature-input" in headers:
            found, digest = self.signed(scope)
        elif certified is not None and b"authorization" not in headers and b"x-api-key" not in headers:
            return certified, b""
        else:
            shown, digest = self.find(headers, (scope["client"] or ("", 0))[0]), b""
            if shown is None:
                raise HttpError(401, "UNAUTHENTICATED", UNAUTHENTICATED, header=(b"www-authenticate", b"Bearer"))
            found = shown
        if certified is not None and certified is not found:
            raise HttpError(401, "TWO_PRINCIPALS", "key and client certificate expected to speak for one principal")
        return found, digest

    def _certified(self, scope: Any) -> Caller | None:
        identity = scope["state"].get("certificate", "")
        certified = self._certificates.get(identity)
        if certified is None and self._is_certificate_required:
            was = f"one of {identity!r}" if identity else "none with the name that counts"
            raise HttpError(401, "CERTIFICATE", f"expected a listed client certificate, was {was}")
        return certified

    def find(self, headers: Mapping[bytes, bytes], peer: str) -> Caller | None:
        """Return who asks with a key that is shown; None for no key, an unknown one, or no key from elsewhere."""
        given = headers.get(b"x-api-key")
        if given is None:
            authorization = headers.get(b"authorization")
            if authorization is None:
                return self._loopback if self._loopback is not None and is_loopback(peer) else None
            scheme, _, given = authorization.partition(b" ")
            if scheme.lower() != b"bearer":
                return None
        digest = sha256(given.strip()).digest()
        # The look-up shows eight bytes of a hash; the rest is compared in constant time.
        known = self._shown.get(digest[:8])
        return known[1] if known is not None and compare_digest(known[0], digest) else None

    def signed(self, scope: Any) -> tuple[Caller, bytes]:
        """Return who signed a request, and the SHA-256 that its body must have (b"" for none). It counts from now on.

        Raises:
            HttpError: 401 if it is no signature of a key; 409 if it counted before; 503 if nobody can know any more.
        """
        target = _target(scope)
        now_s = self._now_s()
        signed = http_signature.parse(target, now_s, self._signatures.window_s)
        signer = self._signers.get(signed.key_id)
        if not signed.matches(signer.secret if signer is not None else NO_SECRET) or signer is None:
            raise http_signature.wrong(signed)
        # A cancel is let through where nobody can know: repeated within the window it changes nothing (DECISIONS 10).
        if signed.created_s <= signer.seen.floor_s and target.method != "DELETE":
            raise HttpError(
                503, "SIGN_AGAIN", f"what was signed until {signer.seen.floor_s} (UTC seconds) is not remembered here, "
                "so a repeat could not be told from it; not taken: sign it again now", None, (b"retry-after", b"1"),
            )  # fmt: skip
        signer.seen.forget_before(now_s - self._signatures.window_s)
        if not signer.seen.take(signed.signature, signed.created_s):
            raise HttpError(409, "SIGNATURE_REPLAYED", "this very signature came before; to send it again, sign it "
                            "again with another nonce", "signature")  # fmt: skip
        return signer.caller, signed.digest


def _callers(
    keys: Sequence[HttpKey], certificates: Sequence[HttpCertificate], known: Mapping[str, Caller], problems: list[str]
) -> dict[str, Caller]:
    """Return the caller of each principal: the known one where its rate is unchanged."""
    rates: dict[str, tuple[int, int]] = {}
    rows: list[tuple[str, HttpKey | HttpCertificate]] = [(f"keys[{n}]", key) for n, key in enumerate(keys)]
    rows += [(f"certificates[{n}]", row) for n, row in enumerate(certificates)]
    for where, row in rows:
        rate = (row.orders_per_s, row.burst)
        if rates.setdefault(row.principal, rate) != rate:
            problems.append(
                f"{where}.orders_per_s, burst: expected those of principal {row.principal}'s other keys "
                f"({rates[row.principal]}), was {rate}; the rate is the principal's"
            )
    return {
        principal: old if (old := known.get(principal)) is not None and old.rate == rate else Caller(principal, *rate)
        for principal, rate in rates.items()
    }


def _target(scope: Any) -> Target:
    fields: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        fields[key] = f"{fields[key]}, {text.strip()}" if key in fields else text
    return Target(scope["method"], scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1"), fields)


def is_loopback(peer: str) -> bool:
    """Whether the peer's address is this host's own."""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool(mapped.is_loopback if mapped is not None else address.is_loopback)


def _secret(key: HttpKey, where: str, environ: Mapping[str, str], problems: list[str]) -> str:
    if bool(key.secret_env) == bool(key.secret_file):
        problems.append(
            f"{where}: expected one of secret_env and secret_file, was {'both' if key.secret_env else 'none'}"
        )
        return ""
    if key.secret_env:
        origin = f"{where}.secret_env {key.secret_env}"
        secret = environ.get(key.secret_env, "")
        if not secret:
            problems.append(f"{origin}: expected the secret in this environment variable, was not set; export it")
            return ""
    else:
        origin = f"{where}.secret_file {key.secret_file}"
        try:
            secret = Path(key.secret_file).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as e:
            problems.append(f"{origin}: expected a readable file with the secret, was: {e}")
            return ""
    least = SIGNING_SECRET_CHARS_MIN if key.kind == "hmac" else SECRET_CHARS_MIN
    if len(secret) < least:
        problems.append(f"{origin}: expected at least {least} characters, was {len(secret)}; make a longer one")
        return ""
    return secret
