"""SNS for ``wojak bench source``: notifications that our sender signs as SNS does; queues are LocalStack's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.source_push import PushBench


class SnsBench(PushBench):
    """Our own sender."""

    kind = "sns"
    path = "/sns"

    def make_broker(self) -> Any:
        """Return the sender."""
        from tests.peers.sns import SnsSender

        return SnsSender()

    def posts(self, peer: Any, bodies: Sequence[bytes]) -> tuple[Sequence[bytes], str]:
        """Return each as SNS posts it, with a signature of its own."""
        from tests.peers.sns import notification

        sign = peer.sender.signer.sign
        posts = [sign(notification(body.decode(), f"m{n}")) for n, body in enumerate(bodies)]
        return posts, "content-type: text/plain; charset=UTF-8\r\n"
