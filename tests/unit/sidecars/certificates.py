"""Certificates for tests, made by the openssl command (3.0 or newer): an authority, and what it signs."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """A certificate authority in a folder; ``file`` is what trusts it."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self.file, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        _openssl(*_new(self.file, self._key, name), "-addext", "basicConstraints=critical,CA:TRUE")

    def issue(self, name: str, *sans: str) -> tuple[str, str]:
        """Return certificate and key files for this common name and these alternative names, such as ``DNS:x``."""
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        named = ["-addext", f"subjectAltName={','.join(sans)}"] if sans else []
        _openssl(*_new(certificate, key, name), "-CA", str(self.file), "-CAkey", str(self._key), *named)
        return str(certificate), str(key)


def _new(certificate: Path, key: Path, name: str) -> list[str]:
    return [
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-out", str(certificate), "-keyout", str(key),
    ]  # fmt: skip


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=20)
