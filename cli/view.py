"""What ``wojak up`` and ``wojak status`` say about a running deployment: lines of text, for any width.

Pure: a snapshot goes in, lines come out. Rule: synthetic prices are labelled wherever they show, and a part that
does not answer is said to be down rather than left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from protocol.control import EngineStatus

GAP: Final = "   "
NS_PER_MS: Final = 1_000_000
CODES_SHOWN: Final = 4


class Price(Struct, frozen=True):
    """The touch of the demonstration instrument as text, and where it comes from."""

    instrument: str
    bid: str
    ask: str
    origin: str
    age_ms: int


class Down(Struct, frozen=True):
    """A process that is not running or not ready."""

    name: str
    why: str


class Snapshot(Struct, frozen=True):
    """One look at a deployment. ``books_lag_ms`` None = the books do not answer."""

    engine: EngineStatus | None
    price: Price | None
    flow_rate: int
    orders_per_s: int | None
    books_lag_ms: int | None
    down: tuple[Down, ...] = ()


def lines(snapshot: Snapshot, width: int) -> list[str]:
    """Return the status as lines of at most ``width`` columns, parts moved to the next line where they don't fit."""
    parts = [_market(snapshot), _orders(snapshot), _latency(snapshot), _state(snapshot)]
    return [line for part in parts if part for line in wrap(part, width)]


def wrap(parts: Sequence[str], width: int) -> list[str]:
    """Join parts with gaps into lines of at most ``width`` columns; a part that is longer alone is cut."""
    wrapped: list[str] = []
    line = ""
    for part in parts:
        joined = f"{line}{GAP}{part}" if line else part
        if line and len(joined) > width:
            wrapped.append(line)
            joined = f"  {part}"
        line = joined if len(joined) <= width else joined[: max(width - 1, 1)] + "…"
    return [*wrapped, line] if line else wrapped


def held(orders: int, *, risk_ready: bool) -> list[str]:
    """Return how many orders wait for the risk service, and whether there is one; nothing where none waits."""
    if not orders:
        return []
    return [f"held {grouped(orders)}" if risk_ready else f"HELD {grouped(orders)} (no risk service)"]


def grouped(number: int) -> str:
    """Return a whole number with thousands separated."""
    return f"{number:,}"


def milliseconds(ns: int) -> str:
    """Return a duration in milliseconds with two decimals, by integers."""
    hundredths = (ns + 5_000) // 10_000
    return f"{hundredths // 100}.{hundredths % 100:02d} ms"


def decimal(text: str) -> str:
    """Return a decimal text with its thousands separated."""
    whole, point, fraction = text.partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits):,}{point}{fraction}"


def _market(snapshot: Snapshot) -> list[str]:
    flow = [f"demo flow {grouped(snapshot.flow_rate)} orders/s"] if snapshot.flow_rate else []
    price = snapshot.price
    if price is None:
        return ["no price: the feed is not there", *flow]
    return [f"{price.instrument} ({price.origin})", f"{decimal(price.bid)} / {decimal(price.ask)}", *flow]


def _orders(snapshot: Snapshot) -> list[str]:
    status = snapshot.engine
    if status is None:
        return ["engine does not answer"]
    codes = sorted(status.rejected_by_code.items(), key=lambda c: -c[1])
    shown = ", ".join(f"{code} {grouped(count)}" for code, count in codes[:CODES_SHOWN])
    rest = sum(count for _, count in codes[CODES_SHOWN:])
    shown += f", others {grouped(rest)}" if rest else ""
    rate = "" if snapshot.orders_per_s is None else f" ({grouped(snapshot.orders_per_s)}/s)"
    return [
        f"orders {grouped(status.accepted + status.rejected)}{rate}",
        f"accepted {grouped(status.accepted)}",
        f"rejected {grouped(status.rejected)}" + (f" ({shown})" if shown else ""),
        f"fills {grouped(status.fills)}",
        f"open {grouped(status.open_orders)}",
        *held(status.held_orders, risk_ready=status.risk_ready),
        *([f"UNKNOWN {grouped(status.unknown_orders)}"] if status.unknown_orders else []),
        *([f"SUSPENSE {grouped(status.suspense_fills)}"] if status.suspense_fills else []),
    ]


def _latency(snapshot: Snapshot) -> list[str]:
    status = snapshot.engine
    if status is None:
        return []
    parts: list[str] = []
    durable, sync = status.receive_to_durable_ns, status.sync_ns
    if durable.get("p50"):
        parts.append(f"receive→durable p50 {milliseconds(durable['p50'])}  p99 {milliseconds(durable['p99'])}")
    if sync.get("p50"):
        parts.append(f"sync p50 {milliseconds(sync['p50'])}  p99 {milliseconds(sync['p99'])}")
    lag_ms = snapshot.books_lag_ms
    parts.append("books away" if lag_ms is None else f"lag books {grouped(lag_ms)} ms")
    if snapshot.price is not None:
        parts.append(f"tick age {grouped(snapshot.price.age_ms)} ms")
    return parts


def _state(snapshot: Snapshot) -> list[str]:
    status = snapshot.engine
    parts = [f"{down.name} DOWN ({down.why})" for down in snapshot.down]
    if status is None:
        return [*parts, "[engine away]"]
    parts += [f"{h.scope} {h.key} {h.state}: {h.reason}".replace("  ", " ") for h in status.halted]
    parts += [f"venue {v.venue} not ready" for v in status.venues if not v.ready]
    state = "draining" if status.draining else "halted" if status.halted else "running"
    return [*parts, f"[{state}]"]
