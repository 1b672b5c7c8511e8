"""Settings of one SQS queue as a source."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from protocol.orders import Name

Text = Annotated[str, Meta(min_length=1, max_length=255)]
FIFO = ".fifo"


class SqsSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of one SQS queue.

    Attributes:
        queue: The queue that orders come from, by name or by URL; it exists. FIFO if its name ends in `.fifo`.
        principal: Who its orders speak for; the engine knows what that may trade.
        dead_letter_queue: Where refused messages go, with the reason: name or URL of a queue that exists.
        reply_to: Queues, by name or URL, that a message may name for its answer in the attribute `reply_to`; `name*`
            allows all that begin so. What names another is refused.
        task_tokens: Whether a message may bring a Step Functions task token in the attribute `task_token`; it is then
            answered before the message is deleted, and gets a heartbeat with each extension.
        envelope: What a body is: `none` = the order itself (also SNS with raw delivery); `sns` = the JSON that SNS
            wraps around it. It is declared here, never guessed from a body.
        topics: With `sns`, the ARNs of the topics whose messages are taken; what comes from another is refused.
        visibility_s: How long SQS leaves a message with this sidecar; extended while the engine thinks. The queue's
            own time-out is not used.
        wait_s: How long a poll waits for a message. A drain waits for the polls under way, so keep it under a third of
            drain_ms.
        in_flight: Messages unsettled here: the most this process ever holds.
        pollers: Polls at a time under load; an idle queue has one.
        hold_ms: How long new risk waits here while the engine says RETRY before it is given back; 0 = until the engine
            takes it, with its lease extended.
        retry_s: What is given back so stays away for this long at first, twice as long at each further receive,
            less up to half of it by chance.
        retry_max_s: But never longer than this.
        lag_ms: How often SQS is asked how much waits.
    """

    queue: Text
    principal: Name
    dead_letter_queue: Text
    reply_to: tuple[Text, ...] = ()
    task_tokens: bool = False
    envelope: Literal["none", "sns"] = "none"
    topics: tuple[Text, ...] = ()
    visibility_s: Annotated[int, Meta(ge=2, le=43_200)] = 30
    wait_s: Annotated[int, Meta(ge=1, le=20)] = 2
    in_flight: Annotated[int, Meta(ge=1, le=20_000)] = 500
    pollers: Annotated[int, Meta(ge=1, le=32)] = 4
    hold_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 0
    retry_s: Annotated[int, Meta(ge=1, le=900)] = 1
    retry_max_s: Annotated[int, Meta(ge=1, le=43_200)] = 60
    lag_ms: Annotated[int, Meta(ge=100, le=600_000)] = 5_000

    @property
    def is_fifo(self) -> bool:
        """Whether the queue keeps the order of each message group."""
        return self.queue.endswith(FIFO)

    def problems(self) -> list[str]:
        """Return what can't work together, one line each."""
        found = []
        if self.dead_letter_queue == self.queue:
            found.append(f"dead_letter_queue: expected another queue than queue, was {self.queue!r} too")
        if (self.envelope == "sns") != bool(self.topics):
            found.append(
                f"envelope and topics: expected topics with sns and none without, was {self.envelope} and "
                f"{list(self.topics)}"
            )
        if self.retry_max_s < self.retry_s:
            found.append(f"retry_max_s: expected at least retry_s ({self.retry_s}), was {self.retry_max_s}")
        return found
