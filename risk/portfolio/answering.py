"""From a request of the engine to an answer: the account's book from the replica, prices, the decision."""

from __future__ import annotations

from typing import Final, Protocol

from protocol.codes import Code
from protocol.risk import TEXT_CHARS_MAX, RiskAnswer, RiskRequest
from protocol.risk import Verdict as Word
from risk.portfolio.answer import Decision, Verdict
from risk.portfolio.book import Book, OrderClass, Request
from risk.portfolio.params import Params
from risk.portfolio.replica import Replica
from risk.portfolio.snapshot import MarketSnapshot, Quote, Spot

WORDS: Final = {Verdict.APPROVE: Word.APPROVE, Verdict.REJECT: Word.REJECT, Verdict.TRIM: Word.TRIM}


class Prices(Protocol):
    """Where prices come from."""

    def price_e9(self, instrument: str, now_ns: int) -> int:
        """Return a fresh price; 0 = there is none."""


class Answerer(Protocol):
    """Who decides: the portfolio's mathematics, or a risk system elsewhere."""

    def answer(self, request: RiskRequest, replica: Replica, now_ns: int) -> RiskAnswer:
        """Return the answer to a request, on a replica that has its ``book_seq``."""


class PortfolioAnswerer:
    """Decides by scenario margin, stress and limits (``risk.portfolio.decide``)."""

    def __init__(self, params: Params, prices: Prices) -> None:
        from risk.portfolio.catalogue import Catalogue

        self._params = params
        self._catalogue = Catalogue(params)
        self._prices = prices

    def answer(self, request: RiskRequest, replica: Replica, now_ns: int) -> RiskAnswer:
        """Return the answer; ``now_ns`` is this host's clock."""
        from risk.portfolio.decide import decide_on
        from risk.portfolio.standing import Desk, Standing
        from risk.portfolio.valuation import Valued

        at_ns = max(now_ns, request.now_ns)
        valued = Valued(self.snapshot(at_ns, replica.seq), self._catalogue)
        decision = decide_on(to_request(request), Standing(to_book(request, replica), Desk(valued)))
        return to_answer(request, decision, replica.seq)

    def snapshot(self, at_ns: int, seq: int) -> MarketSnapshot:
        """Return the market as it is now."""
        price = self._prices.price_e9
        quotes = tuple(
            Quote(c.instrument, price(c.instrument, at_ns), at_ns=at_ns) for c in self._params.contracts
        )  # fmt: skip
        known = {quote.instrument for quote in quotes}
        spots = (
            Spot(p.underlying, price(p.underlying, at_ns), at_ns)
            for p in self._params.products
            if p.underlying not in known
        )
        return MarketSnapshot(f"{seq}-{at_ns}", at_ns, quotes, tuple(s for s in spots if s.price_e9))


def to_request(request: RiskRequest) -> Request:
    """Return the request as the mathematics takes it."""
    return Request(
        f"{request.order_id}.{request.asked}", request.client_order_id, request.instrument, request.side,
        request.quantity_e9, request.price_e9, OrderClass.EXIT if request.is_exit else OrderClass.INC,
        tuple(request.codes), request.allows_trim, request.quantity_min_e9, 0, request.book_seq,
        request.deadline_ns, request.now_ns,
    )  # fmt: skip


def to_book(request: RiskRequest, replica: Replica) -> Book:
    """Return the account's positions and its other open orders."""
    orders = replica.orders(request.account, request.order_id)
    funds_e9 = int(request.funds_e9)
    return Book(
        request.account, request.currency, funds_e9, replica.positions(request.account), orders, replica.seq
    )  # fmt: skip


def to_answer(request: RiskRequest, decision: Decision, book_seq: int) -> RiskAnswer:
    """Return the decision as the engine takes it."""
    code = decision.code
    if code is Code.OK and decision.verdict is Verdict.REJECT:
        code = Code.RISK_REJECTED
    return RiskAnswer(
        request.order_id, request.asked, WORDS[decision.verdict], decision.quantity_e9, code,
        decision.text[:TEXT_CHARS_MAX], str(decision.margin_before_e9), str(decision.margin_after_e9),
        str(decision.margin_inc_e9), book_seq, decision.valid_until_ns, decision.params_version[:TEXT_CHARS_MAX],
    )  # fmt: skip
