"""A simulated world without chance faults, driven by hand: what a test of one race needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocol.codes import OrderType, Side, TimeInForce
from protocol.orders import Command, NewOrder
from tests.simulation.memory import CrashError
from tests.simulation.stand_ins import E9, MS
from tests.simulation.venue_side import VenueSide
from tests.simulation.world import World

BUY = Side.BUY
PATIENCE = 200


def order(name: str, side: Side = BUY, quantity: int = 2, price: int = 99) -> NewOrder:
    """An order that rests; at 101 or 100 it takes."""
    return NewOrder(
        "a1", name, "s1", "XY", side, OrderType.LIMIT, TimeInForce.DAY, quantity * E9, price * E9, reduce_only=False
    )


class Stage(World):
    """A world without chance faults, driven by hand."""

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(PATIENCE):
            if condition():
                return
            self.round()
        raise AssertionError(f"waited {PATIENCE} rounds: {self.describe()}")

    def begin(self) -> Stage:
        self.until(lambda: self.is_at_rest() and all(c.is_open for c in self.clients))
        return self

    def submit(self, command: Command, client: int = 0) -> None:
        self.clients[client].produce(command)

    def settle_all(self) -> None:
        self.until(lambda: self.engine is not None and all(c.is_settled for c in self.clients))

    def answers_to(self, name: str) -> list[tuple[object, ...]]:
        """Return (kind, code, order id, record) of every answer, repeats as what they repeat."""
        return [c for contents in self.answers.contents["a1", name].values() for c in contents]

    def crash_with(self, point: str, command: Command, *, power: bool) -> None:
        """Submit, and let the engine die at the point."""
        self.submit(command)
        assert self.engine is not None
        self.armed = point
        with pytest.raises(CrashError):
            self._turn_until_it_dies()
        self.kill_engine(point, power=power)

    def _turn_until_it_dies(self) -> None:
        assert self.engine is not None
        for _ in range(PATIENCE):
            self.clock.advance(MS)
            self.clients[0].turn()
            self.engine.turn()

    def rounds(self) -> None:
        for _ in range(PATIENCE):
            self.round()

    def venue_side(self) -> VenueSide:
        return VenueSide(self.folder / "gateway")

    def is_at_venue(self, name: str) -> bool:
        self.watch.read()
        ids = {i for i, o in self.watch.accepted.items() if o.client_order_id == name}
        return bool(ids & set(self.venue_side().sent))

    @property
    def state(self):  # type: ignore[no-untyped-def]
        """The engine's state."""
        assert self.engine is not None
        return self.engine._core.state
