"""The ``wojak`` command. A group is imported only when it is used: each part needs its own packages only."""

from __future__ import annotations

import os
import sys
from importlib import metadata

from cyclopts import App, Group

from protocol.errors import ConfigError, WojakError

RUN = Group("Run", sort_key=1)
TRADE = Group("Trade", sort_key=2)
BRAKE = Group("Brake", sort_key=3)
LOOK = Group("Look", sort_key=4)
PROVE = Group("Prove", sort_key=5)

app = App(
    name="wojak",
    version=lambda: metadata.version("wojak"),
    help="A low-latency trade execution engine: nothing is lost, nothing happens twice, nothing escapes the gate.\n\n"
    "Start with `wojak init` and `wojak up --flow`; then, in another terminal, "
    "`wojak order buy BTCUSDT 0.01 --limit 62000`.",
    help_format="markdown",
)
app.command("cli.init:init", group=RUN)
app.command("cli.up:up", group=RUN)
app.command("cli.demo:app", name="demo", group=RUN)
app.command("cli.order:app", name="order", group=TRADE)
app.command("cli.orders:app", name="orders", group=TRADE)
app.command("cli.sandbox:app", name="sandbox", group=TRADE)
app.command("cli.control:kill", group=BRAKE)
app.command("cli.control:halt", group=BRAKE)
app.command("cli.control:reduce_only", name="reduce-only", group=BRAKE)
app.command("cli.control:resume", group=BRAKE)
app.command("cli.flatten:flatten", group=BRAKE)
app.command("cli.limits:app", name="limits", group=BRAKE)
app.command("cli.sidecar:app", name="sidecar", group=RUN)
app.command("cli.books:app", name="books", group=RUN)
app.command("cli.keys:app", name="keys", group=RUN)
app.command("cli.risk:app", name="risk", group=LOOK)
app.command("cli.reconcile:app", name="reconcile", group=PROVE)
app.command("cli.adjust:app", name="adjust", group=TRADE)
app.command("cli.adjust:accounts", name="accounts", group=LOOK)
app.command("cli.session:app", name="session", group=BRAKE)
app.command("cli.status:status", group=LOOK)
app.command("cli.alerts:app", name="alerts", group=RUN)
app.command("cli.top:top", group=LOOK)
app.command("cli.ticks:app", name="ticks", group=LOOK)
app.command("cli.journal:app", name="journal", group=LOOK)
app.command("cli.init:schema", group=LOOK)
app.command("cli.tail:app", name="engine", group=RUN)
app.command("cli.verify:verify", group=PROVE)
app.command("cli.chaos:app", name="chaos", group=PROVE)
app.command("cli.bench:bench", group=PROVE, help_flags=[])
app.command("cli.docs:docs", group=PROVE)


def _load_for_help(words: list[str]) -> None:
    """Import the commands of a group whose list is asked for: the list shows each one's first sentence."""
    group = app
    for word in words:
        if word in {"--help", "-h"}:
            break
        if word not in group:
            return
        group = group[word]
    for name in group:
        group[name]


def main() -> int:
    """Run the command line; an error the operator can act on is one clear message, never a traceback."""
    _load_for_help(sys.argv[1:])
    try:
        result = app(result_action="return_value")
    except ConfigError as e:
        sys.stderr.write(f"{e}\n")
        return 2
    except WojakError as e:
        sys.stderr.write(f"{e}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has left; say nothing more
        return 141
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
