"""Evidence of a refusal: the limit, the value, the scope, the reference used. Off the path of accepted orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.codes import Code, Scope
from protocol.session import Facts
from protocol.texts import pack_kind
from protocol.units import wide
from risk.gate.further_evidence import FURTHER_EVIDENCE
from risk.gate.view import View

# Places in ``Limits.bounds``.
QUANTITY, ORDER_VALUE, OPEN_VALUE, OPEN_COUNT, POSITION = range(5)


def facts_of(code: Code, view: View) -> Facts:
    """Return what decided the refusal ``code`` of the order in ``view``."""
    evidence = _EVIDENCE.get(code) or FURTHER_EVIDENCE.get(code)
    return evidence(view) if evidence is not None else Facts()


def _instrument(expected: int, actual: int, v: View) -> Facts:
    return Facts(expected, actual, Scope.INSTRUMENT, v.route.instrument.name)


def _bound(v: View, place: int, actual: int) -> Facts:
    bound = v.route.limits.bounds[place]
    return Facts(wide(bound.value), wide(actual), bound.scope, bound.key)


def _age_ns(v: View) -> int:
    return v.now_ns - v.created_at_ns


def _quantity_max(v: View) -> Facts:
    instrument = v.route.instrument
    if v.quantity > instrument.quantity_max and (
        v.is_exit or instrument.quantity_max * instrument.quantity_step_e9 <= v.route.limits.quantity_e9
    ):
        return _instrument(instrument.quantity_max * instrument.quantity_step_e9, v.quantity_e9, v)
    return _bound(v, QUANTITY, v.quantity_e9)


def _position(v: View) -> Facts:
    return _bound(v, POSITION, v.reach * v.route.instrument.quantity_step_e9)


def _rate(v: View, scope: Scope) -> Facts:
    owner = v.route.account if scope is Scope.ACCOUNT else v.route.strategy
    assert owner.rate is not None
    rate = owner.rate.refusing(v.now_ns, v.is_exit)
    most = rate.count + rate.reserve_exit if v.is_exit else rate.count
    return Facts(most, rate.in_window(v.now_ns) + 1, scope, owner.name)


def _collar(v: View) -> Facts:
    instrument, reference = v.route.instrument, v.reference
    assert reference is not None
    bound = instrument.collar(v.side, reference.price_e9) * instrument.price_step_e9
    return Facts(
        bound, v.price_e9, Scope.INSTRUMENT, instrument.name, reference.price_e9, reference.age_ns, reference.source
    )


def _state(v: View) -> Facts:
    route = v.route
    scoped = (
        (route.account.state, Scope.ACCOUNT, route.account.name),
        (route.strategy.state, Scope.STRATEGY, route.strategy.name),
        (route.instrument.state, Scope.INSTRUMENT, route.instrument.name),
    )
    for state, scope, key in scoped:
        if state is v.state:
            return Facts(0, int(state), scope, key)
    return Facts(0, int(v.state))


def _kind(v: View) -> Facts:
    return _instrument(0, pack_kind(v.order_type, v.time_in_force), v)


_EVIDENCE: Final[dict[Code, Callable[[View], Facts]]] = {
    Code.MESSAGE_EXPIRED: lambda v: Facts(v.order_age_max_ns, _age_ns(v)),
    Code.TIME_MESSAGE_STALE: lambda v: Facts(
        v.route.strategy.ttl_ns, _age_ns(v), Scope.STRATEGY, v.route.strategy.name
    ),
    Code.TIME_MESSAGE_FUTURE: lambda v: Facts(v.skew_max_ns, -_age_ns(v)),
    Code.STATE_HALTED: _state,
    Code.STATE_REDUCING: _state,
    Code.INSTR_NOT_TRADABLE: lambda v: _instrument(0, 0, v),
    Code.INSTR_EXPIRED: lambda v: _instrument(v.route.instrument.expiry_ns, v.now_ns, v),
    Code.TYPE_UNSUPPORTED: _kind,
    Code.TIME_EXPIRE_PAST: lambda v: _instrument(v.now_ns, v.expire_at_ns, v),
    Code.PRICE_STOP_SIDE: lambda v: _instrument(v.stop_price_e9, v.price_e9, v),
    Code.PRICE_NOT_POSITIVE: lambda v: _instrument(0, v.price_e9, v),
    Code.PRICE_TICK: lambda v: _instrument(v.route.instrument.tick * v.route.instrument.price_step_e9, v.price_e9, v),
    Code.REF_STALE: lambda v: _instrument(v.route.instrument.tick_age_max_ns, 0, v),
    Code.PRICE_COLLAR: _collar,
    Code.QTY_LOT: lambda v: _instrument(v.route.instrument.lot * v.route.instrument.quantity_step_e9, v.quantity_e9, v),
    Code.QTY_MIN: lambda v: _instrument(
        v.route.instrument.quantity_min * v.route.instrument.quantity_step_e9, v.quantity_e9, v
    ),
    Code.QTY_MAX: _quantity_max,
    Code.VALUE_ORDER_MAX: lambda v: _bound(v, ORDER_VALUE, v.value_e9),
    Code.VALUE_OPEN_MAX: lambda v: _bound(v, OPEN_VALUE, v.route.account.open_value_e9 + v.value_e9),
    Code.COUNT_OPEN_MAX: lambda v: _bound(v, OPEN_COUNT, v.route.account.open_count + 1),
    Code.POS_LIMIT: _position,
    Code.RATE_ACCOUNT: lambda v: _rate(v, Scope.ACCOUNT),
    Code.RATE_STRATEGY: lambda v: _rate(v, Scope.STRATEGY),
}
