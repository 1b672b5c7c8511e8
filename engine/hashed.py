"""Parts of the state as its hash covers them: orders, what waits, what is in suspense, money."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from engine.flatten_plan import Flatten, Flattened
from engine.group import Group
from engine.order import Order, Terms
from protocol.amends import SuspendedFill
from risk.gate.exposure import AccountState, ExposureBook, InstrumentState, Ledger, Route, StrategyState
from risk.gate.losses import Losses


def order_row(order: Order) -> tuple[object, ...]:
    """Return everything of it that is state."""
    return (
        order.order_id, order.account, order.client_order_id, order.route.strategy.name, order.route.instrument.name,
        int(order.side), int(order.order_type), int(order.time_in_force), int(order.status), order.quantity,
        order.limit_price, order.price, order.leaves, order.cum, str(order.value_e9), str(order.reserved_value_e9),
        order.venue_seq, order.cancel_seq, order.accepted_ns, *_terms_row(order.terms),
    )  # fmt: skip


def exit_rows(orders: dict[str, Order], stale: dict[str, None], count: int) -> bytes:
    """Return which open orders are exits; nothing before the first was stale: the hash is then what it was before."""
    if not count:
        return b""
    exits = sorted(order_id for order_id, order in orders.items() if order.is_exit)
    flips = [order_id for order_id in exits if _is_flipping(orders[order_id].terms)]
    return msgspec.msgpack.encode((exits, flips, list(stale), count))


def waiting_rows(exits: dict[str, tuple[str, ...]], groups: dict[tuple[str, str], Group]) -> bytes:
    """Return nothing where no exit waits and no group is open: the hash is then what it was before these were."""
    encode = msgspec.msgpack.encode
    waiting = encode(sorted(exits.items())) if exits else b""
    return waiting + (encode([g.row() for _, g in sorted(groups.items())]) if groups else b"")


def suspense_row(suspense: dict[tuple[str, str], SuspendedFill], more: int) -> bytes:
    """Return nothing where no fill is in suspense: the hash is then what it was before there was such a ledger."""
    if not suspense and not more:
        return b""
    return msgspec.msgpack.encode((list(suspense.values()), more))


def _is_flipping(terms: Terms | None) -> bool:
    return terms is not None and terms.replacement is not None and terms.replacement.is_flip


def _terms_row(terms: Terms | None) -> tuple[object, ...]:
    """Return nothing for a plain order, whose row is as it was before there were any terms."""
    if terms is None:
        return ()
    asked = terms.replacement
    return (
        terms.stop_price, terms.expire_at_ns, terms.post_only, terms.keys,
        None if asked is None else (
            asked.seq, asked.client_order_id, asked.key, asked.quantity, asked.price, asked.stop_price,
        ),
    )  # fmt: skip


def money_rows(
    book: ExposureBook, accounts: dict[str, AccountState], routes: dict[tuple[str, str, str], Route]
) -> bytes:
    """Return money besides cash; nothing where none was ever booked: the hash is then what it was before."""
    money = book.money
    ledgers = [(*key, str(v.traded_e9)) for key, v in sorted(book.ledgers.items()) if v.traded_e9]
    own = [(*key, str(r.own.traded_e9)) for key, r in sorted(routes.items()) if r.own.traded_e9]
    held = [
        (name, sorted((c, str(v)) for c, v in a.fees_e9.items()), sorted(
            (asset, str(c.value_e9), c.currency, c.haircut_bp) for asset, c in a.collateral.items()
        ))
        for name, a in sorted(accounts.items()) if a.fees_e9 or a.collateral
    ]  # fmt: skip
    if not (money.is_booked or money.marks or ledgers or own or held):
        return b""
    marks = [(*key, str(m.rate_e9), m.at_ns) for key, m in sorted(money.marks.items())]
    return msgspec.msgpack.encode((money.is_booked, marks, ledgers, own, held))


def loss_rows(losses: Losses) -> bytes:
    """Return nothing where no limit on losses is: the hash is then what it was before."""
    rows = losses.canonical()
    return msgspec.msgpack.encode(rows) if rows else b""


def flatten_rows(flattens: Mapping[str, Flatten], over: Mapping[str, Flattened]) -> bytes:
    """Return nothing where nobody ever flattened: the hash is then what it was before."""
    if not (flattens or over):
        return b""
    under_way = [
        (f.plan, int(f.scope), f.key, f.operator, f.started_ns, f.children) for _, f in sorted(flattens.items())
    ]
    return msgspec.msgpack.encode((under_way, [(i, *ended) for i, ended in sorted(over.items())]))


def hash_ledgers(
    ledgers: Mapping[tuple[str, str], Ledger], routes: Mapping[tuple[str, str, str], Route], digest: blake2b
) -> None:
    """Hash positions and what is reserved, of accounts and of their strategies."""
    encode = msgspec.msgpack.encode
    for key in sorted(ledgers):
        ledger = ledgers[key]
        if ledger.position or ledger.buy or ledger.sell:
            digest.update(encode((*key, ledger.position, ledger.buy, ledger.sell)))
        if ledger.outside:
            digest.update(encode((*key, "outside", ledger.outside)))
    for route_key in sorted(routes):
        own = routes[route_key].own
        if own.position or own.buy or own.sell:
            digest.update(encode((*route_key, own.position, own.buy, own.sell)))


def hash_scopes(
    accounts: Mapping[str, AccountState], strategies: Mapping[str, StrategyState],
    instruments: Mapping[str, InstrumentState], digest: blake2b,
) -> None:  # fmt: skip
    """Hash what is counted by account and strategy, and what state every scope is in."""
    encode = msgspec.msgpack.encode
    for name in sorted(accounts):
        account = accounts[name]
        times = account.rate.charges() if account.rate else None
        cash = sorted((c, str(v)) for c, v in account.cash_e9.items())
        digest.update(encode((name, int(account.state), account.open_count, str(account.open_value_e9), times, cash)))
    for name in sorted(strategies):
        strategy = strategies[name]
        times = strategy.rate.charges() if strategy.rate else None
        digest.update(encode((name, int(strategy.state), times)))
    for name in sorted(instruments):
        digest.update(encode((name, int(instruments[name].state))))
