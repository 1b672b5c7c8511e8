"""What the sources of AWS share: a client of a service with deadlines, and what its errors mean.

Rule: credentials, region and addresses come from the environment as boto3 reads it, and from nowhere else. One client
a role, so that a slow poll never delays a settle; whoever polls in a loop makes a failed poll again itself.
"""

from __future__ import annotations

import functools
import os
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.parsers import ResponseParserError

from protocol.errors import ConfigError

CONNECT_S: Final = 2
ANSWER_S: Final = 3
ATTEMPTS: Final = 2
CALL_S: Final = ATTEMPTS * (CONNECT_S + ANSWER_S) + 2.0
BROKEN: Final = (ClientError, BotoCoreError, ResponseParserError, OSError, TimeoutError)
"""What a client raises when the other side is gone, slow, refuses, or is not AWS at all, such as a proxy."""
UNUSABLE: Final = (NoCredentialsError, PartialCredentialsError, NoRegionError, ProfileNotFound, ConfigNotFound)
LOCAL: Final = ("http://localhost", "http://127.0.0.1")
_FORBIDDEN: Final = frozenset({
    "AccessDenied", "AccessDeniedException", "AuthFailure", "AuthorizationError", "AuthorizationErrorException",
    "InvalidAddress", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException",
})  # fmt: skip


def client(service: str, connections: int, *, wait_s: int = 0, attempts: int = ATTEMPTS) -> Any:
    """Return a client of a service.

    Args:
        service: As boto3 names it.
        connections: Calls at a time: the threads that use it.
        wait_s: How long the service itself may wait before it answers.
        attempts: At a call; 1 for what is made again by who asked for it.

    Raises:
        ConfigError: If region or profile can't be used.
    """
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=wait_s + ANSWER_S,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=connections,
        tcp_keepalive=True,
    )
    try:
        said = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
        return _session(said).client(service, config=config)
    except (*UNUSABLE, ValueError) as e:
        raise ConfigError(
            [f"environment: expected AWS_REGION, and a profile that exists, as boto3 reads them: {e}"]
        ) from e


@functools.lru_cache(maxsize=1)
def _session(_said: tuple[tuple[str, str], ...]) -> Any:
    """Return the one session of this process, while the environment says the same.

    Each session reads the services' descriptions anew and keeps them: ten MiB a client.
    """
    return boto3.session.Session(region_name=os.environ.get("AWS_REGION") or None)


def code_of(error: BaseException) -> str:
    """Return the code AWS gave; empty if it gave none."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def is_forbidden(error: BaseException) -> bool:
    """Whether a right is missing."""
    return code_of(error) in _FORBIDDEN or isinstance(error, UNUSABLE)


def text_of(error: BaseException) -> str:
    """Return an error in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
