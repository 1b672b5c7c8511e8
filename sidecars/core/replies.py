"""What a producer that asked for an answer hears: the same JSON as over HTTP, one object, or an array for a batch.

Rule: an outcome is the engine's as it came; what never reached the engine is an error, never a made-up outcome.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from protocol.edge import ErrorBody, ErrorResponse, to_response
from sidecars.core.source import Settlement, Why

CONTENT_TYPE: Final = "application/json"
_encode: Final = msgspec.json.Encoder().encode


def is_answer(settlement: Settlement) -> bool:
    """Whether there is something to tell: a decision of the engine, or why there will never be one."""
    return settlement.outcome is not None or settlement.why is Why.MALFORMED


def reply_body(settlement: Settlement) -> bytes:
    """Return the answer as JSON; of a batch an array in the order of its items."""
    if settlement.parts:
        return _encode([_one(part) for part in settlement.parts])
    return _encode(_one(settlement))


def may_reply(queue: str, allowed: Iterable[str]) -> bool:
    """Whether answers may go to a queue; an allowed name that ends in ``*`` stands for all that begin so."""
    return any(queue.startswith(name[:-1]) if name.endswith("*") else queue == name for name in allowed)


def _one(settlement: Settlement) -> Any:
    outcome, command = settlement.outcome, settlement.delivery.command
    if outcome is None or command is None:
        return ErrorResponse(ErrorBody("FIELD" if settlement.text else settlement.why.name, settlement.text))
    return to_response(
        outcome, command, settlement.delivery.trace_id, settlement.mode.name, settlement.durable_after_ns
    )
