"""Whose store this is: a repository's, or a datastore's, which a repository would empty.

A repository's gc frees every key that no ref needs, and a datastore has no refs. So each of the two
sets a mark on an empty store before anything else, and refuses one that is the other's. A store
without a mark is a repository's when it has refs or blocks: older versions set none. Format:
docs/formats/refs.md, The mark.
"""

from __future__ import annotations

from typing import Final

from blkdev.errors import BlockDamaged, StoreError
from blkdev.store import Store
from repo.blocks_blkdev import translated
from repo.errors import NotARepository
from repo.refs import DATASTORE_MARK, Ref

MARK: Final = b"\0repository"
"""No ref has a NUL in its name. Its value is a ref that keeps nothing alive, for older versions."""
DATASTORE_KEYS: Final = (b"/", b"~")
"""First bytes of a datastore's keys; no multihash in use begins with one of them."""


def claim(store: Store) -> None:
    """Make an empty store a repository's. Raises NotARepository, StoreFailed."""
    if _is_a_datastores(store):
        raise NotARepository(
            f"{store.device.name} holds a datastore, which gc of a repository would empty (open it "
            "with the package datastore, or give the repository another device)"
        )
    try:
        if not store.read_only and not store.stats().names:
            store.set_name(MARK, Ref().encode())
    except StoreError as error:
        raise translated(error) from error


def _is_a_datastores(store: Store) -> bool:
    try:
        if store.name(DATASTORE_MARK) is not None:
            return True
    except BlockDamaged:
        # It is there, whatever it says.
        return True
    stats = store.stats()
    if stats.names or not stats.keys:
        return False
    # A repair drops a mark that cannot be read.
    return next(store.keys(), b"").startswith(DATASTORE_KEYS)
