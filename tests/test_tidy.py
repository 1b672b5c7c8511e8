"""The house is tidy: each rule holds for every file, and each rule finds an offender that is planted for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.tidy_rules import (
    ROOT,
    Source,
    check_couchbase,
    check_imports,
    check_module_docstring,
    check_package_docstring,
    check_page,
    check_purity,
    check_sizes,
    check_test_sentences,
    check_zmq,
    sources,
)

# What is over the bounds today, and may only shrink.
KNOWN_SIZES: dict[str, int] = {
    "sidecars/core/session.py": 446,
    "tests/unit/sidecars/test_session.py": 519,
    "risk/gate/fused.py::first_refusal": 100,  # written by wojak docs
    "risk/gate/fused.py::first_complete_refusal": 170,
}

SOURCES = sources()
Check = Callable[[Source], Iterator[str]]


def sizes(source: Source) -> Iterator[str]:
    """The size rule with today's exceptions."""
    return check_sizes(source, KNOWN_SIZES)


CHECKS: list[Check] = [
    check_imports, check_zmq, check_couchbase, check_purity, sizes, check_test_sentences, check_package_docstring,
    check_module_docstring,
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_file_keeps_the_rule(check: Check) -> None:
    """No file of the project breaks the rule."""
    assert [complaint for source in SOURCES for complaint in check(source)] == []


def test_the_rules_see_every_room() -> None:
    """The walk finds the rooms; a rule that looks at nothing would always pass."""
    rooms = {source.module.split(".")[0] for source in SOURCES}
    assert rooms >= {"protocol", "runtime", "journal", "market", "risk", "engine", "sidecars", "sandbox", "venues"}
    assert rooms >= {"books", "cli", "tests"}


@pytest.mark.parametrize(
    ("check", "path", "text", "expected"),
    [
        (check_imports, "engine/x.py", "from books.store import Store", "engine.x imports books.store.Store"),
        (check_imports, "engine/x.py", "from market.feed import Feed", "engine.x imports market.feed.Feed"),
        (check_imports, "engine/x.py", "import risk.portfolio.margin", "engine.x imports risk.portfolio.margin"),
        (check_imports, "journal/x.py", "def f():\n    import engine.core", "journal.x imports engine.core"),
        (check_imports, "market/formats/x.py", "from ...engine import core", "market.formats.x imports engine.core"),
        (check_imports, "market/table.py", "from market.book import Book", "market.table imports market.book.Book"),
        (check_imports, "newroom/x.py", "x = 1", "room 'newroom' is not in the import table"),
        (check_zmq, "engine/x.py", "import zmq", "zmq imported"),
        (check_couchbase, "engine/x.py", "from couchbase.cluster import Cluster", "couchbase imported"),
        (check_couchbase, "books/x.py", "def f():\n    import couchbase", "couchbase imported"),
        (check_couchbase, "cli/x.py", "from books.couchbase import CouchbaseBucket", "imported at the start"),
        (check_purity, "engine/core.py", "import time", "time imported where decisions are made"),
        (check_purity, "risk/gate/x.py", "from random import Random", "random.Random imported"),
        (check_purity, "risk/gate/x.py", "import logging", "logging imported"),
        (check_purity, "risk/gate/x.py", "x = 0.1", "float 0.1"),
        (check_purity, "risk/gate/x.py", "x = 1 / 2", "true division"),
        (check_purity, "sandbox/x.py", "open('y')", "open() where decisions are made"),
        (sizes, "engine/x.py", "x = 1\n" * 451, "451 lines"),
        (sizes, "engine/x.py", "def f():\n" + "    x = 1\n" * 70, "f has 71 lines"),
        (check_test_sentences, "tests/x.py", "def test_x():\n    pass", "no one-line docstring"),
        (check_test_sentences, "tests/x.py", 'def test_x():\n    """One.\n\n    Two."""', "no one-line docstring"),
        (check_package_docstring, "engine/__init__.py", '"""Room."""\ndef f(): ...', "code in a package"),
        (check_package_docstring, "engine/__init__.py", "x = 1", "no docstring"),
        (check_module_docstring, "engine/x.py", "x = 1", "no docstring"),
    ],
)
def test_a_planted_offender_is_found(check: Check, path: str, text: str, expected: str) -> None:
    """Each rule names file, line and offence of what was planted."""
    complaints = list(check(Source(path, text)))
    assert any(expected in c and c.startswith(f"{path}:") for c in complaints), complaints


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("engine/x.py", "from market.table import TableReader\nfrom risk.gate.checks import View\nimport engine.core"),
        ("sidecars/sources/x.py", "from ..core.loop import SidecarLoop"),
        ("cli/x.py", "import books.store"),
    ],
)
def test_what_the_table_allows_passes(path: str, text: str) -> None:
    """The rule does not stop what is allowed, relative or not."""
    assert list(check_imports(Source(path, text))) == []


def test_every_page_has_one_title() -> None:
    """Each page of the project has exactly one title, first."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    found = [c for page in pages for c in check_page(str(page.relative_to(ROOT)), page.read_text("utf-8"))]
    assert found == []


def test_a_page_without_a_title_is_found() -> None:
    """The page rule sees a second title, and a missing one."""
    assert list(check_page("x.md", "# One\n\n# Two\n"))
    assert list(check_page("x.md", "text\n"))
    assert not list(check_page("x.md", "# One\n\n```\n# a comment\n```\n"))
