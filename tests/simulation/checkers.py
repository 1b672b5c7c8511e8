"""What must hold of a run, said from the outside: answers, journal files, the gateway's log. Nothing of the core.

``Watch`` looks at every output as it leaves; ``verify_*`` look at what is left at the end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from journal.reader import JournalReader
from protocol.codes import Code, ExecType, OutcomeKind, Side
from protocol.frames import read_header
from protocol.orders import CancelOrder, NewOrder, command_decoder
from protocol.records import (
    Adjusted,
    CancelRequested,
    ControlAction,
    Controlled,
    DayOrdersExpired,
    EngineCancel,
    KeysRetired,
    Ordered,
    Queried,
    Record,
    ReplaceRequested,
    Reported,
    SendDecided,
    record_decoder,
)
from protocol.session import Outcome, Outcomes, engine_decoder
from protocol.venue import Commands, Report, SendCancel, SendNew, Void, engine_venue_decoder, report_decoder
from tests.simulation.ledgers import Ledgers
from venues.core.log import Batch, Checkpoint, KillChanged, read_log

NO_KEY = frozenset({Code.ID_CONFLICT, Code.AUTH_NOT_PERMITTED, Code.WRONG_SHARD})


class Watch:
    """Follows the durable part of the journal by its files, and refuses outputs that it does not cover."""

    def __init__(self, folder: Path, ledgers: Ledgers) -> None:
        self._folder = folder
        self.ledgers = ledgers
        self._reader: JournalReader | None = None
        self._at = (0, 0)
        self.records: list[tuple[int, int, int, Record]] = []
        self.accepted: dict[str, NewOrder] = {}
        self.numbered: dict[int, str] = {}
        self.unsent: set[str] = set()
        self.killed: set[str] = set()
        self.unknown: set[str] = set()
        self.retired = 0
        self.published = 0
        self.outputs = Counter[str]()

    def restart(self) -> None:
        """The engine died: whoever read the journal reads on from where he stood, or finds another history."""
        if self._reader is not None:
            self._at = (self._reader.seq, self._reader.crc)
            self._reader.close()
        self._reader = None

    def read(self) -> None:
        """Take what became durable."""
        if self._reader is None:
            self._reader = JournalReader(self._folder, *self._at)
        while batches := self._reader.poll():
            for batch in batches:
                for seq, position, raw in batch.records:
                    self._take(seq, batch.header.now_ns, position, record_decoder.decode(raw))

    def _take(self, seq: int, now_ns: int, position: int, record: Record) -> None:
        self.records.append((seq, now_ns, position, record))
        match record:
            case Ordered() if record.decision.kind is OutcomeKind.ACCEPTED:
                order = command_decoder.decode(record.item.command)
                assert isinstance(order, NewOrder)
                self.ledgers.accept(record.decision.order_id, order, record.decision.order_class)
                self.accepted[record.decision.order_id] = order
                self.numbered[record.decision.venue_seq] = record.decision.order_id
            case CancelRequested() | ReplaceRequested() if record.decision.venue_seq:
                self.numbered[record.decision.venue_seq] = record.decision.order_id
            case Queried():
                self.numbered.update({seq: order_id for order_id, seq in record.queries})
                self.unknown.update(order_id for order_id, _ in record.queries)
            case SendDecided():
                if record.cancel is None:
                    self.numbered[record.venue_seq] = record.order_id
                else:
                    self._take_unsent(record.cancel)
            case Controlled():
                if record.action is ControlAction.KILL:
                    self.killed.update(cancel.order_id for cancel in record.cancels)
                self._take_cancels(record.cancels)
            case KeysRetired():
                self.retired += 1
            case DayOrdersExpired():
                self._take_cancels(record.cancels)
            case Reported():
                self.ledgers.report(record)
            case Adjusted():
                self.ledgers.adjust(record)
            case _:
                pass

    def _take_cancels(self, cancels: list[EngineCancel]) -> None:
        for cancel in cancels:
            if cancel.venue_seq:
                self.numbered[cancel.venue_seq] = cancel.order_id
            else:
                self._take_unsent(cancel)

    def _take_unsent(self, cancel: EngineCancel) -> None:
        self.unsent.add(cancel.order_id)
        self.ledgers.cancel_unsent(cancel)

    def on_output(self, endpoint: str, body: bytes) -> None:
        """Called for every message that leaves the engine, before it leaves."""
        self.outputs[endpoint] += 1
        self.read()
        assert self._reader is not None
        durable = self._reader.seq
        if endpoint == "sidecars":
            message = engine_decoder.decode(body)
            if isinstance(message, Outcomes):
                for outcome in message.items:
                    assert outcome.record_seq <= durable, f"outcome of record {outcome.record_seq}, durable {durable}"
        elif endpoint == "venues":
            message_to_venue = engine_venue_decoder.decode(body)
            if isinstance(message_to_venue, Commands):
                for command in message_to_venue.items:
                    assert command.venue_seq in self.numbered, f"venue_seq {command.venue_seq} left undurable"
                    if isinstance(command, SendNew):
                        self._require_gated(command)
        elif endpoint == "events":
            header = read_header(body)
            assert header is not None
            assert header.first_seq + header.records - 1 <= durable, "published before durable"
            assert header.first_seq > self.published or header.first_seq == 1, "published twice"
            self.published = header.first_seq + header.records - 1

    def _require_gated(self, sent: SendNew) -> None:
        order = self.accepted.get(sent.order_id)
        assert order is not None, f"{sent.order_id} was sent and never accepted"
        assert sent.order_id not in self.unsent, f"{sent.order_id} was cancelled unsent, then sent"
        assert sent.order_id not in self.killed, f"{sent.order_id} was killed, then sent"
        ours = (order.account, order.instrument, order.side, order.order_type, order.price_e9)
        assert ours == (sent.account, sent.instrument, sent.side, sent.order_type, sent.price_e9)
        assert sent.quantity_e9 == order.quantity_e9


class Answers:
    """Every answer to every delivery."""

    def __init__(self) -> None:
        self.contents: dict[tuple[str, str], dict[bytes, list[tuple[object, ...]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self.cancels: list[tuple[str, Outcome]] = []
        self.codes = Counter[Code]()

    def take(self, body: bytes, outcome: Outcome) -> None:
        """Note an answer; a DUPLICATE stands for the first one it repeats."""
        command = command_decoder.decode(body)
        first = outcome.first or outcome
        assert (outcome.kind is OutcomeKind.DUPLICATE) == (outcome.first is not None)
        self.codes[first.code] += 1
        if isinstance(command, CancelOrder):
            assert outcome.first is None
            self.cancels.append((command.orig_client_order_id, outcome))
            return
        content = (first.kind, first.code, first.order_id, first.record_seq)
        if first.code in NO_KEY:
            content = (first.kind, first.code, first.order_id, 0)
        self.contents[command.account, command.client_order_id][body].append(content)

    def verify(self) -> None:
        """One id, one order, one outcome however often it was delivered."""
        for key, by_body in self.contents.items():
            taken = {c for contents in by_body.values() for c in contents if c[1] not in NO_KEY}
            assert len(taken) <= 1, f"{key} has outcomes {taken}"
            for contents in by_body.values():
                assert len(set(contents)) == 1, f"{key} has for one payload {set(contents)}"


class VenueSide:
    """What the gateway's log says happened at the venue."""

    def __init__(self, folder: Path) -> None:
        self.sent: dict[str, SendNew] = {}
        self.cancels: set[str] = set()
        self.reports: list[Report] = []
        received = 0
        for _, _, record in read_log(folder):
            if isinstance(record, Checkpoint):
                assert record.received_seq == received, "a checkpoint forgot commands"
            if isinstance(record, Batch):
                for body in record.messages:
                    received = self._take(body, received, record.received_seq)
                assert received == record.received_seq
            if isinstance(record, Batch | KillChanged):
                self.reports += [report_decoder.decode(raw) for raw in record.reports]

    def _take(self, body: bytes, received: int, until: int) -> int:
        message = engine_venue_decoder.decode(body)
        assert isinstance(message, Commands)
        for command in message.items:
            if command.venue_seq == received + 1 <= until:
                received += 1
                if isinstance(command, SendNew):
                    self.sent[command.order_id] = command
                elif isinstance(command, SendCancel):
                    self.cancels.add(command.order_id)
                else:
                    assert isinstance(command, Void) or command.order_id
        return received

    def positions(self) -> Counter[tuple[str, str]]:
        """Sum the fills by (venue, trade_id)."""
        trades = {r.trade_id: r for r in self.reports if r.exec_type is ExecType.TRADE}
        total = Counter[tuple[str, str]]()
        for r in trades.values():
            order = self.sent[r.order_id]
            total[order.account, order.instrument] += r.last_quantity_e9 * (1 if order.side is Side.BUY else -1)
        return total

    def verify(self, watch: Watch) -> None:
        """Each order at most once at the venue, and each accepted one there or cancelled before it was sent."""
        assert [r.report_seq for r in self.reports] == list(range(1, len(self.reports) + 1))
        born = Counter(r.order_id for r in self.reports if r.exec_type in {ExecType.NEW, ExecType.REJECTED})
        assert not [o for o, n in born.items() if n > 1], "the venue has an order twice"
        ids = Counter(r.venue_order_id for r in self.reports if r.exec_type is ExecType.NEW)
        assert all(n == 1 for n in ids.values())
        # Once keys have left, an id may be another order's on another date, which its order id ends with.
        by_content = Counter(
            (watch.accepted[o].account, watch.accepted[o].client_order_id, o[-7:] if watch.retired else "")
            for o in self.sent
        )
        assert all(n == 1 for n in by_content.values()), "one client order reached the venue under two ids"
        lost = set(watch.accepted) - set(self.sent) - watch.unsent
        assert not lost, f"accepted, neither at the venue nor cancelled unsent: {sorted(lost)}"
        both = set(born) & watch.unsent  # one that the venue forgot was not there
        assert not both, f"cancelled unsent and at the venue: {sorted(both)}"


def verify_positions(venue: VenueSide, ours: dict[tuple[str, str], int]) -> None:
    """The engine's positions are the sum of the fills."""
    theirs = {key: quantity for key, quantity in venue.positions().items() if quantity}
    assert {k: v for k, v in ours.items() if v} == theirs
