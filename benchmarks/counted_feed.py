"""The real feed as a process that says at its end how much it published, and in how long."""

from __future__ import annotations

import gc
from pathlib import Path

import msgspec
from msgspec import Struct

from market.feed import Feed
from market.feed_settings import FeedSettings
from protocol.channels import Context
from runtime.clock import monotonic_ns
from runtime.priority import run_where_idle
from runtime.signals import StopSignal


class CountedFeedSettings(Struct, frozen=True):
    """What the feed is told, and where its count goes."""

    feed: FeedSettings
    counts_path: str


class FeedCounts(Struct, frozen=True):
    """What a feed did. ``rebased``: how often it was found more than a second behind."""

    published: int
    duration_ns: int
    rebased: int


def run(settings: CountedFeedSettings) -> None:
    """Play until SIGTERM, then write the counts."""
    stop = StopSignal()
    run_where_idle()  # as the feed process itself does
    context = Context()
    feed = Feed(settings.feed, context)
    gc.collect()
    gc.freeze()
    began_ns = monotonic_ns()
    feed.play(stop)
    counts = FeedCounts(feed.published, monotonic_ns() - began_ns, feed.rebased)
    Path(settings.counts_path).write_bytes(msgspec.json.encode(counts))
    feed.close()
    context.close()
