"""The last-value table: nothing torn is ever returned, and a replaced file is followed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market.errors import TableError
from market.table import (
    BODY,
    BODY_BYTES,
    CRC,
    SIDE_BYTES,
    SLOT_BYTES,
    LastValue,
    TableReader,
    reference,
)
from market.table_writer import TableWriter
from protocol.codes import ReferenceSource
from protocol.decisions import Reference

ROOT = Path(__file__).resolve().parents[3]
AGE_MAX_NS = 5_000_000_000


def _fields(n: int) -> tuple[int, ...]:
    """Nine values that only belong together for one n, different in every byte for neighbours."""
    return tuple((n * 0x0101010101010101 + k) & 0x7FFFFFFFFFFFFFFF for k in range(9))


def _slot_start(path: Path) -> int:
    return path.stat().st_size - SLOT_BYTES


def _read(path: Path, instrument: str = "X") -> LastValue | None:
    reader = TableReader.open(path)
    return reader.read(reader.slot(instrument))


def test_a_quote_and_a_trade_are_read_back(tmp_path: Path) -> None:
    """What was written is what is read, and each write keeps what the other kind wrote."""
    writer = TableWriter.create(tmp_path / "t", ["A", "B"])
    reader = TableReader.open(tmp_path / "t")
    slot = reader.slot("B")
    assert reader.read(slot) is None
    writer.write_quote(writer.slot("B"), 10, 12, 3, 4, 100, 200)
    assert reader.read(slot) == LastValue(1, 10, 12, 3, 4, 0, 0, 100, 0, 200)
    writer.write_trade(writer.slot("B"), 11, 7, 101, 201)
    assert reader.read(slot) == LastValue(2, 10, 12, 3, 4, 11, 7, 101, 201, 201)
    assert reader.read(reader.slot("A")) is None
    assert (reader.verified, reader.stale) == (2, 2)


def test_the_extremes_of_int64_are_kept(tmp_path: Path) -> None:
    """Every value is a whole int64; what does not fit is refused, never cut."""
    writer = TableWriter.create(tmp_path / "t", ["X"])
    fields = (2**63 - 1, -(2**63), 0, 1, -1, 2**63 - 1, -(2**63), 0, 5)
    writer.write(0, fields)
    assert _read(tmp_path / "t") == LastValue(1, *fields)
    with pytest.raises(Exception, match=r"int|range|format"):
        writer.write(0, (2**63, *fields[1:]))
    assert _read(tmp_path / "t") == LastValue(1, *fields)


def test_a_write_cut_at_any_byte_leaves_a_whole_value(tmp_path: Path) -> None:
    """A writer killed after k bytes: before the last byte the value before is read, then the new one."""
    path = tmp_path / "t"
    writer = TableWriter.create(path, ["X"])
    start = _slot_start(path)
    images = []
    for n in range(1, 6):
        writer.write(0, _fields(n))
        images.append(path.read_bytes())
    cut = tmp_path / "cut"
    for n in range(1, 5):  # both sides get to be the newest
        before, after = images[n - 1 : n + 1]
        side = start + SIDE_BYTES * ((n + 1) % 2)
        assert before[:side] == after[:side]
        assert before[side + SIDE_BYTES :] == after[side + SIDE_BYTES :]
        for k in range(BODY_BYTES + CRC.size + 1):
            torn = after[: side + k] + before[side + k :]
            cut.write_bytes(torn)
            m = n + 1 if torn == after else n
            assert _read(cut) == LastValue(m, *_fields(m))


def test_a_write_cut_at_any_byte_and_made_once_more_is_seen(tmp_path: Path) -> None:
    """A writer that takes over writes the torn side again under the same sequence: who read between sees that too."""
    path = tmp_path / "t"
    writer = TableWriter.create(path, ["X"])
    start = _slot_start(path)
    images = []
    for n in range(1, 5):
        writer.write(0, _fields(n))
        images.append(path.read_bytes()[start:])
    for n in range(1, 4):
        before, after = images[n - 1 : n + 1]
        side = SIDE_BYTES * ((n + 1) % 2)
        for k in range(BODY_BYTES + CRC.size):
            with path.open("r+b") as file:  # the reader maps the same bytes

                def put(raw: bytes, file: BinaryIO = file) -> None:
                    file.seek(start)
                    file.write(raw)
                    file.flush()

                put(before)
                reader = TableReader.open(path)
                slot = reader.slot("X")
                for raw, m in (
                    (before, n),
                    (after[: side + k] + before[side + k :], n),
                    (after, n + 1),
                    (after, n + 1),
                ):
                    put(raw)
                    assert reader.read(slot) == LastValue(m, *_fields(m)), f"cut after {k} bytes of write {n + 1}"


def test_it_is_the_crc_that_catches_a_torn_write(tmp_path: Path) -> None:
    """The same cut writes, read by sequence alone, give values that were never written."""
    path = tmp_path / "t"
    writer = TableWriter.create(path, ["X"])
    start = _slot_start(path)
    writer.write(0, _fields(1))
    before = path.read_bytes()[start:]
    writer.write(0, _fields(2))
    after = path.read_bytes()[start:]
    torn = 0
    for k in range(BODY_BYTES):
        raw = after[:k] + before[k:]
        newest = 0 if BODY.unpack_from(raw)[0] > BODY.unpack_from(raw, SIDE_BYTES)[0] else SIDE_BYTES
        torn += BODY.unpack_from(raw, newest)[1:] not in (_fields(1), _fields(2))
    assert torn > 50


def test_both_sides_damaged_is_stale(tmp_path: Path) -> None:
    """With nothing verifiable the reader tries three times, then says None."""
    path = tmp_path / "t"
    writer = TableWriter.create(path, ["X"])
    writer.write(0, _fields(1))
    writer.write(0, _fields(2))
    start = _slot_start(path)
    with path.open("r+b") as file:
        for side in (start, start + SIDE_BYTES):
            file.seek(side + 20)
            file.write(b"\xff\xff")
    reader = TableReader.open(path)
    assert reader.read(reader.slot("X")) is None
    assert (reader.verified, reader.retried, reader.stale) == (0, 2, 1)


def test_every_flipped_bit_is_seen(tmp_path: Path) -> None:
    """A flipped bit anywhere in the newest side gives the older side, never a changed value."""
    path = tmp_path / "t"
    writer = TableWriter.create(path, ["X"])
    writer.write(0, _fields(1))
    writer.write(0, _fields(2))
    reader = TableReader.open(path)
    slot = reader.slot("X")
    at = _slot_start(path)
    good = (LastValue(1, *_fields(1)), LastValue(2, *_fields(2)))
    with path.open("r+b", buffering=0) as file:
        whole = path.read_bytes()[at : at + BODY_BYTES + CRC.size]
        for bit in range(8 * len(whole)):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            os.pwrite(file.fileno(), flipped, at)
            assert reader.read(slot) in good
            os.pwrite(file.fileno(), whole, at)


HAMMER = """
import sys
from market.table_writer import TableWriter
spin = lambda: None
writer = TableWriter.create(sys.argv[1], ["X"], mid_write=spin)
print("ready", flush=True)
n = 0
while True:
    n += 1
    writer.write(0, tuple((n * 0x0101010101010101 + k) & 0x7FFFFFFFFFFFFFFF for k in range(9)))
