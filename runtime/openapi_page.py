"""The page at /schema: an OpenAPI document as plain HTML, made on the server.

The framework's own pages load their scripts from somewhere else: blank without that network, and code of others in an
operator's browser. This one needs neither; /schema/openapi.json has the document for tools.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
h1{margin-bottom:0}h2{border-top:1px solid #d8dee8;padding-top:1rem;margin-top:2rem}code,pre{font:13px/1.45 monospace}
pre{background:#f4f6fa;padding:.7rem 1rem;overflow:auto;border-radius:4px}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.25rem .8rem .25rem 0}
.m{display:inline-block;min-width:4.2rem;font-weight:700;color:#0b5cad}.DELETE{color:#b3261e}.POST{color:#1b7f3b}
"""
_METHODS: Final = ("get", "post", "put", "delete")


class PlainPage(OpenAPIRenderPlugin):
    """Serves the document as ``page`` renders it."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the page."""
        del request
        return page(openapi_schema).encode()


def page(document: Mapping[str, Any]) -> str:
    """Return an OpenAPI 3.1 document as one self-contained HTML page."""
    info = document.get("info", {})
    title = escape(str(info.get("title", "API")))
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>",
        f"<h1>{title}</h1><p>{escape(str(info.get('description') or ''))}</p>",
        "<p>For tools: <a href=/schema/openapi.json>openapi.json</a></p>",
    ]
    for path, item in sorted(document.get("paths", {}).items()):
        for method in _METHODS:
            if item.get(method):
                parts += _operation(path, method.upper(), item[method])
    schemas = document.get("components", {}).get("schemas", {})
    if schemas:
        parts.append("<h2>Types</h2>")
    for name, schema in sorted(schemas.items()):
        parts.append(f"<h3 id={escape(name)}>{escape(name)}</h3><p>{escape(str(schema.get('description') or ''))}</p>")
        parts.append(_pre(schema.get("properties", schema)))
    return "\n".join(parts)


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><span class='m {method}'>{method}</span> <code>{escape(path)}</code></h2>"
    summary, description = (escape(str(operation.get(k) or "")) for k in ("summary", "description"))
    yield f"<p><b>{summary}</b> {description}</p>"
    parameters = operation.get("parameters") or []
    if parameters:
        rows = "".join(
            f"<tr><td><code>{escape(p['name'])}</code><td>{escape(p.get('in', ''))}"
            f"{', required' if p.get('required') else ''}<td>{escape(str(p.get('description') or ''))}"
            for p in parameters
        )
        yield f"<table><tr><th>parameter<th>where<th>what{rows}</table>"
    body = (operation.get("requestBody") or {}).get("content", {})
    for kind, content in body.items():
        yield f"<p>Body, <code>{escape(kind)}</code>:</p>{_example(content)}"
    yield "<table><tr><th>status<th>answer"
    for status, answer in (operation.get("responses") or {}).items():
        examples = "".join(_example(c) for c in (answer.get("content") or {}).values())
        yield f"<tr><td><code>{escape(status)}</code><td>{escape(str(answer.get('description') or ''))}{examples}"
    yield "</table>"


def _example(content: Mapping[str, Any]) -> str:
    """Return an example where there is one, else the name of the type."""
    examples = content.get("examples") or {}
    shown = [e["value"] for e in examples.values() if "value" in e] if isinstance(examples, Mapping) else []
    if "example" in content:
        shown.append(content["example"])
    if shown:
        return "".join(_pre(value) for value in shown[:2])
    reference = str((content.get("schema") or {}).get("$ref", ""))
    name = escape(reference.rpartition("/")[2])
    return f" <a href='#{name}'>{name}</a>" if name else ""


def _pre(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=1, ensure_ascii=False))}</pre>"
