"""Control over tcp: CURVE, and only for keys whose public half is in a folder.

An unknown key never finishes its handshake and gets nothing. What a known one may ask is its role's; what it does is
journaled under its name. A key taken from the folder is refused from its next request on, whatever stands open.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from engine.control import Control
from engine.settings import RemoteControl
from protocol.channels import Authenticator, Context, CurveRouter
from protocol.errors import ConfigError
from runtime.keys import AllowedKeys, Role, read_secret

REQUESTS_MAX: Final = 16
HWM: Final = 64


class RemoteDoor:
    """The authenticator and the socket behind it."""

    def __init__(self, settings: RemoteControl, context: Context, alarm: Callable[[str], None]) -> None:
        own = read_secret(Path(settings.key_file))
        folder = Path(settings.allowed_dir)
        if not folder.is_dir():
            raise ConfigError([f"control.allowed_dir: expected a folder, was {settings.allowed_dir!r}"])
        self._allowed = AllowedKeys(folder, alarm)
        self._alarm = alarm
        self.authenticator = Authenticator(context)  # before the socket that asks it
        self.router = CurveRouter(context, settings.endpoint, HWM, own.secret_key)

    @classmethod
    def open(cls, settings: RemoteControl | None, context: Context, alarm: Callable[[str], None]) -> RemoteDoor | None:
        """Return the door, or None where there is none."""
        return None if settings is None else cls(settings, context, alarm)

    def turn(self, ready: list[object], control: Control, now_ns: int) -> None:
        """Answer handshakes and take requests, so many of each a turn."""
        if self.authenticator.socket in ready:
            for refused in self.authenticator.answer(self._is_allowed):
                self._alarm(f"control: key {refused} is not allowed")
        if self.router.socket in ready:
            for identity, public_key, body in self.router.receive(REQUESTS_MAX):
                key = self._allowed.find(public_key)
                if key is not None:  # else it was taken away since the handshake
                    control.receive_keyed(self.router, identity, body, key, now_ns)

    def _is_allowed(self, public_key: str) -> bool:
        key = self._allowed.find(public_key)
        return key is not None and key.role is not Role.ENGINE
