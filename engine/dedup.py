"""The one dedup map: (account, client_order_id) → payload hash, journal position of the first outcome, state.

A fixed-capacity table of 32-byte slots in anonymous memory: four words a slot, digest 16 bytes, payload hash 8,
position and state 8. Open addressing over 31/16 slots a key, so 62 bytes a key whatever ``keys_max`` is, and untouched
pages cost nothing (MEASURED section 5: dicts and sets cost 107-214).

Rule: keys leave only by ``retire``, which a journaled record calls for one part of the table at a time; the slot of a
key whose order still lives never changes, so such an order keeps its slot number.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, Final, NamedTuple, cast
from zlib import adler32, crc32

from protocol.codes import TERMINAL, OrderStatus

WORDS: Final = 4
SLOT_BYTES: Final = 8 * WORDS
STATE_SHIFT: Final = 56
POSITION_MASK: Final = (1 << STATE_SHIFT) - 1
NO_PAYLOAD: Final = 0
RESERVE_MIN: Final = 16
RESERVE_MAX: Final = 4096
PART_SLOTS: Final = 1024
DELETED: Final = (1 << 64) - 1  # a first word; with a second word of 0 no key, as surely as no two keys are one
OVER: Final = frozenset(int(status) for status in (*TERMINAL, OrderStatus.TOMBSTONE))
KEY_BYTES: Final = 32
CHUNK_BYTES: Final = 1 << 20
PAGE_BYTES: Final = 4096
_ZERO_CHUNK: Final = bytes(CHUNK_BYTES)
_ZERO_PAGE: Final = bytes(PAGE_BYTES)
ORDER_ID_BYTES: Final = 12  # 96 bits, so that the id fits what venues take (Binance: 36 characters)
# Made names of their own: compiled, what another module holds is looked up at each use.
_crc32: Final = cast("Callable[[Any], object]", crc32)
_adler32: Final = cast("Callable[[Any], object]", adler32)
_unpack_key: Final = cast("Callable[[bytes], tuple[int, int, bytes]]", struct.Struct("<QQ12s4x").unpack)
_unpack_halves: Final = cast("Callable[[bytes], tuple[int, int, bytes]]", struct.Struct("<II8x12s4x").unpack)
BEGUN_MAX: Final = 4096
_pack_slot: Final = struct.Struct("=QQQQ").pack_into
# The same slot from the digest's own bytes and the payload's two checksums: no words are made that nobody reads. Little
# endian, as the words are; a native L is packed in half of a Q's time.
_pack_digest: Final = struct.Struct("@16sIIL").pack_into
assert sys.byteorder == "little"
assert struct.calcsize("@16sIIL") == SLOT_BYTES


class Key(NamedTuple):
    """The keyed hash of (account, client_order_id): two words for the table, twelve bytes for order ids."""

    low: int
    high: int
    order_id: bytes


class KeyHash:
    """Makes keys under the journal's own secret, so that nobody outside can choose two that meet.

    Of each account the hash is kept as it is after the account's name: the secret's block, which is half of the work,
    is then behind it.
    """

    __slots__ = ("_base", "_begun")

    def __init__(self, secret: bytes) -> None:
        self._base = blake2b(key=secret, digest_size=KEY_BYTES)
        self._begun: dict[str, blake2b] = {}

    def key(self, account: str, client_order_id: str) -> tuple[int, int, bytes]:
        """Return the fields of ``Key``; NUL can't be in an account's name, so no two keys run together."""
        begun = self._begun.get(account)
        if begun is None:
            begun = self._begin(account)
        h = begun.copy()
        h.update(client_order_id.encode())
        low, high, order_id = _unpack_key(h.digest())
        return low or 1, high, order_id  # a first word of 0 marks a free slot

    def parts(self, account: str, client_order_id: str) -> tuple[bytes, int, int, bytes]:
        """Return (digest, its first word's lower and upper half, the order id's bytes) of the same key.

        For whoever takes a new key: no word of 64 bits is made an integer, which costs as much as the look-up.
        """
        begun = self._begun.get(account)
        if begun is None:
            begun = self._begin(account)
        h = begun.copy()
        h.update(client_order_id.encode())
        digest = h.digest()
        low, high, order_id = _unpack_halves(digest)
        if not low and not high:
            low, digest = 1, b"\x01" + digest[1:]
        return digest, low, high, order_id

    def _begin(self, account: str) -> blake2b:
        begun = self._base.copy()
        begun.update(f"{account}\0".encode())
        if len(self._begun) < BEGUN_MAX:  # names that nobody listed come here too, as many as somebody likes
            self._begun[account] = begun
        return begun


def payload_hash(command: bytes | memoryview) -> int:
    """Return the 8-byte hash of a command's bytes: the business fields only (DECISIONS 9).

    It tells a changed payload from a repeated one under a key that its own sender chose: two checksums do, at a
    third of a cryptographic hash's cost. Whoever makes them meet gets the answer of his own first order.
    """
    return crc32(command) << 32 | adler32(command)


class DedupTable:
    """Keys of the window. ``keys_max`` bounds what may be taken; ``reserve`` more are kept for cancels and exits."""

    def __init__(self, keys_max: int, reserve: int = -1) -> None:
        if reserve < 0:
            reserve = max(RESERVE_MIN, min(RESERVE_MAX, keys_max // 4))
        self.keys_max = keys_max
        self.slots_max = keys_max + reserve  # keys that go in
        # A table is never fuller than three quarters, which only a tiny one with its reserve gone comes near.
        self.slots = max(keys_max * 31 // 16, self.slots_max * 4 // 3 + 1)
        self.keys = 0
        self.deleted = 0
        self._end = self.slots * WORDS
        self._memory = mmap.mmap(-1, self.slots * SLOT_BYTES)
        self._words = memoryview(self._memory).cast("Q")

    def use_huge_pages(self) -> bool:
        """Have what is still untouched come in pages of 2 MiB; whether the kernel agreed.

        A key then costs no fault and fewer look-ups of its address, and the table is whole in memory after the first
        few hundred.
        """
        try:
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        except (AttributeError, OSError):  # not Linux, or a kernel built without them
            return False
        return True

    @property
    def is_full(self) -> bool:
        """Whether new risk must wait for the next SESSION_ROLL."""
        return self.keys >= self.keys_max

    @property
    def is_exhausted(self) -> bool:
        """Whether the reserve for cancels and exits is gone too."""
        return self.keys + self.deleted >= self.slots_max

    def find(self, low: int, high: int) -> int:
        """Return the slot of the key; where there is none, -1 - the slot where it would go."""
        words = self._words
        end = self._end
        at = low % self.slots << 2
        while True:
            there = words[at]
            if not there:
                return -1 - at
            if there == low and words[at + 1] == high:
                return at
            at += WORDS
            if at == end:
                at = 0

    def find_parts(self, digest: bytes, low: int, high: int) -> int:
        """Return what ``find`` says of a key of ``KeyHash.parts``."""
        slots = self.slots
        at = (high % slots << 32 | low) % slots << 2  # of small integers only
        if not self._words[at]:
            return -1 - at
        words = _unpack_key(digest)
        return self.find(words[0], words[1])

    def take(self, slot: int, digest: bytes, command: bytes | memoryview, value: int) -> None:
        """Take the free slot that ``find_parts`` named for a command; ``insert`` of its ``payload_hash``."""
        assert self.keys + self.deleted < self.slots_max
        _pack_digest(self._memory, slot << 3, digest, _adler32(command), _crc32(command), value)
        self.keys += 1

    def insert(self, slot: int, low: int, high: int, payload: int, value: int) -> None:
        """Take the free slot that ``find`` named; ``value`` is ``value_of(position, state)``."""
        assert self.keys + self.deleted < self.slots_max
        _pack_slot(self._memory, slot << 3, low, high, payload, value)
        self.keys += 1

    def take_key(self, low: int, high: int, payload: int, value: int) -> int:
        """Give a key its payload's hash and a value, known or not; return its slot.

        A key that is new when it is decided may be known when the record is applied again: in a table of another size
        one that had left already is still there.
        """
        slot = self.find(low, high)
        if slot < 0:
            slot = -1 - slot
            self.insert(slot, low, high, payload, value)
        else:
            self.replace(slot, payload, value)
        return slot

    def replace(self, slot: int, payload: int, value: int) -> None:
        """Give a taken slot another value: an order that met its tombstone."""
        self._words[slot + 2] = payload
        self._words[slot + 3] = value

    def entry(self, slot: int) -> tuple[int, int, OrderStatus]:
        """Return (payload hash, position of the first outcome's record, state now)."""
        value = self._words[slot + 3]
        return self._words[slot + 2], value & POSITION_MASK, OrderStatus(value >> STATE_SHIFT)

    def set_state(self, slot: int, state: OrderStatus) -> None:
        """Say what the key's order is now."""
        self._words[slot + 3] = self._words[slot + 3] & POSITION_MASK | state << STATE_SHIFT

    # Keys leave

    @property
    def parts(self) -> int:
        """In how many parts the table is retired: the work of one is bounded, whatever the size of the table."""
        return -(-self.slots // PART_SLOTS)

    def retire(self, part: int, parts: int, before: int) -> int:
        """Remove the keys of one part whose first outcome stands before a position and whose order is over.

        A part of another table's ``parts`` is the same share of this one: a journal is replayed at any size. Runs of
        taken slots are looked at whole, also where they begin before the part or end behind it.

        Args:
            part: Which, from 0.
            parts: Of how many.
            before: Journal position; what was first decided there or later stays.

        Returns:
            How many keys left.
        """
        words, slots = self._words, self.slots
        index, end = slots * part // parts, slots * (part + 1) // parts
        while words[(index - 1) % slots << 2]:
            index -= 1
        removed = 0
        while index < end:
            first = index
            has_dead = False
            while words[at := index % slots << 2]:
                value = words[at + 3]
                if value & POSITION_MASK < before and value >> STATE_SHIFT in OVER:
                    has_dead = True
                index += 1
            if has_dead:
                removed += self._rebuild(first, index, before)
            index += 1
        self.keys -= removed
        return removed

    def _rebuild(self, first: int, end: int, before: int) -> int:
        """Lay a run of taken slots anew without its dead keys; what still lives keeps its slot. Return how many left.

        Where a living key would be cut off from its home by a slot that is free now, that slot is marked as deleted.
        """
        words, slots = self._words, self.slots
        moving: list[tuple[int, int, int, int]] = []
        staying: list[int] = []
        removed = 0
        for index in range(first, end):
            at = index % slots << 2
            low, high, value = words[at], words[at + 1], words[at + 3]
            is_over = value >> STATE_SHIFT in OVER
            if low == DELETED and not high:
                self.deleted -= 1
            elif not is_over:
                staying.append(at)
                continue
            elif value & POSITION_MASK < before:
                removed += 1
            else:
                moving.append((low, high, words[at + 2], value))
            _pack_slot(self._memory, at << 3, 0, 0, 0, 0)
        for low, high, payload, value in moving:
            _pack_slot(self._memory, -1 - self.find(low, high) << 3, low, high, payload, value)
        for slot in staying:
            at = words[slot] % slots << 2
            while at != slot:
                if not words[at]:
                    _pack_slot(self._memory, at << 3, DELETED, 0, 0, 0)
                    self.deleted += 1
                at = (at + WORDS) % self._end
        return removed

    def content_hash(self) -> bytes:
        """Return a hash over all slots in use, in table order; part of the state hash."""
        digest = blake2b(digest_size=16)
        for start, part in self.chunks():
            digest.update(start.to_bytes(8, "little"))
            digest.update(part)
        return digest.digest()

    # As a whole: into a snapshot and back

    def chunks(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of each MiB that holds a key, in table order."""
        for start in range(0, len(self._memory), CHUNK_BYTES):
            part = self._memory[start : start + CHUNK_BYTES]
            if part != _ZERO_CHUNK[: len(part)]:
                yield start, part

    def put(self, start: int, part: bytes) -> None:
        """Write back what ``chunks`` gave, leaving untouched the pages that hold nothing.

        Raises:
            ValueError: If it does not fit where it says it belongs.
        """
        if start % CHUNK_BYTES or len(part) > CHUNK_BYTES or start + len(part) > len(self._memory):
            raise ValueError(f"chunk expected within {len(self._memory)} bytes, was {len(part)} at {start}")
        memory = self._memory
        for at in range(0, len(part), PAGE_BYTES):
            page = part[at : at + PAGE_BYTES]
            if page != _ZERO_PAGE:
                memory[start + at : start + at + len(page)] = page

    def used(self) -> Iterator[tuple[int, int, int, int, int]]:
        """Yield (slot, low, high, payload hash, position and state) of every key, in table order."""
        for start, part in self.chunks():
            words = memoryview(part).cast("Q")
            for at in range(0, len(words), WORDS):
                if words[at] and not (words[at] == DELETED and not words[at + 1]):
                    yield (start >> 3) + at, words[at], words[at + 1], words[at + 2], words[at + 3]


def value_of(position: int, state: OrderStatus) -> int:
    """Return position and state as one word."""
    return position | state << STATE_SHIFT
