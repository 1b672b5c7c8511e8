"""How far a partition is answered: never past what is not, over gaps, and nothing of an assignment that has ended."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecars.core.source import Delivery
from sidecars.core.window import Receipt, Window


def handed_out(window: Window, offsets: list[int]) -> list[Receipt]:
    """Return the receipts of records with these offsets."""
    receipts = []
    for offset in offsets:
        receipt = window.hand_out(offset, object())
        receipt.delivery = Delivery("p", "l", b"", 0, 0, receipt=receipt)
        receipts.append(receipt)
    return receipts


@given(st.lists(st.integers(1, 5), min_size=1, max_size=40), st.randoms(use_true_random=False), st.integers(0, 40))
def test_the_watermark_is_right_behind_the_last_of_the_answered_beginning(
    gaps: list[int], order: object, answered: int
) -> None:
    """Whatever is answered in whatever order: below the watermark all is answered, and it is as high as that allows."""
    offsets = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    window = Window(0)
    receipts = handed_out(window, offsets)
    shuffled = list(receipts)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    marks = [window.watermark]
    for receipt in shuffled[:answered]:
        window.answer(receipt)
        window.answer(receipt)
        marks.append(window.watermark)

    beginning = next((n for n, r in enumerate(receipts) if not r.is_answered), len(receipts))
    assert window.watermark == (offsets[beginning - 1] + 1 if beginning else -1)
    assert marks == sorted(marks)
    assert window.unanswered == len(receipts) - min(answered, len(receipts))
    assert len(window) == len(receipts) - beginning
    assert window.is_due == (beginning > 0)


def test_what_is_answered_is_not_kept() -> None:
    """Behind one that waits thousands may be answered: their records are let go."""
    window = Window(0)
    first, second = handed_out(window, [5, 9])
    window.answer(second)

    assert (second.record, second.delivery) == (None, None)
    assert first.record is not None
    assert (window.oldest(), len(window), window.unanswered) == (first, 2, 1)


def test_a_fenced_window_commits_nothing_and_gives_up_what_is_under_way() -> None:
    """An assignment that ended leaves nothing to commit, and its deliveries have run out."""
    window = Window(0)
    first, second = handed_out(window, [5, 6])
    delivery = second.delivery
    window.answer(first)
    assert window.is_due
    window.fence()

    assert not window.is_due
    assert delivery is not None
    assert delivery.lease_until_mono_ns == 1
    assert window.unanswered == 0
