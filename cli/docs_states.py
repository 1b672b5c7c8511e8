"""The page of order states, drawn from the one table of transitions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from engine.order_state import TRANSITIONS, WORKING, Happening
from protocol.codes import TERMINAL, OrderStatus

_SOURCE: Final = Path(__file__).resolve().parents[1] / "engine" / "order_state.py"  # its comments are the reasons
_ROW: Final = re.compile(r"^    \((\w+), H\.(\w+)\): (\w+),  # (.+)$", re.MULTILINE)


def states_page(written: str) -> str:
    """Return docs/reference/order-states.md: the table, the diagram, why the odd rows are there."""
    states = list(dict.fromkeys(status for status, _ in TRANSITIONS))
    return (
        "# Order states\n\n"
        f"{written}\nWhat happens to an order, and the state after it. WORKING is PENDING_REPLACE while a replace is "
        "unanswered, else NEW or PARTIALLY_FILLED, whichever the filled quantity says. An empty field is a transition "
        "that there is not: a report that asks for it is refused, recorded and counted, and changes nothing.\n\n"
        + "\n".join(_table(states))
        + "\n\n## As a diagram\n\nWithout what leaves a state as it is.\n\n```mermaid\nstateDiagram-v2\n"
        + "\n".join(_diagram(states))
        + "\n```\n\n## What each happening is\n\n"
        + "\n".join(f"- **{h.name}**: {text}" for h, text in _MEANING.items())
        + "\n\n## Why the odd ones are there\n\n| in | happens | then | because |\n|---|---|---|---|\n"
        + "\n".join(_reasons())
        + "\n"
    )


def _table(states: list[OrderStatus]) -> Iterator[str]:
    yield "| happens in | " + " | ".join(s.name for s in states) + " |"
    yield "|---|" + "---|" * len(states)
    for happening in Happening:
        after = [TRANSITIONS.get((s, happening)) for s in states]
        yield f"| {happening.name} | " + " | ".join("" if a is None else _name(a) for a in after) + " |"


def _diagram(states: list[OrderStatus]) -> Iterator[str]:
    yield f"    [*] --> {OrderStatus.PENDING_NEW.name}"
    yield f"    [*] --> {OrderStatus.SUSPENDED.name}"
    yield f"    [*] --> {OrderStatus.HELD.name}"
    edges: dict[tuple[OrderStatus, OrderStatus], list[str]] = {}
    for (status, happening), after in TRANSITIONS.items():
        if after is not status:
            edges.setdefault((status, after), []).append(happening.name)
    for (status, after), names in edges.items():
        yield f"    {status.name} --> {_name(after)} : {', '.join(names)}"
    for status in states:
        if status in TERMINAL:
            yield f"    {status.name} --> [*]"


def _reasons() -> Iterator[str]:
    reason = ""
    for status, happening, after, text in _ROW.findall(_SOURCE.read_text("utf-8")):
        reason = reason if text == "likewise" else text
        yield f"| {status} | {happening} | {after} | {reason} |"


def _name(status: OrderStatus) -> str:
    return "WORKING" if status is WORKING else status.name


_MEANING: Final = {
    Happening.ACK: "the venue has the order",
    Happening.PARTIAL_FILL: "a trade, and something is left",
    Happening.FILL: "a trade, and nothing is left",
    Happening.CANCEL_SENT: "a cancel got its number and goes to the venue",
    Happening.CANCELED: "the venue took the rest out",
    Happening.CANCEL_REJECTED: "the venue refused a cancel",
    Happening.REJECTED: "the venue refused the order",
    Happening.EXPIRED: "its time in force is over",
    Happening.LOST: "it was sent, and after a reconnect nobody has answered for it",
    Happening.NOT_FOUND: "the venue says that it never saw the order",
    Happening.UNSENT: "it was cancelled before it was ever sent",
    Happening.REPLACE_SENT: "a replace got its number and goes to the venue",
    Happening.REPLACED: "the venue took the new terms",
    Happening.REPLACE_REJECTED: "the venue refused them: the old ones work on",
    Happening.REPLACE_UNSENT: "the send gate refused the new terms before they went out",
    Happening.TRIGGERED: "a stop order met its stop price",
    Happening.RELEASED: "what it waited for is over",
    Happening.REFUSED_HERE: "the risk service refused it, or a check after its approval",
    Happening.OVERDUE: "the risk service was to judge it, and did not in time",
    Happening.FILLS_AMENDED: "the venue took a trade back, or corrected one, and not all is filled after it",
    Happening.FILLS_COMPLETE: "the venue corrected a trade, or took back one of too many, and all is filled after it",
}
