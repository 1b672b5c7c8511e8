"""One question to a control socket, of an engine or a gateway, and its answer.

Rule: no answer within the time is said as such, never taken for an answer; every question has a session of its own, so
that a late reply can't be taken for the next one's.
"""

from __future__ import annotations

from typing import Final

from protocol.channels import Context, CurveKeys, Dealer, Waiter
from protocol.errors import WojakError
from runtime.clock import monotonic_ns

MS_NS: Final = 1_000_000
CONNECT_STEP_MS: Final = 5


class AwayError(WojakError):
    """Who was asked did not answer. What was asked may have been done."""

    code = "AWAY"

    def __init__(self, who: str, endpoint: str, waited_ms: int, what_to_do: str) -> None:
        self.who = who
        self.endpoint = endpoint
        super().__init__(
            f"{self.code}: expected an answer of {who} within {waited_ms} ms, was none ({endpoint}); "
            f"is it running? {what_to_do}"
        )


class RefusedError(WojakError):
    """Who was asked refused the request."""

    code = "CONTROL_REFUSED"

    def __init__(self, text: str) -> None:
        super().__init__(f"{self.code}: {text}")


def answer_to(
    request: bytes, context: Context, endpoint: str, timeout_ms: int, keys: CurveKeys | None = None
) -> bytes | None:
    """Return the answer to a request; None if none came in time."""
    deadline = monotonic_ns() + timeout_ms * MS_NS
    dealer = Dealer(context, endpoint, 8, keys=keys)
    try:
        waiter = Waiter(dealer)
        sent = False
        while (left_ms := (deadline - monotonic_ns()) // MS_NS) > 0:
            sent = sent or dealer.send(request)
            waiter.wait(int(left_ms) if sent else min(int(left_ms), CONNECT_STEP_MS))
            for message in dealer.receive(1):
                return message
    finally:
        dealer.close()
    return None
