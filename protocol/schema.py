"""The JSON Schema of what comes and goes at the edge, made from the Structs that decode it."""

from __future__ import annotations

from typing import Any

import msgspec

from protocol.baskets import BasketRequest
from protocol.changes import CancelMessage, ReplaceMessage
from protocol.edge import ErrorResponse, NewOrderRequest, OrderResponse, ReplaceRequest
from protocol.exits import ExitReplaceRequest
from protocol.oco import OcoRequest


def json_schema() -> dict[str, Any]:
    """Return the schema of what asks for orders, replaces and cancels, over HTTP or as messages, and of all answers."""
    _, components = msgspec.json.schema_components(
        (
            NewOrderRequest,
            BasketRequest,
            OcoRequest,
            ExitReplaceRequest,
            ReplaceRequest,
            CancelMessage,
            ReplaceMessage,
            OrderResponse,
            ErrorResponse,
        ),
        ref_template="#/$defs/{name}",
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": components}
