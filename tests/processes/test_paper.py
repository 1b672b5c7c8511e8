"""Paper on real processes: what a limit would have refused trades apart from what is real, over the engine's death."""

from __future__ import annotations

from pathlib import Path

import httpx

from protocol.paper import paper_name
from tests.processes.stack import Stack, wait_until
from tests.processes.test_order_life import WITHIN_S, becomes, traded_price

PAPER = paper_name("demo")
ROUTES = """
[[routes]]
check = "POS_LIMIT"
route = "sandbox"

"""


def sandboxed(text: str) -> str:
    """The demonstration, whose position limit of 5 makes orders paper; it trades as two strategies."""
    return text.replace("[[instruments]]", f"{ROUTES}[[instruments]]", 1)


def position(stack: Stack, account: str) -> str:
    """Return what the books show of the account, as soon as they have all that the engine has said."""
    seq = stack.status().seq
    rows = httpx.get(f"{stack.books_url}/v1/positions", params={"account": account, "min_seq": seq}).json()
    return "".join(row["quantity"] for row in rows["positions"])


def test_a_breach_trades_on_paper_and_nothing_real_moves(tmp_path: Path) -> None:
    """PAPER and 202, booked under the paper side, its exit through the same door, real again when flat."""
    with Stack(tmp_path, edit=sandboxed) as stack:
        stack.start()
        low = str(int(traded_price(stack) * 0.995))
        stack.wojak("order", "sell", "BTCUSDT", "0.01", "--id", "flat")
        becomes(stack, "flat", status="FILLED")

        body = {
            "account": "demo", "client_order_id": "big", "strategy": "manual", "instrument": "BTCUSDT", "side": "BUY",
            "order_type": "LIMIT", "time_in_force": "GTC", "quantity": "6", "price": low,
        }  # fmt: skip
        answer = httpx.post(f"{stack.http_url}/v1/orders", json=body)
        said = answer.json()
        assert (answer.status_code, said["outcome"], said["code"]) == (202, "PAPER", "POS_LIMIT"), said
        assert (said["account"], said["order_id"][:2]) == (PAPER, "P-")
        assert answer.headers["location"].endswith("/v1/orders/paper~demo/big")
        engine = stack.kill("engine")
        stack.wait_restarted("engine", engine)
        stack.wait_ready("engine", "gateway")
        answers = []

        def is_answered() -> bool:  # 503 until the sidecar has its next session
            answers.append(httpx.post(f"{stack.http_url}/v1/orders", json=body))
            return answers[-1].status_code < 500

        wait_until(is_answered, WITHIN_S, "an answer to the repeat")
        same = answers[-1].status_code, answers[-1].json()["outcome"], answers[-1].json()["order_id"]
        assert same == (202, "PAPER", said["order_id"])

        buys = stack.wojak("order", "buy", "BTCUSDT", "0.02", "--id", "more")
        assert (buys.stdout[:5], "FILLED " in buys.stdout) == ("PAPER", True), buys.stdout
        assert (position(stack, "demo"), position(stack, PAPER)) == ("0", "0.02")
        assert stack.wojak("order", "cancel", "big").returncode == 0
        out = stack.wojak("order", "sell", "BTCUSDT", "0.02", "--id", "out")
        assert (out.stdout[:5], "FILLED " in out.stdout) == ("PAPER", True), out.stdout
        real = stack.wojak("order", "buy", "BTCUSDT", "0.01", "--id", "real")
        assert real.stdout.startswith("ACCEPTED"), real.stdout
        assert (position(stack, "demo"), position(stack, PAPER)) == ("0.01", "0")
        assert stack.stop() == 0
        verified = stack.wojak("journal", "verify")
        assert (verified.returncode, "0 differ" in verified.stdout) == (0, True), verified.stdout
