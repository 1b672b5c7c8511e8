"""Held orders over HTTP: where a caller looks for what comes of one, and how long he would rather wait for it.

Source: RFC 7240 (2014), ``Prefer: wait=10`` and ``Preference-Applied``; RFC 9110 (2022) 10.2.2 and 15.3.3, ``Location``
of a 202. What can't be understood or granted of a preference is passed over, as RFC 7240 asks.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from protocol.codes import OutcomeKind
from protocol.orders import CancelOrder, Command
from protocol.paper import paper_name
from protocol.session import Outcome

WAIT_S_MAX: Final = 30
NS_PER_S: Final = 1_000_000_000
_WAIT: Final = re.compile(
    rb"(?:^|,)[ \t]*wait[ \t]*=[ \t]*(?:\"([0-9]{1,6})\"|([0-9]{1,6}))[ \t]*(?:$|[,;])", re.IGNORECASE
)


def wait_of(prefer: bytes | None) -> int:
    """Return for how many seconds the caller would rather wait than hear HELD; at most ``WAIT_S_MAX``, 0 = not."""
    found = _WAIT.search(prefer) if prefer is not None else None
    return min(int(found[1] or found[2]), WAIT_S_MAX) if found is not None else 0


def held_headers(outcome: Outcome, command: Command, orders_path: str) -> list[tuple[bytes, bytes]]:
    """Return ``Location`` for an order that is held or paper: its path, at the books too, where GET answers."""
    shown = outcome.first if outcome.kind is OutcomeKind.DUPLICATE and outcome.first is not None else outcome
    if shown.kind not in {OutcomeKind.HELD, OutcomeKind.PAPER} or isinstance(command, CancelOrder):
        return []
    account = paper_name(command.account) if shown.kind is OutcomeKind.PAPER else command.account
    names = quote(account, safe=""), quote(command.client_order_id, safe="")
    return [(b"location", "/".join((orders_path, *names)).encode("ascii"))]


def applied(wait_s: int) -> list[tuple[bytes, bytes]]:
    """Return the header that says that the preference was followed."""
    return [(b"preference-applied", b"wait=%d" % wait_s)] if wait_s else []
