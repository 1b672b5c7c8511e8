"""What each check says of one order, whether it passes or not: the answer to ``wojak limits explain``."""

from __future__ import annotations

from msgspec import Struct

from protocol.codes import Code
from protocol.session import Facts


class Explained(Struct, array_like=True, frozen=True):
    """One check of one order. ``facts``: value and limit, in 1e-9, ns or counts; None = there is nothing to compare.

    ``check`` names the function, for several may share a code. ``is_bound`` False: no row or setting limits the value.
    """

    check: str
    code: Code
    passes: bool
    facts: Facts | None = None
    is_bound: bool = True