"""


def test_a_hammering_writer_is_never_read_torn(tmp_path: Path) -> None:
    """100,000 reads beside a process that writes without pause: torn writes are met, none is returned."""
    path = tmp_path / "t"
    with subprocess.Popen([sys.executable, "-c", HAMMER, str(path)], cwd=ROOT, stdout=subprocess.PIPE) as hammer:
        try:
            assert hammer.stdout is not None
            hammer.stdout.readline()
            reader = TableReader.open(path)
            slot = reader.slot("X")
            reads = torn = 0
            sequence = 0
            while reads < 100_000 or (reader.retried < 10 and reads < 5_000_000):
                value = reader.read(slot)
                reads += 1
                if value is not None:
                    torn += (value.bid_e9, value.ask_e9, value.written_at_ns) != (
                        _fields(value.sequence)[0],
                        _fields(value.sequence)[1],
                        _fields(value.sequence)[8],
                    ) or value != LastValue(value.sequence, *_fields(value.sequence))
                    torn += value.sequence < sequence
                    sequence = value.sequence
        finally:
            hammer.kill()
    assert torn == 0
    assert sequence > 1_000
    assert reader.retried >= 10
    assert reader.verified + reader.stale == reads


def test_a_writer_killed_half_way_leaves_the_value_before(tmp_path: Path) -> None:
    """The fail point inside a write: readers keep the last whole value, the next writer goes on from it."""
    path = tmp_path / "t"

    def die() -> None:
        raise KeyboardInterrupt

    writer = TableWriter.create(path, ["X"])
    writer.write(0, _fields(1))
    writer.write(0, _fields(2))
    writer.close()
    writer = TableWriter.create(path, ["X"], mid_write=die)
    with pytest.raises(KeyboardInterrupt):
        writer.write(0, _fields(3))
    reader = TableReader.open(path)
    slot = reader.slot("X")
    assert reader.read(slot) == LastValue(2, *_fields(2))
    assert reader.read(slot) == LastValue(2, *_fields(2))
    assert (reader.verified, reader.retried, reader.stale) == (2, 2, 0)
    writer.close()
    writer = TableWriter.create(path, ["X"])
    writer.write(0, _fields(3))
    assert reader.read(slot) == LastValue(3, *_fields(3))


def test_the_same_instruments_keep_the_file(tmp_path: Path) -> None:
    """A feed that restarts goes on in the same file with the values it left."""
    path = tmp_path / "t"
    writer = TableWriter.create(path, ["A", "B"])
    writer.write_trade(1, 5, 1, 10, 20)
    writer.close()
    inode = path.stat().st_ino
    writer = TableWriter.create(path, ["A", "B"])
    assert path.stat().st_ino == inode
    writer.write_quote(1, 4, 6, 1, 1, 11, 21)
    assert _read(path, "B") == LastValue(2, 4, 6, 1, 1, 5, 1, 11, 20, 21)


def test_a_reader_follows_to_a_file_with_other_instruments(tmp_path: Path) -> None:
    """After the feed restarted with other instruments each slot number still means its instrument."""
    path = tmp_path / "t"
    writer = TableWriter.create(path, ["A", "B"])
    reader = TableReader.open(path)
    a, b, c = reader.slot("A"), reader.slot("B"), reader.slot("C")
    writer.write_trade(0, 1, 1, 1, 1)
    writer.write_trade(1, 2, 1, 1, 1)
    values = [reader.read(slot) for slot in (a, b, c)]
    assert [v and v.last_price_e9 for v in values] == [1, 2, None]
    writer.close()
    writer = TableWriter.create(path, ["C", "B"])
    assert writer.generation == 2
    writer.write_trade(0, 33, 1, 2, 2)
    writer.write_trade(1, 22, 1, 2, 2)
    values = [reader.read(slot) for slot in (a, b, c)]
    assert [v and v.last_price_e9 for v in values] == [None, 22, 33]


def test_a_table_may_come_after_its_reader(tmp_path: Path) -> None:
    """An engine that starts before the feed reads STALE, then values, without being told."""
    reader = TableReader.open(tmp_path / "t")
    slot = reader.slot("X")
    assert reader.read(slot) is None
    writer = TableWriter.create(tmp_path / "t", ["X"])
    assert reader.read(slot) is None
    writer.write(0, _fields(1))
    assert reader.read(slot) == LastValue(1, *_fields(1))


def test_a_deleted_file_is_noticed_by_reopen(tmp_path: Path) -> None:
    """A table that someone deleted and a feed made anew is found at the next reopen."""
    path = tmp_path / "t"
    TableWriter.create(path, ["X"]).close()
    reader = TableReader.open(path)
    slot = reader.slot("X")
    path.unlink()
    TableWriter.create(path, ["X"]).write(0, _fields(1))
    assert reader.read(slot) is None
    assert reader.reopen()
    assert not reader.reopen()
    assert reader.read(slot) == LastValue(1, *_fields(1))


def test_a_crash_between_mark_and_rename_is_survived(tmp_path: Path) -> None:
    """A superseded file without a successor is read on, and the next feed replaces it."""
    path = tmp_path / "t"
    writer = TableWriter.create(path, ["X"])
    writer.write(0, _fields(1))
    writer.close()
    with path.open("r+b") as file:
        file.seek(28)
        file.write(b"\x01")
    reader = TableReader.open(path)
    slot = reader.slot("X")
    assert reader.read(slot) == reader.read(slot) == LastValue(1, *_fields(1))
    TableWriter.create(path, ["X"]).write(0, _fields(9))
    assert reader.read(slot) == LastValue(1, *_fields(9))


def test_two_feeds_cannot_write_one_table(tmp_path: Path) -> None:
    """The second feed is refused with the table's path and what to do."""
    TableWriter.create(tmp_path / "t", ["X"])
    with pytest.raises(TableError, match=r"no other feed.*stop that feed") as error:
        TableWriter.create(tmp_path / "t", ["X"])
    assert error.value.path == str(tmp_path / "t")


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    """A reader refuses a strange file; a feed replaces it."""
    path = tmp_path / "t"
    path.write_bytes(b"x" * 4_096)
    with pytest.raises(TableError, match="last-value table"):
        TableReader.open(path)
    path.write_bytes(b"short")
    with pytest.raises(TableError, match="at least 64 bytes"):
        TableReader.open(path)
    TableWriter.create(path, ["X"]).write(0, _fields(1))
    assert _read(path) == LastValue(1, *_fields(1))


