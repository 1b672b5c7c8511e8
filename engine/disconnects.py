"""Cancel-on-disconnect: what came through a source is cancelled when the source is away for too long (RISK.md A6).

A source is away while none of its sidecars was heard for the lease. Its absence counts from when this loop first sees
it, so neither a reconnect, nor a restart of the engine, nor an engine that stood still cancels anything within the time
set. When it is away is a fact of the loop; what is then cancelled is decided by the core and journaled, so an engine
that dies before it has cancelled counts anew after its start. A cancel that a venue refuses is tried again once every
time set, as long as the source is away.
"""

from __future__ import annotations

from typing import Final

from engine.gateways import Gateways
from engine.parts import Parts
from engine.sidecars import Sidecars

NS_PER_MS: Final = 1_000_000


class Absence:
    """One source that is away: since when, and when its orders are looked at next, monotonic ns."""

    __slots__ = ("due_ns", "since_ns")

    def __init__(self, since_ns: int, due_ns: int) -> None:
        self.since_ns = since_ns
        self.due_ns = due_ns


class Disconnects:
    """Looks who is there, ten times a second."""

    def __init__(self, parts: Parts, sidecars: Sidecars, gateways: Gateways) -> None:
        self._core = parts.core
        self._writer = parts.writer
        self._make_room = parts.make_room
        self._alarm = parts.alarm
        self._lease_ns = parts.settings.lease_ms * NS_PER_MS
        self._sidecars = sidecars
        self._gateways = gateways
        self._away: dict[str, Absence] = {}
        self._begins_ns = 0  # a start counts as a sign of everybody

    def watch(self, now_ns: int, monotonic_ns: int) -> None:
        """Cancel what is due. Costs one test where no source has the setting."""
        state = self._core.state
        if not state.watches_sources:
            self._away.clear()
            return
        present = self._sidecars.present(monotonic_ns, self._lease_ns)
        self._begins_ns = self._begins_ns or monotonic_ns + self._lease_ns
        if monotonic_ns < self._begins_ns:
            return
        for source in state.channels:
            if source in present:
                self._away.pop(source, None)
                continue
            absence = self._away.get(source)
            if absence is None:
                waits = self._waits(source)
                if waits:
                    self._away[source] = Absence(monotonic_ns, monotonic_ns + waits[0])
            elif monotonic_ns >= absence.due_ns:
                self._cancel(source, monotonic_ns - absence.since_ns, now_ns)
                absence.due_ns = self._next_due_ns(source, absence, monotonic_ns)

    def _waits(self, source: str) -> list[int]:
        """Return the times after which orders of the source are due, shortest first."""
        state = self._core.state
        assert state.params is not None
        waits = {a.disconnect_ns for a in state.params.accounts} | {state.channels[source].disconnect_ns}
        return sorted(w for w in waits if w > 0)

    def _next_due_ns(self, source: str, absence: Absence, monotonic_ns: int) -> int:
        waits = self._waits(source)
        later = [absence.since_ns + w for w in waits if absence.since_ns + w > monotonic_ns]
        return later[0] if later else monotonic_ns + waits[-1]

    def _cancel(self, source: str, away_ns: int, now_ns: int) -> None:
        cancels = 0
        for record in self._core.controls.decide_disconnect(source, away_ns, self._gateways.unsent_from()):
            self._make_room(now_ns)
            seq = self._writer.next_seq
            self._core.apply(seq, now_ns, self._writer.append(record), record)
            cancels += len(record.cancels)
        if cancels:
            self._alarm(f"source {source} is away for {away_ns // NS_PER_MS} ms: {cancels} orders cancelled")
