"""The one dedup map: (account, client_order_id) → payload hash, journal position of the first outcome, state.

A fixed-capacity table of 32-byte slots in anonymous memory: digest 16, payload hash 8, position and state 8. Open
addressing, at most half full, so 64 bytes a key, and untouched pages cost nothing (MEASURED section 5: dicts and
sets cost 107-214). Nothing is ever removed before a SESSION_ROLL, so a slot number is stable.
"""

from __future__ import annotations

import mmap
import struct
from hashlib import blake2b
from typing import Final

from protocol.codes import OrderStatus

SLOT_BYTES: Final = 32
STATE_SHIFT: Final = 56
POSITION_MASK: Final = (1 << STATE_SHIFT) - 1
NO_PAYLOAD: Final = bytes(8)
EMPTY: Final = bytes(16)
_VALUE: Final = struct.Struct("<8sQ")
_INDEX: Final = struct.Struct("<Q")


def key_digest(account: str, client_order_id: str) -> bytes:
    """Return the 16-byte digest of a key; NUL can't be in an account's name, so no two keys run together."""
    return blake2b(f"{account}\0{client_order_id}".encode(), digest_size=16).digest()


def payload_hash(command: bytes | memoryview) -> bytes:
    """Return the 8-byte hash of a command's bytes: the business fields only (DECISIONS 9)."""
    return blake2b(command, digest_size=8).digest()


class DedupTable:
    """Keys of the window. ``keys_max`` bounds what may be taken; ``reserve`` more are kept for cancels and exits."""

    def __init__(self, keys_max: int, reserve: int = 4096) -> None:
        self.keys_max = keys_max
        slots = 1 << (2 * (keys_max + reserve) - 1).bit_length()
        self.slots_max = slots // 2
        self.keys = 0
        self._mask = slots - 1
        self._table = mmap.mmap(-1, slots * SLOT_BYTES)

    @property
    def is_full(self) -> bool:
        """Whether new risk must wait for the next SESSION_ROLL."""
        return self.keys >= self.keys_max

    @property
    def is_exhausted(self) -> bool:
        """Whether the reserve for cancels and exits is gone too."""
        return self.keys >= self.slots_max

    def find(self, digest: bytes) -> int:
        """Return the offset of the key's slot; where there is none, -1 - the offset where it would go."""
        table = self._table
        index: int = _INDEX.unpack_from(digest)[0] & self._mask
        while True:
            offset = index * SLOT_BYTES
            there = table[offset : offset + 16]
            if there == digest:
                return offset
            if there == EMPTY:
                return -1 - offset
            index = (index + 1) & self._mask

    def insert(self, offset: int, digest: bytes, payload: bytes, position: int, state: OrderStatus) -> None:
        """Take the free slot that ``find`` named."""
        assert self.keys < self.slots_max
        self._table[offset : offset + SLOT_BYTES] = digest + _VALUE.pack(payload, position | state << STATE_SHIFT)
        self.keys += 1

    def entry(self, offset: int) -> tuple[bytes, int, OrderStatus]:
        """Return (payload hash, position of the first outcome's record, state now)."""
        payload, value = _VALUE.unpack_from(self._table, offset + 16)
        return payload, value & POSITION_MASK, OrderStatus(value >> STATE_SHIFT)

    def replace(self, offset: int, payload: bytes, position: int, state: OrderStatus) -> None:
        """Give a taken slot another value: an order that met its tombstone."""
        _VALUE.pack_into(self._table, offset + 16, payload, position | state << STATE_SHIFT)

    def set_state(self, offset: int, state: OrderStatus) -> None:
        """Say what the key's order is now."""
        self._table[offset + SLOT_BYTES - 1] = state

    def content_hash(self) -> bytes:
        """Return a hash over all slots in use, in table order; part of the state hash."""
        digest = blake2b(digest_size=16)
        table = self._table
        chunk = 1 << 20
        for start in range(0, len(table), chunk):
            part = table[start : start + chunk]
            if part.count(0) != len(part):
                digest.update(start.to_bytes(8, "little") + part)
        return digest.digest()
