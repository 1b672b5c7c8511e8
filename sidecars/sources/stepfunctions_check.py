"""``wojak sidecar check`` for Step Functions: rights, and what a state machine must say for the promises to hold.

Nothing is changed and no task is taken: the right to poll is not tried, for a poll may bring a task; the rights to
answer and to send heartbeats are tried with a token that is nobody's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from sidecars.core.kinds import Finding, Level
from sidecars.sources.aws_client import BROKEN, LOCAL, client, code_of, is_forbidden, text_of
from sidecars.sources.stepfunctions_answers import INVALID, REJECTED, RETRYABLE
from sidecars.sources.stepfunctions_settings import StepFunctionsSettings

NOBODYS: Final = "wojak-check-nobodys"
RETRIES_MIN: Final = 3
TIMED_OUT: Final = frozenset({"States.Timeout", "States.HeartbeatTimeout"})
ALL: Final = frozenset({"States.ALL", "States.TaskFailed"})


async def check(name: str, settings: StepFunctionsSettings) -> Sequence[Finding]:
    """Return what was looked at, and what to change."""
    return await asyncio.to_thread(_check, settings)


def _check(settings: StepFunctionsSettings) -> list[Finding]:
    states = client("stepfunctions", 1)
    endpoint = str(states.meta.endpoint_url)
    is_private = endpoint.startswith(("https://", *LOCAL))
    text = endpoint if is_private else f"{endpoint}: orders pass readable; use https"
    found = [Finding(Level.FINE if is_private else Level.ADVICE, "encryption", text)]
    what = f"activity {settings.activity}"
    try:
        states.describe_activity(activityArn=settings.activity)
    except BROKEN as e:
        if is_forbidden(e):
            text = f"{text_of(e)}; grant states:DescribeActivity, look at the credentials"
        else:
            text = f"expected to be there, was not: {text_of(e)}; make it"
        return [*found, Finding(Level.FAULT, what, text)]
    found.append(Finding(Level.FINE, what, "is there"))
    found += _rights(states)
    found += _machine(states, settings)
    return found


def _rights(states: Any) -> Iterator[Finding]:
    calls = (
        ("states:SendTaskSuccess", partial(states.send_task_success, taskToken=NOBODYS, output="{}")),
        ("states:SendTaskFailure", partial(states.send_task_failure, taskToken=NOBODYS)),
        ("states:SendTaskHeartbeat", partial(states.send_task_heartbeat, taskToken=NOBODYS)),
    )
    for right, call in calls:
        try:
            call()
        except BROKEN as e:
            if is_forbidden(e):
                yield Finding(Level.FAULT, right, f"{code_of(e)}; grant it")
                continue
        yield Finding(Level.FINE, right, "not refused, as far as a call with nobody's token shows")
    yield Finding(Level.FINE, "states:GetActivityTask", "not tried: it would take a task")


def _machine(states: Any, settings: StepFunctionsSettings) -> list[Finding]:
    arn = settings.state_machine
    if not arn:
        text = "not set: HeartbeatSeconds and Retry of the states that give the tasks were not looked at"
        return [Finding(Level.ADVICE, "state_machine", text)]
    what = f"state machine {arn}"
    try:
        answer = states.describe_state_machine(stateMachineArn=arn)
        definition = msgspec.json.decode(answer["definition"])
    except BROKEN as e:
        right = "grant states:DescribeStateMachine" if is_forbidden(e) else "name one that is there"
        return [Finding(Level.FAULT, what, f"{text_of(e)}; {right}")]
    except msgspec.DecodeError as e:
        return [Finding(Level.FAULT, what, f"definition expected as JSON, was: {e}")]
    found = judge(definition, settings)
    if answer.get("type") == "EXPRESS":
        found.append(Finding(Level.FAULT, what, "is EXPRESS, which has no activities and may run twice; use STANDARD"))
    return found


# The definition


def judge(definition: Any, settings: StepFunctionsSettings) -> list[Finding]:
    """Return what the states of a definition that use the activity mean for the promises."""
    found: list[Finding] = []
    for name, state in _states(definition):
        if state.get("Resource") == settings.activity:
            found.append(_heartbeat(name, state, settings.heartbeat_s))
            found += _retry(name, state)
    return found or [Finding(Level.FAULT, "states", f"none has the Resource {settings.activity}; name it in one")]


def _states(definition: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each state, also those inside of Map and Parallel; what is no state is passed over."""
    if not isinstance(definition, dict):
        return
    states = definition.get("States")
    for name, state in states.items() if isinstance(states, dict) else ():
        if not isinstance(state, dict):
            continue
        yield str(name), state
        inner = state.get("Branches")
        for part in (state.get("ItemProcessor"), state.get("Iterator"), *(inner if isinstance(inner, list) else ())):
            yield from _states(part)


def _heartbeat(name: str, state: Mapping[str, Any], ours_s: int) -> Finding:
    what = f"{name}: HeartbeatSeconds"
    given = state.get("HeartbeatSeconds")
    if isinstance(given, int) and given > 0:
        if given < ours_s:
            text = f"{given} is less than heartbeat_s ({ours_s}): tasks would be lost before their heartbeat; set "
            return Finding(Level.FAULT, what, f"{text}heartbeat_s to {given}")
        return Finding(Level.FINE, what, f"{given}")
    if "HeartbeatSecondsPath" in state or isinstance(given, str):
        return Finding(Level.ADVICE, what, f"comes from the input: keep it at {ours_s} or more")
    return Finding(Level.FAULT, what, f"none: a task whose sidecar died waits for ever; set it to {ours_s} or more")


def _retry(name: str, state: Mapping[str, Any]) -> Iterator[Finding]:
    what = f"{name}: Retry"
    retries = state.get("Retry")
    rules = [r for r in retries if isinstance(r, dict)] if isinstance(retries, list) else []
    of = {error: rule for rule in reversed(rules) for error in _errors(rule)}
    general = of.get("States.ALL") or of.get("States.TaskFailed")
    missing = sorted(e for e in {RETRYABLE, *TIMED_OUT} if e not in of and not (general and _covers(of, e)))
    if missing:
        text = f"expected {RETRYABLE} and {', '.join(sorted(TIMED_OUT))}, lacks {', '.join(missing)}: a restart of the "
        yield Finding(Level.FAULT, what, f"{text}sidecar would fail executions; add them")
    else:
        yield Finding(Level.FINE, what, f"has {RETRYABLE} and the time-outs")
    few = [e for e, rule in of.items() if e in {RETRYABLE, *TIMED_OUT} and _attempts(rule) < RETRIES_MIN]
    if few:
        yield Finding(
            Level.ADVICE, what, f"MaxAttempts of {', '.join(sorted(few))} is few: each drain and crash counts"
        )
    if general and not {REJECTED, INVALID} <= of.keys():
        text = f"{REJECTED} and {INVALID} are tried again by {'/'.join(sorted(ALL & of.keys()))}: the answer stays "
        yield Finding(Level.ADVICE, what, f"{text}the same; put them before it with MaxAttempts 0")


def _errors(rule: Mapping[str, Any]) -> list[str]:
    given = rule.get("ErrorEquals")
    return [error for error in given if isinstance(error, str)] if isinstance(given, list) else []


def _attempts(rule: Mapping[str, Any]) -> int:
    given = rule.get("MaxAttempts")
    return given if isinstance(given, int) else 3  # what Step Functions takes then


def _covers(of: Mapping[str, Any], error: str) -> bool:
    """Whether a general rule stands for an error: States.TaskFailed for all but time-outs."""
    return "States.ALL" in of or error not in TIMED_OUT
