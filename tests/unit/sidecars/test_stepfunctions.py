"""Step Functions without Step Functions: what a task becomes, how it ends, calls that fail, what a definition lacks."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Self

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codes import Code, OrderStatus, OutcomeKind
from protocol.errors import ConfigError
from protocol.orders import CancelOrder
from protocol.session import Outcome
from sidecars.core.awake import Awake
from sidecars.core.identity import derive_id
from sidecars.core.kinds import Level, find_kind, read_settings
from sidecars.core.source import Delivery, Settlement, Verb, Why
from sidecars.sources import stepfunctions as module
from sidecars.sources.stepfunctions_answers import (
    INVALID,
    OUTPUT_BYTES_MAX,
    REJECTED,
    RETRYABLE,
    Ending,
    ending_of,
)
from sidecars.sources.stepfunctions_check import judge
from sidecars.sources.stepfunctions_link import DONE, LOST, Polled
from sidecars.sources.stepfunctions_settings import StepFunctionsSettings
from sidecars.sources.stepfunctions_task import to_delivery

ARN = "arn:aws:states:eu-west-1:123456789012:activity:orders"
S = 1_000_000_000


def settings(**changes: Any) -> StepFunctionsSettings:
    """Return settings that work."""
    return msgspec.convert({"activity": ARN, "principal": "desk", **changes}, StepFunctionsSettings)


def delivery_of(task: str, lease_until_ns: int = 1 << 62, **changes: Any) -> Delivery:
    """Return the delivery of a task's input."""
    return to_delivery(settings(**changes), {"taskToken": "t", "input": task}, 1, 5, lease_until_ns)


def envelope(**fields: Any) -> Delivery:
    """Return the delivery of an envelope."""
    return delivery_of(msgspec.json.encode({"order": {"a": 1}, **fields}).decode(), envelope="task")


# What a task becomes


def test_an_input_is_the_order_where_no_envelope_is_declared() -> None:
    """It is never looked into: no id, no time, whatever it looks like."""
    found = delivery_of('{"order": {}, "id": "x"}')

    assert (found.body, found.derived_id, found.created_at_ns) == (b'{"order": {}, "id": "x"}', "", 0)


def test_an_envelope_brings_what_an_order_lacks() -> None:
    """Id, time, attempt and trace come from the state machine; the token, which changes, is no part of the id."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    found = envelope(id="run-1", time="2026-11-22T16:04:11.668339+00:00", retries=2, attributes={"traceparent": trace})

    assert found.derived_id == derive_id("sfn", ARN, "run-1")
    assert found.created_at_ns == 1_795_363_451_668_339_000
    assert (found.is_redelivered, found.trace_id.hex()) == (True, "0af7651916cd43dd8448eb211c80319c")
    assert (found.body, found.lane) == (b'{"a":1}', "orders")


def test_an_order_may_be_a_text_that_has_it() -> None:
    """What was made into JSON before stays as it was, byte by byte."""
    assert envelope(order='{"a":  1, "a": 2}').body == b'{"a":  1, "a": 2}'


@pytest.mark.parametrize(
    "text", ["", "[]", "7", '{"id": "x"}', '{"order": 1, "retries": "x"}', "[" * 50_000, '{"order": "\\ud800']
)
def test_what_is_no_envelope_is_refused_with_its_reason(text: str) -> None:
    """It is not taken for an order."""
    assert delivery_of(text, envelope="task").refused.startswith("ENVELOPE: ")


def test_a_time_that_is_none_is_refused() -> None:
    """The order's age would be unknown."""
    assert envelope(time="yesterday").refused.startswith("ENVELOPE: ")


@given(st.text(), st.booleans())
def test_no_input_makes_the_translation_fail(text: str, is_wrapped: bool) -> None:
    """Whatever an execution gives is a delivery, refused or not."""
    found = delivery_of(text, envelope="task" if is_wrapped else "none")

    assert found.refused or is_wrapped or found.body == text.encode("utf-8", "surrogatepass")


# How a task ends


def settlement(verb: Verb, kind: OutcomeKind | None = None, **changes: Any) -> Settlement:
    """Return an end."""
    one = Delivery("desk", "l", b"t" * 16, 0, 0, CancelOrder("demo", "a"), reply_to="task")
    outcome = None if kind is None else Outcome(1, kind, Code.OK, "P-1", 7, OrderStatus.NEW)
    return Settlement(one, verb, outcome, **changes)


