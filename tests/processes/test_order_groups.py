"""OCO groups and exits in the place of others on real processes, by the commands that a person types."""

from __future__ import annotations

from pathlib import Path

from tests.processes.stack import Stack
from tests.processes.test_order_life import becomes, ok, traded_price


def test_a_group_waits_over_a_kill_and_one_of_it_sells(tmp_path: Path) -> None:
    """Reserved over a kill -9 of the engine; cancelled by its id; another's stop sells what was held, once."""
    with Stack(tmp_path) as stack:
        stack.start()
        price = traded_price(stack)
        far, high, higher, low = (str(int(price * share)) for share in (1.06, 1.02, 1.05, 0.92))

        ok(stack, "oco", "sell", "BTCUSDT", "0.01", "--limit", far, "--stop", low, "--reduce-only", "--id", "g1")
        becomes(stack, "g1/1", status="NEW", price=far)
        becomes(stack, "g1/2", status="SUSPENDED", order_type="STOP", leaves_quantity="0")
        stack.kill("engine")
        stack.wait_ready("engine")
        ok(stack, "sell", "BTCUSDT", "0.01", "--limit", far, "--reduce-only", "--id", "more", refused=True)
        ok(stack, "cancel", "g1")
        becomes(stack, "g1/1", status="CANCELED")
        becomes(stack, "g1/2", status="CANCELED")

        # The market is below this stop already: the limit order goes, and the stop sells.
        ok(stack, "oco", "sell", "BTCUSDT", "0.01", "--limit", higher, "--stop", high, "--reduce-only", "--id", "g2")
        becomes(stack, "g2/1", status="CANCELED", code="OCO_TRIGGERED", cum_quantity="0")
        becomes(stack, "g2/2", status="FILLED", cum_quantity="0.01")

        ok(stack, "buy", "BTCUSDT", "0.01", "--id", "b1")
        ok(stack, "oco", "sell", "BTCUSDT", "0.01", "--limit", far, "--stop", low, "--reduce-only", "--id", "g3")
        ok(stack, "exit", "sell", "BTCUSDT", "0.01", "--cancels", "g3/1", "--id", "x1")
        becomes(stack, "g3/2", status="CANCELED")
        becomes(stack, "x1", status="FILLED", cum_quantity="0.01")
        assert stack.stop() == 0
        verified = stack.wojak("journal", "verify")
        assert (verified.returncode, "0 differ" in verified.stdout) == (0, True), verified.stdout
