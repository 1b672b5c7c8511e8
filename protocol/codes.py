"""Closed sets with stable numbers: FIX enumerations, outcome kinds and refusal codes.

Rule: numbers are journaled, so a number once given never changes its meaning and is never given again.
Refusal codes are grouped by the stage of RISK.md A2 that refuses: 100 envelope, 200 state,
300 instrument and permission, 400 price, 500 size and value, 600 rate, 640 paper, 700 exposure, 800 money, 900 engine.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Mode(IntEnum):
    """What an engine may reach. Stands in the journal's first record and never changes."""

    PAPER = 0
    LIVE = 1


class GatewayKind(IntEnum):
    """What a gateway reaches."""

    SANDBOX = 0
    LIVE = 1


class Side(IntEnum):
    """FIX tag 54."""

    BUY = 1
    SELL = 2


class OrderType(IntEnum):
    """FIX tag 40."""

    MARKET = 1
    LIMIT = 2
    STOP = 3
    STOP_LIMIT = 4


class TimeInForce(IntEnum):
    """FIX tag 59."""

    DAY = 0
    GTC = 1
    IOC = 3
    FOK = 4
    GTD = 6


class OrderStatus(IntEnum):
    """FIX tag 39; letters as their place in the alphabet + 9. UNKNOWN is ours: sent, and nobody has answered."""

    NEW = 0
    PARTIALLY_FILLED = 1
    FILLED = 2
    CANCELED = 4
    PENDING_CANCEL = 6
    REJECTED = 8
    SUSPENDED = 9  # accepted, at no venue yet: it waits for others to end, or for its price (engine.oco)
    PENDING_NEW = 10
    EXPIRED = 12
    PENDING_REPLACE = 14
    UNKNOWN = 100
    TOMBSTONE = 101  # no order: a cancel came first (DESIGN 6.5)
    NONE = 102  # no order: never seen
    HELD = 103  # taken and reserved for, at no venue yet: the risk service is asked (engine.holds)

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can happen to the order any more, except a late fill or a correction."""
        return self in TERMINAL


TERMINAL: Final = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.EXPIRED})
AT_NO_VENUE: Final = frozenset({OrderStatus.SUSPENDED, OrderStatus.HELD})


class ExecType(IntEnum):
    """FIX tag 150 for what a venue or the engine says of an order; letters as their place in the alphabet + 9."""

    NEW = 0
    CANCELED = 4
    REPLACED = 5
    PENDING_CANCEL = 6
    REJECTED = 8
    SUSPENDED = 9
    PENDING_NEW = 10
    EXPIRED = 12
    PENDING_REPLACE = 14
    TRADE = 15
    TRADE_CORRECT = 16
    TRADE_CANCEL = 17
    ORDER_STATUS = 18
    TRIGGERED = 21
    CANCEL_REJECT = 100  # FIX message type 9 in answer to a cancel
    NOT_FOUND = 101  # answer to a query: the venue never saw the order
    REPLACE_REJECT = 102  # FIX message type 9 in answer to a cancel/replace
    HELD = 103


class OutcomeKind(IntEnum):
    """What a submit is answered with. All but NOT_TAKEN stand in the journal."""

    ACCEPTED = 1
    REJECTED = 2
    HELD = 3
    PAPER = 4
    DUPLICATE = 5
    NOT_TAKEN = 6


class Liquidity(IntEnum):
    """FIX tag 851."""

    NONE = 0
    MAKER = 1
    TAKER = 2


class TradeStatus(IntEnum):
    """What a trade in the books is."""

    BOOKED = 0
    CORRECTED = 1  # counts, with the terms that the venue gave it later
    BUSTED = 2  # the venue took it back: counts no more
    SUSPENSE = 3  # of an order that nobody knows: counts nowhere yet
    ASSIGNED = 4  # was in suspense; an operator said whose it is
    DISMISSED = 5  # was in suspense; an operator said that it is nobody's


class ReferenceSource(IntEnum):
    """Where the price that an order was checked against came from."""

    NONE = 0
    LAST_TRADE = 1
    MID = 2
    CROSSED = 3  # either of them, while the best bid is not below the best ask


class Scope(IntEnum):
    """What a limit or a halt applies to."""

    GLOBAL = 0
    ACCOUNT = 1
    STRATEGY = 2
    INSTRUMENT = 3
    UNDERLYING = 4  # of limits and evidence only: trading states stand at the others
    VENUE = 5


class TradingState(IntEnum):
    """Severity of a scope; the highest over an order's scopes counts (RISK.md A6)."""

    ACTIVE = 0
    REDUCING = 1
    HALTED_AUTO = 2  # exits pass (DECISIONS 20)
    HALTED = 3


