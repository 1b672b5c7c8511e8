"""``wojak bench``: hands over to the benchmarks, which print their own floor beside every figure."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter


def bench(*arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Measure this machine: engine alone, through ZeroMQ and the journal, with a venue, and HTTP end to end.

    Example: `wojak bench --help` lists the benchmarks and their sizes
    """
    from benchmarks.main import main

    return main(list(arguments))
