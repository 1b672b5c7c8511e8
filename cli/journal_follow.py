"""``wojak journal follow``: events as they become durable, from the stream, what was missed from the follower."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter

from cli.addresses import EVENTS_SOCKET, HISTORY_SOCKET
from cli.journal import event_fields, event_line
from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.shards import Shard, one
from journal.watermark import WatermarkReader
from protocol.channels import Context
from protocol.events import events_of
from protocol.frames import iter_records, read_header
from protocol.records import record_decoder
from runtime.event_stream import EventStream
from runtime.signals import StopSignal

LOOK_MS = 1_000


def follow(
    *,
    after: Annotated[int, Parameter(help="Begin behind this record, the end of a batch; absent = from now on.")] = -1,
    account: Annotated[str, Parameter(help="Only events of this account.")] = "",
    until: Annotated[int, Parameter(help="Leave behind this record; 0 = on Ctrl-C.")] = 0,
    json: Annotated[bool, Parameter(negative="", help="One JSON object a line.")] = False,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> int:
    """Print what happens as soon as it is durable, without a gap, until Ctrl-C.

    What the event stream lost on the way is asked for at the follower; what is older than it keeps ends this with
    where to go on.

    Example: `wojak journal follow --account demo`
    """
    paths = one(deployment(config), shard, account).paths
    if after < 0:
        reader = WatermarkReader(paths.journal)
        after = reader.read().seq
        reader.close()
    stop = StopSignal()
    context = Context()
    try:
        stream = EventStream(context, paths.endpoint(EVENTS_SOCKET), paths.endpoint(HISTORY_SOCKET), after)
        stream.add_fd(stop.fd)
        while not stop.is_set and not 0 < until <= stream.seq:
            for frame in stream.poll(LOOK_MS):
                _show(frame, account, json=json)
        stream.close()
    finally:
        context.close()
    return 0


def _show(frame: bytes, account: str, *, json: bool) -> None:
    header = read_header(frame)
    assert header is not None, "the stream checked it"
    for seq, (_, data) in enumerate(iter_records(frame, header), start=header.first_seq):
        for event in events_of(seq, header.now_ns, record_decoder.decode(data)):
            if account and getattr(event, "account", "") != account:
                continue
            fields = event_fields(event)
            if json:
                say(msgspec.json.encode({"event": type(event).__name__, **fields}).decode())
            else:
                say(event_line(type(event).__name__, fields))
