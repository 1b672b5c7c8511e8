"""What clients ask for: the one place where a new kind of command joins the simulation.

Ids are ``<name>-<n>``, ``<name>-r<n>`` of replaces, ``<name>-x<n>`` of exits in the place of others, ``<name>-b<n>`` of
baskets, ``<name>-g<n>`` of OCO groups. Of what was asked before some is asked again, some with other content, and some
cancels come before their order. Which kinds and terms a run must have drawn is said in ``asked``.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec

from protocol.codes import OrderType, Side, TimeInForce
from protocol.orders import (
    CancelOrder,
    Command,
    ExitReplace,
    NewBasket,
    NewOco,
    NewOrder,
    ReplaceOrder,
    TermedOrder,
    TrimmableOrder,
)

E9 = 10**9
RECENT = 30
ACCOUNT, STRATEGY, INSTRUMENT = "a1", "s1", "XY"
PLAIN = ("rest", "rest", "take", "ioc", "market", "wild", "wild")
TERMED = ("stop", "stop", "stop_limit", "stop_limit", "gtd", "fok", "post_only", "odd")
PRICES = (98, 99, 101, 102)


class Generator:
    """Draws commands of one producer.

    ``wall_ns``: the clock by which it sets the end of what is good till a date. ``position``: what it knows to hold,
    so that exits are drawn where there is something to leave.
    """

    def __init__(self, name: str, random: Random, wall_ns: Callable[[], int], position: Callable[[], int]) -> None:
        self.name = name
        self._random = random
        self._wall_ns = wall_ns
        self._position = position
        self._orders = 0
        self._replaces = 0
        self._exit_replaces = 0
        self._baskets = 0
        self._groups = 0
        self.made: list[Command] = []

    def next(self) -> Command:
        """Return a new order, an old one again, one with a known id and other content, other terms, or a cancel."""
        draw = self._random
        chance = draw.random()
        if self.made and chance < 0.15:
            command = draw.choice(self.made[-RECENT:] if chance < 0.10 else self.made)
        elif self.made and chance < 0.18:
            command = self._changed(draw.choice(self.made))
        elif chance < 0.38:
            command = CancelOrder(ACCOUNT, self._some_id())
        elif chance < 0.46:
            command = self._replace()
        elif chance < 0.52 and (named := self._exits()):
            command = self._exit_replace(named)
        elif chance < 0.57:
            command = self._basket()
        elif chance < 0.64:
            command = self._oco()
        else:
            command = self._new_order()
        self.made.append(command)
        return command

    def _side(self) -> Side:
        return self._random.choice((Side.BUY, Side.SELL))

    def _some_id(self) -> str:
        """Return the id of a recent order, of a basket's or a group's leg, or of one that is still to come."""
        draw = self._random
        if self._baskets and draw.random() < 0.15:
            return f"{self.name}-b{draw.randint(max(1, self._baskets - 2), self._baskets + 1)}/{draw.randint(1, 3)}"
        if self._groups and draw.random() < 0.1:
            name = f"{self.name}-g{draw.randint(max(1, self._groups - 2), self._groups + 1)}"
            return name + draw.choice(("", "/1", "/2"))
        if self._exit_replaces and draw.random() < 0.1:
            return f"{self.name}-x{draw.randint(max(1, self._exit_replaces - 2), self._exit_replaces + 1)}"
        return f"{self.name}-{draw.randint(max(1, self._orders - 8), self._orders + 2)}"

    def _changed(self, old: Command) -> Command:
        """Return something under a known id that is not what it was."""
        match old:
            case NewOrder() | ExitReplace():
                return msgspec.structs.replace(old, quantity_e9=old.quantity_e9 + E9)
            case ReplaceOrder():
                return msgspec.structs.replace(old, price_e9=old.price_e9 + E9)
            case NewBasket() | NewOco():
                first = msgspec.structs.replace(old.legs[0], quantity_e9=old.legs[0].quantity_e9 + E9)
                return msgspec.structs.replace(old, legs=[first, *old.legs[1:]])
            case CancelOrder():
                return old

    def _replace(self) -> ReplaceOrder:
        """Ask for other terms of a recent order, under an id of its own."""
        draw = self._random
        self._replaces += 1
        quantity, price = draw.choice((0, draw.randint(1, 9))), draw.choice((0, *PRICES))
        stop_price = draw.choice((0, 0, 99, 102))
        newest = f"{self.name}-{max(1, self._orders - draw.randint(0, 1))}"
        orig = newest if draw.random() < 0.6 else self._some_id()
        return ReplaceOrder(ACCOUNT, f"{self.name}-r{self._replaces}", orig, quantity * E9, price * E9, stop_price * E9)

    def _exits(self) -> list[NewOrder]:
        """Return some recent orders of one side that may rest."""
        position = self._position()
        side = Side.BUY if position < 0 else Side.SELL if position > 0 else self._side()
        price_e9 = (99 if side is Side.BUY else 102) * E9
        recent = [
            c for c in self.made[-RECENT:] if isinstance(c, NewOrder) and (c.side, c.price_e9) == (side, price_e9)
        ]
        return recent[-self._random.randint(1, 3) :]

    def _exit_replace(self, named: list[NewOrder]) -> ExitReplace:
        """Ask for an exit in the place of others, at a price that takes."""
        draw = self._random
        self._exit_replaces += 1
        side = named[0].side
        return ExitReplace(
            ACCOUNT, f"{self.name}-x{self._exit_replaces}", STRATEGY, INSTRUMENT, side, OrderType.LIMIT,
            TimeInForce.DAY, draw.randint(1, 9) * E9, list(dict.fromkeys(o.client_order_id for o in named)),
            (101 if side is Side.BUY else 100) * E9,
        )  # fmt: skip

    def _basket(self) -> NewBasket:
        """Ask for two to four orders as one: of both sides, often too many together, now and then with a bad leg."""
        draw = self._random
        self._baskets += 1
        name = f"{self.name}-b{self._baskets}"
        legs = [self._plain(f"{name}/{n}", draw.choice(PLAIN[:-2])) for n in range(1, draw.randint(3, 5))]
        if draw.random() < 0.05:
            legs[-1] = self._plain(f"{name}/{len(legs)}", "wild")
        return NewBasket(ACCOUNT, name, legs)

    def _oco(self) -> NewOco:
        """Ask for two orders of which one cancels the other: exits where something is held, else of any side."""
        draw = self._random
        self._groups += 1
        name = f"{self.name}-g{self._groups}"
        position = self._position()
        side = Side.BUY if position < 0 else Side.SELL if position > 0 else self._side()
        if draw.random() < 0.2:
            side = self._side()
        is_buy = side is Side.BUY
        price, stop_price = (draw.choice((98, 99)), draw.choice((101, 102, 103)))
        if not is_buy:
            price, stop_price = draw.choice((102, 103)), draw.choice((98, 99, 100))
        limit = draw.choice((0, 0, stop_price + (1 if is_buy else -1)))
        quantity, promises = draw.randint(1, 9), draw.random() < 0.3
        time_in_force = draw.choice((TimeInForce.DAY, TimeInForce.GTC))
        if draw.random() < 0.04:
            price = stop_price  # no group
        first = NewOrder(
            ACCOUNT, f"{name}/1", STRATEGY, INSTRUMENT, side, OrderType.LIMIT, time_in_force, quantity * E9,
            price * E9, promises,
        )  # fmt: skip
        dated = draw.random() < 0.2
        second = TermedOrder(
            ACCOUNT, f"{name}/2", STRATEGY, INSTRUMENT, side, OrderType.STOP_LIMIT if limit else OrderType.STOP,
            TimeInForce.GTD if dated else time_in_force, max(1, quantity + draw.choice((0, 0, 0, 1, -1))) * E9,
            limit * E9, promises, stop_price * E9, self._wall_ns() + draw.choice((3, 10)) * E9 if dated else 0,
        )  # fmt: skip
        return NewOco(ACCOUNT, name, [first, second])

    def _new_order(self) -> NewOrder:
        draw = self._random
        self._orders += 1
        client_order_id = f"{self.name}-{self._orders}"
        if draw.random() < 0.25:
            return self._termed(client_order_id, draw.choice(TERMED))
        kind = draw.choice(PLAIN)
        order = self._plain(client_order_id, kind)
        may_trim = draw.random() < (0.5 if kind == "wild" else 0.1)
        return TrimmableOrder(*msgspec.structs.astuple(order)) if may_trim else order

    def _plain(self, client_order_id: str, kind: str) -> NewOrder:
        draw = self._random
        side = self._side()
        price = {"rest": 99 if side is Side.BUY else 102, "wild": 500 if side is Side.BUY else 50}.get(
            kind, 101 if side is Side.BUY else 100
        )
        at_once = kind in {"ioc", "market"}
        return NewOrder(
            ACCOUNT, client_order_id, STRATEGY, INSTRUMENT, side,
            OrderType.MARKET if kind == "market" else OrderType.LIMIT,
            TimeInForce.IOC if at_once else draw.choice((TimeInForce.DAY, TimeInForce.DAY, TimeInForce.GTC)),
            draw.randint(1, 9) * E9, 0 if kind == "market" else price * E9, draw.random() < 0.1,
        )  # fmt: skip

    def _termed(self, client_order_id: str, kind: str) -> TermedOrder:
        """Return an order that waits for a trade, ends at an instant, is all or nothing, or never takes."""
        draw = self._random
        if kind == "odd":
            return self._odd(client_order_id)
        side = self._side()
        is_buy = side is Side.BUY
        stop_price = draw.choice((101, 102, 103) if is_buy else (100, 99, 98)) if "stop" in kind else 0
        limit = {
            "stop": 0, "stop_limit": stop_price + (1 if is_buy else -1), "fok": 101 if is_buy else 100,
        }.get(kind, draw.choice((98, 99, 101) if is_buy else (103, 102, 100)))  # fmt: skip
        day = draw.choice((TimeInForce.DAY, TimeInForce.GTC))
        return TermedOrder(
            ACCOUNT, client_order_id, STRATEGY, INSTRUMENT, side,
            {"stop": OrderType.STOP, "stop_limit": OrderType.STOP_LIMIT}.get(kind, OrderType.LIMIT),
            {"fok": TimeInForce.FOK, "gtd": TimeInForce.GTD}.get(kind, day),
            draw.randint(1, 9) * E9, limit * E9, draw.random() < 0.1, stop_price * E9,
            self._wall_ns() + draw.choice((1, 3, 10)) * E9 if kind == "gtd" else 0, kind == "post_only",
        )  # fmt: skip

    def _odd(self, client_order_id: str) -> TermedOrder:
        """Return what the gate refuses: over already, a limit that its stop has passed, passive and at once."""
        now_ns = self._wall_ns()
        base = TermedOrder(
            ACCOUNT, client_order_id, STRATEGY, INSTRUMENT, Side.BUY, OrderType.LIMIT, TimeInForce.DAY, E9, 99 * E9
        )
        other = msgspec.structs.replace
        return self._random.choice(
            (
                other(base, time_in_force=TimeInForce.GTD, expire_at_ns=now_ns - 1),
                other(base, order_type=OrderType.STOP_LIMIT, stop_price_e9=103 * E9),
                other(base, time_in_force=TimeInForce.IOC, post_only=True),
            )
        )
