"""One OCO group, from acceptance until both of its orders are over. Quantities count quantity steps.

It names its legs by their order ids, so that it holds no order in memory; the orders know it by ``Terms.group``.
"""

from __future__ import annotations


class Group:
    """Two orders of one account, instrument and side, of which one is at the venue at a time.

    ``first`` went to the venue at once, ``second`` waits in the engine, SUSPENDED. ``done``: what of the first has
    filled while the second waited. ``triggered``: the stop price was reached, the first is being cancelled.
    ``is_exit``: the second was taken as an exit, so it never goes out for more than the position that is left.
    """

    __slots__ = ("account", "client_order_id", "done", "first", "is_exit", "second", "triggered")

    def __init__(self, account: str, client_order_id: str, first: str, second: str, is_exit: bool) -> None:
        self.account = account
        self.client_order_id = client_order_id
        self.first = first
        self.second = second
        self.is_exit = is_exit
        self.done = 0
        self.triggered = False

    def left(self, quantity: int) -> int:
        """Return what is left of a second leg of ``quantity``: fills of the first take as much from it."""
        return max(0, quantity - self.done)

    def row(self) -> tuple[object, ...]:
        """Return what the state hash covers."""
        return (
            self.account, self.client_order_id, self.first, self.second, self.done, self.triggered, self.is_exit,
        )  # fmt: skip
