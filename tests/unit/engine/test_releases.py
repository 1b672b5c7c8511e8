"""The pace of the loop's looks at what waits, over a real core: nothing is looked at more often than it has to be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from engine.meters import Meters
from engine.releases import BLIND_NS, HINDERED_NS, WATCH_NS, Releases
from protocol.codes import ExecType, OrderStatus
from protocol.decisions import Reference
from protocol.records import ControlAction, Record
from risk.gate.exposure import InstrumentState
from tests.unit.engine.desk import E9, REFERENCE
from tests.unit.engine.oco_desk import OcoDesk, group

S = OrderStatus


class Looking:
    """Releases over a desk; counts what they ask of it."""

    def __init__(self, d: OcoDesk) -> None:
        self.d = d
        self.price: int | None = 100
        self.prices_read = self.decided = self.looks = 0
        self.alarms: list[str] = []
        self.at_ns = 0
        core = SimpleNamespace(state=d.state, exit_replaces=d.core.exit_replaces, ocos=self, apply=self.apply)
        writer = SimpleNamespace(next_seq=0, append=lambda record: 0)
        parts: Any = SimpleNamespace(
            core=core, writer=writer, make_room=lambda now_ns: None, alarm=self.alarms.append, meters=Meters(),
        )  # fmt: skip
        self.releases = Releases(parts, self.reference_of, dict)
        self.waiting = d.core.ocos.waiting
        self.decide_release = d.core.ocos.decide_release

    def apply(self, seq: int, now_ns: int, position: int, record: Record) -> None:
        self.d.apply(record)

    def reference_of(self, instrument: InstrumentState, now_ns: int) -> Reference | None:
        self.prices_read += 1
        return None if self.price is None else Reference(self.price * E9, 0, REFERENCE.source)

    def decide_trigger(self, *args: Any) -> Any:
        self.decided += 1
        return self.d.core.ocos.decide_trigger(*args)

    def due(self, now_ns: int) -> Any:
        self.looks += 1
        return self.d.core.ocos.due(now_ns)

    def step(self, after_ns: int = 0, times: int = 1) -> None:
        for _ in range(times):
            self.at_ns += after_ns
            self.releases.step(self.d.now, self.at_ns)


def test_a_price_is_read_once_a_look_however_many_wait() -> None:
    """Ten groups of one instrument and a thousand turns within two milliseconds: one price; groups at a change only."""
    d = OcoDesk(position=10, keys_max=512)
    for n in range(10):
        d.accept_oco(d.oco(f"g{n}", quantity=1))
    looking = Looking(d)
    assert not looking.releases.is_watching
    looking.step(WATCH_NS)
    assert (looking.prices_read, looking.looks, looking.releases.is_watching) == (1, 1, True)
    looking.step(WATCH_NS // 2000, 1000)
    assert (looking.prices_read, looking.looks, looking.decided) == (1, 1, 0)
    looking.step(WATCH_NS)
    assert (looking.prices_read, looking.looks) == (2, 1)


def test_the_stop_is_let_out_in_the_turn_after_its_target_ended() -> None:
    """The trigger at a look at the price; the release as soon as the venue has said that the other is over."""
    d, first, second = group()
    looking = Looking(d)
    looking.step(WATCH_NS)
    looking.price = 95
    looking.step(WATCH_NS)
    assert (first.status, second.status, looking.releases.is_watching) == (S.PENDING_CANCEL, S.SUSPENDED, False)
    d.report(ExecType.CANCELED, first.order_id)
    looking.step(1)
    assert second.status is S.PENDING_NEW
    d.fill(second, 10)
    looking.step(1)
    assert not looking.releases.is_watching
    d.require_flat()


def test_a_stop_that_is_hindered_is_asked_for_seldom() -> None:
    """A halt, and the price is beyond the stop: decided twenty times a second; after the resume it goes."""
    d, first, _ = group()
    looking = Looking(d)
    looking.price = 90
    d.control(ControlAction.HALT)
    looking.step(WATCH_NS, HINDERED_NS // WATCH_NS * 4)
    assert 4 <= looking.decided <= 5
    d.control(ControlAction.RESUME)
    looking.step(WATCH_NS, HINDERED_NS // WATCH_NS + 1)
    assert first.status is S.PENDING_CANCEL


def test_no_price_alarms_once_a_minute() -> None:
    """And not at all where nothing waits for one."""
    d, first, second = group()
    looking = Looking(d)
    looking.price = None
    looking.step(WATCH_NS, 100)
    assert len(looking.alarms) == 1
    assert "XY: 1 stop orders" in looking.alarms[0]
    looking.step(BLIND_NS)
    assert len(looking.alarms) == 2
    d.cancel("g")
    looking.step(BLIND_NS)
    assert (len(looking.alarms), second.status, first.status) == (2, S.CANCELED, S.PENDING_CANCEL)
