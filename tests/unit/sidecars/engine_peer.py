"""A small real engine for sidecar tests: a ROUTER in a thread that speaks the whole session protocol.

It decides by the strategy's name (``refuse``, ``forbidden``, ``mute``, else accepts), deduplicates by (account,
client_order_id) in a journal that outlives it, and notes every fault of a sidecar: no Hello, no claim, over credit.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field

import msgspec

from protocol.channels import Context, Router, Waiter
from protocol.codes import ByeReason, Code, Mode, OrderStatus, OutcomeKind, RetryReason
from protocol.orders import (
    CancelOrder,
    Command,
    ExitReplace,
    NewBasket,
    NewOco,
    NewOrder,
    ReplaceOrder,
    command_decoder,
)
from protocol.session import (
    PROTOCOL_VERSION,
    Bye,
    Claim,
    Claimed,
    Drained,
    EngineMessage,
    Facts,
    Hello,
    Item,
    Leave,
    Outcome,
    Outcomes,
    Ping,
    Pong,
    Resume,
    Retry,
    Submit,
    Welcome,
    sidecar_decoder,
)

HWM = 4096


@dataclass
class Journal:
    """What outlives an engine: its epoch, every decision, and the items as they came."""

    epoch: int = 0
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    payloads: dict[tuple[str, str], bytes] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)


@dataclass
class PeerSession:
    """One open session."""

    source: str
    units: dict[str, int] = field(default_factory=dict)
    in_retry: bool = False


class EnginePeer:
    """Serves from construction to ``close``; ``kill`` leaves without a word, as SIGKILL would."""

    def __init__(
        self,
        endpoint: str,
        journal: Journal | None = None,
        *,
        credits: int = 64,  # noqa: A002
        reserved: int = 8,
        epoch: int | None = None,
        shard: int = 0,
    ) -> None:
        self.journal = journal if journal is not None else Journal()
        self.journal.epoch += 1
        self.epoch = self.journal.epoch if epoch is None else epoch
        self.instance = os.urandom(16)
        self.credits, self.reserved = credits, reserved
        self.shard = shard
        self.sessions: dict[bytes, PeerSession] = {}
        self.received: list[object] = []
        self.faults: list[str] = []
        self.is_mute = False
        self.answers = True  # else it decides and tells nobody, but lives
        self.holds_risk = False
        self.retry_ms = 20
        self.retried_ns: list[int] = []  # when a Retry was sent, and a Resume came
        self.resumed_ns: list[int] = []
        self.drained = threading.Event()
        self._asked: list[EngineMessage] = []
        self._stopping = False
        self._context = Context()
        self._router = Router(self._context, endpoint, HWM)
        self._encode = msgspec.msgpack.Encoder().encode
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def send_all(self, message: EngineMessage) -> None:
        """Have the thread send a message to every session."""
        self._asked.append(message)
        os.write(self._wake_write, b"\0")

    def close(self) -> None:
        """Stop the thread and drop every connection without a word."""
        self._stopping = True
        os.write(self._wake_write, b"\0")
        self._thread.join(5)
        self._router.close()
        self._context.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    kill = close

    def _serve(self) -> None:
        waiter = Waiter(self._router)
        waiter.add_fd(self._wake_read)
        while not self._stopping:
            waiter.wait(200)
            if self._asked:
                os.read(self._wake_read, 1)
                message = self._asked.pop(0)
                for identity in list(self.sessions):
                    self._send(identity, message)
                    if isinstance(message, Bye):
                        del self.sessions[identity]
            for identity, body in self._router.receive(256):
                self._handle(identity, sidecar_decoder.decode(body))

    def _send(self, identity: bytes, message: EngineMessage) -> None:
        self._router.send(identity, self._encode(message))

    def _handle(self, identity: bytes, message: object) -> None:
        self.received.append(message)
        session = self.sessions.get(identity)
        if isinstance(message, Hello):
            self.sessions[identity] = PeerSession(message.source)
            self._send(
                identity,
                Welcome(
                    PROTOCOL_VERSION, self.shard, self.epoch, self.instance, Mode.PAPER, self.credits, self.reserved
                ),
            )  # fmt: skip
            return
        if session is None:
            self._send(identity, Bye(ByeReason.FENCED, "no session; say Hello"))
            return
        match message:
            case Claim(unit):
                session.units[unit] = self.epoch << 32 | len(session.units)
                self._send(identity, Claimed(unit, session.units[unit]))
            case Ping():
                if not self.is_mute:
                    self._send(identity, Pong())
            case Resume():
                session.in_retry = False
                self.resumed_ns.append(time.monotonic_ns())
            case Drained():
                self.drained.set()
            case Leave():
                del self.sessions[identity]
            case Submit(items):
                self._submit(identity, session, items)

    def _submit(self, identity: bytes, session: PeerSession, items: list[Item]) -> None:
        if len(items) > self.credits + self.reserved:
            self.faults.append(f"{len(items)} items in one submit")
        outcomes: list[Outcome] = []
        retried: list[int] = []
        for item in items:
            if session.units.get(item.unit) != item.unit_epoch:
                self.faults.append(f"unit {item.unit} epoch {item.unit_epoch} not claimed")
            self.journal.items.append(item)
            command = command_decoder.decode(item.command)
            is_risk = isinstance(command, NewOrder) and not command.reduce_only
            if is_risk and (self.holds_risk or session.in_retry):
                session.in_retry = True
                retried.append(item.seq)
                continue
            outcome = self._decide(item, command)
            if outcome is not None and self.answers and not self.is_mute:
                outcomes.append(outcome)
        if outcomes:
            self._send(identity, Outcomes(outcomes, 118_000))
        if retried:
            self.retried_ns.append(time.monotonic_ns())
            self._send(identity, Retry(self.retry_ms, RetryReason.VENUE_NOT_READY, retried))

    def _decide(self, item: Item, command: Command) -> Outcome | None:
        seq = len(self.journal.items)
        if isinstance(command, CancelOrder):
            known = (command.account, command.orig_client_order_id) in self.journal.outcomes
            code = Code.OK if known else Code.TOMBSTONE
            return Outcome(item.seq, OutcomeKind.ACCEPTED, code, "", seq, OrderStatus.PENDING_CANCEL)
        if isinstance(command, ReplaceOrder):
            return self._decide_replace(item, command, seq)
        strategy = (command.legs[0] if isinstance(command, NewBasket | NewOco) else command).strategy
        if strategy == "forbidden":
            return Outcome(
                item.seq, OutcomeKind.REJECTED, Code.AUTH_NOT_PERMITTED, "", seq, OrderStatus.REJECTED
            )  # fmt: skip
        key = (command.account, command.client_order_id)
        first = self.journal.outcomes.get(key)
        if first is not None:
            if self.journal.payloads[key] != bytes(item.command):
                return Outcome(item.seq, OutcomeKind.REJECTED, Code.ID_CONFLICT, "", seq, OrderStatus.REJECTED)
            return Outcome(
                item.seq, OutcomeKind.DUPLICATE, first.code, first.order_id, first.record_seq, OrderStatus.FILLED,
                first=first,
            )  # fmt: skip
        outcome = _first(item.seq, command, seq)
        self.journal.outcomes[key] = outcome
        self.journal.payloads[key] = bytes(item.command)
        return None if strategy == "mute" else outcome

    def _decide_replace(self, item: Item, command: ReplaceOrder, seq: int) -> Outcome:
        if (command.account, command.orig_client_order_id) not in self.journal.outcomes:
            return Outcome(item.seq, OutcomeKind.REJECTED, Code.ORDER_UNKNOWN, "", seq, OrderStatus.NONE)
        key = (command.account, command.client_order_id)
        outcome = Outcome(item.seq, OutcomeKind.ACCEPTED, Code.OK, f"P-{seq:016x}", seq, OrderStatus.PENDING_REPLACE)
        first = self.journal.outcomes.setdefault(key, outcome)
        if first is not outcome:
            return Outcome(
                item.seq, OutcomeKind.DUPLICATE, first.code, first.order_id, first.record_seq, OrderStatus.NEW,
                first=first,
            )  # fmt: skip
        return outcome


def _first(item_seq: int, command: NewOrder | NewBasket | NewOco | ExitReplace, seq: int) -> Outcome:
    if isinstance(command, NewBasket | NewOco):
        return Outcome(item_seq, OutcomeKind.ACCEPTED, Code.OK, "", seq, OrderStatus.PENDING_NEW, 12)
    if command.strategy == "refuse":
        facts = Facts(expected=10_000_000_000, actual=command.quantity_e9)
        return Outcome(
            item_seq, OutcomeKind.REJECTED, Code.QTY_MAX, "", seq, OrderStatus.REJECTED, 7, facts=facts
        )  # fmt: skip
    if command.strategy == "hold":
        return Outcome(item_seq, OutcomeKind.HELD, Code.POS_LIMIT, f"P-{seq:016x}", seq, OrderStatus.HELD, 12)
    return Outcome(
        item_seq, OutcomeKind.ACCEPTED, Code.OK, f"P-{seq:016x}", seq, OrderStatus.PENDING_NEW, 12,
        command.quantity_e9, 5_000_000_000,
    )  # fmt: skip
