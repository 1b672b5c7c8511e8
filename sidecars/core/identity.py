"""Ids that a sidecar derives where a message brings none (DECISIONS 17), and the trace it belongs to.

Rule: the same message gives the same id whenever and by whomever it is received, and two messages never the same one;
so an id is a hash of all that makes it unique, each part with its length. No clock, no chance but for a new trace.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 16
TRACE_BYTES: Final = 16
TRACES_AT_ONCE: Final = 256
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


def derive_id(kind: str, *parts: str) -> str:
    """Return a client_order_id made of what identifies a message: ``<kind>-<32 hex digits>``.

    Args:
        kind: Of the source, such as ``amqp``: at most 10 characters of a-z.
        parts: Outermost first, such as virtual host, queue, message id. One that is empty identifies nothing: then
            there is no id.

    Returns:
        At most 43 characters, so that ``item_id`` has room; empty if a part is.
    """
    if not all(parts):
        return ""
    digest = blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return f"{kind}-{digest.hexdigest()}"


def item_id(derived_id: str, index: int) -> str:
    """Return the id of item ``index``, from 0, of a batch; empty if the batch has none."""
    return f"{derived_id}/{index}" if derived_id else ""


def trace_of(traceparent: str) -> bytes:
    """Return the trace id of a W3C ``traceparent``, or a new one if it is none: 16 bytes, never all zero."""
    if not traceparent:
        return new_trace()
    match = _TRACEPARENT.fullmatch(traceparent)
    trace = bytes.fromhex(match[1]) if match else b""
    return trace if any(trace) else new_trace()


def _new_traces() -> Iterator[bytes]:
    """Yield random trace ids; the system is asked for many at once, because each asking is a call of the kernel."""
    while True:
        chance = os.urandom(TRACE_BYTES * TRACES_AT_ONCE)
        for at in range(0, len(chance), TRACE_BYTES):
            yield chance[at : at + TRACE_BYTES]


new_trace: Final = _new_traces().__next__
"""Returns the id of a new trace: 16 bytes."""
