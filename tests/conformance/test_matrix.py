"""The matrix of cases and sources is complete, and every case said to be shown by a test has one."""

from __future__ import annotations

import importlib

import pytest

from sidecars.core.kinds import OURS
from tests.conformance.matrix import CASES, HOWS, MANY, MATRIX, NONE, NOT_SHOWN, PEER
from tests.conformance.peer import Peer


def covered(source: str) -> set[str]:
    """Return the cases that the tests of a source say they show."""
    module = importlib.import_module(f"tests.peers.test_{source}")
    classes = [thing for thing in vars(module).values() if isinstance(thing, type)]
    tests = [getattr(kind, name) for kind in classes for name in dir(kind) if name.startswith("test_")]
    tests += [thing for name, thing in vars(module).items() if name.startswith("test_")]
    return {case for test in tests for case in getattr(test, "cases", ())}


def test_every_source_has_a_line() -> None:
    """No source ships without saying what of it is shown."""
    assert set(OURS) <= set(MATRIX)


@pytest.mark.parametrize("source", sorted(MATRIX))
def test_every_case_of_a_source_is_shown_or_says_why_not(source: str) -> None:
    """Each case has a word, and what is missing has a reason."""
    line = MATRIX[source]
    assert set(line) == set(CASES)
    assert {shown.how for shown in line.values()} <= HOWS
    assert [case for case, shown in line.items() if shown.how in {NONE, NOT_SHOWN} and not shown.why] == []


@pytest.mark.parametrize("source", sorted(MATRIX))
def test_what_is_said_to_be_shown_has_a_test(source: str) -> None:
    """A case shown against the peer is named by a test of that source."""
    claimed = {case for case, shown in MATRIX[source].items() if shown.how == PEER}
    assert claimed - covered(source) == set()


def sent_by(source: str) -> set[int]:
    """Return how many messages the test of many sends."""
    module = importlib.import_module(f"tests.peers.test_{source}")
    if hasattr(module, "MANY"):
        return {module.MANY}
    peers = importlib.import_module(f"tests.peers.{source.removesuffix('_fifo')}")
    own = [thing for thing in vars(peers).values() if isinstance(thing, type) and thing.__module__ == peers.__name__]
    return {thing.many for thing in own if issubclass(thing, Peer)}


@pytest.mark.parametrize("source", sorted(MATRIX))
def test_the_matrix_says_how_many_messages_are_sent(source: str) -> None:
    """As many as the test sends; a source that gets fewer than was decided says why."""
    sent = MANY[source]
    assert sent_by(source) == {sent.many}
    assert (sent.many >= sent.wanted) or sent.why
