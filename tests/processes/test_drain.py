"""A drain that can't be finished, in real processes: it ends in time, says so, and nothing is lost or done twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.processes.stack import SMALL_ENGINE, START_S, Stack, wait_until


def test_a_venue_that_hangs_is_said_in_words_and_in_the_exit_code(tmp_path: Path) -> None:
    """SIGSTOP of the gateway under load: exit code 3 within the budget, and the next start settles everything."""

    def small_budget(text: str) -> str:
        return text.replace(SMALL_ENGINE, f"{SMALL_ENGINE.rstrip()}\ndrain_ms = 2000\n\n", 1)

    with Stack(tmp_path, flow=True, edit=small_budget) as stack:
        stack.start()
        wait_until(lambda: stack.status().accepted > 100, START_S, "100 accepted orders")
        gateway = stack.kill("gateway", signal.SIGSTOP)
        accepted = stack.status().accepted
        wait_until(lambda: stack.status().accepted > accepted, START_S, "an order that the gateway can't take")
        assert stack.supervisor is not None
        stack.supervisor.send_signal(signal.SIGINT)
        stack.wait_for_line("engine: left before all was settled")
        os.kill(gateway, signal.SIGCONT)
        assert stack.supervisor.wait(START_S) == 3
        assert "drained and stopped" not in stack.said()
        engine_log = (stack.deployment.paths.logs / "engine.log").read_text("utf-8")
        assert "commands not acknowledged" in engine_log
        stack.start()
        stack.wait_ready()
        verified = stack.wojak("verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
