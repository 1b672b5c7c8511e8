"""Who asks over HTTP: API keys, each with its principal and its own rate.

Rule: a sidecar authenticates, the engine authorises (DECISIONS 11). Secrets come from the environment or a file, are
kept as SHA-256 only, compared in constant time, and never logged. The caller's rate never stops a cancel or an exit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.errors import ConfigError
from protocol.orders import Name

SECRET_CHARS_MIN: Final = 16
NS_PER_S: Final = 1_000_000_000


class HttpKey(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One API key.

    Attributes:
        principal: Who the key speaks for; the engine knows its accounts and strategies.
        secret_env: Environment variable that holds the secret; or
        secret_file: file that holds it (its last newline does not count).
        orders_per_s: New risk the key may send a second; 0 = no limit of its own.
        burst: How many of these may come at once; 0 = one second's worth.
    """

    principal: Name
    secret_env: str = ""
    secret_file: str = ""
    orders_per_s: Annotated[int, Meta(ge=0)] = 0
    burst: Annotated[int, Meta(ge=0)] = 0


class Caller:
    """An authenticated caller: a principal and what is left of its rate (a token bucket in integer nanoseconds)."""

    __slots__ = ("_burst_ns", "_cost_ns", "_full_at_ns", "principal")

    def __init__(self, principal: str, orders_per_s: int = 0, burst: int = 0) -> None:
        self.principal = principal
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


class Keys:
    """All keys of one sidecar."""

    def __init__(
        self, keys: Sequence[HttpKey], loopback_principal: str, environ: Mapping[str, str] = os.environ
    ) -> None:
        """Read the secrets.

        Raises:
            ConfigError: Naming every key whose secret is absent, unreadable, too short, or another key's.
        """
        problems: list[str] = []
        self._callers: dict[bytes, tuple[bytes, Caller]] = {}
        for at, key in enumerate(keys):
            secret = _secret(key, f"keys[{at}]", environ, problems)
            if not secret:
                continue
            digest = sha256(secret.encode()).digest()
            if digest[:8] in self._callers:
                problems.append(f"keys[{at}]: expected a secret of its own, was that of another key; make a new one")
            self._callers[digest[:8]] = (digest, Caller(key.principal, key.orders_per_s, key.burst))
        if not keys and not loopback_principal:
            problems.append("keys: expected at least one key (or loopback_principal for a demonstration), was none")
        if problems:
            raise ConfigError(problems)
        self._loopback = Caller(loopback_principal) if loopback_principal else None

    def find(self, headers: Mapping[bytes, bytes], peer: str) -> Caller | None:
        """Return who asks; None for no key, an unknown one, or no key from elsewhere than loopback."""
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
        known = self._callers.get(digest[:8])
        return known[1] if known is not None and compare_digest(known[0], digest) else None


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
    if len(secret) < SECRET_CHARS_MIN:
        problems.append(
            f"{origin}: expected at least {SECRET_CHARS_MIN} characters, was {len(secret)}; make a longer one"
        )
        return ""
    return secret
