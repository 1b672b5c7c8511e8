"""How far others say they have seen the journal, asked from their own durable files."""

from __future__ import annotations

from typing import Final

from cli.books_rows import stores_of
from cli.configuration import Loaded
from journal.holders import Held
from protocol.errors import StoreError

BOOKS_STORE: Final = "the books' store"


def books_held(loaded: Loaded) -> Held | None:
    """Return the watermark of the books' store; None if there is no file of it, seq None if it does not answer."""
    stores = stores_of(loaded)
    if stores.path is not None and not stores.path.exists():
        return None
    try:
        reader = stores.reader()
        try:
            mark = reader.watermark()
        finally:
            reader.close()
    except StoreError:
        return Held(BOOKS_STORE, None)
    finally:
        stores.close()
    return Held(BOOKS_STORE, mark.seq, mark.crc)
