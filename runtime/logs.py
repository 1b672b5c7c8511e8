"""Structured logs: one JSON line an event on standard error, readable lines when that is a terminal.

Rule: no secret and no message body is ever logged; a processor drops the fields that carry them.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

SECRET_FIELDS: Final = frozenset({"token", "secret", "key", "api_key", "authorization", "password"})


def _without_secrets(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for field in SECRET_FIELDS & event.keys():
        event[field] = "[hidden]"
    return event


def configure(process: str, *, level: str = "info") -> structlog.stdlib.BoundLogger:
    """Set up logging for this process and return its logger; every line carries ``process``."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_secrets,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger().bind(process=process)
    return logger
