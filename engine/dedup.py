"""The one dedup map: (account, client_order_id) → payload hash, journal position of the first outcome, state.

A fixed-capacity table of 32-byte slots in anonymous memory: four words a slot, digest 16 bytes, payload hash 8,
position and state 8. Open addressing, at most half full, so 64 bytes a key, and untouched pages cost nothing
(MEASURED section 5: dicts and sets cost 107-214). Nothing is removed before a SESSION_ROLL, so a slot number is stable.
"""

from __future__ import annotations

import mmap
import struct
from hashlib import blake2b
from typing import Final, NamedTuple
from zlib import adler32, crc32

from protocol.codes import OrderStatus

WORDS: Final = 4
SLOT_BYTES: Final = 8 * WORDS
STATE_SHIFT: Final = 56
POSITION_MASK: Final = (1 << STATE_SHIFT) - 1
NO_PAYLOAD: Final = 0
KEY_BYTES: Final = 32
ORDER_ID_BYTES: Final = 12  # 96 bits, so that the id fits what venues take (Binance: 36 characters)
_KEY: Final = struct.Struct("<QQ12s4x")
_pack_slot: Final = struct.Struct("=QQQQ").pack_into


class Key(NamedTuple):
    """The keyed hash of (account, client_order_id): two words for the table, twelve bytes for order ids."""

    low: int
    high: int
    order_id: bytes


class KeyHash:
    """Makes keys under the journal's own secret, so that nobody outside can choose two that meet."""

    __slots__ = ("_base",)

    def __init__(self, secret: bytes) -> None:
        self._base = blake2b(key=secret, digest_size=KEY_BYTES)

    def key(self, account: str, client_order_id: str) -> tuple[int, int, bytes]:
        """Return the fields of ``Key``; NUL can't be in an account's name, so no two keys run together."""
        h = self._base.copy()
        h.update(f"{account}\0{client_order_id}".encode())
        low, high, order_id = _KEY.unpack(h.digest())
        return low or 1, high, order_id  # a first word of 0 marks a free slot


def payload_hash(command: bytes | memoryview) -> int:
    """Return the 8-byte hash of a command's bytes: the business fields only (DECISIONS 9).

    It tells a changed payload from a repeated one under a key that its own sender chose: two checksums do, at a
    third of a cryptographic hash's cost. Whoever makes them meet gets the answer of his own first order.
    """
    return crc32(command) << 32 | adler32(command)


class DedupTable:
    """Keys of the window. ``keys_max`` bounds what may be taken; ``reserve`` more are kept for cancels and exits."""

    def __init__(self, keys_max: int, reserve: int = 4096) -> None:
        self.keys_max = keys_max
        slots = 1 << (2 * (keys_max + reserve) - 1).bit_length()
        self.slots_max = slots // 2
        self.keys = 0
        self._mask = slots - 1
        self._memory = mmap.mmap(-1, slots * SLOT_BYTES)
        self._words = memoryview(self._memory).cast("Q")

    @property
    def is_full(self) -> bool:
        """Whether new risk must wait for the next SESSION_ROLL."""
        return self.keys >= self.keys_max

    @property
    def is_exhausted(self) -> bool:
        """Whether the reserve for cancels and exits is gone too."""
        return self.keys >= self.slots_max

    def find(self, low: int, high: int) -> int:
        """Return the slot of the key; where there is none, -1 - the slot where it would go."""
        words = self._words
        mask = self._mask
        index = low & mask
        while True:
            at = index << 2
            there = words[at]
            if not there:
                return -1 - at
            if there == low and words[at + 1] == high:
                return at
            index = (index + 1) & mask

    def insert(self, slot: int, low: int, high: int, payload: int, value: int) -> None:
        """Take the free slot that ``find`` named; ``value`` is ``value_of(position, state)``."""
        assert self.keys < self.slots_max
        _pack_slot(self._memory, slot << 3, low, high, payload, value)
        self.keys += 1

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

    def content_hash(self) -> bytes:
        """Return a hash over all slots in use, in table order; part of the state hash."""
        digest = blake2b(digest_size=16)
        chunk = 1 << 20
        for start in range(0, len(self._memory), chunk):
            part = self._memory[start : start + chunk]
            if part.count(0) != len(part):
                digest.update(start.to_bytes(8, "little") + part)
        return digest.digest()


def value_of(position: int, state: OrderStatus) -> int:
    """Return position and state as one word."""
    return position | state << STATE_SHIFT
