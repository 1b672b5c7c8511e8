"""``wojak init`` writes a configuration to start from; ``wojak schema`` prints what an order looks like."""

from __future__ import annotations

import msgspec

from cli.example import write_example
from cli.options import DEFAULT_CONFIG, ConfigPath, say
from protocol.errors import ConfigError
from protocol.schema import json_schema


def init(*, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Write a commented wojak.toml: the demonstration, and a start for your own. Never replaces a file.

    Example: `wojak init` and then `wojak up --flow`
    """
    if not write_example(config):
        raise ConfigError(["expected no file there, was one; move it away, or name another: --config"], str(config))
    say(f"✔ {config} written   mode PAPER (nothing here can reach a real venue)")
    return 0


def schema() -> int:
    """Print the JSON Schema of orders and of the answers to them.

    Example: `wojak schema > order.schema.json`
    """
    say(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())
    return 0
