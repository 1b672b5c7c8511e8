"""The house's rules as functions over syntax trees: each returns complaints ``file:line: error: what, use what``.

The import rule is DESIGN section 3's table. Purity holds where decisions are made. Sizes are ratchets: what is
over the bound today is listed with its size and may only shrink.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
EVERYTHING: Final = frozenset({"*"})

# Room → what it may import of ours. A longer name is the more specific rule, on both sides.
MAY_IMPORT: Final[dict[str, frozenset[str]]] = {
    "protocol": frozenset(),
    "runtime": frozenset({"protocol"}),
    "journal": frozenset({"protocol"}),
    "market": frozenset({"protocol", "runtime"}),
    "market.table": frozenset({"protocol", "market.errors"}),
    "risk": frozenset({"protocol"}),
    "risk.gate": frozenset({"protocol"}),
    "risk.portfolio": frozenset({"protocol", "runtime", "journal", "market"}),
    "engine": frozenset({"protocol", "runtime", "journal", "market.table", "risk.gate"}),
    "sidecars": frozenset({"protocol", "runtime"}),
    "strategy": frozenset({"protocol", "runtime", "market"}),
    "sandbox": frozenset({"protocol", "market"}),
    "sandbox.backtest": frozenset({"protocol", "market", "engine", "risk", "strategy"}),
    "venues": frozenset({"protocol", "runtime", "sandbox"}),
    "books": frozenset({"protocol", "runtime", "journal"}),
    "deploy": frozenset(),
    "cli": EVERYTHING,
    "benchmarks": EVERYTHING,
    "tests": EVERYTHING,
    "examples": EVERYTHING,
}
FOLDERS_WITHOUT_CODE: Final = frozenset({"docs", "changes", "build", "dist", "out"})

# Where decisions are made: no clock, chance, I/O or logging may be reached, no float computed.
PURE: Final = (
    "engine/core.py", "engine/orders.py", "engine/reports.py", "engine/controls.py", "engine/state.py",
    "engine/order_state.py", "engine/dedup.py", "engine/day.py",
    "engine/venue_state.py", "engine/reconciling.py", "engine/rolls.py",
    "risk/gate/", "sandbox/",
)  # fmt: skip
IMPURE_MODULES: Final = frozenset(
    {
        "asyncio", "datetime", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "selectors",
        "socket", "structlog", "subprocess", "threading", "time", "uuid", "zmq",
    }
)  # fmt: skip
IMPURE_CALLS: Final = frozenset({"open", "print", "input", "float"})

MODULE_LINES_MAX: Final = 450
FUNCTION_LINES_MAX: Final = 70


class Source(NamedTuple):
    """A Python file: its path from the root, with slashes, and its tree."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, self.path)

    @property
    def module(self) -> str:
        """The dotted name under which it is imported."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def sources() -> list[Source]:
    """Return every Python file of the project, however new its room."""
    found = [
        path.relative_to(ROOT)
        for path in sorted(ROOT.rglob("*.py"))
        if not any(part.startswith(".") or part.endswith(".egg-info") for part in path.relative_to(ROOT).parts)
        and path.relative_to(ROOT).parts[0] not in FOLDERS_WITHOUT_CODE
    ]
    return [Source(str(path), (ROOT / path).read_text("utf-8")) for path in found]


def check_imports(source: Source) -> Iterator[str]:
    """A room imports only what the table allows; a room that is not in the table may not exist."""
    room = source.module.split(".")[0]
    if room not in MAY_IMPORT:
        if "/" in source.path:
            yield f"{source.path}:1: error: room {room!r} is not in the import table, add it there and here"
        return
    allowed = MAY_IMPORT[_most_specific(source.module)]
    if allowed == EVERYTHING:
        return
    for line, name in _imported(source):
        ours = name.split(".")[0]
        if ours not in MAY_IMPORT or _is_within(name, _most_specific_room(source.module)):
            continue
        if not any(_is_within(name, a) for a in allowed):
            yield (
                f"{source.path}:{line}: error: {source.module} imports {name}, "
                f"use only {', '.join(sorted(allowed)) or 'nothing of ours'}"
            )


def check_zmq(source: Source) -> Iterator[str]:
    """Only protocol/channels.py imports zmq."""
    if source.module == "protocol.channels" or source.path.startswith(("tests/", "benchmarks/")):
        return
    for line, name in _imported(source):
        if name.split(".")[0] == "zmq":
            yield f"{source.path}:{line}: error: zmq imported, use protocol.channels"


def check_couchbase(source: Source) -> Iterator[str]:
    """Couchbase's SDK can end its process: two modules import it, and these are imported where a store is opened."""
    ours = source.module in {"books.couchbase", "books.couchbase_admin"}
    if ours or source.path.startswith("tests/"):
        return
    # What a type checker alone reads, and what a function imports when it is called, loads nothing at the start.
    tree = source.tree
    late = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.If) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        for name in names:
            if name.split(".")[0] == "couchbase":
                yield f"{source.path}:{node.lineno}: error: couchbase imported, use books.stores"
            elif name.startswith("books.couchbase") and id(node) not in late:
                yield f"{source.path}:{node.lineno}: error: {name} imported at the start, use books.stores"


