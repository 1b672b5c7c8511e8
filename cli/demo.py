"""``wojak demo``: the demonstration flow by itself, against a deployment that already runs."""

from __future__ import annotations

from cyclopts import App

from cli.configuration import load
from cli.options import DEFAULT_CONFIG, ConfigPath, say
from cli.wiring import run_flow

app = App(name="demo", help="Demonstrations that trade against the sandbox.")


@app.command
def flow(*, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Send the demonstration flow until Ctrl-C; `wojak up --flow` does it along with everything else.

    Example: `wojak demo flow`
    """
    loaded = load(config)
    settings = loaded.config.flow
    say(f"{settings.rate} orders/s of account {settings.account} in {settings.instrument}; Ctrl-C stops")
    return run_flow(loaded)
