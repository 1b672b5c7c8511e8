"""The control socket: operators' requests, journaled before they are answered.

Over ipc authenticated by the token of a file that only the owner can read; over tcp by a key (``engine.remote``), in
whose name and role it is then asked.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import structs

from engine.days import Days
from engine.exits import Exits
from engine.explaining import explain_order
from engine.gateways import Gateways
from engine.limit_changes import decide_limit, limit_views
from engine.metrics import DURABLE, SYNC
from engine.parts import Parts
from engine.row_changes import decide_rows
from engine.sidecars import Sidecars
from engine.snapshot import hash_layout
from engine.state import state_hash
from engine.truth import Truth
from protocol.channels import CurveRouter, Router
from protocol.codes import Code, OrderStatus, Scope
from protocol.control import (
    ApplyRows,
    AwaitFlatten,
    CheckState,
    ComparePositions,
    ConfirmClock,
    ControlAct,
    ControlBody,
    ControlLook,
    ControlReply,
    EngineStatus,
    EnterBust,
    EnterFill,
    ExplainOrder,
    HaltedScope,
    Reconcile,
    Resolve,
    ResolveSuspense,
    RollSession,
    SessionStatus,
    SetLimit,
    SetState,
    ShowLimits,
    ShownLimit,
    ShowRows,
    StartDrain,
    StartFlatten,
    Status,
    SuspenseFills,
    UnknownOrder,
    UnknownOrders,
    VenueStatus,
    request_decoder,
)
from protocol.errors import NOT_DECODED, ConfigError
from protocol.money import Adjust, CompareMoney, ShowMoney
from protocol.orders import NewOrder, command_decoder
from protocol.params import LimitChange, RowsApplied
from protocol.records import ControlAction, Controlled, ParamsSet, StateChecked
from protocol.risk_rows import rows_of
from protocol.texts import refusal_text
from runtime.keys import AllowedKey, Role

_encode: Final = msgspec.msgpack.Encoder().encode
AWAITING_MAX: Final = 64
NS_PER_MS: Final = 1_000_000
_ACTIONS: Final = {
    "halt": ControlAction.HALT,
    "kill": ControlAction.KILL,
    "reduce_only": ControlAction.REDUCE_ONLY,
    "resume": ControlAction.RESUME,
}

Door = Router | CurveRouter


class Control:
    """Takes requests, appends what changes state, answers after the sync."""

    def __init__(
        self,
        parts: Parts,
        router: Router,
        sidecars: Sidecars,
        gateways: Gateways,
        days: Days,
        exits: Exits,
        start_drain: Callable[[int, str], None],
    ) -> None:
        self._core = parts.core
        self._state = parts.core.state
        self._writer = parts.writer
        self._make_room = parts.make_room
        self._meters = parts.meters
        self._board = parts.board
        self._table = parts.table
        self._token = _read_token(Path(parts.settings.token_file))
        self._alarm = parts.alarm
        self._router = router
        self._sidecars = sidecars
        self._gateways = gateways
        self._days = days
        self._exits = exits
        self._truth = Truth(parts, gateways)
        self._reconciling: dict[int, tuple[Door, bytes]] = {}  # who waits for which statements
        self._start_drain = start_drain
        self._replies: list[tuple[Door, bytes, ControlReply]] = []
        self._awaiting: list[tuple[Door, bytes, str, int]] = []  # who waits for the end of which flatten, until when
        self.recovered_records = 0
        self.recovery_ns = 0
        self.started_ns = 0
        self.draining = False

    def receive(self, frames: list[tuple[bytes, bytes]], now_ns: int) -> None:
        """Decide every request of this turn; the answers leave with ``answer``."""
        for identity, body in frames:
            try:
                request = request_decoder.decode(body)
            except NOT_DECODED as e:
                self._meters.malformed_control += 1
                text = f"request expected a ControlRequest: {e}"
                self._replies.append((self._router, identity, ControlReply(False, text)))
                continue
            if hmac.compare_digest(request.token.encode(), self._token):
                self._take(self._router, identity, request.body, request.operator, now_ns)
            else:
                text = "AUTH_NOT_PERMITTED: the token is not the one of control.token; read that file"
                self._replies.append((self._router, identity, ControlReply(False, text)))

    def receive_keyed(self, door: Door, identity: bytes, body: bytes, key: AllowedKey, now_ns: int) -> None:
        """Decide a request whose sender proved to hold a key: in its name, as far as its role goes."""
        try:
            request = request_decoder.decode(body)
        except NOT_DECODED as e:
            self._meters.malformed_control += 1
            self._replies.append((door, identity, ControlReply(False, f"request expected a ControlRequest: {e}")))
            return
        may = key.role is Role.OPERATOR or (key.role is Role.READER and isinstance(request.body, ControlLook))
        if may:
            self._take(door, identity, request.body, key.name, now_ns)
            return
        asked = type(request.body).__name__
        self._alarm(f"control: {key.name} with role {key.role} asked for {asked}")
        text = f"AUTH_NOT_PERMITTED: key {key.name} has role {key.role}, {asked} takes an operator's"
        self._replies.append((door, identity, ControlReply(False, text)))

    def _take(self, door: Door, identity: bytes, body: ControlBody, operator: str, now_ns: int) -> None:
        reply = self._look(body, now_ns) if isinstance(body, ControlLook) else self._act(body, operator, now_ns)
        if isinstance(body, Reconcile) and reply.ok:  # answered when every venue has
            self._reconciling[self._truth.wait()] = (door, identity)
        elif isinstance(body, AwaitFlatten) and self._may_wait(reply):
            self._awaiting.append((door, identity, body.flatten_id, now_ns + body.wait_ms * NS_PER_MS))
        else:
            self._replies.append((door, identity, reply))

    def _may_wait(self, reply: ControlReply) -> bool:
        """Whether it goes on, and there is room to wait; else the answer is that it goes on."""
        return reply.ok and reply.flatten is None and len(self._awaiting) < AWAITING_MAX

    def answer(self, now_ns: int) -> None:
        """Send the answers; what they tell of is durable now."""
        if self._awaiting:
            self._answer_awaiting(now_ns)
        for ticket, reply in self._truth.take_replies():
            self._replies.append((*self._reconciling.pop(ticket), reply))
        for door, identity, reply in self._replies:
            door.send(identity, _encode(reply))
        self._replies.clear()

    def _answer_awaiting(self, now_ns: int) -> None:
        """Answer who waits for a flatten that is over, or long enough; who left gets nothing."""
        waiting: list[tuple[Door, bytes, str, int]] = []
        for door, identity, flatten_id, until_ns in self._awaiting:
            reply = self._flatten_reply(flatten_id, now_ns)
            if reply.ok and reply.flatten is None and now_ns < until_ns:
                waiting.append((door, identity, flatten_id, until_ns))
            else:
                self._replies.append((door, identity, reply))
        self._awaiting = waiting

    def _start_flatten(self, body: StartFlatten, operator: str, now_ns: int) -> ControlReply:
        plan = body.plan
        if why := self._refuse_scope(body.scope, body.key) or self._core.flattens.refusal(plan):
            return ControlReply(False, why)
        seq, cancels = self._exits.start(plan, body.scope, body.key, operator, body.reason, now_ns)
        where = f"{body.scope.name.lower()} {body.key}".rstrip()
        return ControlReply(True, f"{where}: flatten {plan.flatten_id}", seq=seq, cancels=cancels)

    def _flatten_reply(self, flatten_id: str, now_ns: int) -> ControlReply:
        state = self._state
        if flatten_id not in state.flattens and flatten_id not in state.flattened:
            return ControlReply(False, f"flatten {flatten_id} is not known, or forgotten; see: wojak journal cat")
        return ControlReply(True, "", flatten=self._exits.result(flatten_id, now_ns))

    def _look(self, body: ControlLook, now_ns: int) -> ControlReply:
        match body:
            case Status():
                return ControlReply(True, "running", status=self._status(now_ns, with_hash=body.with_hash))
            case UnknownOrders():
                return ControlReply(True, "", unknown=self._unknown())
            case ShowLimits():
                return ControlReply(True, "", limits=self._limits())
            case ShowRows() | ExplainOrder():
                return self._look_at_rows(body, now_ns)
            case AwaitFlatten():
                return self._flatten_reply(body.flatten_id, now_ns)
            case SuspenseFills():
                return self._truth.shown_suspense()
            case ShowMoney():
                return self._truth.shown_money()

    def _act(self, body: ControlAct, operator: str, now_ns: int) -> ControlReply:
        match body:
            case SetState():
                return self._set_state(body, operator, now_ns)
            case Resolve():
                record = self._core.controls.decide_resolve(
                    body.order_id, body.status, body.cum_quantity_e9, body.avg_price_e9, operator, body.reason
                )
                if isinstance(record, str):
                    return ControlReply(False, record)
                return self._append([record], now_ns, f"order {body.order_id} is {body.status.name}")
            case ConfirmClock():
                if not self._state.unconfirmed_jump:
                    return ControlReply(False, "no clock jump waits for confirmation")
                confirm = ControlAction.CONFIRM_CLOCK
                record = Controlled(confirm, Scope.GLOBAL, "", operator, body.reason, False, [])
                return self._append([record], now_ns, "clock confirmed; trading is active")
            case StartDrain():
                drain = ControlAction.DRAIN
                record = Controlled(drain, Scope.GLOBAL, "", operator, body.reason, False, [])
                self._start_drain(body.within_ms, f"asked by {operator}")
                return self._append([record], now_ns, f"draining within {body.within_ms} ms")
            case (
                Reconcile()
                | EnterFill()
                | EnterBust()
                | ResolveSuspense()
                | ComparePositions()
                | Adjust()
                | CompareMoney()
            ):
                return self._truth.decide(body, operator, now_ns)
            case RollSession():
                return self._roll(body, operator, now_ns)
            case SetLimit() | ApplyRows():
                return self._set_limits(body, operator, now_ns)
            case StartFlatten():
                return self._start_flatten(body, operator, now_ns)
            case CheckState():
                return self._check(f"{operator}: {body.reason}", now_ns)

    def _check(self, why: str, now_ns: int) -> ControlReply:
        """Journal the state's hash: first of its turn but for other controls, which set the time as a replica does."""
        layout = hash_layout(self._core)
        if not layout:
            return ControlReply(False, "dedup_keys_max changed at this start: comparable after the next one")
        checked = StateChecked(state_hash(self._state), layout, why)
        return self._append([checked], now_ns, f"state {checked.state_hash}")

    def _roll(self, body: RollSession, operator: str, now_ns: int) -> ControlReply:
        seq = self._writer.next_seq
        rolled = self._days.roll(body.to_date, operator, body.reason, now_ns)
        if isinstance(rolled, str):
            return ControlReply(False, rolled)
        text = f"trading date {rolled.from_date} is over, {rolled.to_date} begins"
        return ControlReply(True, text, seq=seq, cancels=len(self._state.day.expiring))

    def _set_state(self, body: SetState, operator: str, now_ns: int) -> ControlReply:
        action = _ACTIONS.get(body.action)
        if action is None:
            return ControlReply(False, f"action expected one of {sorted(_ACTIONS)}, was {body.action!r}")
        if why := self._refuse_scope(body.scope, body.key):
            return ControlReply(False, why)
        if action is ControlAction.RESUME and body.scope is Scope.GLOBAL and self._state.unconfirmed_jump:
            return ControlReply(False, "the clock jumped and nobody confirmed it: wojak resume --clock")
        if action is ControlAction.RESUME and body.scope is Scope.GLOBAL and (held := self._in_suspense()):
            return ControlReply(False, f"{held} fills are in suspense, and no position has them: wojak orders suspense")
        unsent_from = self._gateways.unsent_from()
        cancels = 0
        seq = 0
        for record in self._core.controls.decide_control(
            action, body.scope, body.key, operator, body.reason, unsent_from
        ):
            seq = self._writer.next_seq
            self._core.apply(seq, now_ns, self._writer.append(record), record)
            cancels += len(record.cancels)
            self._make_room(now_ns)
        where = body.scope.name.lower() + (f" {body.key}" if body.key else "")
        return ControlReply(True, f"{where}: {body.action}", seq=seq, cancels=cancels)

    def _in_suspense(self) -> int:
        return len(self._state.suspense) + self._state.suspense_more

    def _refuse_scope(self, scope: Scope, key: str) -> str:
        """Return why nothing can be done to a scope here; empty if it can."""
        if not self._state.knows(scope, key):
            return f"{scope.name.lower()} {key!r} is not known; see wojak.toml"
        elsewhere = self._state.belongs_elsewhere(key) if scope is Scope.ACCOUNT else None
        return refusal_text(Code.WRONG_SHARD, elsewhere) if elsewhere is not None else ""

    def _look_at_rows(self, body: ShowRows | ExplainOrder, now_ns: int) -> ControlReply:
        state = self._state
        assert state.params is not None
        if isinstance(body, ShowRows):
            return ControlReply(True, "", rows=rows_of(state.params), trading_date=state.trading_date)
        try:
            order = command_decoder.decode(body.command)
        except NOT_DECODED as e:
            return ControlReply(False, f"command expected an order: {e}")
        if not isinstance(order, NewOrder):
            return ControlReply(False, f"command expected a NewOrder, was a {type(order).__name__}")
        instrument = state.instruments.get(order.instrument)
        reference = self._sidecars.reference_of(instrument, now_ns) if instrument is not None else None
        sent_by, created_at_ns = (body.source, body.principal), body.created_at_ns or now_ns
        explained = explain_order(self._core, order, sent_by, created_at_ns, now_ns, reference)
        return ControlReply(True, "", explained=explained)

    def _set_limits(self, body: SetLimit | ApplyRows, operator: str, now_ns: int) -> ControlReply:
        if isinstance(body, ApplyRows):
            return self._apply_rows(body, operator, now_ns)
        change = LimitChange(
            body.name, body.scope, body.key, body.value, operator, body.reason, now_ns, body.window_ns,
            body.reserve_exit,
        )  # fmt: skip
        record = decide_limit(self._state, change)
        if isinstance(record, str):
            return ControlReply(False, record)
        self._make_room(now_ns)
        where = f"{body.scope.name.lower()} {body.key}".rstrip()
        value = "lifted" if body.value is None else "set"
        return self._append([record], now_ns, f"{body.name.name} of {where} {value}")

    def _apply_rows(self, body: ApplyRows, operator: str, now_ns: int) -> ControlReply:
        decided = decide_rows(self._state, body.rows, RowsApplied(operator, body.reason, body.file, now_ns))
        if isinstance(decided, str):
            return ControlReply(False, decided)
        if body.is_trial:
            return ControlReply(True, f"{body.file} can be applied", lines=decided.lines)
        self._make_room(now_ns)
        reply = self._append([decided.record], now_ns, f"{body.file} applied")
        return structs.replace(reply, lines=decided.lines)

    def _limits(self) -> list[ShownLimit]:
        assert self._state.params is not None
        return [
            ShownLimit(*key, *view) for key, view in limit_views(self._state.params, self._state.trading_date).items()
        ]

    def _append(self, records: Sequence[Controlled | ParamsSet | StateChecked], now_ns: int, text: str) -> ControlReply:
        seq = 0
        for record in records:
            seq = self._writer.next_seq
            self._core.apply(seq, now_ns, self._writer.append(record), record)
        return ControlReply(True, text, seq=seq)

    def _unknown(self) -> list[UnknownOrder]:
        found: list[UnknownOrder] = []
        for order in self._state.orders.values():
            if order.status is OrderStatus.UNKNOWN:
                step = order.route.instrument.quantity_step_e9
                found.append(
                    UnknownOrder(
                        order.order_id, order.account, order.client_order_id, order.route.instrument.name,
                        order.side.name, order.quantity * step, order.cum * step,
                    )
                )  # fmt: skip
        return found

    def _status(self, now_ns: int, *, with_hash: bool) -> EngineStatus:
        state, meters, table = self._state, self._meters, self._table
        return EngineStatus(
            mode=state.mode.name,
            shard=state.shard,
            epoch=state.epoch,
            seq=self._writer.next_seq - 1,
            durable_seq=self._writer.durable_seq,
            state_hash=state_hash(state) if with_hash else "",
            draining=self.draining,
            uptime_ns=now_ns - self.started_ns,
            recovered_records=self.recovered_records,
            recovery_ns=self.recovery_ns,
            accepted=meters.accepted,
            rejected=sum(meters.rejected.values()),
            duplicates=meters.duplicates,
            cancels=meters.cancels,
            fills=meters.fills,
            failed=meters.failed,
            rejected_by_code={code.name: count for code, count in meters.rejected.items()},
            held_orders=len(state.risk.holds),
            risk_ready=state.risk.ready,
            open_orders=len(state.orders),
            unknown_orders=sum(o.status is OrderStatus.UNKNOWN for o in state.orders.values()),
            dedup_keys=state.dedup.keys,
            dedup_keys_max=state.dedup.keys_max,
            trading_date=state.trading_date,
            halted=[
                HaltedScope(scope.name.lower(), key, halt.state.name, halt.reason, halt.operator)
                for (scope, key), halt in state.halts.items()
            ],
            venues=[
                VenueStatus(v.name, v.ready, v.received_seq, v.last_seq, len(v.awaiting)) for v in state.venues.values()
            ],
            sessions=[SessionStatus(s.source, s.sidecar, s.in_retry) for s in self._sidecars.sessions],
            receive_to_durable_ns=self._board.recent(DURABLE),
            sync_ns=self._board.recent(SYNC),
            table_reads={"verified": table.verified, "retried": table.retried, "stale": table.stale},
            suspense_fills=self._in_suspense(),
        )


def _read_token(path: Path) -> bytes:
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as e:
        raise ConfigError([f"control token {path} can't be read: {e.strerror}; wojak up makes it"]) from e
    if len(token) < 32:
        raise ConfigError([f"control token {path} expected at least 32 characters, was {len(token)}"])
    return token.encode()
