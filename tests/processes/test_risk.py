"""The risk service on real processes: it judges what a limit would have refused, over its own death and others."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import msgspec

from protocol.units import E9
from risk.portfolio.params import Contract, ContractKind, Params, Product
from tests.processes.stack import Stack
from tests.processes.test_order_life import becomes, traded_price
from tests.unit.cli.alert_peers import WebPeer
from tests.unit.risk.test_webhook import SECRET, signed

PARAMS = Params(
    "test",
    (Contract("BTCUSDT", "BTC", ContractKind.FUTURE, E9 // 1_000),),
    (Product("BTC", price_scan_bp=1_000, vol_scan_e9=E9 // 25),),
)
ROUTES = """
[[routes]]
check = "POS_LIMIT"
route = "forward"
on_deadline = "hold"

[risk_service]
params_file = "risk.json"
hold_max_ms = 120000

"""
OPENING = '[[cash]]\naccount = "demo"\ncurrency = "USDT"\ncash = "50000"\n'


def risky(text: str) -> str:
    """The demonstration, whose position limit of 5 is the risk service's to judge; the account has 50,000."""
    text = text.replace('# opening_file = "opening.toml"', 'opening_file = "opening.toml" #')
    return text.replace("[[instruments]]", f"{ROUTES}[[instruments]]", 1)


def test_held_orders_are_judged_by_the_service(tmp_path: Path) -> None:
    """What the margin bears goes out, what it does not is refused, and a hold outlives the engine and the service."""
    (tmp_path / "risk.json").write_bytes(msgspec.json.encode(PARAMS))
    (tmp_path / "opening.toml").write_text(OPENING)
    with Stack(tmp_path, edit=risky) as stack:
        stack.start()
        stack.wait_ready("risk")
        low = str(int(traded_price(stack) * 0.995))

        stack.wojak("order", "buy", "BTCUSDT", "6", "--limit", low, "--id", "bears")
        becomes(stack, "bears", status="NEW", leaves_quantity="6")
        stack.wojak("order", "buy", "BTCUSDT", "6", "--limit", low, "--id", "too-much")
        becomes(stack, "too-much", status="REJECTED", code="RISK_REJECTED")
        stack.wojak("order", "cancel", "bears")
        becomes(stack, "bears", status="CANCELED")

        risk = stack.kill("risk", signal.SIGSTOP)
        stack.wojak("order", "buy", "BTCUSDT", "5.5", "--limit", low, "--id", "waits")
        becomes(stack, "waits", status="HELD", leaves_quantity="5.5")
        engine = stack.kill("engine")
        stack.wait_restarted("engine", engine)
        stack.wait_ready("engine")
        stack.kill("risk")
        stack.wait_restarted("risk", risk)
        becomes(stack, "waits", status="NEW", leaves_quantity="5.5")
        assert stack.stop() == 0
        verified = stack.wojak("journal", "verify")
        assert (verified.returncode, "0 differ" in verified.stdout) == (0, True), verified.stdout


ELSEWHERE = """
[[routes]]
check = "POS_LIMIT"
route = "forward"

[risk_service]
webhook_url = "{url}"
webhook_secret_file = "secret"
deadline_ms = 20000

"""


def test_held_orders_are_judged_by_a_risk_system_elsewhere(tmp_path: Path) -> None:
    """The webhook's yes sends, its no refuses, and what is signed under another secret is not an answer."""
    (tmp_path / "secret").write_text(SECRET)
    secrets = [SECRET, "b" * 32]

    def judge(connection: socket.socket) -> None:
        request = msgspec.json.decode(peer.requests[-1][1])
        client_order_id = request["client_order_id"]
        said = {"order_id": request["order_id"], "asked": request["asked"]}
        body = msgspec.json.encode(said | {"verdict": "reject" if client_order_id == "no" else "approve"})
        secret = secrets[client_order_id == "lie"]
        connection.sendall(signed(body, f"{request['order_id']}.{request['asked']}", secret=secret))

    peer = WebPeer(judge)

    def elsewhere(text: str) -> str:
        return text.replace("[[instruments]]", f"{ELSEWHERE.format(url=peer.url)}[[instruments]]", 1)

    try:
        with Stack(tmp_path, edit=elsewhere) as stack:
            stack.start()
            stack.wait_ready("risk")
            low = str(int(traded_price(stack) * 0.995))
            for name in ("no", "lie", "yes"):
                stack.wojak("order", "buy", "BTCUSDT", "6", "--limit", low, "--id", name)
            becomes(stack, "no", status="REJECTED", code="RISK_REJECTED")
            becomes(stack, "yes", status="NEW", leaves_quantity="6")
            becomes(stack, "lie", status="HELD", leaves_quantity="6")
            stack.wojak("order", "cancel", "lie")
            becomes(stack, "lie", status="CANCELED")
            assert stack.stop() == 0
    finally:
        peer.close()
