"""What is worth waking somebody for: each rule, when it speaks, and its default. docs/alerts.md has the same table."""

from __future__ import annotations

from typing import Final, NamedTuple


class Rule(NamedTuple):
    """One rule.

    Attributes:
        text: What it means, for the documentation.
        above: Speaks above this; what it counts stands in ``text``.
        for_ms: Only if it holds for so long, and likewise before it is over.
        window_ms: Of a rate; 0 = none.
        is_event: It happens rather than lasts: there is no resolved message.
    """

    text: str
    above: int = 0
    for_ms: int = 0
    window_ms: int = 0
    is_event: bool = False


RULES: Final[dict[str, Rule]] = {
    "halt": Rule("A scope is halted, by an operator's halt or kill or by the engine"),
    "reduce_only": Rule("A scope takes only orders that reduce"),
    "clock": Rule("The clock jumped and nobody confirmed it"),
    "silence": Rule("An engine does not answer its control socket", for_ms=3_000),
    "process": Rule("A process does not answer, or says that it can't do its work", for_ms=5_000),
    "venue": Rule("A venue's gateway is not ready", for_ms=5_000),
    "unknown_orders": Rule("Orders were sent and nobody answered for them", for_ms=5_000),
    "suspense": Rule("Fills of orders that nobody knows wait for a person"),
    "breaches": Rule("Refusals of one code in the window", above=100, window_ms=60_000),
    "failed": Rule("Inputs whose decision failed, in the window", window_ms=60_000),
    "stream_lag": Rule("Durable records that the event stream has not brought here", above=1_000, for_ms=5_000),
    "books_lag": Rule("Milliseconds from decision to visible in the books", above=5_000, for_ms=5_000),
    "follower_lag": Rule("Durable records that the follower has not applied", above=100_000, for_ms=10_000),
    "drift": Rule("Engine and follower differ"),
    "losses": Rule("A limit on losses or used margin was nearly reached, reached, or is no longer", is_event=True),
    "stale_exits": Rule("A position moved outside its exits, which are cancelled", is_event=True),
    "statement": Rule("A venue's statement differs from what the engine holds", is_event=True),
    "truth": Rule("An operator set cash, collateral, a position or an exchange rate", is_event=True),
}
