"""``wojak top``: all processes of a deployment, live.

Rule: on a terminal it draws over itself and takes keys; anywhere else it prints plain lines, no control characters.
It asks the processes' own metrics, so looking costs no order anything.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.scrape import Scraped, Scraper
from cli.shards import one
from cli.top_figures import Figures, figures
from cli.top_view import BAD, HEAD, KEYS, TITLE, screen
from runtime.clock import wall_ns

WIDTH_PLAIN: Final = 120
LOOKS_MAX: Final = 6  # rates are over the oldest of these
PERIODS_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
NS_PER_S: Final = 1_000_000_000
STYLES: Final = {TITLE: "bold", HEAD: "bold cyan", BAD: "bold red", KEYS: "dim"}
EXIT_DOWN: Final = 1


def top(
    *,
    once: Annotated[bool, Parameter(negative="", help="Look for a second, print, leave.")] = False,
    json: Annotated[bool, Parameter(negative="", help="One JSON object a look.")] = False,
    every: Annotated[float, Parameter(help="Seconds between looks, 0.5 to 60.")] = 1.0,
    shard: Annotated[int, Parameter(help="Of several engines, this one's.")] = 0,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Show rates, latency of each hop, queues, memory and CPU of every process. Exit code 1 if one does not answer.

    Example: `wojak top`, or `wojak top --once --json`
    """
    every = min(max(every, 0.5), 60.0)
    scraper = Scraper(one(deployment(config), shard))
    looks = _Looks(scraper)
    try:
        if not once and not json and sys.stdout.isatty() and sys.stdin.isatty():
            return _live(looks, every)
        looks.look()
        while True:
            time.sleep(1.0 if once else every)  # rates need two looks, and nothing tells us when to look
            shown = looks.look()
            if json:
                say(msgspec.json.encode(shown).decode())
            else:
                for line in screen(shown, WIDTH_PLAIN):
                    say(line.text)
            if once:
                return _exit_code(shown)
    finally:
        scraper.close()


class _Looks:
    """The last few looks."""

    def __init__(self, scraper: Scraper) -> None:
        self._scraper = scraper
        self._kept: deque[dict[str, Scraped]] = deque(maxlen=LOOKS_MAX)

    def look(self) -> Figures:
        """Look at everybody; rates are since the oldest kept look at the same life of each process."""
        now = self._scraper.look()
        before = {name: first for name, scraped in now.items() if (first := self._first_of(scraped)) is not None}
        self._kept.append(now)
        return figures(now, before, wall_ns() / NS_PER_S)

    def _first_of(self, scraped: Scraped) -> Scraped | None:
        started = "process_start_time_seconds"
        for look in self._kept:
            first = look[scraped.name]
            if first.answers and first.value(started) == scraped.value(started):
                return first
        return None


def _live(looks: _Looks, every: float) -> int:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    shown = looks.look()
    is_paused = False

    def drawn() -> Text:
        keys = f"q quit   p {'go on' if is_paused else 'pause'}   + faster   - slower   every {every:g} s"
        text = Text(no_wrap=True, overflow="crop")
        for line in screen(shown, console.width, keys):
            text.append(line.text + "\n", style=STYLES.get(line.kind, ""))
        text.rstrip()
        return text

    with _keys() as fd, Live(console=console, auto_refresh=False, screen=True) as live:
        due = time.monotonic()
        while True:
            live.update(drawn(), refresh=True)
            key = _key(fd, None if is_paused else max(0.0, due - time.monotonic()))
            if key in {"q", "\x03", "\x04", "\x1b"}:
                return _exit_code(shown)
            if key == "p":
                is_paused = not is_paused
            elif key in {"+", "-"}:
                every = _stepped(every, faster=key == "+")
            if not is_paused and time.monotonic() >= due:
                shown = looks.look()
                due = time.monotonic() + every


def _stepped(every: float, *, faster: bool) -> float:
    """Return the next period up or down."""
    steps = [p for p in PERIODS_S if (p < every if faster else p > every)]
    return every if not steps else max(steps) if faster else min(steps)


@contextlib.contextmanager
def _keys() -> Iterator[int]:
    """Take keys one by one, unseen; the terminal is as it was afterwards, also after a SIGTERM."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    on_term = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        tty.setcbreak(fd)
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, on_term)


def _key(fd: int, within_s: float | None) -> str:
    """Return a key that was pressed in time; empty if none was. An end of input is a q."""
    if not select.select([fd], [], [], within_s)[0]:
        return ""
    return os.read(fd, 16).decode("utf-8", "replace")[:1] or "q"


def _exit_code(shown: Figures) -> int:
    return EXIT_DOWN if any(row.state == "DOWN" for row in shown.processes) else 0