def check_purity(source: Source) -> Iterator[str]:
    """Where decisions are made there is no clock, chance, I/O or logging, and no float."""
    if not source.path.startswith(PURE) or source.path.startswith("sandbox/backtest/"):
        return
    for line, name in _imported(source):
        if name.split(".")[0] in IMPURE_MODULES or name.startswith("runtime."):
            yield f"{source.path}:{line}: error: {name} imported where decisions are made, use an argument"
    for node in ast.walk(source.tree):
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield f"{source.path}:{line}: error: float {node.value}, use integers in 1e-9"
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield f"{source.path}:{line}: error: true division makes a float, use // and say how it rounds"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            yield f"{source.path}:{line}: error: {node.func.id}() where decisions are made, use an argument"


def check_sizes(source: Source, known: dict[str, int]) -> Iterator[str]:
    """Modules and functions stay small; what is ``known`` to be larger may only shrink."""
    lines = source.text.count("\n")
    bound = known.get(source.path, MODULE_LINES_MAX)
    if lines > bound:
        yield f"{source.path}:1: error: {lines} lines, use at most {bound}: split it by ideas"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            bound = known.get(f"{source.path}::{node.name}", FUNCTION_LINES_MAX)
            if size > bound:
                yield f"{source.path}:{node.lineno}: error: {node.name} has {size} lines, use at most {bound}"


def check_test_sentences(source: Source) -> Iterator[str]:
    """Every test says in one line what must hold."""
    if not source.path.startswith("tests/"):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            said = ast.get_docstring(node)
            if not said or "\n" in said.strip():
                yield f"{source.path}:{node.lineno}: error: {node.name} has no one-line docstring, use a sentence"


def check_package_docstring(source: Source) -> Iterator[str]:
    """A package's ``__init__`` is one docstring, and at most public names: no code."""
    if not source.path.endswith("/__init__.py"):
        return
    body = source.tree.body
    if not ast.get_docstring(source.tree):
        yield f"{source.path}:1: error: no docstring, use one that says what the room is and what it may import"
    for node in body[1:]:
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign):
            yield f"{source.path}:{node.lineno}: error: code in a package, use a module of its own"


def check_module_docstring(source: Source) -> Iterator[str]:
    """Every module says what it is."""
    if not ast.get_docstring(source.tree):
        yield f"{source.path}:1: error: no docstring, use: what this is, why, the rule it keeps"


def check_page(path: str, text: str) -> Iterator[str]:
    """A page has one title, first."""
    lines, in_code, titles = text.splitlines(), False, 0
    for line in lines:
        in_code ^= line.startswith("```")
        titles += not in_code and line.startswith("# ")
    if titles != 1 or not lines[0].startswith("# "):
        yield f"{path}:1: error: {titles} titles, use one, in the first line"


def _imported(source: Source) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import, relative ones made absolute, functions' own included."""
    package = source.module if source.path.endswith("/__init__.py") else source.module.rpartition(".")[0]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def _is_within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def _most_specific(module: str) -> str:
    """Return the longest entry of the table that the module is within."""
    return max((room for room in MAY_IMPORT if _is_within(module, room)), key=len)


def _most_specific_room(module: str) -> str:
    """Return what a module may import freely: its own room, or itself where the table singles it out."""
    return _most_specific(module)
