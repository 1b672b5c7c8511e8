"""``wojak sidecar``: run the source of a broker, check it against its broker, look at and put back dead letters."""

from __future__ import annotations

import asyncio
import datetime as dt
import getpass
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from cli.configuration import Loaded, load
from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.sidecar_process import row_of, run_sidecar
from protocol.errors import ConfigError
from sidecars.core.kinds import DeadLetters, Level, Replay, find_kind, read_settings

app = App(name="sidecar", help="Sources of orders that fetch from a broker: run one, check one, see its dead letters.")
dlq = App(name="dlq", help="What a source could not hand to the engine, with the reason; look at it, put it back.")
app.command(dlq)

MARKS: Final = {Level.FINE: "✔", Level.ADVICE: "!", Level.FAULT: "✘"}
MOST: Final = 100
BODY_CHARS: Final = 60
NS_PER_S: Final = 1_000_000_000
Most = Annotated[int, Parameter(help="Look at so many, the oldest first.")]


@app.command
def run(source: str, /, *, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Carry the orders of one broker to the engine until SIGTERM; then drain within its drain_ms.

    Exit codes: 0 all settled; 2 somebody must change something first; 3 something was given back unanswered.

    Example: `wojak sidecar run desk-mq`
    """
    loaded = load(config)
    return run_sidecar(loaded, row_of(loaded, source))


@app.command
def check(source: str, /, *, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Connect to a source's broker; see its rights and whether its settings keep the promises. Changes nothing.

    Exit code 1 if something would break a promise.

    Example: `wojak sidecar check desk-mq`
    """
    row = row_of(deployment(config), source)
    kind = find_kind(row.kind)
    findings = asyncio.run(_await(kind.check(source, read_settings(kind, source, row.settings))))
    for finding in findings:
        say(f"{MARKS[finding.level]} {finding.what}: {finding.text}")
    faults = sum(f.level is Level.FAULT for f in findings)
    say(f"{faults} would break a promise" if faults else "nothing here breaks a promise")
    return 1 if faults else 0


@dlq.command(name="ls")
def list_letters(source: str, /, *, most: Most = MOST, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """List dead letters: number, when, id, reason, the beginning of the message. They stay where they are.

    Example: `wojak sidecar dlq ls desk-mq`
    """
    letters = asyncio.run(_await(_letters(deployment(config), source).list(most)))
    for letter in letters:
        body = letter.body[:BODY_CHARS].decode("utf-8", "replace")
        say(f"{letter.number:>4}  {_when(letter.at_ns)}  {letter.source_id or '(no id)'}  {letter.reason}  {body!r}")
    say(f"{len(letters)} dead letters" + (f" of at most {most} looked at" if len(letters) == most else ""))
    return 0


@dlq.command
def show(source: str, number: int, /, *, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Show one dead letter whole: reason, properties, the message as it came.

    NUMBER is that of `wojak sidecar dlq ls`, as long as nothing was taken since.

    Example: `wojak sidecar dlq show desk-mq 3`
    """
    letters = asyncio.run(_await(_letters(deployment(config), source).list(number)))
    found = next((letter for letter in letters if letter.number == number), None)
    if found is None:
        raise ConfigError([f"number: expected one of the {len(letters)} dead letters there, was {number}"], source)
    say(f"reason      {found.reason}\nid          {found.source_id or '(none)'}\nat          {_when(found.at_ns)}")
    for name, value in sorted(found.headers.items()):
        say(f"{name:<11} {value}")
    say()
    say(found.body.decode("utf-8", "backslashreplace"))
    return 0


@dlq.command
def replay(
    source: str,
    /,
    *numbers: int,
    everything: Annotated[bool, Parameter(name="--all", negative="", help="All that are looked at.")] = False,
    restamp: Annotated[bool, Parameter(negative="", help="As made now, so that it is not refused as too old.")] = False,
    new_id: Annotated[bool, Parameter(negative="", help="As another order: under a new id.")] = False,
    most: Most = MOST,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Put dead letters back to their source, with their id and their time: what was decided is not decided again.

    With --restamp or --new-id your name goes into the message. NUMBERS are those of `wojak sidecar dlq ls`.

    Example: `wojak sidecar dlq replay desk-mq 3 4 --restamp`
    """
    if bool(numbers) == everything:
        raise ConfigError(["expected numbers or --all, one of the two"], source)
    asked = Replay(numbers=frozenset(numbers), operator=getpass.getuser(), restamp=restamp, new_id=new_id)
    done = asyncio.run(_await(_letters(deployment(config), source).replay(asked, most)))
    for letter in done:
        say(f"put back: {letter.number}  {letter.source_id or '(no id)'}  {letter.reason}")
    missing = sorted(set(numbers) - {letter.number for letter in done})
    if missing:
        say(f"not found: {', '.join(map(str, missing))}")
    say(f"{len(done)} put back")
    return 1 if missing else 0


def _letters(loaded: Loaded, source: str) -> DeadLetters:
    row = row_of(loaded, source)
    kind = find_kind(row.kind)
    if kind.dead_letters is None:
        raise ConfigError([f"kind {row.kind} keeps no dead letters: its callers hear the reason themselves"], source)
    return kind.dead_letters(source, read_settings(kind, source, row.settings))


async def _await(work: Any) -> Any:
    return await work


def _when(at_ns: int) -> str:
    return f"{dt.datetime.fromtimestamp(at_ns // NS_PER_S, dt.UTC):%Y-%m-%d %H:%M:%S}Z" if at_ns else "time unknown"
