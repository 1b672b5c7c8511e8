"""``wojak keys``: the keys of control over tcp."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from cli.options import say
from protocol.errors import ConfigError
from runtime.keys import Role, write_keys

app = App(name="keys", help="Make keys for control over tcp (section control of the configuration).")


@app.command
def new(
    name: str,
    /,
    *,
    role: Literal["operator", "reader", "source", "engine"],
    folder: Annotated[Path, Parameter(help="Where both files are written.")] = Path("keys"),
) -> int:
    """Make a pair of keys: NAME.secret for its holder, NAME.public for who lets it in.

    An operator may do all that the brake and the limits do, in the key's name; a reader may only look; a source may ask
    nothing here. The role engine is an engine's own key.

    Example: `wojak keys new ann --role operator`
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise ConfigError([f"NAME expected 1 to 64 letters, digits, '_', '.' or '-', was {name!r}"], "keys")
    secret, public = write_keys(folder, name, Role(role))
    say(f"{secret}   only its holder reads it (mode 600)")
    if role == "engine":
        say(f"{public}   for clients: control.server_key_file")
    else:
        say(f"{public}   copy it into the engine's control.allowed_dir; take it away there to revoke it")
    return 0
