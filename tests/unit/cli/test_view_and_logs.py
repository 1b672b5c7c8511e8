"""What is shown of a deployment, the flow's send log, and the life of a supervised process."""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec
import pytest
from msgspec import structs

from cli.flow import Mix
from cli.flow_log import ENTRY_BYTES, Entry, Kind, SendLog, client_order_id, decode, encode, number_of, read, unanswered
from cli.journal import event_fields
from cli.lives import LOG_BYTES_MAX, Life, Spec
from cli.shards import together
from cli.timeline import Step, described
from cli.view import Down, Price, Snapshot, decimal, lines, milliseconds, wrap
from market.instruments import InstrumentRow, to_params
from market.table import LastValue
from protocol.codes import Side
from protocol.control import EngineStatus

STATUS = msgspec.convert(
    {
        "mode": "PAPER", "shard": 0, "epoch": 3, "seq": 9, "durable_seq": 9, "state_hash": "", "draining": False,
        "uptime_ns": 1, "recovered_records": 4, "recovery_ns": 5, "accepted": 1172, "rejected": 32, "duplicates": 0,
        "cancels": 7, "fills": 611, "failed": 0, "rejected_by_code": {"PRICE_COLLAR": 20, "QTY_MAX": 12},
        "open_orders": 140, "unknown_orders": 0, "dedup_keys": 1, "dedup_keys_max": 2, "trading_date": 20261122,
        "halted": [], "venues": [], "sessions": [], "receive_to_durable_ns": {"p50": 110_000, "p99": 310_000},
        "sync_ns": {"p50": 80_000, "p99": 200_000}, "table_reads": {},
    },
    EngineStatus,
)  # fmt: skip
SNAPSHOT = Snapshot(STATUS, Price("BTCUSDT", "62351.2", "62351.3", "SYNTHETIC", 4), 200, 198, 3)


def test_a_synthetic_price_is_labelled() -> None:
    """Prices that nobody traded say so beside them."""
    assert lines(SNAPSHOT, 120)[0] == "BTCUSDT (SYNTHETIC)   62,351.2 / 62,351.3   demo flow 200 orders/s"


def test_the_status_counts_and_measures() -> None:
    """Orders by code, fills, latency percentiles, sync, lag, and whether it runs."""
    shown = "\n".join(lines(SNAPSHOT, 120))
    assert "orders 1,204 (198/s)   accepted 1,172   rejected 32 (PRICE_COLLAR 20, QTY_MAX 12)   fills 611" in shown
    assert "receive→durable p50 0.11 ms  p99 0.31 ms   sync p50 0.08 ms" in shown
    assert "lag books 3 ms" in shown
    assert shown.endswith("[running]")


def test_held_orders_are_counted_over_all_shards() -> None:
    """They stand in the counts only where there are some, loudly where nobody can judge them."""
    assert "held" not in "\n".join(lines(SNAPSHOT, 120)).lower()
    judged, alone = structs.replace(STATUS, held_orders=2, risk_ready=True), structs.replace(STATUS, held_orders=1)

    def shown(*engines: EngineStatus) -> str:
        return "\n".join(lines(structs.replace(SNAPSHOT, engine=together(engines)), 200))

    assert "open 140   held 2" in shown(judged)
    assert "open 140   HELD 1 (no risk service)" in shown(alone)
    assert "open 280   HELD 3 (no risk service)" in shown(judged, alone)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Parts move to the next line; one that is longer alone is cut."""
    assert max(map(len, lines(SNAPSHOT, width))) <= width


def test_what_does_not_answer_is_said() -> None:
    """A part that is away is named, never left out."""
    shown = "\n".join(lines(Snapshot(None, None, 200, None, None, (Down("engine", "does not answer"),)), 80))
    assert "engine DOWN (does not answer)" in shown
    assert "no price" in shown
    assert "[engine away]" in shown


def test_numbers_for_people() -> None:
    """Thousands are separated, durations rounded half up to hundredths of a millisecond."""
    assert decimal("-1234567.50") == "-1,234,567.50"
    assert milliseconds(114_999) == "0.11 ms"
    assert milliseconds(115_000) == "0.12 ms"
    assert wrap(["a", "b"], 10) == ["a   b"]


def test_what_was_sent_and_not_answered_is_sent_again(tmp_path: Path) -> None:
    """The log of one run gives the next run what has no answer, oldest first, across segments."""
    log = SendLog(tmp_path)
    log.append([Entry(n, Kind.ORDER, Side.BUY, 2, 0, 0, 0, 5, 7) for n in (1, 2, 3)], durable=True)
    log.append([Entry(2, Kind.ANSWER, code=0, status=201)], durable=False)
    log.close()
    later = SendLog(tmp_path)
    later.append([Entry(4, Kind.CANCEL, target=1)], durable=True)
    later.close()
    assert [e.number for e in unanswered(read(tmp_path))] == [1, 3, 4]


def test_a_torn_entry_was_never_sent() -> None:
    """Whatever a crash left of the last entry is not read."""
    whole = encode(Entry(1, Kind.ORDER)) + encode(Entry(2, Kind.ORDER))
    for cut in range(ENTRY_BYTES):
        assert [e.number for e in decode(whole[: ENTRY_BYTES + cut])] == [1]


def test_the_flow_knows_its_own_ids() -> None:
    """An id gives back its number; anybody else's gives none."""
    assert number_of(client_order_id(77)) == 77
    assert number_of("rest-1") == number_of("flow-x") == 0


