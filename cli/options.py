"""Options that many commands share, and how they find the deployment that they speak about."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cli.configuration import Loaded
from cli.paths import paths_of
from cli.settings import CONFIG_NAME, WojakConfig
from protocol.errors import ConfigError
from runtime.config import load_toml

ConfigPath = Annotated[
    Path, Parameter(name=["--config", "-c"], env_var="WOJAK_CONFIG", help="The deployment's configuration file.")
]
Reason = Annotated[str, Parameter(help="Why, for those who read the journal later.")]
Url = Annotated[
    str, Parameter(env_var="WOJAK_URL", help="Address of the order source; empty = the one of the configuration.")
]
KeyEnv = Annotated[str, Parameter(help="Environment variable that holds the API key; empty = none needed.")]
DEFAULT_CONFIG = Path(CONFIG_NAME)


def deployment(config: Path) -> Loaded:
    """Return the deployment a command speaks about. Checks types only: what runs was checked when it started."""
    path = config.absolute()
    content = load_toml(path, WojakConfig)
    return Loaded(content, path, paths_of(path.parent / content.wojak.state_dir))


def secret_of(variable: str) -> str:
    """Return the API key in an environment variable; empty if none is named.

    Raises:
        ConfigError: If it is named and not set.
    """
    if not variable:
        return ""
    secret = os.environ.get(variable)
    if secret is None:
        raise ConfigError([f"expected environment variable {variable} to hold the API key, was not set"], "--key-env")
    return secret


def say(line: str = "") -> None:
    """Write a line for the person, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
