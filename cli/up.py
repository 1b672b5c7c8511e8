"""``wojak up``: starts every process of a deployment, says what is there, and watches until Ctrl-C.

Rule: what it prints was looked at, never assumed; without a terminal it prints plain lines, no control characters.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from cli.addresses import books_url, http_url
from cli.alerting.configured import require_secrets
from cli.configuration import Loaded, load
from cli.example import write_example
from cli.options import DEFAULT_CONFIG, ConfigPath, say
from cli.paths import prepare
from cli.processes import (
    ALERTS,
    ENGINE,
    FLOW,
    SIDECAR_AGAIN_MS,
    STOP_ORDER,
    TAKES_ORDERS,
    WITH_HEALTH,
    kind_of,
    process_names,
    source_of,
    specs,
    supervised,
)
from cli.sampler import Sampler
from cli.shards import left_behind
from cli.sidecar_process import sidecar_health, unusable
from cli.supervisor import ProcessFailedError, Supervisor, is_port_free
from cli.view import lines, wrap
from cli.wiring import health_settings
from protocol.errors import ConfigError
from runtime.clock import monotonic_ns
from runtime.exits import CLEAN, FAILED, UNFINISHED
from runtime.health import port_in_use

MS_NS: Final = 1_000_000
READY_WITHIN_MS: Final = 60_000
STEP_MS: Final = 250
PLAIN_EVERY_MS: Final = 5_000
LIVE_EVERY_MS: Final = 1_000
WIDTH_PLAIN: Final = 100
PAGE_BYTES: Final = os.sysconf("SC_PAGESIZE")
ARROW: Final = " ▸ "
ORDER: Final = (
    '{"account":"demo","strategy":"manual","instrument":"BTCUSDT","side":"BUY","quantity":"0.01","price":"61800"}'
)


def up(
    *,
    flow: Annotated[
        bool, Parameter(negative="", help="Also send the demonstration flow of the configuration.")
    ] = False,
    ticks: Annotated[Path | None, Parameter(help="Replay this recording instead of what the file says.")] = None,
    init: Annotated[
        bool, Parameter(negative="", help="Write the example configuration first if there is none.")
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Start and supervise everything: engine, feed, sandbox venue, books, HTTP, brokers. Ctrl-C drains and stops.

    Example: `wojak up --flow --ticks btcusdt_20240808.gz`
    """
    written = init and write_example(config)
    loaded = load(config, ticks)
    paper = "mode PAPER (nothing here can reach a real venue)"
    say(f"✔ {config.name} {'written' if written else 'checked'}   {paper}")
    for line in loaded.incomplete:
        say(line)
    prepare(loaded.paths)
    if faults := [*left_behind(loaded), *unusable(loaded), *require_secrets(loaded)]:
        raise ConfigError(faults, str(loaded.path))
    names = process_names(loaded, flow=flow)
    supervisor = Supervisor(loaded.paths, specs(loaded, names, ticks), STOP_ORDER)
    try:
        _require_ports(loaded)
        return _Up(loaded, supervisor, names).run()
    finally:
        supervisor.close()


