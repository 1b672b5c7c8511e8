"""The life of an order as one table: (state, what happened) → state. Races that really happen are rows of it.

A transition that is not here is refused, recorded and counted by the core, never raised in the loop.
WORKING stands for PENDING_REPLACE while a replace is unanswered, else for NEW or PARTIALLY_FILLED, whichever the
filled quantity says.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from protocol.codes import ExecType, OrderStatus

NEW: Final = OrderStatus.NEW
PARTIALLY_FILLED: Final = OrderStatus.PARTIALLY_FILLED
FILLED: Final = OrderStatus.FILLED
CANCELED: Final = OrderStatus.CANCELED
PENDING_CANCEL: Final = OrderStatus.PENDING_CANCEL
REJECTED: Final = OrderStatus.REJECTED
SUSPENDED: Final = OrderStatus.SUSPENDED
HELD: Final = OrderStatus.HELD
PENDING_NEW: Final = OrderStatus.PENDING_NEW
EXPIRED: Final = OrderStatus.EXPIRED
PENDING_REPLACE: Final = OrderStatus.PENDING_REPLACE
UNKNOWN: Final = OrderStatus.UNKNOWN
WORKING: Final = OrderStatus.NONE


class Happening(IntEnum):
    """What can happen to an order that exists."""

    ACK = 0
    PARTIAL_FILL = 1
    FILL = 2
    CANCEL_SENT = 3
    CANCELED = 4
    CANCEL_REJECTED = 5
    REJECTED = 6
    EXPIRED = 7
    LOST = 8  # sent, and after a reconnect nobody has answered
    NOT_FOUND = 9  # the venue says that it never saw the order
    UNSENT = 10  # cancelled before it was ever sent
    REPLACE_SENT = 11
    REPLACED = 12
    REPLACE_REJECTED = 13
    REPLACE_UNSENT = 14  # the send gate refused the new terms before they went out
    TRIGGERED = 15  # a stop order met its stop price
    RELEASED = 16  # what it waited for is over
    FILLS_AMENDED = 17  # a trade was taken back or corrected, and not all is filled
    FILLS_COMPLETE = 18  # a trade was corrected, and all is filled
    REFUSED_HERE = 19  # after it was held
    OVERDUE = 20  # likewise, by its deadline


H = Happening

TRANSITIONS: Final[dict[tuple[OrderStatus, Happening], OrderStatus]] = {
    (SUSPENDED, H.RELEASED): PENDING_NEW,
    (SUSPENDED, H.UNSENT): CANCELED,  # cancelled, killed, too late, or nothing remains to exit
    (HELD, H.RELEASED): PENDING_NEW,  # approved, or an exit whose time is over
    (HELD, H.REFUSED_HERE): REJECTED,  # by the risk service, or by a check after its approval
    (HELD, H.OVERDUE): EXPIRED,  # nobody judged it in time
    (HELD, H.UNSENT): CANCELED,
    (PENDING_NEW, H.ACK): NEW,
    (PENDING_NEW, H.PARTIAL_FILL): PARTIALLY_FILLED,  # report before its acknowledgement
    (PENDING_NEW, H.FILL): FILLED,  # likewise
    (PENDING_NEW, H.CANCEL_SENT): PENDING_CANCEL,
    (PENDING_NEW, H.CANCELED): CANCELED,
    (PENDING_NEW, H.REJECTED): REJECTED,
    (PENDING_NEW, H.EXPIRED): EXPIRED,
    (PENDING_NEW, H.LOST): UNKNOWN,
    (PENDING_NEW, H.UNSENT): CANCELED,
    (NEW, H.ACK): NEW,  # repeated
    (NEW, H.PARTIAL_FILL): PARTIALLY_FILLED,
    (NEW, H.FILL): FILLED,
    (NEW, H.CANCEL_SENT): PENDING_CANCEL,
    (NEW, H.CANCELED): CANCELED,  # by the venue itself, or an IOC's remainder
    (NEW, H.REJECTED): REJECTED,  # seen at real venues: acknowledged by the front, refused by the book
    (NEW, H.EXPIRED): EXPIRED,
    (NEW, H.LOST): UNKNOWN,  # filled in part or seen by the venue while a cancel or query of it stayed unanswered
    (PARTIALLY_FILLED, H.LOST): UNKNOWN,  # likewise
    (PARTIALLY_FILLED, H.ACK): PARTIALLY_FILLED,  # the acknowledgement comes after the first fill
    (PARTIALLY_FILLED, H.PARTIAL_FILL): PARTIALLY_FILLED,
    (PARTIALLY_FILLED, H.FILL): FILLED,
    (PARTIALLY_FILLED, H.CANCEL_SENT): PENDING_CANCEL,
    (PARTIALLY_FILLED, H.CANCELED): CANCELED,
    (PARTIALLY_FILLED, H.EXPIRED): EXPIRED,
    (PENDING_CANCEL, H.ACK): PENDING_CANCEL,  # the cancel overtook the acknowledgement
    (PENDING_CANCEL, H.PARTIAL_FILL): PENDING_CANCEL,
    (PENDING_CANCEL, H.FILL): FILLED,  # the fill won the race
    (PENDING_CANCEL, H.CANCEL_SENT): PENDING_CANCEL,
    (PENDING_CANCEL, H.CANCELED): CANCELED,
    (PENDING_CANCEL, H.CANCEL_REJECTED): WORKING,
    (PENDING_CANCEL, H.REJECTED): REJECTED,
    (PENDING_CANCEL, H.EXPIRED): EXPIRED,
    (PENDING_CANCEL, H.LOST): UNKNOWN,
    (PENDING_CANCEL, H.UNSENT): CANCELED,
    (UNKNOWN, H.ACK): WORKING,
    (UNKNOWN, H.PARTIAL_FILL): WORKING,
    (UNKNOWN, H.FILL): FILLED,
    (UNKNOWN, H.CANCEL_SENT): UNKNOWN,  # a cancel of an UNKNOWN order is sent; only the venue ends the doubt
    (UNKNOWN, H.CANCELED): CANCELED,
    (UNKNOWN, H.CANCEL_REJECTED): UNKNOWN,
    (UNKNOWN, H.REJECTED): REJECTED,
    (UNKNOWN, H.EXPIRED): EXPIRED,
    (UNKNOWN, H.LOST): UNKNOWN,
    (UNKNOWN, H.NOT_FOUND): PENDING_NEW,  # through the send gate again, or cancelled there
    (UNKNOWN, H.UNSENT): CANCELED,
    (CANCELED, H.PARTIAL_FILL): CANCELED,  # filled before the cancel, reported after it: the fill counts
    (CANCELED, H.FILL): FILLED,  # likewise, and nothing was left to cancel
    (CANCELED, H.CANCEL_REJECTED): CANCELED,  # cancelled twice
    (FILLED, H.ACK): FILLED,
    (FILLED, H.CANCEL_REJECTED): FILLED,  # too late to cancel
    (NEW, H.CANCEL_REJECTED): NEW,  # its cancel was sent while it was UNKNOWN
    (PARTIALLY_FILLED, H.CANCEL_REJECTED): PARTIALLY_FILLED,  # likewise
    (REJECTED, H.PARTIAL_FILL): REJECTED,  # whatever was said before, what traded is position
    (REJECTED, H.FILL): FILLED,
    (REJECTED, H.CANCEL_REJECTED): REJECTED,
    (EXPIRED, H.PARTIAL_FILL): EXPIRED,
    (EXPIRED, H.FILL): FILLED,
    (EXPIRED, H.CANCEL_REJECTED): EXPIRED,
    (PENDING_NEW, H.REPLACE_SENT): PENDING_REPLACE,  # the venue takes both in this order
    (NEW, H.REPLACE_SENT): PENDING_REPLACE,
    (PARTIALLY_FILLED, H.REPLACE_SENT): PENDING_REPLACE,
    (PENDING_REPLACE, H.ACK): PENDING_REPLACE,  # the replace overtook the acknowledgement
    (PENDING_REPLACE, H.PARTIAL_FILL): WORKING,  # of the old terms, or beyond them: then the new ones work
    (PENDING_REPLACE, H.FILL): FILLED,  # of the larger total
    (PENDING_REPLACE, H.CANCEL_SENT): PENDING_CANCEL,  # the cancel is meant for whatever works by then
    (PENDING_REPLACE, H.CANCELED): CANCELED,
    (PENDING_REPLACE, H.CANCEL_REJECTED): PENDING_REPLACE,  # its cancel was sent while it was UNKNOWN
    (PENDING_REPLACE, H.REJECTED): REJECTED,
    (PENDING_REPLACE, H.EXPIRED): EXPIRED,
    (PENDING_REPLACE, H.LOST): UNKNOWN,
    (PENDING_REPLACE, H.UNSENT): CANCELED,
    (PENDING_REPLACE, H.REPLACED): WORKING,
    (PENDING_REPLACE, H.REPLACE_REJECTED): WORKING,  # the old terms work on, filled partly or not
    (PENDING_REPLACE, H.REPLACE_UNSENT): WORKING,
    (PENDING_CANCEL, H.REPLACED): PENDING_CANCEL,  # the replace went first, the cancel is still to be answered
    (PENDING_CANCEL, H.REPLACE_REJECTED): PENDING_CANCEL,
    (PENDING_CANCEL, H.REPLACE_UNSENT): PENDING_CANCEL,
    (UNKNOWN, H.REPLACED): WORKING,
    (UNKNOWN, H.REPLACE_REJECTED): UNKNOWN,  # a venue that never saw the order refuses to replace it too
    (UNKNOWN, H.REPLACE_UNSENT): UNKNOWN,
    (NEW, H.REPLACE_REJECTED): NEW,  # what a query said came before it
    (PARTIALLY_FILLED, H.REPLACED): PARTIALLY_FILLED,  # a fill beyond the old total said it before
    (PARTIALLY_FILLED, H.REPLACE_REJECTED): PARTIALLY_FILLED,
    (FILLED, H.REPLACED): FILLED,  # likewise
    (NEW, H.REPLACED): NEW,  # what a query said came before it
    (FILLED, H.REPLACE_REJECTED): FILLED,  # too late to replace
    (CANCELED, H.REPLACE_REJECTED): CANCELED,
    (REJECTED, H.REPLACE_REJECTED): REJECTED,
    (EXPIRED, H.REPLACE_REJECTED): EXPIRED,
    (PENDING_NEW, H.TRIGGERED): NEW,  # before its acknowledgement
    (NEW, H.TRIGGERED): NEW,
    (PENDING_CANCEL, H.TRIGGERED): PENDING_CANCEL,
    (PENDING_REPLACE, H.TRIGGERED): PENDING_REPLACE,
    (UNKNOWN, H.TRIGGERED): WORKING,
    (PENDING_NEW, H.FILLS_AMENDED): PENDING_NEW,  # filled once, then the venue said that it never saw it
    (NEW, H.FILLS_AMENDED): WORKING,
    (PARTIALLY_FILLED, H.FILLS_AMENDED): WORKING,  # it gets its leaves back
    (PENDING_CANCEL, H.FILLS_AMENDED): PENDING_CANCEL,
    (PENDING_REPLACE, H.FILLS_AMENDED): WORKING,
    (UNKNOWN, H.FILLS_AMENDED): UNKNOWN,  # it says what traded, not whether it works
    (FILLED, H.FILLS_AMENDED): CANCELED,  # it is not filled any more, and nothing of it works at the venue
    (CANCELED, H.FILLS_AMENDED): CANCELED,
    (REJECTED, H.FILLS_AMENDED): REJECTED,
    (EXPIRED, H.FILLS_AMENDED): EXPIRED,
    (PENDING_NEW, H.FILLS_COMPLETE): FILLED,
    (NEW, H.FILLS_COMPLETE): FILLED,
    (PARTIALLY_FILLED, H.FILLS_COMPLETE): FILLED,  # corrected to what was still open
    (PENDING_CANCEL, H.FILLS_COMPLETE): FILLED,
    (PENDING_REPLACE, H.FILLS_COMPLETE): FILLED,  # of the larger total
    (UNKNOWN, H.FILLS_COMPLETE): FILLED,
    (FILLED, H.FILLS_COMPLETE): FILLED,  # another price, or one of too many fills taken back
    (CANCELED, H.FILLS_COMPLETE): FILLED,  # nothing was left to cancel
    (REJECTED, H.FILLS_COMPLETE): FILLED,
    (EXPIRED, H.FILLS_COMPLETE): FILLED,
}

_HAPPENINGS: Final = {
    ExecType.NEW: H.ACK,
    ExecType.CANCELED: H.CANCELED,
    ExecType.REJECTED: H.REJECTED,
    ExecType.EXPIRED: H.EXPIRED,
    ExecType.CANCEL_REJECT: H.CANCEL_REJECTED,
    ExecType.NOT_FOUND: H.NOT_FOUND,
    ExecType.REPLACED: H.REPLACED,
    ExecType.TRIGGERED: H.TRIGGERED,
    ExecType.REPLACE_REJECT: H.REPLACE_REJECTED,
}

_BY_STATUS: Final = {
    OrderStatus.NEW: H.ACK,
    OrderStatus.PARTIALLY_FILLED: H.PARTIAL_FILL,
    OrderStatus.FILLED: H.FILL,
    OrderStatus.CANCELED: H.CANCELED,
    OrderStatus.REJECTED: H.REJECTED,
    OrderStatus.EXPIRED: H.EXPIRED,
}


def happening_of(exec_type: ExecType, status: OrderStatus, *, leaves_nothing: bool) -> Happening | None:
    """Return what a venue report says happened; ORDER_STATUS by the state it names. None: nothing that we know."""
    if exec_type is ExecType.TRADE:
        return H.FILL if leaves_nothing else H.PARTIAL_FILL
    if exec_type is ExecType.ORDER_STATUS:
        return _BY_STATUS.get(status)
    return _HAPPENINGS.get(exec_type)


def next_status(
    status: OrderStatus, happening: Happening, *, is_filled_partly: bool, is_replacing: bool = False
) -> OrderStatus | None:
    """Return the state after; None where the table has no such transition.

    ``is_replacing``: a replace is unanswered after it.
    """
    after = TRANSITIONS.get((status, happening))
    if after is WORKING:
        if is_replacing:
            return PENDING_REPLACE
        return PARTIALLY_FILLED if is_filled_partly else NEW
    return after
