"""Which shard an account belongs to: a stated rule, the same in every process and every release. Pure.

An account that the configuration gives a shard is there. Every other account is where the rendezvous hash over the
shards' names says (highest random weight: Thaler and Ravishankar, 1996): of all shards the one with the largest weight,

    weight(shard, account) = the first 8 bytes, big endian, of BLAKE2b(name(shard) + 0x00 + account), digest size 8
    name(shard)            = "shard-" + its number in decimal digits

both in UTF-8; of equal weights (one in 2^64) the lower number wins. One shard more takes its part of the accounts from
the others and moves none between them. Rule: this never changes, because an account's state does not move with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

WEIGHT_BYTES: Final = 8
SHARDS_MAX: Final = 1024
KNOWN_MAX: Final = 65_536


def shard_name(shard: int) -> str:
    """Return the name that the hash is taken of."""
    return f"shard-{shard}"


def weight(shard: int, account: str) -> int:
    """Return the weight of the account at the shard: 0 to 2^64 - 1."""
    content = f"{shard_name(shard)}\0{account}".encode()
    return int.from_bytes(blake2b(content, digest_size=WEIGHT_BYTES).digest(), "big")


def rendezvous(account: str, shards: int) -> int:
    """Return the shard of an account that no configuration names; 0 to ``shards`` - 1."""
    return max(range(shards), key=lambda shard: (weight(shard, account), -shard))


class ShardMap:
    """The rule with one deployment's numbers.

    Args:
        shards: How many there are, 1 to 1,024.
        explicit: Accounts that the configuration gives a shard.
    """

    __slots__ = ("_explicit", "_known", "shards")

    def __init__(self, shards: int = 1, explicit: Mapping[str, int] | None = None) -> None:
        assert 1 <= shards <= SHARDS_MAX
        self.shards = shards
        self._explicit = dict(explicit or {})
        assert all(0 <= shard < shards for shard in self._explicit.values())
        self._known: dict[str, int] = {}

    def shard_of(self, account: str) -> int:
        """Return where the account belongs. Known answers are kept; a hash costs about 1 µs a shard."""
        if self.shards == 1:
            return 0
        shard = self._explicit.get(account)
        if shard is None:
            shard = self._known.get(account)
        if shard is None:
            if len(self._known) >= KNOWN_MAX:  # names come from outside, so what is kept has a bound
                self._known.clear()
            shard = self._known[account] = rendezvous(account, self.shards)
        return shard
