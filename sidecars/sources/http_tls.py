"""TLS of the HTTP source: the server's certificate, clients' certificates, and which name in one of them counts.

Rule: TLS 1.2 or newer; a client certificate that is shown must be by the named authority, else there is no connection;
a name counts only if the certificate has exactly one of its kind. Files are read at the start and again on SIGHUP;
connections that stand keep what they began with.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final, Literal

from msgspec import Struct

from protocol.errors import ConfigError

IdentityKind = Literal["san_uri", "san_dns", "san_email", "common_name"]
_SAN: Final = {"san_uri": "URI", "san_dns": "DNS", "san_email": "email"}


class TlsSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of TLS.

    Attributes:
        certificate_file: The server's certificate and what leads to its root, PEM.
        key_file: Its private key, PEM, without a passphrase.
        client_ca_file: Authorities that clients' certificates must be by, PEM; empty = none is asked for.
        client_certificate: ``required``: orders need a listed certificate; ``optional``: a key will do as well.
        identity: The name of a client certificate that says who it is.
    """

    certificate_file: str
    key_file: str
    client_ca_file: str = ""
    client_certificate: Literal["optional", "required"] = "optional"
    identity: IdentityKind = "san_uri"


class Tls:
    """The context that connections begin with from now on."""

    def __init__(self, settings: TlsSettings) -> None:
        """Read the files.

        Raises:
            ConfigError: Naming the file that can't be used.
        """
        self._settings = settings
        self.context = make_context(settings)

    def fresh(self) -> ssl.SSLContext:
        """Return what the files give now, to be put into ``context``; raises as when made."""
        return make_context(self._settings)

    def identity_of(self, certificate: Mapping[str, Any] | None) -> str:
        """Return the name that a client's certificate goes by; empty for no certificate, no such name, or several."""
        return identity_of(certificate, self._settings.identity)


def identity_of(certificate: Mapping[str, Any] | None, kind: IdentityKind) -> str:
    """Return the one name of this kind in a certificate (as ``ssl.SSLSocket.getpeercert`` has it); else empty."""
    if not certificate:
        return ""
    if kind == "common_name":
        found = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    else:
        found = [value for key, value in certificate.get("subjectAltName", ()) if key == _SAN[kind]]
    return str(found[0]) if len(found) == 1 else ""


def make_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return the server's side.

    Raises:
        ConfigError: Naming the file that can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    problems: list[str] = []
    try:
        context.load_cert_chain(settings.certificate_file, settings.key_file, password=_no_passphrase)
    except (OSError, ValueError) as e:
        problems.append(
            f"http.tls: expected the certificate {settings.certificate_file} and its key {settings.key_file} in PEM, "
            f"was: {e}"
        )
    if settings.client_ca_file:
        context.verify_mode = ssl.CERT_OPTIONAL
        try:
            context.load_verify_locations(settings.client_ca_file)
        except (OSError, ValueError) as e:
            problems.append(
                f"http.tls.client_ca_file: expected certificates in PEM, was {settings.client_ca_file}: {e}"
            )
    elif settings.client_certificate == "required":
        problems.append('http.tls.client_ca_file: expected authorities for client_certificate = "required", was ""')
    if problems:
        raise ConfigError(problems)
    return context


def _no_passphrase() -> str:
    """Return no passphrase, or OpenSSL would ask the terminal for one."""
    raise ValueError("the key has a passphrase; store it without one, readable by its user only")
