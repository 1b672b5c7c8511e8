"""The rule that says which shard an account belongs to: its numbers are a promise to every journal that exists."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.shards import KNOWN_MAX, ShardMap, rendezvous, shard_name, weight

ACCOUNTS = [f"account-{n}" for n in range(3000)]


@pytest.mark.parametrize(
    ("account", "weights", "of_2", "of_3", "of_4", "of_16"),
    [
        ("demo", (0xE8D50425FA6F0865, 0xDFA8DEDE243AFDA5, 0x248ECC2FE77A78CF), 0, 0, 0, 10),
        ("flow", (0xCF6C5A17391FB1F1, 0x4121C52F808474A9, 0xDCB00CEA16785DCC), 0, 2, 2, 5),
        ("Zürich", (0x6F87161EC60AA457, 0x66EF9138CC6D200B, 0xFDCA8FCC8F4387D3), 0, 2, 2, 2),
    ],
)
def test_the_worked_examples_hold(
    account: str, weights: tuple[int, ...], of_2: int, of_3: int, of_4: int, of_16: int
) -> None:
    """These numbers stand in docs/decisions/0013: a release that changes one would lose sight of accounts."""
    assert tuple(weight(shard, account) for shard in range(3)) == weights
    assert tuple(rendezvous(account, shards) for shards in (2, 3, 4, 16)) == (of_2, of_3, of_4, of_16)


def test_the_weight_is_what_the_page_says() -> None:
    """BLAKE2b with digest size 8 over name, a zero byte and account, read big endian."""
    digest = blake2b(b"shard-1\x00demo", digest_size=8).digest()
    assert weight(1, "demo") == int.from_bytes(digest, "big")
    assert shard_name(1) == "shard-1"


def test_the_configuration_goes_before_the_hash() -> None:
    """An account with a shard of its own is there; the others are where the hash says."""
    shards = ShardMap(3, {"demo": 1})
    assert shards.shard_of("demo") == 1
    assert shards.shard_of("flow") == rendezvous("flow", 3) == 2


def test_one_shard_has_every_account() -> None:
    """Alone there is nothing to decide."""
    assert {ShardMap().shard_of(account) for account in ACCOUNTS} == {0}


@pytest.mark.parametrize("shards", [2, 3, 5, 16])
def test_accounts_are_spread_evenly(shards: int) -> None:
    """No shard gets more than a quarter above or below its share of 3,000 accounts."""
    counts = Counter(rendezvous(account, shards) for account in ACCOUNTS)
    share = len(ACCOUNTS) / shards
    assert len(counts) == shards
    assert all(0.75 * share < count < 1.25 * share for count in counts.values()), counts


@given(st.text(min_size=1, max_size=64), st.integers(1, 40))
def test_one_shard_more_only_takes(account: str, shards: int) -> None:
    """An account stays where it was, or goes to the new shard: never from one old shard to another."""
    before, after = rendezvous(account, shards), rendezvous(account, shards + 1)
    assert after in {before, shards}


@given(st.text(min_size=1, max_size=64), st.integers(1, 40))
def test_the_map_says_what_the_rule_says(account: str, shards: int) -> None:
    """What is kept from the first look is what the hash says, asked once or twice."""
    known = ShardMap(shards)
    assert known.shard_of(account) == known.shard_of(account) == rendezvous(account, shards)


def test_what_is_kept_has_a_bound() -> None:
    """Names come from outside: a flood of them does not fill the memory, and answers stay right."""
    known = ShardMap(2)
    for number in range(KNOWN_MAX + 10):
        known.shard_of(str(number))
    assert len(known._known) <= KNOWN_MAX
    assert known.shard_of("0") == rendezvous("0", 2)