def test_each_end_has_its_answer() -> None:
    """Success for what was decided, three errors for the rest, so that a definition can tell them apart."""
    rejected = Outcome(1, OutcomeKind.REJECTED, Code.QTY_MAX, "", 7, OrderStatus.REJECTED)
    again = settlement(Verb.ACCEPT, OutcomeKind.DUPLICATE)
    again.outcome = msgspec.structs.replace(again.outcome, first=rejected)

    assert '"ACCEPTED"' in ending_of(settlement(Verb.ACCEPT, OutcomeKind.ACCEPTED)).output
    assert ending_of(settlement(Verb.ACCEPT, OutcomeKind.REJECTED)).error == REJECTED
    assert ending_of(again).error == REJECTED
    assert ending_of(settlement(Verb.DEAD_LETTER, text="FIELD: price")) == Ending(error=INVALID, cause="FIELD: price")
    assert ending_of(settlement(Verb.RETRY, why=Why.DRAINING)) == Ending(error=RETRYABLE, cause="DRAINING")
    assert ending_of(settlement(Verb.ABANDON, why=Why.DRAINING)).error == RETRYABLE


def test_an_answer_too_long_for_an_output_is_told_in_short() -> None:
    """A batch of many whose answer Step Functions would refuse still ends, with each item's outcome."""
    part = settlement(Verb.ACCEPT, OutcomeKind.ACCEPTED)
    part.delivery.command = CancelOrder("demo", "x" * 4_000)
    whole = settlement(Verb.ACCEPT, OutcomeKind.ACCEPTED, parts=[part] * 500)
    output = ending_of(whole).output

    assert len(output) < OUTPUT_BYTES_MAX
    assert msgspec.json.decode(output)["outcomes"] == [["ACCEPTED", "OK"]] * 500


# Calls that fail


class StubTokens:
    """Answers as a test says: what is not said is done."""

    def __init__(self, *words: str | Exception) -> None:
        self.words = list(words)
        self.calls: list[tuple[str, Ending | None]] = []

    def answer(self, token: str, ending: Ending) -> str:
        """Note it."""
        self.calls.append((token, ending))
        return self._word()

    def heartbeat(self, token: str) -> str:
        """Note it."""
        self.calls.append((token, None))
        return self._word()

    def _word(self) -> str:
        word = self.words.pop(0) if self.words else DONE
        if isinstance(word, Exception):
            raise word
        return word


class Rig:
    """A source with stubs in the place of the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *words: str | Exception) -> None:
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        self.source = module.StepFunctionsSource("sfn", settings(in_flight=3))
        self.tokens = StubTokens(*words)
        self.source._settle_tokens = self.source._extend_tokens = self.tokens  # type: ignore[assignment]
        self.source._awake = Awake(time.monotonic_ns())

    def __enter__(self) -> Self:
        self.source._settling = module.Crew("s", 1)
        self.source._extending = module.Crew("e", 1)
        return self

    def __exit__(self, *_: object) -> None:
        self.source._settling.stop()
        self.source._extending.stop()

    def taken(self, lease_until_ns: int = 0) -> Delivery:
        """Return a delivery that the source handed on."""
        now_ns = time.monotonic_ns()
        self.source._buffer.append((now_ns, now_ns, {"taskToken": f"t{self.source._number}", "input": "{}"}))
        (found,) = self.source._take(1)
        if lease_until_ns:
            found.lease_until_mono_ns = lease_until_ns
        return found


def test_a_heartbeat_that_fails_is_told_and_a_token_that_is_over_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """C11: one that fails leaves the lease as it was; one that Step Functions refuses ends it at once."""

    async def run() -> None:
        with Rig(monkeypatch, OSError("gone"), LOST, DONE) as rig:
            three = [rig.taken() for _ in range(3)]
            before = [d.lease_until_mono_ns for d in three]
            failed = await rig.source.extend(three)

            assert failed == three[:2]
            assert three[0].lease_until_mono_ns == before[0]
            assert three[1].lease_until_mono_ns == 1
            assert three[2].lease_until_mono_ns > before[2]

    asyncio.run(run())


def test_an_answer_that_failed_is_tried_again_and_one_too_late_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """C21: a token that was completed before, as after a lost response, is lost and not failed."""

    async def run() -> None:
        with Rig(monkeypatch, OSError("gone"), LOST) as rig:
            first = Settlement(rig.taken(), Verb.RETRY, why=Why.ENGINE_BUSY)
            second = Settlement(rig.taken(), Verb.RETRY, why=Why.ENGINE_BUSY)

            assert await rig.source.settle([first, second]) == [first]
            assert (first.is_lost, second.is_lost) == (False, True)
            assert await rig.source.settle([first]) == []
            assert rig.source._unsettled == {}

    asyncio.run(run())


def test_nothing_is_given_back_after_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """I7: only a decision is still told, for the token names one attempt."""

    async def run() -> None:
        with Rig(monkeypatch) as rig:
            ends = [
                Settlement(rig.taken(1), verb, why=Why.LEASE_OVER)
                for verb in (Verb.RETRY, Verb.ABANDON, Verb.DEAD_LETTER)
            ]
            decided = settlement(Verb.ACCEPT, OutcomeKind.ACCEPTED)
            decided.delivery.receipt, decided.delivery.lease_until_mono_ns = rig.taken().receipt, 1
            await rig.source.settle([*ends, decided])

            assert [e is not None and bool(e.output) for _, e in rig.tokens.calls] == [True]

    asyncio.run(run())


def test_what_a_frozen_process_polled_has_a_lease_that_counts_from_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """C7: the answer waited in the kernel while the process did not run; its task may be another's by now."""

    async def run() -> None:
        with Rig(monkeypatch) as rig:
            rig.source._awake = Awake(time.monotonic_ns() - 60 * S)
            poll: asyncio.Future[Polled] = asyncio.get_running_loop().create_future()
            poll.set_result(Polled(time.monotonic_ns(), {"taskToken": "t", "input": "{}"}))
            rig.source._on_polled(poll)
            (found,) = rig.source._take(1)

            assert found.lease_until_mono_ns < time.monotonic_ns()

    asyncio.run(run())


