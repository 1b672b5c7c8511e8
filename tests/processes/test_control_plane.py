"""Flatten, limits and absence with real processes, under the demonstration flow, and what the journal says of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.processes.stack import Stack, wait_until

WITHIN_S = 60.0


def test_a_flatten_under_flow_leaves_nothing(tmp_path: Path) -> None:
    """The flow goes on sending and is refused; its account ends flat though the engine dies in the middle."""
    with Stack(tmp_path, flow=True) as stack:
        stack.start()
        wait_until(lambda: stack.status().fills > 50, WITHIN_S, "fills")
        assert stack.wojak("limits", "set", "POSITION_MAX", "3", "--account", "flow", "--reason", "t").returncode == 0
        flattening = stack.launch("flatten", "--account", "flow", "--within", "60s", "--reason", "end of day")
        wait_until(lambda: "REDUCE-ONLY" in stack.said(), WITHIN_S, "the flatten to begin")
        pid = stack.kill("engine")
        stack.wait_restarted("engine", pid)
        assert flattening.wait(WITHIN_S) == 0, stack.said()
        assert "✔ flat" in stack.said()
        refused = stack.wojak("order", "buy", "BTCUSDT", "0.01", "--account", "flow", "--strategy", "flow")
        assert "STATE_REDUCING" in refused.stdout + refused.stderr
        shown = stack.wojak("limits", "show")
        assert "set by" in shown.stdout
        assert stack.wojak("resume", "--account", "flow").returncode == 0
        _apply_a_limits_file(stack, tmp_path)
        before = stack.status().fills
        wait_until(lambda: stack.status().fills > before + 10, WITHIN_S, "fills again")
        verified = stack.wojak("verify", within_s=120.0)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert stack.stop() == 0, stack.said()
        again = stack.wojak("journal", "verify")
        assert again.returncode == 0, again.stdout + again.stderr


def test_what_a_hung_sidecar_left_open_is_cancelled(tmp_path: Path) -> None:
    """It is stopped, not dead: nothing on its side says a word. Pings keep an idle one's orders; restarts too."""
    setting = 'source = "http"\ncancel_on_disconnect_ms = 2000\nkeep_exits = false'
    with Stack(tmp_path, flow=True, edit=lambda text: text.replace('source = "http"', setting, 1)) as stack:
        stack.start()
        wait_until(lambda: stack.status().open_orders > 20, WITHIN_S, "open orders")
        pid = stack.kill("engine")
        stack.wait_restarted("engine", pid)
        stack.wait_ready("engine", "gateway", "http")
        wait_until(lambda: stack.status().open_orders > 20, WITHIN_S, "open orders after a restart")
        pid = stack.kill("http", signal.SIGSTOP)
        try:
            wait_until(lambda: stack.status().open_orders == 0, WITHIN_S, "the cancels")
        finally:
            os.kill(pid, signal.SIGCONT)
        printed = stack.wojak("journal", "cat", "--last", "2000").stdout
        assert "action=DISCONNECT" in printed
        wait_until(lambda: stack.status().open_orders > 20, WITHIN_S, "open orders of a source that is back")
        verified = stack.wojak("verify", within_s=120.0)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert stack.stop() == 0, stack.said()
        assert stack.wojak("journal", "verify").returncode == 0


def _apply_a_limits_file(stack: Stack, folder: Path) -> None:
    """Apply a file, see it run, go back to the configuration's rows; a bad file is refused and changes nothing."""
    assert stack.wojak("limits", "diff").returncode == 0
    sold = stack.wojak("limits", "explain", "buy", "BTCUSDT", "99", "--limit", "1", "--engine")
    assert sold.returncode == 1
    assert "✘ QTY_MAX" in sold.stdout
    assert "▸ QUANTITY_MAX of account demo" in sold.stdout
    file = folder / "quarter.toml"
    row = '[[limits]]\nlimit = "ORDER_VALUE_MAX"\nvalue = "4000000"\nunit = "{}"\nsource = "desk"\n'
    file.write_text(row.format("EUR"))
    refused = stack.wojak("limits", "apply", str(file), "--reason", "quarter")
    assert refused.returncode == 2
    assert 'line 4: limits[0].unit: expected "USDT"' in refused.stdout + refused.stderr
    assert stack.wojak("limits", "diff").returncode == 0
    file.write_text(row.format("USDT"))
    differs = stack.wojak("limits", "diff", str(file))
    assert differs.returncode == 1
    assert "~ ORDER_VALUE_MAX of global" in differs.stdout
    applied = stack.wojak("limits", "apply", str(file), "--reason", "quarter")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert "the next start reads wojak.toml again" in applied.stdout
    assert stack.wojak("limits", "diff", str(file)).returncode == 0
    assert stack.wojak("limits", "apply", "--reason", "back").returncode == 0
    assert stack.wojak("limits", "diff").returncode == 0
