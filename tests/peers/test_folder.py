"""The template of a source passes the suite, found by its entry point as any other package's would be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.cases import without
from tests.conformance.source import SourceContract
from tests.peers.folder import Folders


@pytest.fixture(scope="module")
def broker() -> Iterator[Folders]:
    """A place for the module."""
    broker = Folders()
    try:
        yield broker
    finally:
        broker.end()


@without(
    "test_a_connection_that_is_cut_again_and_again_loses_nothing",
    "test_a_dead_link_is_noticed",
    "test_a_slow_network_only_slows",
    "test_order_is_kept_also_across_a_crash",
    "test_the_answer_is_published_before_the_message_is_settled",
)
class TestFolder(SourceContract):
    """The suite."""
