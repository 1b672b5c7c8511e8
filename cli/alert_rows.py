"""The part of ``wojak.toml`` that says who is told of what: receivers, and rules where they differ from defaults."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from cli.alerting.rules import RULES, Rule
from protocol.errors import ConfigError

Text = Annotated[str, Meta(min_length=1, max_length=255)]
Url = Annotated[str, Meta(pattern=r"^https?://[^\s/]+", max_length=2_000)]
RuleName = Annotated[str, Meta(min_length=1, max_length=32)]
Milliseconds = Annotated[int, Meta(ge=0, le=7 * 86_400_000)]
ReceiverName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
SECRET_BYTES_MIN: Final = 16


class WebhookRow(Struct, frozen=True, forbid_unknown_fields=True):
    """Alerts as signed JSON to an HTTP address; how to verify them: docs/alerts.md.

    Attributes:
        url: http only for tests and this host: the signature proves the sender, it hides nothing.
        secret_env: Environment variable with the secret that signs, at least 16 characters; or
        secret_file: a file with it.
        rules: Only these; empty = all.
    """

    name: ReceiverName
    url: Url
    secret_env: str = ""
    secret_file: str = ""
    rules: tuple[RuleName, ...] = ()


class EmailRow(Struct, frozen=True, forbid_unknown_fields=True, rename={"from_address": "from"}):
    """Alerts by e-mail.

    Attributes:
        security: ``starttls``, ``tls`` from the first byte on, or ``none``: then without a password.
        ca_file: Trust the server by these certificates; empty = by those of the system.
        password_env: Environment variable with the password of ``user``; or
        password_file: a file with it.
    """

    name: ReceiverName
    host: Text
    from_address: Text
    to: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=50)]
    port: Annotated[int, Meta(ge=1, le=65_535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca_file: str = ""
    user: str = ""
    password_env: str = ""
    password_file: str = ""
    rules: tuple[RuleName, ...] = ()


class ChatRow(Struct, frozen=True, forbid_unknown_fields=True):
    """Alerts as a bot's message, ``sendMessage`` of the Telegram Bot API.

    Attributes:
        chat_id: Where to, a number or @channel.
        token_env: Environment variable with the bot's token; or
        token_file: a file with it.
        url: Of the API, or of what speaks like it.
    """

    name: ReceiverName
    chat_id: Text
    token_env: str = ""
    token_file: str = ""
    url: Url = "https://api.telegram.org"
    rules: tuple[RuleName, ...] = ()


class AlertRuleRow(Struct, frozen=True, forbid_unknown_fields=True):
    """A rule where it differs from its default; what is left out stays.

    Attributes:
        rule: Which: docs/alerts.md lists them.
        enabled: Whether it is looked at.
        above: Says it above this.
        for_ms: Only if it holds for so long.
        window_ms: Of a rate: counted over so long.
    """

    rule: RuleName
    enabled: bool = True
    above: Annotated[int, Meta(ge=0)] | None = None
    for_ms: Milliseconds | None = None
    window_ms: Annotated[int, Meta(ge=1_000, le=3_600_000)] | None = None


class AlertsSection(Struct, frozen=True, forbid_unknown_fields=True):
    """Who is told when something is wrong. With a receiver, ``wojak up`` starts the process that tells.

    Attributes:
        deployment: By which name messages call this one; empty = the folder of this file.
        look_ms: How often engines and processes are asked how they are; events of the engine wake it at once.
        repeat_ms: What still holds is said again after so long; 0 = never.
        burst: Messages of one rule to one receiver
        burst_ms: in so long; more are counted, and the next one says how many.
        attempts: Of one message to one receiver.
        timeout_ms: Of one attempt, whole.
        port: Where it serves ``/metrics``, ``/healthz`` and ``/readyz``; 0 = none.
    """

    deployment: Annotated[str, Meta(max_length=64)] = ""
    look_ms: Annotated[int, Meta(ge=100, le=60_000)] = 1_000
    repeat_ms: Milliseconds = 3_600_000
    burst: Annotated[int, Meta(ge=1, le=1_000)] = 6
    burst_ms: Annotated[int, Meta(ge=1_000, le=86_400_000)] = 600_000
    attempts: Annotated[int, Meta(ge=1, le=20)] = 5
    timeout_ms: Annotated[int, Meta(ge=100, le=60_000)] = 5_000
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    webhooks: Annotated[tuple[WebhookRow, ...], Meta(max_length=16)] = ()
    emails: Annotated[tuple[EmailRow, ...], Meta(max_length=16)] = ()
    chats: Annotated[tuple[ChatRow, ...], Meta(max_length=16)] = ()
    rules: tuple[AlertRuleRow, ...] = ()

    @property
    def receivers(self) -> tuple[WebhookRow | EmailRow | ChatRow, ...]:
        """All of them."""
        return (*self.webhooks, *self.emails, *self.chats)

    def effective_rules(self) -> dict[str, Rule]:
        """Return the rules that are looked at, as they are after the file."""
        found = dict(RULES)
        for row in self.rules:
            if not row.enabled:
                found.pop(row.rule, None)
            elif row.rule in found:
                rule = found[row.rule]
                found[row.rule] = rule._replace(
                    above=rule.above if row.above is None else row.above,
                    for_ms=rule.for_ms if row.for_ms is None else row.for_ms,
                    window_ms=rule.window_ms if row.window_ms is None else row.window_ms,
                )
        return found


def alert_problems(alerts: AlertsSection) -> Iterator[str]:
    """Yield what spans several keys and is wrong."""
    names: set[str] = set()
    places = [f"webhooks[{n}]" for n in range(len(alerts.webhooks))]
    places += [f"emails[{n}]" for n in range(len(alerts.emails))] + [f"chats[{n}]" for n in range(len(alerts.chats))]
    for place, row in zip(places, alerts.receivers, strict=True):
        if row.name in names:
            yield f"alerts.{place}.name: expected one that no other receiver has, was {row.name!r}"
        names.add(row.name)
        yield from _unknown_rules(f"alerts.{place}.rules", row.rules)
        yield from _secret_problems(f"alerts.{place}", row)
    seen: set[str] = set()
    for n, rule in enumerate(alerts.rules):
        yield from _unknown_rules(f"alerts.rules[{n}].rule", (rule.rule,))
        if rule.rule in seen:
            yield f"alerts.rules[{n}].rule: expected once, was twice: {rule.rule!r}"
        seen.add(rule.rule)


def _secret_problems(at: str, row: WebhookRow | EmailRow | ChatRow) -> Iterator[str]:
    key, env, file = _secret_of(row)
    if not isinstance(row, EmailRow):
        if bool(env) == bool(file):
            yield f"{at}.{key}: expected either {key}_env or {key}_file, was {'both' if env else 'neither'}"
        return
    if bool(row.user) != bool(env or file) or (env and file):
        yield f"{at}.{key}: expected user with either {key}_env or {key}_file, or none of them"
    if row.security == "none" and row.user:
        yield f"{at}.security: expected starttls or tls to send a password, was 'none'"


def secret_of(row: WebhookRow | EmailRow | ChatRow, folder: Path) -> str:
    """Return a receiver's secret from where the configuration says that it is; empty where it needs none.

    Raises:
        ConfigError: If it is not there, or too short to sign with. The secret itself is never named.
    """
    key, env, file = _secret_of(row)
    at = f"alerts receiver {row.name}: {key}"
    if not env and not file:
        return ""
    return stored_secret(at, env, file, folder, SECRET_BYTES_MIN if isinstance(row, WebhookRow) else 1)


def stored_secret(at: str, env: str, file: str, folder: Path, chars_min: int) -> str:
    """Return the secret in an environment variable, or in a file relative to ``folder``.

    Raises:
        ConfigError: As of ``secret_of``; ``at`` says whose it is.
    """
    if env:
        secret, where = os.environ.get(env, ""), f"environment variable {env}"
    else:
        where = f"file {file}"
        try:
            secret = (folder / file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError([f"{at}: expected {where} to hold it, it can't be read: {type(e).__name__}"]) from None
    secret = secret.strip()
    if not secret:
        raise ConfigError([f"{at}: expected {where} to hold it, was empty or not set"])
    if len(secret) < chars_min:
        raise ConfigError([f"{at}: expected at least {chars_min} characters in {where}, was {len(secret)}"])
    return secret


def _secret_of(row: WebhookRow | EmailRow | ChatRow) -> tuple[str, str, str]:
    match row:
        case WebhookRow():
            return "secret", row.secret_env, row.secret_file
        case EmailRow():
            return "password", row.password_env, row.password_file
        case ChatRow():
            return "token", row.token_env, row.token_file


def _unknown_rules(at: str, rules: tuple[str, ...]) -> Iterator[str]:
    for name in rules:
        if name not in RULES:
            yield f"{at}: expected one of {', '.join(RULES)}, was {name!r}"
