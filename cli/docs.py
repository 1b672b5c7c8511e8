"""``wojak docs``: the reference pages, written from the code, so that they can't say anything else.

Rule: the same code gives the same pages; a test fails when a page is not what the code says now.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

import msgspec
from cyclopts import Parameter

from cli.docs_metrics import metrics_page
from cli.docs_risk import risk_page
from cli.docs_states import states_page
from cli.options import say
from cli.settings import WojakConfig
from journal.flat import COLUMNS
from protocol.codes import Code, ReferenceSource, Scope
from protocol.errors import WojakError
from protocol.schema import json_schema
from protocol.session import Facts
from protocol.texts import refusal_text
from risk.gate.checks import CHECKS, SEND_CHECKS
from risk.gate.further_checks import COMPLETE_FUSED, COMPLETE_SEND_CHECKS
from risk.gate.fuse import Shortcut, module_source
from risk.gate.sure import COVERED, is_sure
from risk.gate.view import View

GATES: Final = {
    "first_refusal": CHECKS,
    "first_late_refusal": SEND_CHECKS,
    "first_complete_refusal": COMPLETE_FUSED,
    "first_late_complete_refusal": COMPLETE_SEND_CHECKS,
}
SHORTCUTS: Final = {"first_complete_refusal": Shortcut(is_sure, COVERED)}
ROOT: Final = Path(__file__).resolve().parents[1]
FUSED: Final = "risk/gate/fused.py"
ROOMS: Final = (
    "protocol", "runtime", "journal", "market", "risk", "engine", "sidecars", "sandbox", "venues", "books", "cli",
)  # fmt: skip
WRITTEN: Final = "Written from the code by `wojak docs`; change the code, not this page.\n"
STAGES: Final = {
    0: "as asked", 1: "envelope", 2: "state", 3: "instrument and permission", 4: "price", 5: "size and value",
    6: "rate", 7: "exposure", 8: "money", 9: "engine and venue", 64: "paper",
}  # fmt: skip
EXPORT_TYPES: Final = {
    "int": "number, int64", "decimal": "decimal text, decimal128(38, 9)", "text": "text", "bool": "true or false",
    "time": "ISO 8601 to the nanosecond, timestamp[ns, UTC]", "json": "object, JSON text",
}  # fmt: skip
SAMPLE: Final = Facts(
    5_000_000_000, 7_000_000_000, Scope.ACCOUNT, "demo", 61_800_000_000_000, 20_000_000, ReferenceSource.LAST_TRADE
)


def docs(
    *, check: Annotated[bool, Parameter(negative="", help="Only say which pages are out of date.")] = False
) -> int:
    """Write docs/reference and the fused gate from the code of this checkout.

    Exit code 1 if --check finds one out of date.

    Example: `wojak docs --check`
    """
    stale = []
    for name, text in pages().items():
        path = ROOT / name
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    verb = "out of date, write them: wojak docs" if check else "written"
    say(f"{len(stale)} pages {verb}: {', '.join(stale)}" if stale else "every page says what the code says")
    return 1 if check and stale else 0


def pages() -> dict[str, str]:
    """Return every generated page, and the fused gate, by its path in the checkout."""
    return {
        "docs/reference/codes.md": _codes(),
        "docs/reference/config.md": _config(),
        "docs/reference/sources.md": _sources(),
        "docs/reference/cli.md": _cli(),
        "docs/reference/schema.md": _schema(),
        "docs/reference/errors.md": _errors(),
        "docs/reference/export.md": _export(),
        "docs/reference/metrics.md": metrics_page(WRITTEN),
        "docs/reference/order-states.md": states_page(WRITTEN),
        "docs/risk.md": risk_page(WRITTEN),
        FUSED: module_source(GATES, View, SHORTCUTS),
    }


def _stage(code: Code) -> str:
    return STAGES.get(int(code) // 10) or STAGES[int(code) // 100]


def _codes() -> str:
    rows = "\n".join(
        f"| {int(code)} | `{code.name}` | {_stage(code)} | {refusal_text(code, SAMPLE) if code else ''} |"
        for code in Code
    )
    return (
        "# Codes\n\n"
        f"{WRITTEN}\nWhy an order was refused, or how an accepted command was taken. Numbers are journaled: one that "
        "was given never changes its meaning. The wording shows made-up values.\n\n"
        f"| number | code | stage | as an answer words it |\n|---|---|---|---|\n{rows}\n"
    )


def _export() -> str:
    rows = "\n".join(f"| `{c.name}` | {EXPORT_TYPES[c.kind]} | {c.text} |" for c in COLUMNS)
    return (
        "# Columns of an export\n\n"
        f"{WRITTEN}\nWhat `wojak journal export` writes: one row a record, the same columns in JSON lines and "
        "in Parquet. A column that a record does not have is absent in JSON and null in Parquet. Together they hold "
        "the whole record: what has no column stands in `rest`. Only the journal's secret, the key of order ids, is "
        "withheld. Columns keep name and meaning; new ones are appended.\n\n"
        f"| column | JSON lines, Parquet | what it says |\n|---|---|---|\n{rows}\n"
    )


def _config() -> str:
    return (
        "# Configuration\n\n"
        f"{WRITTEN}\nOne file, `wojak.toml`; `wojak init` writes a commented one. Unknown keys are refused; every "
        "fault is named at once, before anything starts. Prices, quantities and money are decimal strings.\n\n"
        + "\n".join(_sections(WojakConfig))
    )


def _sources() -> str:
    from sidecars.core.kinds import OURS, find_kind

    tables = [line for name in sorted(OURS) for line in (f"## {name}\n", *_table(find_kind(name).settings))]
    return (
        "# Settings of sources\n\n"
        f"{WRITTEN}\nWhat stands in `settings` of a `[[sidecars]]` row, by kind. Addresses and credentials never stand "
        "here but in the environment.\n\n" + "\n".join(tables)
    )


def _sections(kind: type[msgspec.Struct]) -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        inner = _struct_in(field.type)
        if inner is None:
            continue
        is_table = get_origin(field.type) is tuple
        yield f"## {'[[' if is_table else '['}{field.name}{']]' if is_table else ']'}\n"
        yield from _table(inner)
        for nested in msgspec.structs.fields(inner):
            if (deeper := _struct_in(nested.type)) is not None:
                yield f"### [[{field.name}.{nested.name}]]\n"
                yield from _table(deeper)


def _table(kind: type[msgspec.Struct]) -> Iterator[str]:
    text, attributes = _documented(kind)
    yield f"{text}\n"
    yield "| key | value | default | what it does |\n|---|---|---|---|"
    for field in msgspec.structs.fields(kind):
        if _struct_in(field.type) is not None:
            continue
        default = "required" if field.required else f"`{_shown(field.default)}`"
        yield f"| `{field.name}` | {_values(field.type)} | {default} | {attributes.get(field.name, '')} |"
    yield ""


def _documented(kind: type[Any]) -> tuple[str, dict[str, str]]:
    """Return a class's own sentence and what its docstring says of each attribute."""
    text, _, rest = (kind.__doc__ or "").partition("Attributes:")
    attributes: dict[str, str] = {}
    name = ""
    for line in rest.splitlines():
        if match := re.fullmatch(r" {8}(\w+): (.*)", line):
            name = match[1]
            attributes[name] = match[2].strip()
        elif name and line.startswith(" " * 12):
            attributes[name] += " " + line.strip()
    clean = {k: v.replace("``", "`").replace("|", "\\|") for k, v in attributes.items()}
    return " ".join(text.replace("``", "`").split()), clean


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    for part in (kind, *get_args(kind)):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return part
    return None