class _Up:
    """One run of a deployment, from start to stop."""

    def __init__(self, loaded: Loaded, supervisor: Supervisor, names: tuple[str, ...]) -> None:
        self._loaded = loaded
        self._supervisor = supervisor
        self._names = names
        rate = loaded.config.flow.rate if FLOW in names else 0
        self._ready = False
        self._failed_said: dict[str, str] = {}
        self._sampler = Sampler(loaded, names, flow_rate=rate, on_ready=self._on_ready)

    def run(self) -> int:
        """Start, watch, stop; return the exit code."""
        started_ns = monotonic_ns()
        try:
            # Of several engines one may refuse its map: no order is taken before all have agreed to it.
            later = TAKES_ORDERS if len(self._loaded.shards) > 1 else {FLOW}
            self._supervisor.start(*(n for n in self._names if kind_of(n)[0] not in later))
            self._sampler.start()
            if self._wait_until_ready(started_ns):
                self._say_ready(started_ns)
                self._supervisor.start()
                self._watch()
        except BrokenPipeError:  # nobody reads us any more: leave in order, silently
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            failed = self._supervisor.cannot_run
            clean = self._stop()
        if failed:
            return FAILED
        return CLEAN if clean else UNFINISHED

    def _on_ready(self) -> None:
        self._ready = self._supervisor.was_ready = True

    def _step(self, timeout_ms: int) -> None:
        if self._sampler.failed is not None:
            raise self._sampler.failed
        self._supervisor.step(timeout_ms)
        said, self._failed_said = self._failed_said, {n: str(why) for n, why in self._supervisor.failed.items()}
        for name, why in self._failed_said.items():
            if said.get(name) != why:
                say(f"✘ {why}")
                say(f"  {_what_now(name)}")

    def _wait_until_ready(self, started_ns: int) -> bool:
        started_http = len(self._loaded.shards) == 1  # else after the engines; see run
        while not self._ready and not self._supervisor.stopping:
            self._step(20)
            if not started_http and not any(kind_of(n)[0] == ENGINE for n in self._sampler.waiting_for):
                started_http = True
                self._supervisor.start(*(n for n in self._names if kind_of(n)[0] in TAKES_ORDERS - {FLOW}))
            if monotonic_ns() - started_ns > READY_WITHIN_MS * MS_NS:
                name, why = next(iter(self._sampler.waiting_for.items()))
                life = self._supervisor.lives[name]
                why = f"not ready within {READY_WITHIN_MS // 1000} s: {why}. {life.last_words()}"
                raise ProcessFailedError(name, why.strip(), life.log)
        return self._ready

    def _say_ready(self, started_ns: int) -> None:
        width = _width()
        tenths = (monotonic_ns() - started_ns) // (100 * MS_NS)
        shown = ARROW.join("sandbox" if n == "gateway" else n for n in self._names if n != FLOW)
        engines = [life.pid for n, life in self._supervisor.lives.items() if kind_of(n)[0] == ENGINE]
        memory = f"engine {sum(_resident_mib(pid) for pid in engines)} MiB"
        journal = f"journal {_short(self._loaded.paths.journal)}"
        if len(engines) > 1:
            memory, journal = f"{len(engines)} engines{memory.removeprefix('engine')}", f"{journal} and shard-*/journal"
        for line in wrap([shown, f"up in {tenths // 10}.{tenths % 10} s, {journal}, {memory}"], width):
            say(line)
        books, orders = f"▸ books  {books_url(self._loaded)}/v1", f"▸ orders  {http_url(self._loaded)}/v1/orders"
        for line in wrap([books, orders, "▸ stop: Ctrl-C"], width):
            say(line)
        for name, why in self._sampler.waiting_for.items():
            if name not in self._failed_said:
                say(f"! {name} is not ready: {why}")
                say(f"  {_what_now(name)}")
        for line in _next_steps(self._loaded):
            say(line)

    def _watch(self) -> None:
        if sys.stdout.isatty():
            self._watch_live()
        else:
            self._watch_plain()

    def _watch_plain(self) -> None:
        due_ns = monotonic_ns() + LIVE_EVERY_MS * MS_NS
        while not self._supervisor.stopping:
            self._step(STEP_MS)
            snapshot = self._sampler.latest
            if monotonic_ns() >= due_ns and snapshot is not None:
                due_ns = monotonic_ns() + PLAIN_EVERY_MS * MS_NS
                for line in lines(snapshot, WIDTH_PLAIN):
                    say(line)

    def _watch_live(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        console = Console(highlight=False)
        with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
            shown = None
            while not self._supervisor.stopping:
                self._step(STEP_MS)
                snapshot = self._sampler.latest
                if snapshot is not None and snapshot is not shown:
                    shown = snapshot
                    live.update(Text("\n".join(lines(snapshot, console.width)), no_wrap=True), refresh=True)

    def _stop(self) -> bool:
        say("draining: sources first, then the engine; Ctrl-C again stops at once")
        self._sampler.end()
        started_ns = monotonic_ns()
        clean = self._supervisor.stop(say)
        tenths = (monotonic_ns() - started_ns) // (100 * MS_NS)
        how = "drained and stopped" if clean else "stopped"
        say(f"{how} in {tenths // 10}.{tenths % 10} s; what was answered is in the journal")
        return clean


def _require_ports(loaded: Loaded) -> None:
    faults = [
        f"{key}.port: expected a free port, was {section.port}, in use on {section.host}; "
        f"stop the program that has it, or change {key}.port"
        for key, section in (("http", loaded.config.http), ("books", loaded.config.books))
        if not is_port_free(section.host, section.port)
    ]
    processes = [kind_of(name) for name in process_names(loaded, flow=False)]
    health = [health_settings(loaded.of(shard), kind) for kind, shard in processes if kind in WITH_HEALTH]
    health += [sidecar_health(loaded, row) for row in supervised(loaded)]
    faults += [port_in_use(h, "in use") for h in health if h.port and not is_port_free(h.host, h.port)]
    if faults:
        raise ConfigError(faults, str(loaded.path))


def _what_now(name: str) -> str:
    """Return what to do about a process that can't run while the rest goes on."""
    source = source_of(name)
    if name == ALERTS:
        return "nobody is told of anything; all else goes on. It tries again by itself; look: wojak alerts test"
    if not source:
        return "its shard is away and stays so; the other shards go on. Mend it, then start again"
    return (
        "its messages wait at the broker, all else goes on; it tries again by itself, every "
        f"{SIDECAR_AGAIN_MS // 1000} s where it ended. What it lacks: wojak sidecar check {source}"
    )


def _next_steps(loaded: Loaded) -> list[str]:
    body = "@examples/order.json" if Path("examples/order.json").exists() else f"'{ORDER}'"
    return [
        "Next, in another terminal (. .venv/bin/activate first):",
        "  wojak order buy BTCUSDT 0.01",
        "  wojak order buy BTCUSDT 900",
        "  curl -s -H 'content-type: application/json' -H 'Idempotency-Key: a1' \\",
        f"    -d {body} {http_url(loaded)}/v1/orders",
        "  wojak chaos kill engine",
        "  wojak verify",
    ]


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _resident_mib(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * PAGE_BYTES >> 20


def _width() -> int:
    return os.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_PLAIN