def test_the_mix_is_seeded_and_holds_every_kind() -> None:
    """The same seed sends the same; limits, IOC, cancels, too far and too large all come."""
    instrument = to_params(
        InstrumentRow("BTCUSDT", "sandbox", "USDT", price_step="0.1", quantity_step="0.001", quantity_max="1000")
    )
    value = LastValue(1, 61_800_000_000_000, 61_800_100_000_000, 1, 1, 61_800_000_000_000, 1, 1, 1, 1)
    first, second = Mix(instrument, 7, 1), Mix(instrument, 7, 1)
    first.resting.extend(range(1, 120))
    second.resting.extend(range(1, 120))
    sent = [first.next(value) for _ in range(600)]
    assert sent == [second.next(value) for _ in range(600)]
    assert {e.kind for e in sent} == {Kind.ORDER, Kind.CANCEL}
    assert {e.side for e in sent if e.kind is Kind.ORDER} == {Side.BUY, Side.SELL}
    assert any(e.quantity_e9 == 6_000_000_000 for e in sent)
    assert any(abs(e.price_e9 - 61_800_000_000_000) > 10**12 for e in sent if e.kind is Kind.ORDER)
    assert all(e.price_e9 % instrument.tick_e9 == 0 for e in sent)


def test_a_timeline_counts_from_when_it_was_received() -> None:
    """Times are relative to the receipt; what came before it is negative."""
    steps = [Step("created", 1_000_000, 4, ""), Step("received", 3_000_000, 4, ""), Step("filled", 3_500_000, 5, "x")]
    assert [line.split("ms")[0].replace(" ", "") for line in described(steps)] == ["-2.000", "+0.000", "+0.500"]


def test_amounts_are_shown_as_decimals() -> None:
    """Fields in 1e-9 are shown without the suffix, as decimal text."""

    class Sample(msgspec.Struct):
        price_e9: int
        side: Side

    assert event_fields(Sample(61_800_500_000_000, Side.BUY)) == {"price": "61800.5", "side": "BUY"}


def life(tmp_path: Path, *argv: str) -> Life:
    """Return a life that is not started."""
    return Life(Spec("x", argv or ("/bin/sh", "-c", "exit 3"), 1000), tmp_path / "x.log")


def test_a_first_death_is_restarted_at_once_and_many_are_not_for_ever(tmp_path: Path) -> None:
    """The wait is none, then grows to its bound; after so many short lives it is over."""
    one = life(tmp_path)
    waits = []
    for _ in range(10):
        one.start()
        assert one.reap().status == 3
        assert one.schedule_restart(10)
        assert one.restart_due_ns is not None
        waits.append(one.restart_due_ns)
    one.start()
    one.reap()
    assert not one.schedule_restart(10)


def test_a_log_stays_bounded(tmp_path: Path) -> None:
    """Above its bound a log is set aside once and begun anew."""
    one = life(tmp_path)
    one.log.write_bytes(Random(1).randbytes(LOG_BYTES_MAX))
    one.rotate_log()
    assert one.log.stat().st_size == 0
    assert one.log.with_suffix(".log.1").stat().st_size == LOG_BYTES_MAX


def test_last_words_are_the_whole_message(tmp_path: Path) -> None:
    """A configuration error of several lines is repeated whole; anything else by its last line."""
    one = life(tmp_path)
    one.log.write_text("noise\nCONFIG: wojak.toml can't be used:\n  - a: b\n  - c: d\n")
    assert one.last_words() == "CONFIG: wojak.toml can't be used:\n  - a: b\n  - c: d"
    one.log.write_text("Traceback\nImportError: no x\n")
    assert one.last_words() == "ImportError: no x"
