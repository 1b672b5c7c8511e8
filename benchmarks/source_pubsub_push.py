"""Pub/Sub that pushes for ``wojak bench source``: wrapped by our sender, with tokens as Pub/Sub makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.source_push import PushBench


class PubSubPushBench(PushBench):
    """Our own sender."""

    kind = "pubsub_push"
    path = "/pubsub"
    rss_mib_max = 120  # Google's client alone has more than half of it

    def make_broker(self) -> Any:
        """Return the sender."""
        from tests.peers.pubsub_push import PushSender

        return PushSender()

    def posts(self, peer: Any, bodies: Sequence[bytes]) -> tuple[Sequence[bytes], str]:
        """Return each as Pub/Sub wraps it; one token for all, as Pub/Sub uses one until it is old."""
        from tests.conformance.peer import Message
        from tests.peers.pubsub import subscription_path
        from tests.peers.pubsub_push import pushed

        path = subscription_path(peer.topic)
        posts = [pushed(Message(body=body, message_id=f"m{n}"), f"m{n}", path) for n, body in enumerate(bodies)]
        return posts, f"content-type: application/json\r\nauthorization: Bearer {peer.signer.token()}\r\n"
