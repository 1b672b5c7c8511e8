"""Exact units: decimal text at the edge, int64 in 1e-9 on the wire, never a float.

Rule: a value that does not fit is refused at the edge with the field named; inside, every price,
quantity and money amount is a Python ``int``.
"""

from __future__ import annotations

import re
from typing import Final

from protocol.errors import FieldError

E9: Final = 1_000_000_000
INT64_MAX: Final = 2**63 - 1
DECIMALS_MAX: Final = 9
# Longest text that can still be inside int64: sign, 10 digits, point, 9 digits.
DECIMAL_CHARS_MAX: Final = 24

WHOLE_CHARS_FAST: Final = 9  # fits int64 whatever the digits are
_POWERS: Final[tuple[int, ...]] = tuple(10 ** (DECIMALS_MAX - n) for n in range(DECIMALS_MAX + 1))

_DECIMAL: Final = re.compile(r"(-?)(\d{1,10})(?:\.(\d{1,9}))?", re.ASCII)


def parse_e9(text: str, field: str) -> int:
    """Return the decimal text as an integer in 1e-9.

    Args:
        text: A plain decimal such as ``"61800.5"``: no exponent, no sign but ``-``, at most nine decimals.
        field: Name of the field, for the error.

    Raises:
        FieldError: If the text is no such decimal or lies outside int64 in 1e-9.
    """
    # Nearly all are digits with at most one point: faster than the expression, which decides on the rest.
    whole, point, fraction = text.partition(".")
    if len(whole) <= WHOLE_CHARS_FAST and len(fraction) <= DECIMALS_MAX and bool(point) == bool(fraction):
        digits = whole + fraction
        if whole and digits.isdigit() and digits.isascii():
            return int(digits) * _POWERS[len(fraction)]
    shown = text if len(text) <= DECIMAL_CHARS_MAX else text[:DECIMAL_CHARS_MAX] + "…"
    match = _DECIMAL.fullmatch(text) if len(text) <= DECIMAL_CHARS_MAX else None
    if match is None:
        raise FieldError(field, shown, 'a decimal string with at most 10 digits and 9 decimals, such as "61800.5"')
    sign, whole, fraction = match.groups()
    value = int(whole) * E9 + (int(fraction.ljust(DECIMALS_MAX, "0")) if fraction else 0)
    if value > INT64_MAX:
        raise FieldError(field, shown, f"at most {format_e9(INT64_MAX)}")
    return -value if sign else value


def format_e9(value: int) -> str:
    """Return an integer in 1e-9 as the shortest exact decimal text (``61_800_500_000_000`` → ``"61800.5"``)."""
    sign = "-" if value < 0 else ""
    whole, fraction = divmod(abs(value), E9)
    if fraction == 0:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{fraction:09d}".rstrip("0")


def wide(value: int) -> int | str:
    """Return a sum as it crosses a boundary: an int inside int64, decimal text beyond."""
    return value if -INT64_MAX <= value <= INT64_MAX else str(value)
