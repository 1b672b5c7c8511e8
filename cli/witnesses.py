"""How far others say they have seen the journal, asked from their own durable files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from books.sqlite import SqliteStore
from journal.holders import Held
from protocol.errors import StoreError

BOOKS_STORE: Final = "the books' store"


def books_held(store: Path) -> Held | None:
    """Return the watermark of the embedded books store; None if there is no store, seq None if it does not answer."""
    if not store.exists():
        return None
    try:
        reader = SqliteStore(store, read_only=True)
    except StoreError:
        return Held(BOOKS_STORE, None)
    try:
        mark = reader.watermark()
    except StoreError:
        return Held(BOOKS_STORE, None)
    finally:
        reader.close()
    return Held(BOOKS_STORE, mark.seq, mark.crc)
