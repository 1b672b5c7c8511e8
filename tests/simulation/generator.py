"""What clients ask for: the one place where a new kind of command joins the simulation.

Ids are ``<name>-<n>``. Of what was asked before some is asked again, some with other content, and some cancels come
before their order.
"""

from __future__ import annotations

from random import Random

import msgspec

from protocol.codes import OrderType, Side, TimeInForce
from protocol.orders import CancelOrder, Command, NewOrder, ReplaceOrder

E9 = 10**9
RECENT = 30
ACCOUNT, STRATEGY, INSTRUMENT = "a1", "s1", "XY"


class Generator:
    """Draws commands of one producer."""

    def __init__(self, name: str, random: Random) -> None:
        self.name = name
        self._random = random
        self._orders = 0
        self._replaces = 0
        self.made: list[Command] = []

    def next(self) -> Command:
        """Return a new order, an old one again, one with a known id and other content, other terms, or a cancel."""
        draw = self._random
        chance = draw.random()
        if self.made and chance < 0.15:
            command = draw.choice(self.made[-RECENT:] if chance < 0.10 else self.made)
        elif self.made and chance < 0.18 and isinstance(old := draw.choice(self.made), NewOrder):
            command = msgspec.structs.replace(old, quantity_e9=old.quantity_e9 + E9)
        elif chance < 0.38:
            command = CancelOrder(ACCOUNT, f"{self.name}-{draw.randint(max(1, self._orders - 8), self._orders + 2)}")
        elif chance < 0.45:
            command = self._replace()
        else:
            command = self._new_order()
        self.made.append(command)
        return command

    def _replace(self) -> ReplaceOrder:
        """Ask for other terms of a recent order, under an id of its own."""
        draw = self._random
        self._replaces += 1
        orig = f"{self.name}-{draw.randint(max(1, self._orders - 8), self._orders + 1)}"
        quantity, price = draw.choice((0, draw.randint(1, 9))), draw.choice((0, 98, 99, 101, 102))
        return ReplaceOrder(ACCOUNT, f"{self.name}-r{self._replaces}", orig, quantity * E9, price * E9)

    def _new_order(self) -> NewOrder:
        draw = self._random
        self._orders += 1
        side = draw.choice((Side.BUY, Side.SELL))
        kind = draw.choice(("rest", "rest", "take", "ioc", "market", "wild"))
        price = {"rest": 99 if side is Side.BUY else 102, "wild": 500}.get(kind, 101 if side is Side.BUY else 100)
        return NewOrder(
            ACCOUNT, f"{self.name}-{self._orders}", STRATEGY, INSTRUMENT, side,
            OrderType.MARKET if kind == "market" else OrderType.LIMIT,
            TimeInForce.IOC if kind in {"ioc", "market"} else TimeInForce.DAY,
            draw.randint(1, 9) * E9, 0 if kind == "market" else price * E9, draw.random() < 0.1,
        )  # fmt: skip
