"""Replaces, baskets, OCO groups and exits in the place of others: decided, journaled, applied, answered.

Apart from ``engine.sidecars``, whose hot path is single orders and cancels. ``decide`` changes nothing, so whatever it
raises can still be refused as poison; what ``take`` raises is fatal (DESIGN 6.12).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from engine.orders import Defer, Replay
from engine.outcomes import ACCEPTED, basket_outcome, exit_outcome, replace_outcome
from engine.parts import Parts
from engine.permit import Permit
from protocol.codes import RetryReason
from protocol.decisions import BasketDecision, ExitDecision, Reference
from protocol.oco_records import OcoDecision, OcoOrdered
from protocol.orders import ExitReplace, NewBasket, NewOco, ReplaceOrder, order_of
from protocol.records import BasketOrdered, ExitRequested, Record, ReplaceRequested
from protocol.replaces import ReplaceDecision
from protocol.session import Item, Outcome
from risk.gate.exposure import InstrumentState, Route

Change = ReplaceOrder | NewBasket | ExitReplace | NewOco
Decision = ReplaceDecision | BasketDecision | ExitDecision | OcoDecision


class Ready(NamedTuple):
    """A decision that waits for its record; one reference for each order that it looked at."""

    command: Change
    references: list[Reference | None]
    decision: Decision


class Changes:
    """Takes replaces, baskets, OCO groups and exits in the place of others for all sidecar sessions of one engine."""

    def __init__(self, parts: Parts, reference_of: Callable[[InstrumentState, int], Reference | None]) -> None:
        self._core = parts.core
        self._writer = parts.writer
        self._meters = parts.meters
        self._reference_of = reference_of

    def decide(
        self, command: Change, item: Item, permit: Permit | None, now_ns: int, why: RetryReason | None
    ) -> Ready | Replay | Defer:
        """Say what happens to the command; ``why`` new risk can't be taken now, None if it can."""
        references: list[Reference | None]
        decided: Decision | Replay | Defer
        if isinstance(command, ReplaceOrder):
            replaces = self._core.replaces
            order = replaces.find_order(command)
            reference = self._reference_of(order.route.instrument, now_ns) if order is not None else None
            references = [reference]
            decided = replaces.decide_replace(command, item, permit, now_ns, reference, why)
        elif isinstance(command, ExitReplace):
            to = self._core.orders.find_route(permit, order_of(command))
            reference = self._reference_of(to.instrument, now_ns) if isinstance(to, Route) else None
            references = [reference]
            decided = self._core.exit_replaces.decide_exit(command, item, to, now_ns, reference)
        elif isinstance(command, NewOco):
            to = self._core.orders.find_route(permit, command.legs[0])
            reference = self._reference_of(to.instrument, now_ns) if isinstance(to, Route) else None
            references = [reference]
            decided = self._core.ocos.decide_oco(command, item, to, now_ns, reference, why)
        else:
            baskets = self._core.baskets
            routes = baskets.find_routes(permit, command)
            found = routes if isinstance(routes, list) else []
            references = [self._reference_of(route.instrument, now_ns) for route in found]
            decided = baskets.decide_basket(command, item, routes, now_ns, references, why)
        if isinstance(decided, ReplaceDecision | BasketDecision | ExitDecision | OcoDecision):
            return Ready(command, references, decided)
        return decided

    def take(self, ready: Ready, source: str, item: Item, now_ns: int) -> Outcome:
        """Journal and apply the decision, and return its outcome."""
        command, references, decision = ready
        seq = self._writer.next_seq
        record: Record
        if isinstance(command, ReplaceOrder):
            assert isinstance(decision, ReplaceDecision)
            record = ReplaceRequested(source, item, references[0], decision, seq)
            position = self._writer.append(record)
            self._core.replaces.apply_replace(record, command, position, now_ns)
            self._meters.replaces += decision.kind is ACCEPTED
            outcome = replace_outcome(item, seq, decision)
        elif isinstance(command, ExitReplace):
            assert isinstance(decision, ExitDecision)
            record = ExitRequested(source, item, references[0], decision, seq)
            position = self._writer.append(record)
            self._core.exit_replaces.apply_exit(record, command, position, now_ns)
            self._meters.exit_replaces += decision.kind is ACCEPTED
            outcome = exit_outcome(item, seq, decision)
        elif isinstance(command, NewOco):
            assert isinstance(decision, OcoDecision)
            record = OcoOrdered(source, item, references[0], decision, seq)
            position = self._writer.append(record)
            self._core.ocos.apply_oco(record, command, position, now_ns)
            self._meters.ocos += decision.kind is ACCEPTED
            outcome = basket_outcome(item, seq, decision)
        else:
            assert isinstance(decision, BasketDecision)
            record = BasketOrdered(source, item, references, decision, seq)
            position = self._writer.append(record)
            self._core.baskets.apply_basket(record, command, position, now_ns)
            self._meters.baskets += decision.kind is ACCEPTED
            outcome = basket_outcome(item, seq, decision)
        if decision.kind is not ACCEPTED:
            self._meters.refuse(decision.code)
        return outcome
