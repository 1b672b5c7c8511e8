"""The decision on a held order: a pure function of book, snapshot and parameters (RISK.md B6).

Approve if every limit holds in the worst case of positions, open orders and this one; else if it is an exit or makes
nothing worse; else the most lots that fit, if the order may be trimmed; else reject, naming what binds. Hedges (B6.5)
are not searched. Rule: what can't be priced is never approved, but for an exit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from market.pricing import Floats
from protocol.codes import Code
from protocol.units import E9, format_e9
from risk.portfolio import units as u
from risk.portfolio.answer import Decision, Verdict
from risk.portfolio.book import Book, OpenOrder, OrderClass, Request
from risk.portfolio.catalogue import Catalogue
from risk.portfolio.margin import up_e9
from risk.portfolio.params import Limit, LimitKind, Params
from risk.portfolio.snapshot import MarketSnapshot
from risk.portfolio.standing import Desk, Standing
from risk.portfolio.valuation import Valued
from risk.portfolio.worst import Leg, leg_of, legs, need, reach

TRIALS_MAX: Final = 64  # quantities tried at once; two rounds where there are more lots than that
GREEK: Final = {LimitKind.DELTA: 0, LimitKind.GAMMA: 1, LimitKind.VEGA: 2}
WHOLE: Final = np.ones(1)


class Figure(NamedTuple):
    """One bound and what each candidate quantity would make of it; both in 1e-9. ``before``: without the order."""

    name: str
    allowed_e9: int
    before_e9: int
    actual_e9: list[int]

    def holds(self, candidate: int) -> bool:
        """Whether it is kept."""
        return self.actual_e9[candidate] <= self.allowed_e9


def decide(request: Request, book: Book, snapshot: MarketSnapshot, params: Params) -> Decision:
    """Return the answer to one request."""
    return decide_on(request, Standing(book, Desk(Valued(snapshot, Catalogue(params)))))


def decide_on(request: Request, standing: Standing) -> Decision:
    """Return the answer where book, snapshot and parameters have been prepared: the same as ``decide`` gives."""
    desk = standing.desk
    row = desk.catalogue.index.get(request.instrument, -1)
    expiry_ns = int(desk.catalogue.expiry_ns[row]) if row >= 0 else 0
    is_known = row >= 0 and (not expiry_ns or desk.valued.snapshot.at_ns < expiry_ns)
    if not is_known or standing.unpriced or not desk.valued.is_priced[row]:
        return _without_price(request, standing, is_known=is_known)
    order = leg_of(
        desk,
        row,
        OpenOrder(
            request.client_order_id, request.instrument, request.side, request.quantity_e9, request.price_e9,
            request.reserved_e9,
        ),
    )  # fmt: skip
    asked = _Asked(request, standing, row, order)
    figures = asked.figures(WHOLE)
    broken = [f for f in figures if not f.holds(0)]
    if not broken:
        return asked.answer(Verdict.APPROVE, request.quantity_e9, Code.OK)
    binding = broken[0]
    if request.order_class is OrderClass.EXIT or all(f.actual_e9[0] <= f.before_e9 for f in (figures[0], *broken)):
        return asked.answer(Verdict.APPROVE, request.quantity_e9, Code.RISK_IMPROVES, binding)
    fits = asked.most_that_fits()
    code = Code.MARGIN_AT_EXPIRY if binding.name == "margin_at_expiry" else Code.OK
    least = max(request.quantity_min_e9, desk.catalogue.params.contracts[row].lot_e9)
    if request.allow_trim and fits >= least:
        return asked.answer(Verdict.TRIM, fits, code, binding, fits)
    return asked.answer(Verdict.REJECT, 0, code, binding, fits)


class _Asked:
    """One request on a standing, with what it is measured by."""

    def __init__(self, request: Request, standing: Standing, row: int, order: Leg) -> None:
        self.request = request
        self.standing = standing
        self.row = row
        self.order = order
        catalogue = standing.desk.catalogue
        self.params = catalogue.params
        self.number = int(catalogue.underlying[row])
        product = catalogue.products[self.number]
        dated = int(catalogue.expiry_ns[row]) > 0 and product.hold_to_expiry and request.order_class is OrderClass.INC
        self.bucket = int(catalogue.bucket[row]) if dated else -1
        others = [n for n in standing.underlyings if n != self.number]
        self.elsewhere = sum(float(need(standing, n, None, WHOLE).now[0]) for n in others)
        self.before = need(standing, self.number, None, WHOLE, self.bucket)
        self.whole = need(standing, self.number, order, WHOLE, self.bucket)

    def figures(self, shares: Floats) -> list[Figure]:
        """Return every bound that applies, margin first, at these shares of the quantity."""
        needed = self.whole
        if shares is not WHOLE:
            needed = need(self.standing, self.number, self.order, shares, self.bucket)
        book, now = self.standing.book, [up_e9(self.elsewhere + x) for x in needed.now]
        before = self.money(self.before.now[0])
        found = [Figure("margin", book.funds_e9, before, now)]
        if self.bucket >= 0:
            later = [max(a, up_e9(self.elsewhere + x)) for a, x in zip(now, needed.at_expiry, strict=True)]
            first = max(before, self.money(self.before.at_expiry[0]))
            found.append(Figure("margin_at_expiry", book.funds_e9, first, later))
        for limit in self.params.limits:
            figure = self.limit_figure(limit, shares, before, now)
            if figure is not None:
                found.append(figure)
        return found

    def limit_figure(self, limit: Limit, shares: Floats, before: int, now: list[int]) -> Figure | None:
        """Return one limit's figure; None if it is of another account or underlying."""
        underlying = self.standing.desk.catalogue.products[self.number].underlying
        if limit.account not in {"", self.standing.book.account} or limit.underlying not in {"", underlying}:
            return None
        scope = ",".join(part for part in (limit.account, limit.underlying) if part)
        name = f"{limit.kind.name}({scope})" if scope else limit.kind.name
        if limit.kind is LimitKind.MARGIN:
            return Figure(name, limit.value_e9, before, now)
        if limit.kind is LimitKind.STRESS:
            equity = (self.standing.book.equity_e9 or self.standing.book.funds_e9) / E9
            allowed = up_e9(equity * limit.value_e9 / E9)
            first = up_e9(self.stress(None, WHOLE)[0])
            return Figure(name, allowed, first, [up_e9(x) for x in self.stress(self.order, shares)])
        column = u.GREEKS.start + GREEK[limit.kind]
        first = up_e9(reach(self.standing, self.number, column, None, WHOLE)[0])
        after = reach(self.standing, self.number, column, self.order, shares)
        return Figure(name, limit.value_e9, first, [up_e9(x) for x in after])

    def stress(self, order: Leg | None, shares: Floats) -> Floats:
        """Return the worst loss of the stress grid, whichever orders fill, one value a candidate."""
        losses = self.standing.desk.stress
        high = self.standing.stress.copy()
        for n in self.standing.underlyings:
            for leg in legs(self.standing, n):
                high += np.maximum(leg.quantity * losses[leg.row], 0.0)
        own = np.maximum(order.quantity * losses[order.row], 0.0) if order else np.zeros_like(high)
        return np.asarray(np.maximum(0.0, (high[None] + shares[:, None] * own[None]).max(axis=1)))

    def most_that_fits(self) -> int:
        """Return the largest number of whole lots that keeps every bound, 1e-9; 0 = none.

        All multiples are tried if there are at most 64: what fits need not be one range, spreads see to that. Of more,
        64 evenly spaced ones, then those between the largest that fits and the next.
        """
        lot, most = self.params.contracts[self.row].lot_e9, self.request.quantity_e9
        lots = (most - 1) // lot
        best, low, high = 0, 1, lots
        while low <= high:
            step = -(-(high - low + 1) // TRIALS_MAX)
            tried = np.unique([*range(low, high + 1, step), high])
            figures = self.figures(tried * lot / most)
            fits = [int(n) for k, n in enumerate(tried) if all(f.holds(k) for f in figures)]
            if not fits:
                # Smaller than the smallest that was tried: nothing, for the smallest is one lot of the first round.
                break
            best = max(best, fits[-1])
            low, high = fits[-1] + 1, min(high, fits[-1] + step - 1)
            if step == 1:
                break
        return best * lot

    def money(self, of_underlying: float) -> int:
        """Return what the account needs, 1e-9, where the order's underlying needs this."""
        return up_e9(self.elsewhere + of_underlying)

    def answer(
        self, verdict: Verdict, quantity_e9: int, code: Code, binding: Figure | None = None, fits_e9: int = 0
    ) -> Decision:
        """Return the decision with the figures of what is approved; of a reject, of the whole order."""
        request = self.request
        after = self.whole
        if quantity_e9 not in {0, request.quantity_e9}:
            share = np.array([quantity_e9 / request.quantity_e9])
            after = need(self.standing, self.number, self.order, share, self.bucket)
        before_e9, after_e9 = self.money(self.before.now[0]), self.money(after.now[0])
        expiry_e9 = max(after_e9, self.money(after.at_expiry[0])) if self.bucket >= 0 else 0
        return Decision(
            req_id=request.req_id, verdict=verdict, quantity_e9=quantity_e9, code=code,
            limit=binding.name if binding else "", actual_e9=binding.actual_e9[0] if binding else 0,
            allowed_e9=binding.allowed_e9 if binding else 0,
            quantity_max_e9=fits_e9 if binding and verdict is not Verdict.APPROVE else request.quantity_e9,
            margin_before_e9=before_e9, margin_after_e9=after_e9, margin_inc_e9=after_e9 - before_e9,
            margin_expiry_e9=expiry_e9, worst_scenario=after.worst,
            snapshot_id=self.standing.desk.valued.snapshot.snapshot_id, params_version=self.params.version,
            book_seq=self.standing.book.book_seq, valid_until_ns=request.now_ns + self.params.answer_valid_ns,
            text=_text(request, verdict, quantity_e9, code, binding, before_e9, after_e9),
        )  # fmt: skip


def _text(
    request: Request,
    verdict: Verdict,
    quantity_e9: int,
    code: Code,
    binding: Figure | None,
    before_e9: int,
    after_e9: int,
) -> str:
    moves = f"margin {_money(before_e9)} → {_money(after_e9)}"
    if binding is None:
        return f"approved: {moves}"
    bound = f"{binding.name} expected at most {_money(binding.allowed_e9)}, was {_money(binding.actual_e9[0])}"
    if verdict is Verdict.APPROVE:
        why = "an exit" if request.order_class is OrderClass.EXIT else "nothing gets worse"
        return f"approved, {why}: {bound}; {moves}"
    if verdict is Verdict.TRIM:
        return f"trimmed to {format_e9(quantity_e9)} of {format_e9(request.quantity_e9)}: {bound}; {moves}"
    return f"{code.name if code else 'rejected'}: {bound}; {moves}"


def _money(value_e9: int) -> str:
    hundredths = -(-value_e9 // (E9 // 100))
    sign = "-" if hundredths < 0 else ""
    return f"{sign}{abs(hundredths) // 100:,}.{abs(hundredths) % 100:02d}"


def _without_price(request: Request, standing: Standing, *, is_known: bool) -> Decision:
    """Return the answer where a figure is missing: an exit goes, everything else does not."""
    params, snapshot = standing.desk.catalogue.params, standing.desk.valued.snapshot
    is_exit = request.order_class is OrderClass.EXIT
    named = standing.unpriced if is_known and standing.unpriced else [request.instrument]
    text = (
        f"expected a running contract, scan ranges and a price of each instrument, had none of {', '.join(named[:5])}"
    )
    return Decision(
        req_id=request.req_id,
        verdict=Verdict.APPROVE if is_exit else Verdict.REJECT,
        quantity_e9=request.quantity_e9 if is_exit else 0,
        code=Code.RISK_IMPROVES if is_exit else Code.OK,
        limit="price" if is_known else "contract",
        quantity_max_e9=request.quantity_e9 if is_exit else 0,
        snapshot_id=snapshot.snapshot_id, params_version=params.version, book_seq=standing.book.book_seq,
        valid_until_ns=request.now_ns + params.answer_valid_ns,
        text=("approved, an exit: " if is_exit else "rejected: ") + text,
    )  # fmt: skip
