"""``wojak verify``: the promises, counted from the durable files of every holder.

Sent = outcomes, none lost, none twice; nothing at the venue that the gate did not accept, and nothing there twice;
every fill the venue made is in the journal once; and the books are exactly what the journal means.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Final

from cli.books_rows import stores_of
from cli.configuration import Loaded
from cli.evidence import AtVenue, Journaled, Sent, at_venue, journaled, sent_by_flow, unanswered_now
from cli.flow_log import client_order_id
from cli.options import DEFAULT_CONFIG, ConfigPath, deployment, say
from cli.view import grouped
from protocol.codes import Code
from runtime.clock import monotonic_ns

SETTLE_NS: Final = 30_000_000_000
LOOK_S: Final = 0.1
EXAMPLES_MAX: Final = 5


def verify(*, config: ConfigPath = DEFAULT_CONFIG) -> int:
    """Count what the demonstration flow sent against journal, venue and books. Exit code 1 on any difference.

    Works while everything runs, and after it stopped. Covers the send log segments that are kept, which is the
    last six million entries, and the gateway's kept log. Example: `wojak verify`
    """
    loaded = deployment(config)
    sent = _settled(loaded.paths.flow)
    several = len(loaded.shards) > 1
    # The venues' logs first: while everything runs, a journal then knows of all that they do.
    venues = [at_venue(loaded.of(n).paths.gateway) for n in loaded.shards]
    journals = [
        journaled(loaded.of(n).paths.journal, loaded.config.flow.account, set(sent.orders)) for n in loaded.shards
    ]
    ok = _check_sent(sent, _outcomes(journals))
    for number, venue, journal in zip(loaded.shards, venues, journals, strict=True):
        if several:
            say(f"shard {number}")
        ok &= _check_venue(venue, journal)
        ok &= _check_books(loaded.of(number), journal)
    if not sent.orders:
        say("nothing was sent, which proves nothing: wojak up --flow")
    say("✔ verified" if ok and sent.orders else "✘ not verified")
    return 0 if ok and sent.orders else 1


def _outcomes(journals: list[Journaled]) -> dict[str, list[Code]]:
    """Return the outcomes of all shards together: an order that two of them decided was decided twice."""
    outcomes: dict[str, list[Code]] = {}
    for journal in journals:
        for order, codes in journal.outcomes.items():
            outcomes.setdefault(order, []).extend(codes)
    return outcomes


def _settled(folder: Path) -> Sent:
    """Return what was sent until now, once each of it is answered, or after a while."""
    sent = sent_by_flow(folder)
    asked = set(sent.orders)
    deadline = monotonic_ns() + SETTLE_NS
    while monotonic_ns() < deadline and any(client_order_id(e.number) in asked for e in unanswered_now(folder)):
        time.sleep(LOOK_S)  # the flow appends to a file; bounded by SETTLE_NS
    now = sent_by_flow(folder)
    return Sent({i: code for i, code in now.orders.items() if i in asked}, sent.cancels, now.first_number)


def _check_sent(sent: Sent, decided: dict[str, list[Code]]) -> bool:
    answered = {i: code for i, code in sent.orders.items() if code is not None}
    lost = [i for i in answered if i not in decided]
    twice = [i for i, codes in decided.items() if len(codes) > 1]
    other = [i for i, code in answered.items() if i in decided and decided[i][0] is not code]
    waiting = [i for i, code in sent.orders.items() if code is None and i not in decided]
    outcomes = len(decided)
    expected = len(sent.orders) - len(waiting)
    parts = [
        f"sent {grouped(len(sent.orders))} {'=' if outcomes == len(sent.orders) else '≠'} outcomes {grouped(outcomes)}",
        f"lost {grouped(len(lost))}",
        f"twice {grouped(len(twice))}",
        f"told otherwise {grouped(len(other))}",
    ]
    if waiting:
        parts.append(f"unanswered, sent again at the next start {grouped(len(waiting))}")
    if sent.first_number > 1:
        parts.append(f"from number {grouped(sent.first_number)} on")
    say(" · ".join(parts))
    _say_examples("lost", lost)
    _say_examples("twice", twice)
    _say_examples("told otherwise than the journal", other)
    return not lost and not twice and not other and outcomes == expected


def _check_venue(venue: AtVenue, journal: Journaled) -> bool:
    escaped = [i for i in venue.sent if i not in journal.accepted]
    twice = [i for i, count in venue.made.items() if count > 1]
    booked_twice = [t for t, count in journal.trades.items() if count > 1]
    missing = [t for t, seq in venue.trades.items() if seq <= journal.report_seq and t not in journal.trades]
    # While everything runs, the journal is read after the venue's log and knows of newer fills.
    seen = [t for t, seq in journal.trade_reports.items() if seq <= venue.report_seq]
    invented = [t for t in seen if t not in venue.trades] if venue.complete else []
    kept = "" if venue.complete else " (of the log that is kept)"
    in_flight = sum(seq > journal.report_seq for seq in venue.trades.values())
    say(
        f"venue {grouped(len(venue.sent))} orders{kept}, not accepted {grouped(len(escaped))}, "
        f"twice {grouped(len(twice))} · fills {grouped(len(venue.trades) - in_flight)}, in the journal "
        f"{grouped(len(journal.trades))}, missing {grouped(len(missing))}, twice {grouped(len(booked_twice))}, "
        f"of no venue {grouped(len(invented))}"
    )
    for what, ids in (("not accepted", escaped), ("twice at the venue", twice), ("fill missing", missing),
                      ("fill twice", booked_twice), ("fill of no venue", invented)):  # fmt: skip
        _say_examples(what, ids)
    return not (escaped or twice or missing or booked_twice or invented)


def _check_books(loaded: Loaded, journal: Journaled) -> bool:
    from books.compare import compare_stores

    folder, stores = loaded.paths.journal, stores_of(loaded)
    with contextlib.closing(stores):
        deadline = monotonic_ns() + SETTLE_NS
        compared = compare_stores(folder, stores)
        while compared.seq < journal.last_seq and monotonic_ns() < deadline:
            time.sleep(LOOK_S)  # the books writer follows; bounded by SETTLE_NS
            compared = compare_stores(folder, stores)
    counts = compared.books
    behind = journal.last_seq - compared.seq
    say(
        f"books {'=' if compared.is_equal else '≠'} journal at seq {grouped(compared.seq)}: "
        f"{grouped(counts.orders)} orders, {grouped(counts.trades)} trades, {grouped(counts.positions)} positions, "
        f"{grouped(counts.breaches)} breaches" + (f" · behind by {grouped(behind)}" if behind > 0 else "")
    )
    for difference in compared.examples[:EXAMPLES_MAX]:
        say(f"  {difference.kind} in {difference.where}: {difference.row}")
    return compared.is_equal and behind <= 0


def _say_examples(what: str, ids: list[str]) -> None:
    if ids:
        say(f"  {what}: {', '.join(ids[:EXAMPLES_MAX])}{' …' if len(ids) > EXAMPLES_MAX else ''}")
