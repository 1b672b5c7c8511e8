"""An engine that grants credits, accepts everything at once and keeps nothing (DECISIONS 42).

What a sidecar carries with it is the sidecar's own cost: no gate, no journal. It notes when the first item came and
when the last one was answered, and says so in a file once ``count`` are answered.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from protocol.channels import Context, Router, Waiter
from protocol.codes import Code, Mode, OrderStatus, OutcomeKind
from protocol.session import (
    PROTOCOL_VERSION,
    Claim,
    Claimed,
    Hello,
    Outcome,
    Outcomes,
    Ping,
    Pong,
    Submit,
    Welcome,
    sidecar_decoder,
)
from runtime.clock import monotonic_ns
from runtime.signals import StopSignal

HWM: Final = 50_000
RECEIVE_MAX: Final = 1_024
WAIT_MS: Final = 200
_encode: Final = msgspec.msgpack.Encoder().encode


class GranterSettings(msgspec.Struct, frozen=True):
    """Where it listens, how much it grants, after how many answers it says so in ``path``, a named pipe."""

    endpoint: str
    path: str
    count: int
    credits: int


class Granted(msgspec.Struct, frozen=True):
    """When the first item came and when the last was answered, monotonic ns."""

    first_ns: int
    last_ns: int


def run(settings: GranterSettings) -> None:
    """Accept until SIGTERM."""
    stop = StopSignal()
    context = Context()
    router = Router(context, settings.endpoint, HWM)
    waiter = Waiter(router)
    waiter.add_fd(stop.fd)
    instance = os.urandom(16)
    welcome = _encode(Welcome(PROTOCOL_VERSION, 0, 1, instance, Mode.PAPER, settings.credits, 256))
    answered = first_ns = 0
    while not stop.is_set:
        waiter.wait(WAIT_MS)
        for identity, body in router.receive(RECEIVE_MAX):
            match sidecar_decoder.decode(body):
                case Hello():
                    router.send(identity, welcome)
                case Claim(unit):
                    router.send(identity, _encode(Claimed(unit, 1)))
                case Ping():
                    router.send(identity, _encode(Pong()))
                case Submit(items):
                    first_ns = first_ns or monotonic_ns()
                    outcomes = [
                        Outcome(i.seq, OutcomeKind.ACCEPTED, Code.OK, "P-0", answered + n, OrderStatus.PENDING_NEW, 30)
                        for n, i in enumerate(items)
                    ]
                    router.send(identity, _encode(Outcomes(outcomes, 100_000)))
                    answered += len(items)
                    if answered - len(items) < settings.count <= answered:
                        say(settings.path, Granted(first_ns, monotonic_ns()))
    router.close()
    context.close()


def say(path: str, granted: Granted) -> None:
    """Say when it began and ended, to who has the pipe open (``told``)."""
    Path(path).write_bytes(msgspec.json.encode(granted))
