"""Settings of one activity of AWS Step Functions as a source."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from protocol.orders import Name

Arn = Annotated[str, Meta(pattern=r"^arn:[a-z0-9-]+:states:[a-z0-9-]+:[0-9]{12}:activity:[^\s:]{1,80}$")]


class StepFunctionsSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one activity of Step Functions.

    Attributes:
        activity: ARN of the activity whose tasks are orders; it exists.
        principal: Who its orders speak for; the engine knows what that may trade.
        envelope: What a task's input is: `none` = the order itself; `task` = an object with the order in `order`, and
            what the order lacks beside it: `id`, `time`, `retries`, `content_type`, `attributes`. It is declared here,
            never guessed from an input.
        heartbeat_s: HeartbeatSeconds of the states that give the tasks, or less: a heartbeat is sent when half of it
            is left, and a task is held lost shortly before it is over.
        state_machine: ARN of the state machine that `wojak sidecar check` looks into; empty = it looks at none.
        worker: Name under which Step Functions notes who took a task; empty = the source's name.
        pollers: Polls at a time, a thread each. A poll brings one task and may last 60 s.
        in_flight: Tasks unsettled here: the most this process ever holds.
        hold_ms: How long new risk waits here while the engine says RETRY before its task fails with
            `Sidecar.Retryable`; 0 = until the engine takes it, with heartbeats.
        drain_polls_s: How long a drain waits for the polls under way. 0 = they are abandoned, and a task that comes by
            one comes again after its heartbeat time-out; 61 = none is, and drain_ms should be 65,000 or more.
        look_ms: How often Step Functions is asked whether it is there.
    """

    activity: Arn
    principal: Name
    envelope: Literal["none", "task"] = "none"
    heartbeat_s: Annotated[int, Meta(ge=2, le=3_600)] = 30
    state_machine: Annotated[str, Meta(max_length=256)] = ""
    worker: Annotated[str, Meta(max_length=80)] = ""
    pollers: Annotated[int, Meta(ge=1, le=256)] = 8
    in_flight: Annotated[int, Meta(ge=1, le=20_000)] = 500
    hold_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0
    drain_polls_s: Annotated[int, Meta(ge=0, le=70)] = 0
    look_ms: Annotated[int, Meta(ge=100, le=600_000)] = 5_000
