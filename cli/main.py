"""The ``wojak`` command. A group is imported only when it is used: each part needs its own packages only."""

from __future__ import annotations

import os
import sys

from cyclopts import App, Group

from protocol.errors import ConfigError, WojakError

RUN = Group("Run", sort_key=1)
TRADE = Group("Trade", sort_key=2)
BRAKE = Group("Brake", sort_key=3)
LOOK = Group("Look", sort_key=4)
PROVE = Group("Prove", sort_key=5)

app = App(
    name="wojak",
    help="A low-latency trade execution engine: nothing is lost, nothing happens twice, nothing escapes the gate.\n\n"
    "Start with `wojak init` and `wojak up --flow`; then, in another terminal, "
    "`wojak order buy BTCUSDT 0.01 --limit 62000`.",
    help_format="markdown",
)
app.command("cli.init:init", help="Write a commented wojak.toml to start from.", group=RUN)
app.command("cli.up:up", help="Start and supervise everything; Ctrl-C drains.", group=RUN)
app.command("cli.demo:app", help="Send the demonstration flow by itself.", name="demo", group=RUN)
app.command("cli.order:app", help="Send an order, cancel one, trace one.", name="order", group=TRADE)
app.command("cli.orders:app", help="List orders; resolve one that nobody answers for.", name="orders", group=TRADE)
app.command("cli.control:kill", help="Halt a scope and cancel its open orders.", group=BRAKE)
app.command("cli.control:halt", help="Refuse new orders of a scope.", group=BRAKE)
app.command("cli.control:reduce_only", help="Take only what reduces positions.", name="reduce-only", group=BRAKE)
app.command("cli.control:resume", help="Lift a halt; confirm the clock.", group=BRAKE)
app.command("cli.status:status", help="How the engine, venue and books are.", group=LOOK)
app.command("cli.ticks:app", help="Look into a recording, or play it.", name="ticks", group=LOOK)
app.command("cli.journal:app", help="Read the journal, or decide it again.", name="journal", group=LOOK)
app.command("cli.init:schema", help="JSON Schema of orders and answers.", group=LOOK)
app.command("cli.verify:verify", help="Sent = outcomes, none lost, none twice, books = journal.", group=PROVE)
app.command("cli.chaos:app", help="Kill -9 a process and see it come back.", name="chaos", group=PROVE)
app.command("cli.bench:bench", help="Measure, each figure beside its floor.", group=PROVE)
app.command("cli.docs:docs", help="Write docs/reference from the code.", group=PROVE)


def main() -> int:
    """Run the command line; an error the operator can act on is one clear message, never a traceback."""
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
