"""Every answer that a sidecar was given, against the record that it names. Nothing of the core."""

from __future__ import annotations

from collections import Counter, defaultdict

from protocol.codes import Code, OutcomeKind
from protocol.held_records import OrderHeld
from protocol.oco_records import OcoOrdered
from protocol.orders import CancelOrder, command_decoder
from protocol.paper import PaperOrdered
from protocol.records import BasketOrdered, CancelRequested, ExitRequested, Failed, Ordered, ReplaceRequested
from protocol.session import Outcome
from tests.simulation.checkers import Watch

FOR_PEOPLE = frozenset({Code.ID_CONFLICT, Code.AUTH_NOT_PERMITTED, Code.WRONG_SHARD})
NO_KEY = FOR_PEOPLE | {Code.MSG_MALFORMED}  # no decision about the id: another command may still have it
DECIDED = (
    Ordered | OrderHeld | PaperOrdered | CancelRequested | ReplaceRequested | BasketOrdered | ExitRequested | OcoOrdered
    | Failed
)  # fmt: skip


class Answers:
    """Every answer to every delivery."""

    def __init__(self) -> None:
        self.contents: dict[tuple[str, str], dict[bytes, list[tuple[object, ...]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self.cancels: list[tuple[str, Outcome]] = []
        self.codes = Counter[Code]()
        self.taken: list[tuple[bytes, Outcome]] = []

    def take(self, body: bytes, outcome: Outcome) -> None:
        """Note an answer; a DUPLICATE stands for the first one it repeats."""
        command = command_decoder.decode(body)
        first = outcome.first or outcome
        assert (outcome.kind is OutcomeKind.DUPLICATE) == (outcome.first is not None)
        self.codes[first.code] += 1
        self.taken.append((body, first))
        if isinstance(command, CancelOrder):
            assert outcome.first is None
            self.cancels.append((command.orig_client_order_id, outcome))
            return
        if first.code is Code.AUTH_NOT_PERMITTED:
            return  # an answer to who asked, not to what
        content = (first.kind, first.code, first.order_id, first.record_seq)
        if first.code in NO_KEY:
            content = (first.kind, first.code, first.order_id, 0)
        self.contents[command.account, command.client_order_id][body].append(content)

    def verify(self, watch: Watch) -> None:
        """One id, one order, one outcome however often it was delivered; and the journal has it."""
        for key, by_body in self.contents.items():
            taken = {c for contents in by_body.values() for c in contents if c[1] not in NO_KEY}
            assert len(taken) <= 1, f"{key} has outcomes {taken}"
            for contents in by_body.values():
                assert len(set(contents)) == 1, f"{key} has for one payload {set(contents)}"
        for body, outcome in self.taken:
            require_journaled(watch, body, outcome)


def require_journaled(watch: Watch, body: bytes, outcome: Outcome) -> None:
    """The record an answer names holds this command and this decision."""
    seq = outcome.record_seq
    assert 0 < seq <= watch.medium.seq, f"answered from record {seq}, the journal ends at {watch.medium.seq}"
    record = watch.record(seq)
    assert isinstance(record, DECIDED), f"answered from record {seq}, a {record}"
    assert bytes(record.item.command) == body, f"answered from record {seq}, which is of another command"
    if isinstance(record, Failed):
        assert outcome.code is Code.INTERNAL
    else:
        order_id = (
            "" if isinstance(record, BasketOrdered | OcoOrdered) else record.decision.order_id
        )  # its legs have their own
        decided = (record.decision.kind, record.decision.code, order_id)
        assert decided == (outcome.kind, outcome.code, outcome.order_id), f"record {seq} decided {decided}: {outcome}"