@pytest.mark.parametrize("names", [[], ["A", "A"], [""], ["A\0B"]])
def test_instrument_names_are_checked(tmp_path: Path, names: list[str]) -> None:
    """Names that could not be told apart again are refused before a file is made."""
    with pytest.raises(TableError):
        TableWriter.create(tmp_path / "t", names)
    assert not (tmp_path / "t").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A table in a folder that does not exist says so."""
    with pytest.raises(TableError, match="folder"):
        TableWriter.create(tmp_path / "no" / "t", ["X"])


def _value(*, traded_at_ns: int, written_at_ns: int, sizes: tuple[int, int] = (1, 1)) -> LastValue:
    return LastValue(1, 100, 103, *sizes, 99, 1, 0, traded_at_ns, written_at_ns)


@pytest.mark.parametrize(
    ("value", "now_ns", "expected"),
    [
        (None, 10, None),
        (
            _value(traded_at_ns=10, written_at_ns=10),
            10 + AGE_MAX_NS,
            Reference(99, AGE_MAX_NS, ReferenceSource.LAST_TRADE),
        ),
        (_value(traded_at_ns=10, written_at_ns=10), 11 + AGE_MAX_NS, None),
        (
            _value(traded_at_ns=10, written_at_ns=20),
            11 + AGE_MAX_NS,
            Reference(101, AGE_MAX_NS - 9, ReferenceSource.MID),
        ),
        (_value(traded_at_ns=10, written_at_ns=20, sizes=(0, 1)), 11 + AGE_MAX_NS, None),
        (_value(traded_at_ns=10, written_at_ns=20, sizes=(1, 0)), 11 + AGE_MAX_NS, None),
        (_value(traded_at_ns=10, written_at_ns=20), 21 + AGE_MAX_NS, None),
        (_value(traded_at_ns=50, written_at_ns=50), 40, Reference(99, 0, ReferenceSource.LAST_TRADE)),
    ],
)
def test_the_reference_is_the_last_trade_else_the_mid(
    value: LastValue | None, now_ns: int, expected: Reference | None
) -> None:
    """Last trade while its age is at most the limit, else a fresh two-sided mid rounded down, else STALE."""
    assert reference(value, now_ns, AGE_MAX_NS) == expected


@pytest.mark.parametrize(("bid", "ask", "sizes", "is_suspect"), [
    (99, 100, (1, 1), False), (100, 100, (1, 1), True), (101, 100, (1, 1), True), (101, 100, (0, 1), False),
    (101, 100, (1, 0), False), (0, 0, (0, 0), False),
])  # fmt: skip
@pytest.mark.parametrize(("traded_at_ns", "price"), [(50, 99), (-AGE_MAX_NS, 100)])
def test_a_price_of_a_crossed_book_says_so(
    bid: int, ask: int, sizes: tuple[int, int], is_suspect: bool, traded_at_ns: int, price: int
) -> None:
    """99 to 100 is a book, 100 to 100 and 101 to 100 are none: last trade and mid alike. One side crosses nobody."""
    found = reference(LastValue(1, bid, ask, *sizes, 99, 1, 0, traded_at_ns, 50), 50, AGE_MAX_NS)
    if found is None:
        assert traded_at_ns < 0
        assert 0 in sizes
        return
    assert (found.source is ReferenceSource.CROSSED) is is_suspect
    assert price - 1 <= found.price_e9 <= price


writes = st.lists(
    st.tuples(st.sampled_from(("trade", "quote", "crossed", "clear", "replace")), st.integers(1, 9), st.integers(0, 9)),
    max_size=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=writes, ages=st.lists(st.integers(-2, 9), min_size=1, max_size=3))
def test_the_readers_reference_is_that_of_the_newest_value(
    tmp_path: Path, writes: list[tuple[str, int, int]], ages: list[int]
) -> None:
    """Whatever was written between two looks, a reader that remembers the last trade says what one that reads says."""
    path = tmp_path / "t"
    path.unlink(missing_ok=True)
    table = TableWriter.create(path, ["X"])
    reader = TableReader.open(path)
    slot, now_ns = reader.slot("X"), 0
    for kind, price, after in writes:
        now_ns += after
        if kind == "trade":
            table.write_trade(0, price, 1, 0, now_ns)
        elif kind == "quote":
            table.write_quote(0, price, price + 2, 1, 1, 0, now_ns)
        elif kind == "crossed":
            table.write_quote(0, price + after, price, 1, 1, 0, now_ns)
        elif kind == "clear":
            table.write_quote(0, 0, 0, 0, 0, 0, now_ns)
        else:
            table.close()
            TableWriter.create(path, ["Y", "X"]).close()
            table = TableWriter.create(path, ["X"])
        for age in ages:
            plain = TableReader.open(path)
            value = plain.read(plain.slot("X"))
            for most in (0, 4):
                assert reader.reference(slot, now_ns + age, most) == reference(value, now_ns + age, most)
    table.close()