class Code(IntEnum):
    """Why something was refused, or how an accepted command was taken. Formulas: RISK.md part A."""

    OK = 0
    # 100 envelope
    AUTH_NOT_PERMITTED = 101
    MSG_MALFORMED = 102
    TIME_MESSAGE_STALE = 103
    TIME_MESSAGE_FUTURE = 104
    MESSAGE_EXPIRED = 105
    ID_CONFLICT = 106
    CANCELLED_BEFORE_ARRIVAL = 107
    ORDER_TERMINAL = 108
    ACCOUNT_UNKNOWN = 109
    STRATEGY_UNKNOWN = 110
    WRONG_SHARD = 111
    ORDER_UNKNOWN = 112
    ORDER_IN_DOUBT = 113
    CANCEL_PENDING = 114
    REPLACE_PENDING = 115
    TIME_EXPIRE_PAST = 116
    CANCELS_UNRELATED = 117
    ORDER_SUSPENDED = 118
    OCO_LEGS = 119
    ALGO_ID_MISSING = 120
    # 200 state
    STATE_HALTED = 201
    STATE_REDUCING = 202
    VENUE_DOWN = 203
    # 300 instrument and permission
    INSTR_UNKNOWN = 301
    INSTR_NOT_TRADABLE = 302
    INSTR_EXPIRED = 303
    TYPE_UNSUPPORTED = 304
    INSTR_EXPIRY_CUTOFF = 305
    SESSION_CLOSED = 306
    INSTR_RESTRICTED = 307
    INSTR_BAN_REDUCE_ONLY = 308
    PERM_OPTION_WRITE = 309
    PERM_SHORT_SELL = 310
    # 400 price
    PRICE_NOT_POSITIVE = 401
    PRICE_TICK = 402
    PRICE_COLLAR = 403
    REF_STALE = 404
    PRICE_STOP_SIDE = 405
    POST_ONLY = 406
    PRICE_BAND = 407
    PRICE_LPP = 408
    # 500 size and value
    QTY_LOT = 501
    QTY_MIN = 502
    QTY_MAX = 503
    VALUE_ORDER_MAX = 504
    VALUE_OPEN_MAX = 505
    COUNT_OPEN_MAX = 506
    QTY_BELOW_FILLED = 507
    QTY_FREEZE = 508
    VALUE_ORDER_MIN = 509
    COUNT_DAILY_MAX = 510
    # 600 rate
    RATE_STRATEGY = 601
    RATE_ACCOUNT = 602
    RATE_GLOBAL = 603
    RATE_VENUE = 604
    DUP_ECONOMIC = 605
    LOOP_INTENT = 606
    LOOP_EXECUTIONS = 607
    ERR_BUDGET = 608
    STP_CROSS = 609
    # 640 paper
    PAPER_KEY = 640
    PAPER_UNSUPPORTED = 641
    PAPER_OPEN_MAX = 642
    # 650 rate again
    LOOP_CHURN = 650
    RATIO_OTR = 651
    TIME_CLOCK_UNSYNCED = 652
    REF_SUSPECT = 653
    # 700 exposure
    REDUCE_ONLY_VIOLATION = 701
    POS_LIMIT = 702
    POS_UNDERLYING = 703
    EXPO_GROSS = 704
    EXPO_NET = 705
    # 800 money
    CASH_INSUFFICIENT = 800
    MARGIN_ESTIMATE = 801
    LOSS_DAILY = 840
    LOSS_DRAWDOWN = 841
    PNL_UNKNOWN = 842
    MARGIN_UTILISATION = 843
    # 850 the risk service
    RISK_REJECTED = 850
    RISK_DEADLINE = 851
    RISK_UNAVAILABLE = 852
    RISK_PENDING_MAX = 853
    RISK_TRIMMED = 854
    RISK_DECISION_LATE = 855
    RISK_DECISION_STALE = 856
    RISK_TRIM_REFUSED = 857
    HELD_CANCELLED = 858
    ORDER_HELD = 859
    # 870 portfolio risk
    MARGIN_AT_EXPIRY = 870
    RISK_IMPROVES = 871
    # 900 engine
    INTERNAL = 901
    UNSENT_STALE = 902
    UNSENT_KILLED = 903
    TOMBSTONE = 904
    VENUE_REJECTED = 905
    OPERATOR_RESOLVED = 906
    VENUE_BOOK_STALE = 907
    TOO_LATE = 908
    NOTHING_LEFT = 910
    OCO_FILLED = 911
    OCO_TRIGGERED = 912
    EXIT_STALE = 913
    DAY_OVER = 930


class RetryReason(IntEnum):
    """Why a session is told to come back with its new risk later (DESIGN 5, RETRY)."""

    VENUE_NOT_READY = 1
    DRAINING = 2
    DEDUP_FULL = 3
    DISK_RESERVE = 4
    CREDITS = 5


class ByeReason(IntEnum):
    """Why a session was ended."""

    FENCED = 1
    VERSION = 2
    CREDITS = 3
    UNIT_NOT_CLAIMED = 4
    MALFORMED = 5
    SOURCE_UNKNOWN = 6
    MODE = 7
    SLOW = 8
    STOPPING = 9
    VENUE_UNKNOWN = 10
