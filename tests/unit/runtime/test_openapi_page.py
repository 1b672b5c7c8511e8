"""The page at /schema tells what the document tells, needs no other host and runs nothing."""

from __future__ import annotations

from runtime.openapi_page import page
from sidecars.sources.http_schema import order_paths


def test_every_path_method_status_and_parameter_stands_on_the_page() -> None:
    """Whoever reads it needs nothing else to send an order."""
    html = page({"info": {"title": "T"}, "paths": order_paths(), "components": {"schemas": {"A": {"type": "object"}}}})

    for path, item in order_paths().items():
        assert path in html
        for operation in item.values():
            assert operation["summary"] in html
            assert all(status in html for status in operation["responses"])
            assert all(p["name"] in html for p in operation["parameters"])


def test_the_page_loads_and_runs_nothing() -> None:
    """No script, no address of another host."""
    html = page({"info": {"title": "T"}, "paths": order_paths()})

    assert "<script" not in html
    assert "http://" not in html
    assert "https://" not in html


def test_what_comes_from_the_document_is_escaped() -> None:
    """A name can't become markup."""
    html = page({"info": {"title": "<b>x</b>"}, "paths": {"/<i>": {"get": {"summary": "<u>"}}}})

    assert "<b>x" not in html
    assert "/<i>" not in html
    assert "<u>" not in html
