"""``[risk_service]`` and ``[[routes]]`` of ``wojak.toml``: which breaches the risk service judges, and how long it may.

Rule: a route that a check can't take is refused here, so that no configuration promises it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from cli.alert_rows import stored_secret
from protocol.codes import Code
from protocol.edge import Identifier
from protocol.errors import FieldError
from protocol.params import OnDeadline, RiskParams
from protocol.units import parse_e9
from risk.gate.forward import FORWARDABLE, HALTABLE, SANDBOXABLE

MS_NS: Final = 1_000_000
SECRET_CHARS_MIN: Final = 32
THIS_HOST: Final = frozenset({"127.0.0.1", "::1", "localhost"})
MONEY: Final = frozenset({Code.MARGIN_ESTIMATE.name})
Milliseconds = Annotated[int, Meta(ge=1, le=600_000)]


class RouteRow(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the breach of a check goes; a check without a row refuses.

    Attributes:
        check: Its code.
        route: ``reject`` refuses; ``forward`` holds the order and asks the risk service; ``halt`` refuses and halts the
            scope of the limit until an operator resumes it (exits pass); ``sandbox`` takes an order that is no exit as
            paper, in a ledger of its own, where account, strategy and instrument have nothing real.
        on_deadline: What happens when nobody judged in time: ``reject``; ``hold`` waits on, up to
            `risk_service.hold_max_ms`; ``pass`` sends what is worth `risk_service.pass_value_max` at most.
            Exits are always sent.
    """

    check: Identifier
    route: Literal["reject", "forward", "sandbox", "halt"]
    on_deadline: Literal["reject", "hold", "pass"] = "reject"


class RiskServiceSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The process that judges forwarded orders (`wojak risk`); runs where `params_file` or `webhook_url` is set.

    Attributes:
        params_file: Its parameters, relative to this file; empty = it does not judge itself.
        webhook_url: A risk system elsewhere judges instead: https, or http on this host. Its protocol:
            docs/risk-service.md.
        webhook_secret_env: Environment variable with the secret that signs requests and answers, at least 32
            characters; or
        webhook_secret_file: a file with it.
        webhook_ca_file: Trust the risk system by these certificates; empty = by those of the system.
        webhook_timeout_ms: Longest attempt to ask it; the first deadline of an order ends one sooner.
        webhook_account_max: Requests of one account that it is asked at a time.
        deadline_ms: An order is held so long; an exit ``exit_hold_ms``, after which it is sent.
        hold_max_ms: Longest hold of a check whose ``on_deadline`` is ``hold``.
        held_max: Held orders of one account.
        away_ms: After the engine's start a service has so long to come.
        pass_value_max: Largest order value that may ``pass``, a decimal string.
        tick_age_max_ms: An older price is none for the service.
    """

    params_file: str = ""
    webhook_url: Annotated[str, Meta(pattern=r"^(https?://[^\s/]+.*)?$", max_length=2_000)] = ""
    webhook_secret_env: str = ""
    webhook_secret_file: str = ""
    webhook_ca_file: str = ""
    webhook_timeout_ms: Annotated[int, Meta(ge=1, le=30_000)] = 2_000
    webhook_account_max: Annotated[int, Meta(ge=1, le=16)] = 4
    deadline_ms: Milliseconds = 250
    exit_hold_ms: Milliseconds = 2_000
    hold_max_ms: Milliseconds = 30_000
    held_max: Annotated[int, Meta(ge=1, le=1_000)] = 8
    away_ms: Milliseconds = 2_000
    pass_value_max: str = "0"  # noqa: S105 - an amount, no password
    tick_age_max_ms: Milliseconds = 5_000

    @property
    def is_configured(self) -> bool:
        """Whether there is such a process."""
        return bool(self.params_file or self.webhook_url)


def route_problems(routes: Sequence[RouteRow], section: RiskServiceSection, folder: Path) -> Iterator[str]:
    """Yield every fault of routes and service."""
    seen: set[str] = set()
    known, haltable, sandboxable = ({code.name for code in codes} for codes in (FORWARDABLE, HALTABLE, SANDBOXABLE))
    for n, row in enumerate(routes):
        at = f"routes[{n}]"
        may = {"halt": haltable, "sandbox": sandboxable}.get(row.route, known)
        if row.check not in may:
            yield f"{at}.check: expected one of {', '.join(sorted(may))}, was {row.check!r}"
        if row.route in {"halt", "sandbox"} and row.on_deadline != "reject":
            waits = f"the route {row.route}, which waits for nobody"
            yield f"{at}.on_deadline: expected none for {waits}, was {row.on_deadline}"
        if row.route == "forward" and row.on_deadline == "pass" and row.check in MONEY:
            yield f"{at}.on_deadline: expected reject or hold for {row.check}, was pass: money is never waved through"
        if row.check in seen:
            yield f"{at}.check: expected one row for {row.check}, was a second one"
        seen.add(row.check)
    forwards = [row.check for row in routes if row.route == "forward"]
    if forwards and not section.is_configured:
        yield f"risk_service.params_file: expected the service's parameters, for {forwards[0]} is forwarded, was none"
    yield from _webhook_problems(section, folder)
    if section.params_file and not (folder / section.params_file).is_file():
        yield f"risk_service.params_file: expected a file, was {section.params_file!r}, which is none"
    if section.exit_hold_ms > section.hold_max_ms or section.deadline_ms > section.hold_max_ms:
        yield f"risk_service.hold_max_ms: expected at least deadline_ms and exit_hold_ms, was {section.hold_max_ms}"
    try:
        if parse_e9(section.pass_value_max, "risk_service.pass_value_max") < 0:
            yield f"risk_service.pass_value_max: expected at least 0, was {section.pass_value_max}"
    except FieldError as e:
        yield f"{e.field}: expected {e.expected}, was {e.value!r}"


def _webhook_problems(section: RiskServiceSection, folder: Path) -> Iterator[str]:
    env, file, url = section.webhook_secret_env, section.webhook_secret_file, section.webhook_url
    if not url:
        if env or file or section.webhook_ca_file:
            yield "risk_service.webhook_url: expected an address, for there is a secret or a CA for it, was none"
        return
    at = urlsplit(url)
    if at.scheme == "http" and at.hostname not in THIS_HOST:
        yield f"risk_service.webhook_url: expected https, or http on one of {', '.join(sorted(THIS_HOST))}, was {url!r}"
    if section.params_file:
        yield "risk_service.webhook_url: expected no params_file beside it, was both: one of them judges"
    if bool(env) == bool(file):
        was = "both" if env else "neither"
        yield f"risk_service.webhook_secret: expected either webhook_secret_env or webhook_secret_file, was {was}"
    if section.webhook_ca_file and not (folder / section.webhook_ca_file).is_file():
        yield f"risk_service.webhook_ca_file: expected a file, was {section.webhook_ca_file!r}, which is none"


def webhook_secret(section: RiskServiceSection, folder: Path) -> str:
    """Return the secret under which requests and answers are signed.

    Raises:
        ConfigError: If it is not there, or too short.
    """
    at = "risk_service.webhook_secret"
    return stored_secret(at, section.webhook_secret_env, section.webhook_secret_file, folder, SECRET_CHARS_MIN)


def to_risk_params(routes: Sequence[RouteRow], section: RiskServiceSection) -> RiskParams | None:
    """Return what the engine is told; None where every breach is just refused."""
    rows = sorted((Code[row.check], OnDeadline[row.on_deadline.upper()]) for row in routes if row.route == "forward")
    halts = tuple(sorted(Code[row.check] for row in routes if row.route == "halt"))
    sandboxes = tuple(sorted(Code[row.check] for row in routes if row.route == "sandbox"))
    if not rows and not halts and not sandboxes:
        return None
    return RiskParams(
        forward=tuple(code for code, _ in rows),
        deadline_ns=section.deadline_ms * MS_NS,
        exit_hold_ns=section.exit_hold_ms * MS_NS,
        hold_max_ns=section.hold_max_ms * MS_NS,
        held_max=section.held_max,
        away_ns=section.away_ms * MS_NS,
        on_deadline=tuple(rows),
        pass_value_max_e9=parse_e9(section.pass_value_max, "risk_service.pass_value_max"),
        halt=halts,
        sandbox=sandboxes,
    )
