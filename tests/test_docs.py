"""The pages say what the code does: generated ones are fresh, everything has its place, every command exists."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cyclopts.exceptions import MissingArgumentError

from cli.docs import pages
from cli.example import EXAMPLE
from cli.problems import problems
from cli.settings import WojakConfig
from protocol.codes import Code
from protocol.edge import decode_new_order
from protocol.schema import json_schema
from runtime.config import convert
from tests.tidy_rules import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FOLDER = ROOT / "docs" / "reference"
WRITTEN = [p for p in PAGES if p.parent != FOLDER]


@pytest.mark.parametrize("name", sorted(pages()))
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    """Each reference page, and the fused gate, equals what the code gives now; else: wojak docs."""
    assert (ROOT / name).read_text("utf-8") == pages()[name], f"{name} is out of date: wojak docs"


def test_every_code_is_explained() -> None:
    """Each refusal code stands in the reference, and what is refused stands in risk.md or risk-checks.md, once."""
    reference = (FOLDER / "codes.md").read_text("utf-8")
    pages_of_checks = [(ROOT / "docs" / name).read_text("utf-8") for name in ("risk.md", "risk-checks.md")]
    checks = "".join(pages_of_checks)
    listed = [set(re.findall(r"^\| `([A-Z_]+)`", page, re.MULTILINE)) for page in pages_of_checks]
    assert listed[0] & listed[1] == set()
    assert [c.name for c in Code if f"`{c.name}`" not in reference] == []
    assert [c.name for c in Code if 100 < c < 900 and f"`{c.name}`" not in checks] == []


def test_the_example_configuration_has_no_fault(tmp_path: Path) -> None:
    """What wojak init writes loads and has no fault."""
    assert problems(convert(tomllib.loads(EXAMPLE), WojakConfig, "example"), tmp_path) == []


def test_the_example_order_is_an_order() -> None:
    """The file that the pages send with curl is an order of today's schema."""
    order = decode_new_order((ROOT / "examples" / "order.json").read_bytes())
    assert order.account == "demo"
    assert json.dumps(json_schema())


def wojak_lines() -> list[str]:
    """Return every command line that a page shows, without its answer."""
    found = []
    for page in WRITTEN:
        for line in page.read_text("utf-8").splitlines():
            found += re.findall(r"(?:^\$ |^    |`)(wojak [^`#\n]*?)(?:`|\s{2,}|\s#|$)", line)
    return sorted({line.strip() for line in found})


@pytest.mark.parametrize("line", wojak_lines())
def test_every_command_on_a_page_exists(line: str) -> None:
    """Each `wojak …` on a page parses: its command and its options are known to the command line."""
    from cli.main import app

    words = [w for w in shlex.split(line)[1:] if w not in {"…", "..."}]
    if not words or "--help" in words:
        return
    assert app.parse_commands(words)[0], f"{line}: no such command"
    with contextlib.suppress(MissingArgumentError):  # a page may name a command without what it needs
        app.parse_args(words, exit_on_error=False, print_error=False)


def test_the_make_targets_on_pages_exist() -> None:
    """Each `make target` that a page names is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = {t for page in WRITTEN for t in re.findall(r"`make ([a-z][a-z-]*)", page.read_text("utf-8"))}
    named |= {
        t for page in WRITTEN for t in re.findall(r"^\$? ?make ([a-z][a-z-]*)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert named >= {"run", "test", "check"}
    assert [t for t in named if not re.search(rf"^{t}:", makefile, re.MULTILINE)] == []


def test_links_between_pages_lead_somewhere() -> None:
    """Each relative link of a page names a file that is there."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in WRITTEN
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_readme_is_short() -> None:
    """A newcomer reads at most 150 lines."""
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_the_lock_has_hashes_and_no_addresses() -> None:
    """Every package of the lock is pinned by hash, and no registry is named."""
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pinned = re.findall(r"^([a-z0-9_.\-]+)==\S+ \\$", lock, re.MULTILINE)
    assert len(pinned) > 20
    assert len(re.findall(r"^[a-z0-9]", lock, re.MULTILINE)) == len(pinned)
    assert "://" not in lock


def test_each_help_has_an_example() -> None:
    """--help of every command shows an example."""
    text = pages()["docs/reference/cli.md"]
    parts = re.split(r"^#{2,4} wojak ", text, flags=re.MULTILINE)[1:]
    leaves = [p for p in parts if "```" in p and "COMMAND" not in p.split("```")[1]]
    assert len(leaves) > 15
    assert [p.splitlines()[0] for p in leaves if "Example" not in p] == []


def test_schema_is_printed() -> None:
    """The schema on the command line is that of the edge."""
    printed = subprocess.run(
        [sys.executable, "-m", "cli.main", "schema"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(printed.stdout) == json_schema()
