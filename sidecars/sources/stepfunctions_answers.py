"""How a task of Step Functions ends: success with the answer as its output, or failure with an error to match in ASL.

Rules: what the engine decided is a success with the same JSON as over HTTP, or fails with ``Order.Rejected``; what a
person should see fails with ``Order.Invalid``; neither belongs into a Retry. ``Sidecar.Retryable`` does: nobody is
known to have executed it, and a second attempt is answered with the first decision. Pure functions.

Source: limits of SendTaskSuccess and SendTaskFailure (output 262,144 bytes, error 256, cause 32,768 characters), AWS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from protocol.codes import OutcomeKind
from sidecars.core.batches import reason_of
from sidecars.core.replies import reply_body
from sidecars.core.source import Settlement, Verb

REJECTED: Final = "Order.Rejected"
INVALID: Final = "Order.Invalid"
RETRYABLE: Final = "Sidecar.Retryable"
OUTPUT_BYTES_MAX: Final = 262_144
CAUSE_CHARS_MAX: Final = 32_768


class Ending(NamedTuple):
    """What a token is answered with: an output, or an error and its cause."""

    output: str = ""
    error: str = ""
    cause: str = ""


def ending_of(settlement: Settlement) -> Ending:
    """Return how the task of a delivery ends."""
    if settlement.verb is Verb.DEAD_LETTER:
        return Ending(error=INVALID, cause=reason_of(settlement)[:CAUSE_CHARS_MAX])
    outcome = settlement.outcome
    if settlement.verb is not Verb.ACCEPT or outcome is None:
        return Ending(error=RETRYABLE, cause=settlement.why.name)
    answer = reply_body(settlement)
    decided = outcome.first or outcome
    if decided.kind is OutcomeKind.REJECTED and not settlement.parts:
        return Ending(error=REJECTED, cause=answer.decode()[:CAUSE_CHARS_MAX])
    return Ending(output=_within(answer, settlement.parts))


def _within(answer: bytes, parts: Sequence[Settlement]) -> str:
    """Return an answer as an output; one of very many items, too long for Step Functions, is told in short."""
    if len(answer) <= OUTPUT_BYTES_MAX:
        return answer.decode()
    short = [
        [p.outcome.kind.name, p.outcome.code.name] if p.outcome is not None else [p.why.name] for p in parts
    ]  # of 500 items at most: 30 KB
    return msgspec.json.encode({"too_long": len(answer), "outcomes": short}).decode()
