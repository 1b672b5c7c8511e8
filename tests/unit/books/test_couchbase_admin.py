"""What is asked of a cluster that no mock has: the requests themselves, and what each error of the SDK means."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from couchbase import exceptions
from couchbase.durability import ClientDurability, DurabilityLevel, ServerDurability

from books.bucket import Refusal
from books.couchbase import durability_of, refusal_of
from books.couchbase_admin import index_statements, make_collections
from books.documents import COLLECTIONS, Keys, collection_of
from books.errors import StoreUnavailableError
from books.settings import CouchbaseSettings

SETTINGS = CouchbaseSettings("couchbases://cb", "wojak", "u", "p", scope="trading")


class _Manager:
    """Answers as a cluster that has some collections already."""

    def __init__(self, there: set[str], refuses: bool = False) -> None:
        self.there, self.refuses = there, refuses
        self.asked: list[tuple[str, ...]] = []

    def create_scope(self, name: str) -> None:
        self.asked.append((name,))
        if self.refuses:
            raise exceptions.AuthenticationException(message="no rights")
        if name in self.there:
            raise exceptions.ScopeAlreadyExistsException

    def create_collection(self, scope: str, name: str) -> None:
        self.asked.append((scope, name))
        if name in self.there:
            raise exceptions.CollectionAlreadyExistsException


def _bucket(manager: _Manager) -> Any:
    return SimpleNamespace(bucket=SimpleNamespace(collections=lambda: manager))


@pytest.mark.parametrize("there", [set(), {"trading"}, {"trading", "orders", "epochs"}])
def test_collections_are_made_where_they_are_missing(there: set[str]) -> None:
    """The scope, then each collection that documents go to; what is there already stays."""
    manager = _Manager(there)
    made = make_collections(_bucket(manager), SETTINGS)
    wanted = {"orders", "trades", "positions", "breaches", "epochs"}
    assert manager.asked[0] == ("trading",)
    assert {name for scope, name in manager.asked[1:]} == wanted == set(COLLECTIONS.values())
    assert set(made) == wanted - there


def test_without_rights_it_is_said_so() -> None:
    """A refusal of the cluster names the scope."""
    with pytest.raises(StoreUnavailableError, match=r"scope trading.*no rights"):
        make_collections(_bucket(_Manager(set(), refuses=True)), SETTINGS)


def test_every_key_has_its_collection() -> None:
    """Rows, pages and what points to them are in the collection of their list."""
    keys = Keys(0)
    assert collection_of(keys.row("breaches", 1)) == collection_of(keys.page("breaches", "all", 0, 0)) == "breaches"
    assert collection_of(keys.order_of("a", "b")) == collection_of(keys.order_id("c")) == "orders"
    assert collection_of(keys.trade_of("v", "1")) == "trades"
    assert collection_of(keys.position_of("a", "i")) == "positions"
    assert collection_of(keys.watermark) == collection_of(keys.progress) == "epochs"


def test_index_statements_name_the_place() -> None:
    """One a list, in the named collection where there is one."""
    statements = index_statements(SETTINGS)
    assert len(statements) == 4
    assert any("ON `wojak`.`trading`.`orders`(" in s for s in statements)


def test_each_durability_is_the_sdks_own() -> None:
    """Every value of the setting has its word; none asks for nothing."""
    assert durability_of("none") is None
    assert isinstance(durability_of("client"), ClientDurability)
    levels = [durability_of(name) for name in ("majority", "majority_and_persist", "persist_to_majority")]
    assert [level.level for level in levels if isinstance(level, ServerDurability)] == [
        DurabilityLevel.MAJORITY, DurabilityLevel.MAJORITY_AND_PERSIST_TO_ACTIVE, DurabilityLevel.PERSIST_TO_MAJORITY,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (exceptions.DocumentExistsException(), Refusal.CHANGED),
        (exceptions.CasMismatchException(), Refusal.CHANGED),
        (exceptions.DocumentNotFoundException(), Refusal.CHANGED),
        (exceptions.TemporaryFailException(), Refusal.TEMPORARY),
        (exceptions.DurabilitySyncWriteInProgressException(), Refusal.TEMPORARY),
        (exceptions.AmbiguousTimeoutException(), Refusal.AMBIGUOUS),
        (exceptions.RequestCanceledException(), Refusal.AMBIGUOUS),
        (exceptions.DurabilitySyncWriteAmbiguousException(), Refusal.AMBIGUOUS),
        (exceptions.UnAmbiguousTimeoutException(), None),
        (exceptions.AuthenticationException(), None),
        (exceptions.CollectionNotFoundException(), None),
    ],
)
def test_each_error_of_a_document_has_its_meaning(error: Exception, meaning: Refusal | None) -> None:
    """A cancelled request is as unknown as one that timed out; what is none of one document's ends the call."""
    assert refusal_of(error) is meaning
