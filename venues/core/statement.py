"""A venue's statement as messages: parts of bounded size, in order, the last one known by its number."""

from __future__ import annotations

from typing import Final

import msgspec

from protocol.statement import (
    FILLS_STATED_MAX,
    STATEMENT_PARTS_MAX,
    STATEMENT_ROWS_MAX,
    StatedFill,
    StatedOrder,
    StatedPosition,
    Statement,
)
from venues.core.venue import VenueStatement

Row = StatedOrder | StatedFill | StatedPosition
_encode: Final = msgspec.msgpack.Encoder().encode


def statement_parts(number: int, epoch: int, received_seq: int, report_seq: int, said: VenueStatement) -> list[bytes]:
    """Return the answer to ask ``number``; at least one part, of fills the newest only.

    None at all if it has more rows than an engine takes: that one alarms when no answer comes.
    """
    rows: list[Row] = [*said.orders, *said.fills[-FILLS_STATED_MAX:], *(said.positions or [])]
    parts = max(1, -(-len(rows) // STATEMENT_ROWS_MAX))
    if parts > STATEMENT_PARTS_MAX:
        return []
    bodies: list[bytes] = []
    for part in range(parts):
        own = rows[part * STATEMENT_ROWS_MAX : (part + 1) * STATEMENT_ROWS_MAX]
        bodies.append(
            _encode(
                Statement(
                    epoch, received_seq, number, report_seq, part, parts, said.positions is not None,
                    said.whole_positions, [r for r in own if type(r) is StatedOrder],
                    [r for r in own if type(r) is StatedFill], [r for r in own if type(r) is StatedPosition],
                )
            )
        )  # fmt: skip
    return bodies
