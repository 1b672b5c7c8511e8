"""Order types and replaces on real processes, by the commands that a person types, across a kill -9 of the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from tests.processes.stack import Stack, wait_until

WITHIN_S = 20.0


def test_replaces_stops_and_dates_on_real_processes(tmp_path: Path) -> None:
    """Each reaches the venue, the books and the journal; a stop outlives the engine and is replaced after it."""
    with Stack(tmp_path) as stack:
        stack.start()
        price = traded_price(stack)
        low, lower, high = (str(int(price * share)) for share in (0.97, 0.965, 1.02))

        ok(stack, "buy", "BTCUSDT", "0.05", "--limit", low, "--id", "a1", "--post-only")
        ok(stack, "replace", "a1", "--quantity", "0.07", "--limit", lower, "--new-id", "a2")
        becomes(stack, "a1", status="NEW", quantity="0.07", price=lower)
        ok(stack, "replace", "a2", "--quantity", "0.06", "--new-id", "a3")
        becomes(stack, "a1", status="NEW", quantity="0.06", price=lower)
        ok(stack, "buy", "BTCUSDT", "0.01", "--stop", high, "--id", "s1")
        ok(stack, "buy", "BTCUSDT", "0.01", "--limit", low, "--good-for-s", "1", "--id", "g1")
        ok(stack, "buy", "BTCUSDT", "500", "--limit", low, "--fok", "--id", "f1", refused=True)
        stack.kill("engine")
        stack.wait_ready("engine")
        ok(stack, "replace", "s1", "--quantity", "0.02", "--new-id", "s2")
        ok(stack, "cancel", "a3")

        becomes(stack, "a1", status="CANCELED")
        becomes(stack, "s1", status="NEW", quantity="0.02", order_type="STOP")
        becomes(stack, "g1", status="EXPIRED", time_in_force="GTD")
        assert stack.stop() == 0
        verified = stack.wojak("journal", "verify")
        assert (verified.returncode, "0 differ" in verified.stdout) == (0, True), verified.stdout


def traded_price(stack: Stack) -> float:
    """Buy a little and return at which price."""
    said = stack.wojak("order", "buy", "BTCUSDT", "0.01").stdout
    return float(said.partition("@ ")[2].split()[0].replace(",", ""))


def ok(stack: Stack, *arguments: str, refused: bool = False) -> None:
    done = stack.wojak("order", *arguments)
    assert done.returncode == (1 if refused else 0), (arguments, done.stdout, done.stderr)


def becomes(stack: Stack, client_order_id: str, **fields: Any) -> None:
    """Wait until the books show the order so."""

    def look() -> bool:
        answer = httpx.get(f"{stack.books_url}/v1/orders/demo/{quote(client_order_id, safe='')}").json()
        order = answer.get("order", {})
        return {name: order.get(name) for name in fields} == fields

    wait_until(look, WITHIN_S, f"{client_order_id} as {fields}")
