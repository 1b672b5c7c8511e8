"""The answers of both forms of the Pub/Sub source: published before the message is settled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import grpc
import structlog

from sidecars.core.source import Settlement
from sidecars.sources.pubsub_dead import answer
from sidecars.sources.pubsub_link import Link, code_of, text_of


async def publish_answers(link: Link, settlements: Sequence[Settlement], results_topic: str) -> list[Settlement]:
    """Publish each end where it is awaited; a topic that a producer named and that is gone has nobody who waits.

    Returns:
        Those that could not be published, and must not be settled now.
    """
    log = structlog.get_logger()
    of_topic: dict[str, list[Settlement]] = defaultdict(list)
    for settlement in settlements:
        of_topic[settlement.delivery.reply_to].append(settlement)
    failed = []
    for topic, some in of_topic.items():
        errors = await link.publish(topic, [answer(s) for s in some])
        for settlement, error in zip(some, errors, strict=True):
            if code_of(error) is grpc.StatusCode.NOT_FOUND and topic != results_topic:
                log.warning("reply topic is gone", reply_to=topic)
            elif error is not None:
                log.warning("answer not published", reply_to=topic, why=text_of(error))
                failed.append(settlement)
    return failed
