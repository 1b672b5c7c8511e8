"""What must hold of a run, said from the outside: the medium, the answers, the gateway's log. Nothing of the core.

``Watch`` looks at every output as it leaves; ``Answers`` at what is left at the end, and so does ``venue_side``.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from pathlib import Path

from protocol.amends import SuspenseResolved, TradeAmended
from protocol.codes import TERMINAL, ExecType, OrderStatus, OutcomeKind, Scope, TimeInForce, TradingState
from protocol.control import reply_decoder
from protocol.decisions import EngineCancel
from protocol.frames import read_header
from protocol.held_records import HoldTimed, OrderHeld, RiskDecided
from protocol.oco_records import OcoOrdered, OcoReleased, OcoTriggered
from protocol.orders import (
    CancelOrder,
    Command,
    ExitReplace,
    NewBasket,
    NewOrder,
    TermedOrder,
    command_decoder,
    order_of,
)
from protocol.records import (
    Adjusted,
    BasketOrdered,
    CancelRequested,
    ControlAction,
    Controlled,
    DayOrdersExpired,
    ExitReleased,
    ExitRequested,
    Failed,
    FillEntered,
    NewDecision,
    Ordered,
    ParamsSet,
    Queried,
    Record,
    Reference,
    ReplaceRequested,
    Reported,
    SendDecided,
    Started,
    record_decoder,
)
from protocol.replaces import ReplaceUnsent
from protocol.rolls import KeysRetired, SessionRolled
from protocol.session import Finals, Outcomes, engine_decoder
from protocol.statement import Reconciled
from protocol.venue import (
    Commands,
    ReportsDurable,
    SendNew,
    VenueWelcome,
    engine_venue_decoder,
    report_decoder,
)
from tests.simulation.disk import SimulatedDisk
from tests.simulation.durable import Durable, Medium
from tests.simulation.group_checks import take_group, take_group_cancel
from tests.simulation.hold_checks import drop_held, require_final, require_held, take_hold
from tests.simulation.ledgers import Ledgers

ENGINE_SOURCE = "engine"
STATE_CHANGES = (": halt", ": kill", ": reduce_only", ": resume")
STOPS = {ControlAction.KILL: TradingState.HALTED, ControlAction.HALT: TradingState.HALTED}


class Watch:
    """Follows what is durable on the medium, and refuses outputs that it does not cover."""

    def __init__(self, disk: SimulatedDisk, folder: Path, ledgers: Ledgers) -> None:
        self._disk = disk
        self._folder = folder
        self.ledgers = ledgers
        self.forget()
        self.outputs = Counter[str]()

    def forget(self) -> None:
        """Begin anew: another journal was put in the place of this one."""
        self.medium = Medium(self._disk, self._folder)
        self.records: list[tuple[int, int, int, Record]] = []
        self.accepted: dict[str, NewOrder] = {}
        self.held: dict[str, NewOrder] = {}
        self.hold_ends: dict[str, bool] = {}  # whether it was sent
        self.keys: dict[tuple[str, str], tuple[int, int]] = {}
        self.numbered: dict[int, str] = {}
        self.unsent: set[str] = set()
        self.killed: set[str] = set()
        self.unknown: set[str] = set()
        self.retired = 0  # steps in which keys of former days left
        self._retired_before = 0
        self.not_found: set[str] = set()
        self.doubted: set[str] = set()  # not listed by the venue: not found is no leave to send them again
        self.halts: dict[tuple[Scope, str], ControlAction] = {}
        self.flattening: set[tuple[Scope, str]] = set()  # may only reduce from then on, until a resume
        self.flattened = Counter[str]()  # how flattens ended
        self.exits = 0  # that they made
        self.limits = 0  # that operators set or lifted
        self.reported = 0
        self.amended = 0  # trades taken back or corrected
        self.stale = 0  # exits cancelled because their position shrank
        self.published = 0
        self._order_id_key = b""
        self._trading_date = 0

    def restart(self, disk: SimulatedDisk | None = None, folder: Path | None = None) -> None:
        """The engine died, maybe its machine: what was durable must be there as it was."""
        self._disk, self._folder = disk or self._disk, folder or self._folder
        self._take_all(self.medium.read_again(self._disk, self._folder))

    def read(self) -> None:
        """Take what became durable."""
        self._take_all(self.medium.read())

    def _take_all(self, found: list[Durable]) -> None:
        for durable in found:
            record = record_decoder.decode(durable.data)
            self.records.append((durable.seq, durable.now_ns, durable.position, record))
            if len(self.records) > 1:
                assert durable.now_ns >= self.records[-2][1], f"time went back at record {durable.seq}"
            self._take(durable.seq, durable.position, record)
            self.ledgers.require_none_stale(durable.seq)

    def record(self, seq: int) -> Record:
        """Return a durable record."""
        return self.records[seq - 1][3]

    def _take(self, seq: int, position: int, record: Record) -> None:
        match record:
            case Started():
                self._order_id_key = self._order_id_key or record.order_id_key
                self._trading_date = self._trading_date or record.trading_date
            case Ordered():
                self._take_ordered(seq, position, record)
            case Failed():
                self._take_key(seq, position, command_decoder.decode(record.item.command))
            case CancelRequested() if record.decision.other is not None:
                take_group_cancel(self, seq, record.decision)
            case CancelRequested() if record.decision.status is OrderStatus.CANCELED:
                if record.decision.kind is OutcomeKind.ACCEPTED:  # it was at no venue
                    self.unsent.add(record.decision.order_id)
                    drop_held(self, record.decision.order_id)
                    self.ledgers.set_status(record.decision.order_id, OrderStatus.CANCELED, seq)
            case CancelRequested() if record.decision.venue_seq:
                self._number(record.decision.venue_seq, record.decision.order_id)
                self.ledgers.cancel(record.decision.order_id)
                self.ledgers.set_status(record.decision.order_id, record.decision.status, seq)
            case Queried():
                self._take_queries(seq, record.queries)
            case SendDecided():
                self._take_send(seq, record)
            case Controlled():
                self._take_control(seq, record)
            case Reported() | TradeAmended():
                self._take_report(seq, record)
            case _:
                self._take_rare(seq, position, record)

    def _take_rare(self, seq: int, position: int, record: Record) -> None:
        match record:
            case Adjusted() | SuspenseResolved():
                self.ledgers.adjust(record, seq)
            case ParamsSet():
                self.limits += record.changed is not None
            case ReplaceRequested():
                self._take_replace(seq, position, record)
            case ReplaceUnsent():
                self.ledgers.unask(record.order_id, record.status, seq)
            case Reconciled():
                self.doubted.update(order_id for order_id, _ in record.queries)
                self._take_queries(seq, record.queries)
            case FillEntered():
                self.ledgers.report(record, seq)
            case BasketOrdered():
                self._take_basket(seq, position, record)
            case ExitRequested():
                self._take_exit(seq, position, record)
            case ExitReleased():
                self._take_release(seq, record)
            case SessionRolled() | DayOrdersExpired() | KeysRetired():
                self._take_day(seq, record)
            case OcoOrdered() | OcoTriggered() | OcoReleased():
                take_group(self, seq, position, record)
            case _:
                self._take_rarest(seq, position, record)

    def _take_rarest(self, seq: int, position: int, record: Record) -> None:
        if isinstance(record, OrderHeld | RiskDecided | HoldTimed):
            take_hold(self, seq, position, record)

    def _take_day(self, seq: int, record: SessionRolled | DayOrdersExpired | KeysRetired) -> None:
        match record:
            case SessionRolled():
                self._trading_date = record.to_date
            case DayOrdersExpired():
                self._take_cancels(seq, record.cancels)
            case KeysRetired():
                self.retired += 1
                self._retired_before = record.before

    def _take_queries(self, seq: int, queries: list[tuple[str, int]]) -> None:
        for order_id, venue_seq in queries:
            self._number(venue_seq, order_id)
            self.unknown.add(order_id)
            self.ledgers.set_status(order_id, OrderStatus.UNKNOWN, seq)

    def _take_ordered(self, seq: int, position: int, record: Ordered) -> None:
        order = command_decoder.decode(record.item.command)
        assert isinstance(order, NewOrder)
        assert record.seq == seq, f"record {seq} says that it is {record.seq}"
        if record.decision.takes_key:
            self._take_key(seq, position, order)
        if record.decision.kind is not OutcomeKind.ACCEPTED:
            return
        self._require_trading(order, record.source)
        self._accept([(order, record.decision, record.reference)])

    def _take_basket(self, seq: int, position: int, record: BasketOrdered) -> None:
        """All legs become orders, each under its own id and key, or none does."""
        command = command_decoder.decode(record.item.command)
        decision = record.decision
        assert isinstance(command, NewBasket)
        assert record.seq == seq, f"record {seq} says that it is {record.seq}"
        is_accepted = decision.kind is OutcomeKind.ACCEPTED
        legs = len(command.legs) if is_accepted else 0
        assert len(decision.legs) == legs, f"{len(decision.legs)} legs of {command} were taken, not {legs}"
        assert is_accepted or decision.leg <= len(command.legs)
        if decision.takes_key:
            self._take_key(seq, position, command)
        for n, leg in enumerate(command.legs if is_accepted else (), start=1):
            assert leg.client_order_id == f"{command.client_order_id}/{n}", f"leg {n} of {command} has another's id"
            self._take_key(seq, position, leg)
            self._require_trading(leg, record.source)
        if is_accepted:
            self._accept(list(zip(command.legs, decision.legs, record.references, strict=True)))

    def _accept(self, orders: list[tuple[NewOrder, NewDecision, Reference | None]]) -> None:
        self.ledgers.accept(orders)
        for order, decision, _ in orders:
            expected = self.expected_id(order)
            assert decision.order_id == expected, f"{order} got id {decision.order_id}, its key gives {expected}"
            self.accepted[decision.order_id] = order
            self._number(decision.venue_seq, decision.order_id)

    def expected_id(self, order: NewOrder) -> str:
        """Return the id of DESIGN 6.7, made again from the journal's first record."""
        digest = blake2b(f"{order.account}\0{order.client_order_id}".encode(), key=self._order_id_key, digest_size=32)
        return f"P-{digest.digest()[16:28].hex()}{self._trading_date:07x}"

    def _take_replace(self, seq: int, position: int, record: ReplaceRequested) -> None:
        decision = record.decision
        if decision.takes_key:
            self._take_key(seq, position, command_decoder.decode(record.item.command))
        if decision.venue_seq:
            self._number(decision.venue_seq, decision.order_id)
            if decision.cancels:
                self.ledgers.cancel(decision.order_id)
            else:
                terms = decision.quantity_e9, decision.price_e9, decision.stop_price_e9
                self.ledgers.ask(decision.order_id, *terms)
            self.ledgers.set_status(decision.order_id, decision.status, seq)

    def _take_exit(self, seq: int, position: int, record: ExitRequested) -> None:
        decision = record.decision
        command = command_decoder.decode(record.item.command)
        assert isinstance(command, ExitReplace)
        if decision.takes_key:
            self._take_key(seq, position, command)
        if decision.kind is not OutcomeKind.ACCEPTED:
            return
        order = order_of(command)
        assert decision.order_id == self.expected_id(order)
        self._take_cancels(seq, decision.cancels)
        self.ledgers.suspend(order, decision.order_id, decision.waits)
        self.accepted[decision.order_id] = order

    def _take_release(self, seq: int, record: ExitReleased) -> None:
        if record.cancel is not None:
            self._take_unsent(seq, record.cancel)
            return
        strategy = Scope.STRATEGY, self.accepted[record.order_id].strategy
        is_free = self.halts.get(strategy, ControlAction.RESUME) is ControlAction.RESUME
        self.ledgers.release(record, is_own=not is_free or strategy in self.flattening)
        self._number(record.venue_seq, record.order_id)

    def _take_key(self, seq: int, position: int, command: Command) -> None:
        """Each key is decided once in its window; it may come again once the keys of its time have been retired."""
        if not isinstance(command, CancelOrder):
            key = (command.account, command.client_order_id)
            first, where = self.keys.get(key, (0, -1))
            assert where < 0 or where < self._retired_before, f"{key} was decided by record {first} and by record {seq}"
            self.keys[key] = seq, position

    def _require_trading(self, order: NewOrder, source: str) -> None:
        """After a halt or a kill nothing of its scope is accepted before a resume; a flatten's own exits are."""
        if source == ENGINE_SOURCE:
            self.exits += 1
            return
        scopes = ((Scope.GLOBAL, ""), (Scope.ACCOUNT, order.account), (Scope.STRATEGY, order.strategy))
        stopped = [s for s in scopes if self.halts.get(s) in STOPS]
        assert not stopped, f"{order} was accepted while {stopped} was halted"

    def _number(self, venue_seq: int, order_id: str) -> None:
        assert venue_seq == len(self.numbered) + 1, f"venue_seq {venue_seq} given after {len(self.numbered)}"
        self.numbered[venue_seq] = order_id

    def _take_send(self, seq: int, record: SendDecided) -> None:
        if record.cancel is not None:
            self._take_unsent(seq, record.cancel)
        elif record.venue_seq not in self.numbered:  # again, under a new number
            assert record.order_id in self.not_found, f"{record.order_id} is sent again, and nobody said NOT_FOUND"
            self.not_found.remove(record.order_id)
            self._number(record.venue_seq, record.order_id)

    def _take_control(self, seq: int, record: Controlled) -> None:
        if record.action in {ControlAction.KILL, ControlAction.HALT, ControlAction.REDUCE_ONLY, ControlAction.RESUME}:
            self.halts[record.scope, record.key] = record.action
            self.flattening.discard((record.scope, record.key))
        if record.action is ControlAction.FLATTEN:
            self.flattening.add((record.scope, record.key))
        if record.action is ControlAction.FLATTEN_END:
            self.flattened[record.reason] += 1
        if record.action is ControlAction.EXIT_STALE:
            self.stale += len(record.cancels)
            others = [c.order_id for c in record.cancels if c.order_id not in self.ledgers.ever_stale]
            assert not others, f"{others} are cancelled as stale and are none"
        if record.action is ControlAction.KILL:
            self.killed.update(cancel.order_id for cancel in record.cancels)
        self._take_cancels(seq, record.cancels)

    def _take_cancels(self, seq: int, cancels: list[EngineCancel]) -> None:
        for cancel in cancels:
            self.ledgers.cancel(cancel.order_id)
            if cancel.venue_seq:
                self._number(cancel.venue_seq, cancel.order_id)
                status = self.ledgers.orders[cancel.order_id].status
                if status is not OrderStatus.UNKNOWN:
                    status = OrderStatus.PENDING_CANCEL
                if cancel.voids_seq:  # the cancel goes, and the replace that waited does not
                    self.ledgers.unask(cancel.order_id, status, seq)
                else:
                    self.ledgers.set_status(cancel.order_id, status, seq)
            else:
                self._take_unsent(seq, cancel)

    def _take_report(self, seq: int, record: Reported | TradeAmended) -> None:
        report = report_decoder.decode(record.report)
        if not isinstance(record, TradeAmended) or not record.operator:  # else an operator said it, in no number
            assert report.report_seq == self.reported + 1, f"report {report.report_seq} after {self.reported}"
            self.reported = report.report_seq
        if isinstance(record, TradeAmended):
            self.amended += record.amendment is not None
            self.ledgers.amend(record, seq)
            return
        if report.exec_type is ExecType.NOT_FOUND and report.order_id not in self.doubted:
            self.not_found.add(report.order_id)
        else:
            self.not_found.discard(report.order_id)
        self.ledgers.report(record, seq)

    def _take_unsent(self, seq: int, cancel: EngineCancel) -> None:
        status = self.ledgers.orders[cancel.order_id].status
        assert status is not OrderStatus.UNKNOWN, f"{cancel.order_id} is UNKNOWN and was released"
        self.unsent.add(cancel.order_id)
        drop_held(self, cancel.order_id)
        self.ledgers.cancel_unsent(cancel, seq)

    # Outputs

    def on_output(self, endpoint: str, body: bytes) -> None:
        """Called for every message that leaves the engine, before it leaves."""
        self.outputs[endpoint] += 1
        self.read()
        durable = self.medium.seq
        match endpoint:
            case "sidecars":
                message = engine_decoder.decode(body)
                if isinstance(message, Outcomes):
                    for outcome in message.items:
                        seq = outcome.record_seq
                        assert 0 < seq <= durable or outcome.kind is OutcomeKind.NOT_TAKEN, (
                            f"outcome of record {seq}, durable {durable}"
                        )
                elif isinstance(message, Finals):
                    for final in message.items:
                        require_final(self, final)
            case "risk":
                require_held(self, body, durable)
            case "venues":
                self._on_venue(body)
            case "events":
                header = read_header(body)
                assert header is not None
                assert header.first_seq + header.records - 1 <= durable, "published before durable"
                assert header.first_seq > self.published, "published twice"
                self.published = header.first_seq + header.records - 1
            case "control":
                reply = reply_decoder.decode(body)
                assert reply.seq <= durable, f"{reply.text} is record {reply.seq}, durable {durable}"
                if reply.ok and reply.text.endswith(STATE_CHANGES):
                    assert reply.seq, f"{reply.text} is not journaled"
                    record = self.record(reply.seq)
                    assert isinstance(record, Controlled), f"{reply.text} is not journaled, there is {record}"
            case _:
                pass

    def _on_venue(self, body: bytes) -> None:
        message = engine_venue_decoder.decode(body)
        if isinstance(message, ReportsDurable):
            assert message.report_seq <= self.reported, "reports called durable that are not"
        elif isinstance(message, VenueWelcome):
            assert message.reports_durable <= self.reported, "reports called durable that are not"
        elif isinstance(message, Commands):
            for command in message.items:
                assert command.venue_seq in self.numbered, f"venue_seq {command.venue_seq} left undurable"
                if isinstance(command, SendNew):
                    self._require_gated(command)

    def _require_gated(self, sent: SendNew) -> None:
        order = self.accepted.get(sent.order_id)
        assert order is not None, f"{sent.order_id} was sent and never accepted"
        assert sent.order_id == self.numbered[sent.venue_seq], f"{sent} was sent under another order's number"
        assert sent.order_id not in self.unsent, f"{sent.order_id} was cancelled unsent, then sent"
        assert sent.order_id not in self.killed, f"{sent.order_id} was killed, then sent"
        terms = self.ledgers.orders[sent.order_id]
        until, passive = (order.expire_at_ns, order.post_only) if isinstance(order, TermedOrder) else (0, False)
        until = until if order.time_in_force is TimeInForce.GTD else 0
        ours = (
            order.account, order.instrument, order.side, order.order_type, order.time_in_force, until, passive,
            terms.limit_e9, terms.stop_e9, terms.quantity_e9,
        )  # fmt: skip
        theirs = (
            sent.account, sent.instrument, sent.side, sent.order_type, sent.time_in_force, sent.expire_at_ns,
            sent.post_only, sent.price_e9, sent.stop_price_e9, sent.quantity_e9,
        )  # fmt: skip
        assert ours == theirs, f"{sent} was sent for {ours}"

    def states(self) -> set[OrderStatus]:
        """Return the states that orders are in now; a final one counts for the next 32 records."""
        orders = self.ledgers.orders
        recent = [o for o in list(orders.values())[-64:] if o.status in TERMINAL and o.closed_at > self.medium.seq - 32]
        return {o.status for o in (*self.ledgers.open.values(), *recent)}
