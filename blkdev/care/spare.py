"""Where on the device of an open store nothing is kept: for who measures the device itself."""

from __future__ import annotations

from blkdev.errors import StoreFull
from blkdev.store import Store


def spare_range(store: Store) -> tuple[int, int]:
    """(offset, length) of a free segment. As long as nothing is written to the store, what is
    there may be written there again.

    Raises StoreFull, StoreReadOnly, StoreClosed.
    """
    # A commit refuses a store that is closed, read-only or failing, and leaves nothing staged.
    store.commit()
    free = store._catalog.free
    if not free:
        raise StoreFull(store.device.name)
    return store.geometry.segment_offset(free[-1]), store.geometry.segment_size_bytes
