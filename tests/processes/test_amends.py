"""Trades taken back on real processes, by the commands that a person types, across a kill -9 of engine and gateway."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from tests.processes.stack import Stack, wait_until

WITHIN_S = 60.0


def test_the_venue_and_an_operator_take_trades_back(tmp_path: Path) -> None:
    """Busted, corrected, and busted by hand before the venue says it: each once, in engine, books and evidence."""
    with Stack(tmp_path) as stack:
        stack.start()
        order_ids = []
        for n, quantity in enumerate(("0.001", "0.002", "0.001"), 1):  # one lot is filled at once, two mostly
            assert stack.wojak("order", "buy", "BTCUSDT", quantity, "--id", f"o{n}").returncode == 0
            order_ids.append(wait_until(lambda n=n: order(stack, f"o{n}").get("order_id"), WITHIN_S, f"o{n}"))
        wait_until(lambda: held(stack) == Decimal("0.004"), WITHIN_S, "all fills in the books")
        of = {t["order_id"]: t for t in trades(stack)}
        first, second, third = (str(of[order_id]["trade_id"]) for order_id in order_ids)

        told(stack, "sandbox", "bust", first, "--reason", "erroneous")
        becomes(stack, first, "BUSTED")
        stack.kill("engine")
        stack.kill("gateway")
        stack.wait_ready("engine", "gateway")
        price = str(Decimal(of[order_ids[1]]["last_price"]) + Decimal("0.1"))
        told(stack, "sandbox", "correct", second, "--quantity", "0.001", "--price", price, "--reason", "erroneous")
        becomes(stack, second, "CORRECTED")
        told(stack, "orders", "resolve", order_ids[2], "--bust", third, "--reason", "desk called")
        becomes(stack, third, "BUSTED")
        told(stack, "sandbox", "bust", third, "--reason", "at last")
        again = stack.wojak("orders", "resolve", order_ids[2], "--bust", third, "--reason", "twice")
        assert again.returncode == 1, again.stdout
        assert "was taken back before" in again.stderr

        left = Decimal("0.003") - Decimal(of[order_ids[1]]["last_quantity"])  # of the second order, corrected to a lot
        wait_until(lambda: held(stack) == left, WITHIN_S, "what is left of all fills")
        assert (order(stack, "o1")["status"], order(stack, "o1")["cum_quantity"]) == ("CANCELED", "0")
        said = stack.wojak("reconcile", "--reason", "look")
        assert said.returncode == 0, said.stdout + said.stderr
        assert "0 fills in suspense" in told(stack, "orders", "suspense")
        assert stack.stop() == 0
        verified = stack.wojak("journal", "verify")
        assert (verified.returncode, "0 differ" in verified.stdout) == (0, True), verified.stdout


def told(stack: Stack, *arguments: str) -> str:
    done = stack.wojak(*arguments)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def get(stack: Stack, path: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{stack.books_url}{path}").json()
    return found


def order(stack: Stack, client_order_id: str) -> dict[str, Any]:
    found: dict[str, Any] = get(stack, f"/v1/orders/demo/{client_order_id}").get("order", {})
    return found


def trades(stack: Stack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(stack, "/v1/trades?account=demo").get("trades", [])
    return found


def held(stack: Stack) -> Decimal:
    positions = get(stack, "/v1/positions?account=demo&instrument=BTCUSDT").get("positions", [])
    return Decimal(positions[0]["quantity"]) if positions else Decimal(0)


def becomes(stack: Stack, trade_id: str, status: str) -> None:
    """Wait until the books show the trade so."""
    wait_until(
        lambda: [t["status"] for t in trades(stack) if t["trade_id"] == trade_id] == [status], WITHIN_S,
        f"trade {trade_id} {status}",
    )  # fmt: skip