# Settings and check


def test_settings_are_checked_before_anything_is_called() -> None:
    """An ARN of something else is named."""
    kind = find_kind("stepfunctions")
    with pytest.raises(ConfigError, match="activity"):
        read_settings(kind, "sfn", {"activity": ARN.replace("activity", "stateMachine"), "principal": "desk"})


def levels(**state: Any) -> dict[str, Level]:
    """Return what is said of a definition with one state, inside of a Map."""
    place = {"Type": "Task", "Resource": ARN, "End": True, **state}
    inner = {"StartAt": "Place", "States": {"Place": place}}
    definition = {"StartAt": "Each", "States": {"Each": {"Type": "Map", "ItemProcessor": inner}}}
    worst: dict[str, Level] = {}
    for finding in judge(definition, settings()):
        worst[finding.what] = max(worst.get(finding.what, Level.FINE), finding.level)
    return worst


def test_what_a_definition_lacks_is_said() -> None:
    """No heartbeat or no retry breaks a promise; so does a heartbeat shorter than ours."""
    errors = [RETRYABLE, "States.Timeout", "States.HeartbeatTimeout"]
    good = {"HeartbeatSeconds": 30, "Retry": [{"ErrorEquals": errors, "MaxAttempts": 20}]}

    assert set(levels(**good).values()) == {Level.FINE}
    assert levels(Retry=good["Retry"])["Place: HeartbeatSeconds"] is Level.FAULT
    assert levels(**{**good, "HeartbeatSeconds": 29})["Place: HeartbeatSeconds"] is Level.FAULT
    assert levels(HeartbeatSeconds=30)["Place: Retry"] is Level.FAULT
    assert levels(HeartbeatSeconds=30, Retry=[{"ErrorEquals": ["States.TaskFailed"]}])["Place: Retry"] is Level.FAULT
    assert levels(HeartbeatSeconds=30, Retry=[{"ErrorEquals": ["States.ALL"]}])["Place: Retry"] is Level.ADVICE
    assert [f.level for f in judge({"States": {"Other": {"Type": "Pass"}}}, settings())] == [Level.FAULT]


THINGS = st.recursive(
    st.none() | st.integers() | st.sampled_from([RETRYABLE, "States.ALL", "x"]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["States", "Resource", "ErrorEquals", "MaxAttempts", "Branches"]), inner)
    ),
)


@given(THINGS, st.dictionaries(st.sampled_from(["Retry", "HeartbeatSeconds", "ItemProcessor", "Branches"]), THINGS))
def test_no_definition_makes_the_check_fail(definition: Any, state: dict[str, Any]) -> None:
    """Whatever stands there, something is said of it."""
    assert judge(definition, settings())
    assert judge({"States": {"Place": {**state, "Resource": ARN}}}, settings())
