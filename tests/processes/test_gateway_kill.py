"""The venue gateway's own kill while the engine hangs (SIGSTOP), and what the engine makes of it when it wakes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.gateway_client import ask_gateway
from tests.processes.stack import Stack, wait_until
from venues.core.control import GatewayStatus

WITHIN_S = 60.0
OPEN_ORDERS = 20
LOSS_MS = 1_500


def gateway(stack: Stack) -> GatewayStatus:
    status = ask_gateway(stack.deployment, "sandbox", "status").status
    assert status is not None
    return status


@contextmanager
def hung_engine(stack: Stack) -> Iterator[None]:
    """An engine that exists and does nothing."""
    pid = stack.kill("engine", signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def trades_again(stack: Stack) -> None:
    before = stack.status().accepted
    wait_until(lambda: stack.status().accepted > before + OPEN_ORDERS, WITHIN_S, "orders to be accepted again")


def verified(stack: Stack) -> None:
    found = stack.wojak("verify", within_s=120.0)
    assert found.returncode == 0, found.stdout + found.stderr
    assert stack.stop() == 0, stack.said()


def test_the_gateway_kills_while_the_engine_hangs(tmp_path: Path) -> None:
    """Durable cancels without the engine, new orders refused after it wakes, and all holders agree in the end."""
    with Stack(tmp_path, flow=True) as stack:
        stack.start()
        wait_until(lambda: gateway(stack).open_orders >= OPEN_ORDERS, WITHIN_S, "orders open at the venue")
        with hung_engine(stack):
            killed = stack.wojak("kill", "--gateway", "sandbox", "--reason", "the engine hangs")
            assert killed.returncode == 0, killed.stdout + killed.stderr
            assert "open orders cancelled, new ones refused" in killed.stdout
            assert (gateway(stack).open_orders, gateway(stack).is_killed) == (0, True)
        stack.wait_ready("gateway")
        wait_until(lambda: stack.status().open_orders == 0, WITHIN_S, "the engine to take the gateway's cancels")
        trades_again(stack)
        assert gateway(stack).open_orders == 0
        stack.kill("gateway")
        stack.wait_ready("gateway")
        assert gateway(stack).is_killed
        assert stack.wojak("resume", "--gateway", "sandbox").returncode == 0
        wait_until(lambda: gateway(stack).open_orders >= OPEN_ORDERS, WITHIN_S, "orders open at the venue again")
        verified(stack)


def test_the_gateway_cancels_by_itself_when_the_engine_is_not_heard(tmp_path: Path) -> None:
    """Where it is set so: nobody asked, and new orders are taken as soon as the engine is back."""
    setting = f"[gateway]\ncancel_on_engine_loss_ms = {LOSS_MS}\n\n[feed]"
    with Stack(tmp_path, flow=True, edit=lambda text: text.replace("[feed]", setting, 1)) as stack:
        stack.start()
        wait_until(lambda: gateway(stack).open_orders >= OPEN_ORDERS, WITHIN_S, "orders open at the venue")
        with hung_engine(stack):
            wait_until(lambda: gateway(stack).open_orders == 0, WITHIN_S, "the gateway's own cancels")
            assert not gateway(stack).is_killed
        stack.wait_ready("gateway")
        trades_again(stack)
        verified(stack)


def test_a_gateway_that_is_not_there_is_named(tmp_path: Path) -> None:
    """An unknown name, and a scope beside it, are refused before anything is asked."""
    stack = Stack(tmp_path)
    for arguments in (("--gateway", "nyse"), ("--gateway", "sandbox", "--global")):
        refused = stack.wojak("kill", "--reason", "x", *arguments)
        assert refused.returncode == 2
        assert "expected" in refused.stderr
