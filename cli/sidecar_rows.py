"""``[[sidecars]]`` of ``wojak.toml``: the brokers that orders come from, and the rules between them and the rest.

Rule: what is common to all kinds stands here; a kind's own settings are read by the sidecar, because only it has the
broker's client. `wojak sidecar check` reads them too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from protocol.edge import Identifier

HTTP_SOURCE: Final = "http"


class SidecarRow(Struct, frozen=True, forbid_unknown_fields=True):
    """A broker that orders come from; `wojak up` starts what carries them, one process each.

    Attributes:
        source: Its name; the row of `[[sources]]` with this name says for whom it may speak.
        kind: Which kind of source; of ours: kafka, kinesis, pubsub, pubsub_push, rabbitmq, sns, sqs, stepfunctions.
        supervised: Whether `wojak up` runs it; if not, `wojak sidecar run SOURCE` does, here or in another place.
        settings: What the kind needs, see docs/reference/sources.md.
        body_bytes_max: A larger message goes to the dead letters unread.
        drain_ms: Time to leave in after SIGTERM.
        port: Where it serves ``/metrics``, ``/healthz`` and ``/readyz``; 0 = only this host's socket.
        host: Address of that port.
    """

    source: Identifier
    kind: Identifier
    settings: dict[str, Any]
    body_bytes_max: Annotated[int, Meta(ge=1, le=1 << 20)] = 256 << 10
    drain_ms: Annotated[int, Meta(ge=1_000, le=600_000)] = 10_000
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    host: Annotated[str, Meta(min_length=1, max_length=255)] = "127.0.0.1"
    supervised: bool = True


def sidecar_problems(rows: Sequence[SidecarRow], sources: Sequence[str]) -> Iterator[str]:
    """Yield what does not fit the rest of the file."""
    for n, row in enumerate(rows):
        if row.source == HTTP_SOURCE:
            yield f"sidecars[{n}].source: expected another name than {HTTP_SOURCE!r}, which is the HTTP source's"
        elif row.source not in sources:
            yield (
                f"sidecars[{n}].source: expected a row of [[sources]] with this name, was none for {row.source!r}; "
                "it says for which principals the source may speak"
            )
        if "/" in row.source:
            yield f"sidecars[{n}].source: expected a name without '/', was {row.source!r}; files are named after it"
        if row.source in [other.source for other in rows[:n]]:
            yield f"sidecars[{n}].source: expected a name used once, was {row.source!r} again"
