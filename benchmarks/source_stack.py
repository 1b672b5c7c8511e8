"""What benchmarks of sources share: the order they send, the sidecar's process, what it says of itself."""

from __future__ import annotations

import re
import socket
from typing import Any

import msgspec

from benchmarks import workload
from benchmarks.errors import BenchError
from benchmarks.granter import GranterSettings
from benchmarks.stack import CREDITS, Stack
from benchmarks.told import Told
from protocol.units import format_e9
from runtime.health import HealthSettings
from sidecars.core.process import SidecarSettings
from sidecars.core.settings import LoopSettings


def body_of(number: int) -> bytes:
    """Return the JSON of an order that is accepted."""
    side, price = ("BUY", workload.PRICE_E9 - 10**10) if number % 2 else ("SELL", workload.PRICE_E9 + 10**10)
    order = {
        "account": workload.accounts[number % workload.ACCOUNTS], "strategy": workload.STRATEGY,
        "instrument": workload.instruments[number % workload.INSTRUMENTS], "side": side, "quantity": "0.001",
        "price": format_e9(price), "time_in_force": "GTC", "client_order_id": f"s-{number:08d}",
    }  # fmt: skip
    return msgspec.json.encode(order)


def start_granter(stack: Stack, told: Told, count: int) -> None:
    """Start the engine that accepts at once; it says so after ``count`` orders."""
    stack.spawn("granter", GranterSettings(stack.sidecars, str(told.path), count, CREDITS))


def start_sidecar(stack: Stack, kind: str, settings: dict[str, Any], env: dict[str, str]) -> int:
    """Start the sidecar of a kind; return its pid."""
    made = SidecarSettings(
        source=workload.SOURCE,
        kind=kind,
        settings=settings,
        loop=LoopSettings(engine_endpoint=stack.sidecars, state_file=str(stack.folder / "epochs")),
        health=HealthSettings(process="sidecar", socket_path=_health(stack)),
    )
    return stack.spawn("sidecar", made, env)


def asked(stack: Stack, target: str) -> str:
    """Return what the sidecar answers: ``/metrics``, ``/readyz``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(_health(stack))
        connection.sendall(f"GET {target} HTTP/1.1\r\n\r\n".encode())
        data = b""
        while part := connection.recv(65_536):
            data += part
    return data.decode()


def p99_ms(text: str, hop: str) -> float:
    """Return the p99 of a hop in the sidecar's last seconds, of its metrics."""
    match = re.search(rf'^wojak_sidecar_{hop}_recent_seconds{{[^}}]*quantile="0.99"[^}}]*}} (\S+)$', text, re.MULTILINE)
    if match is None:
        raise BenchError(f"metrics expected a p99 of {hop}, had none")
    return float(match[1]) * 1000


def _health(stack: Stack) -> str:
    return stack.endpoint("health").removeprefix("ipc://")