def _values(kind: Any) -> str:
    schema: dict[str, Any] = msgspec.json.schema(kind)
    return _schema_text(schema).replace("|", "\\|")


def _schema_text(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{v}`" for v in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_schema_text(s) for s in schema["anyOf"])
    name = {"integer": "whole number", "number": "number", "string": "text", "array": "list", "boolean": "true, false"}
    text = name.get(schema.get("type", ""), "value")
    if "minimum" in schema and "maximum" in schema:
        return f"{text}, {schema['minimum']:,} to {schema['maximum']:,}"
    if "minimum" in schema:
        return f"{text}, at least {schema['minimum']:,}"
    return text


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _cli() -> str:
    from cli.main import app

    text = str(app.generate_docs(output_format="markdown", recursive=True))
    body = re.sub(r"^# .*\n", "", re.sub(r"^(wojak[a-z -]*?) -m \S+", r"\1", text, flags=re.MULTILINE), count=1)
    body = re.sub(r"[ \t]+$", "", body, flags=re.MULTILINE)
    # The usage of the command as a whole is there or not by how it was started.
    body = re.sub(r"\A\s*```console\nwojak COMMAND\n```\n", "", body)
    body = re.sub(r"\n{3,}", "\n\n", re.sub(r"^# ", "## ", body, flags=re.MULTILINE))
    return f"# Command line\n\n{WRITTEN}\n{body.strip()}\n"


def _schema() -> str:
    schema = msgspec.json.format(msgspec.json.encode(json_schema(), order="sorted"), indent=2).decode()
    return (
        f"# Orders as JSON\n\n{WRITTEN}\nThe same from a running source: `/schema`; on the command line: "
        f"`wojak schema`.\n\n```json\n{schema}\n```\n"
    )


def _errors() -> str:
    for room in ROOMS:
        package = importlib.import_module(room)
        for module in pkgutil.walk_packages(package.__path__, f"{room}."):
            importlib.import_module(module.name)
    rows = "\n".join(
        f"| `{kind.code}` | {kind.__name__} | {kind.__module__} | {(kind.__doc__ or '').strip().splitlines()[0]} |"
        for kind in sorted(_leaves(WojakError), key=lambda k: (k.code, k.__name__))
    )
    return (
        f"# Errors\n\n{WRITTEN}\nEvery error raised on purpose derives from WojakError; its code is stable and its "
        "text says what was expected, what it was and what to do.\n\n"
        f"| code | class | module | when |\n|---|---|---|---|\n{rows}\n"
    )


def _leaves(kind: type[WojakError]) -> Iterator[type[WojakError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _leaves(child)
