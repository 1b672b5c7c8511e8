"""Held orders over HTTP: 202 with where to look, and who would rather wait hears what came of the order."""

from __future__ import annotations

import threading

import httpx
import pytest

from protocol.codes import Code, OrderStatus, OutcomeKind
from protocol.session import Finals, Outcome
from sidecars.sources.http_held import WAIT_S_MAX, wait_of
from tests.unit.sidecars.conftest import ORDER, Stage, until


def test_a_held_order_is_202_with_its_place(running: Stage) -> None:
    """Location is the order's path at the books, its id quoted; a repeat says the same, and nothing else has one."""
    answer = running.send("/1", strategy="hold")
    assert (answer.status_code, answer.json()["outcome"]) == (202, "HELD")
    assert answer.headers["location"] == "/v1/orders/acc/c%2F1"
    assert "preference-applied" not in answer.headers
    again = running.send("/1", strategy="hold")
    assert (again.status_code, again.headers["location"]) == (202, "/v1/orders/acc/c%2F1")
    assert "location" not in running.send(2).headers


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [(OutcomeKind.ACCEPTED, Code.OK, 201), (OutcomeKind.REJECTED, Code.RISK_REJECTED, 422)],
)
def test_who_waits_hears_the_final(running: Stage, kind: OutcomeKind, code: Code, status: int) -> None:
    """Prefer: wait=30 is answered when the hold ends, with how it ended."""
    peer, answers = running.peers[-1], list[httpx.Response]()
    body = {**ORDER, "client_order_id": "w1", "strategy": "hold"}
    client = threading.Thread(target=lambda: answers.append(running.post(body, prefer="respond-async, wait=30")))
    client.start()
    until(lambda: ("acc", "w1") in running.journal.outcomes, "the order at the engine")
    seq = running.journal.items[-1].seq
    final = Outcome(seq, kind, code, "P-1", 1, OrderStatus.NEW)

    def is_answered() -> bool:
        peer.send_all(Finals([final], peer.epoch))  # the first may be faster than HELD is read: then nobody waits
        client.join(0.05)
        return not client.is_alive()

    until(is_answered, "the answer")
    (answer,) = answers
    assert (answer.status_code, answer.json()["code"]) == (status, code.name)
    assert answer.headers["preference-applied"] == "wait=30"
    assert "location" not in answer.headers


def test_who_waits_in_vain_hears_held(running: Stage) -> None:
    """After the time that was asked for it is 202 with the order's place; sent again it may wait again."""
    answer = running.post({**ORDER, "client_order_id": "v1", "strategy": "hold"}, prefer="wait=1")
    assert (answer.status_code, answer.json()["outcome"]) == (202, "HELD")
    assert answer.headers["location"] == "/v1/orders/acc/v1"
    assert answer.headers["preference-applied"] == "wait=1"


@pytest.mark.parametrize(
    ("prefer", "wait_s"),
    [
        (None, 0), (b"", 0), (b"wait=5", 5), (b"respond-async, wait=10", 10), (b'Wait = "7"; x=1', 7), (b"wait=0", 0),
        (b"wait=999999", WAIT_S_MAX), (b"wait=99999999999", 0), (b"wait=-1", 0), (b"wait=1.5", 0), (b"await=5", 0),
        (b"wait=\xd9\xa1", 0), (b"handling=strict;wait=5", 0),
    ],
)  # fmt: skip
def test_a_preference_is_bounded_and_what_is_none_is_passed_over(prefer: bytes | None, wait_s: int) -> None:
    """RFC 7240: a list of preferences with parameters; the longest wait is the source's own bound."""
    assert wait_of(prefer) == wait_s
