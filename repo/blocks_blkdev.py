"""Blocks on the device engine: the key is the multihash, the value is the block.

The engine's keys have at most 64 bytes, and some multihashes are longer (sha2-512 has 66). Such a
block is stored under `0x00 + sha2-256 of the multihash`, with the multihash before its bytes. No
multihash that is stored begins with 0x00, because that is identity. Format: `docs/formats/refs.md`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType

from blkdev import errors as engine
from blkdev.store import Store
from ipld import cid as cids
from ipld.block import Block, BytesLike
from ipld.multihash import IDENTITY
from repo.errors import BlockDamaged, BlockNotFound, StoreFailed, StoreFull
from repo.interface import BlockStats
from repo.verified import Verified

KEY_SIZE_MAX_BYTES = 64
_LONG = b"\0"


def translated(error: engine.StoreError, cid: bytes | None = None) -> Exception:
    """The repository's error for one of the engine's, about this block where there is one."""
    if isinstance(error, engine.StoreFull):
        return StoreFull()
    if cid is not None and isinstance(error, engine.KeyNotFound):
        return BlockNotFound(cid)
    if cid is not None and isinstance(error, engine.BlockDamaged):
        return BlockDamaged(cid)
    return StoreFailed(str(error))


class BlkdevBlocks:
    """A BlockStore; see `repo.interface`. Locks: the engine's own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reader = store.reader
        self._verified = Verified()
        self._slow_view = partial(_View, store, self._verified)

    def get(self, cid: bytes) -> bytes:
        multihash = cids.multihash_of(cid)
        try:
            data = self._store.get(_key(multihash))
        except engine.StoreError as error:
            if cids.is_identity(cid):
                return cids.identity_data(cid)
            raise translated(error, cid) from error
        if len(multihash) > KEY_SIZE_MAX_BYTES:
            data = data[1 + len(multihash) :]
        if not self._verified.is_known(multihash):
            _check(self._store, self._verified, cid, multihash, data)
        return data

    def get_part(self, cid: bytes, start: int, length: int) -> bytes:
        multihash = cids.multihash_of(cid)
        if not self._verified.is_known(multihash):
            with self.view(cid) as view:
                return bytes(view[start : start + length])
        try:
            skip = _header_size(multihash)
            return self._store.get_part(_key(multihash), skip + start, length)
        except engine.StoreError as error:
            raise translated(error, cid) from error

    def view(self, cid: bytes) -> AbstractContextManager[memoryview]:
        multihash = cids.multihash_of(cid)
        return self._reader.checked_view(cid, multihash, self._verified, self._slow_view)

    def has(self, cid: bytes) -> bool:
        try:
            return self._store.has(_key(cids.multihash_of(cid))) or cids.is_identity(cid)
        except engine.BlockDamaged:
            # Whatever the record was, it cannot be read: not here, so that it is stored again.
            return False

    def size_of(self, cid: bytes) -> int:
        if cids.is_identity(cid):
            return len(cids.identity_data(cid))
        multihash = cids.multihash_of(cid)
        try:
            return self._store.size_of(_key(multihash)) - _header_size(multihash)
        except engine.StoreError as error:
            raise translated(error, cid) from error

    def put_many(self, blocks: Iterable[Block]) -> int:
        try:
            return self._store.put_many(
                _record(block) for block in blocks if not cids.is_identity(block.cid)
            )
        except engine.StoreError as error:
            raise translated(error) from error

    def delete_many(self, multihashes: Iterable[bytes], *, before: int | None = None) -> int:
        deleted = list(multihashes)
        try:
            return self._store.delete_many(map(_key, deleted), before=before)
        except engine.StoreError as error:
            raise translated(error) from error
        finally:
            for multihash in deleted:
                self._verified.forget(multihash)

    def keys(self) -> Iterator[bytes]:
        for key in self._store.keys():  # noqa: SIM118  # a store is no dict
            if not key.startswith(_LONG):
                yield key
                continue
            try:
                with self._store.view(key) as value:
                    yield bytes(value[1 : 1 + value[0]])
            except (engine.KeyNotFound, engine.BlockDamaged):
                continue

    def position(self) -> int:
        return self._store.position()

    def commit(self) -> None:
        try:
            self._store.commit()
        except engine.StoreError as error:
            raise translated(error) from error

    def forget_verified(self) -> None:
        """Hash every block again when it is read next: after anything that puts bytes in doubt."""
        self._verified.clear()

    def stats(self) -> BlockStats:
        stats = self._store.stats()
        return BlockStats(
            count=stats.keys,
            live_bytes=stats.live_bytes,
            capacity_bytes=stats.capacity_bytes,
            free_bytes=stats.free_bytes,
        )


class _View:
    """A verified view of one block, translated errors included: what the engine's own, which are
    quicker, leave to Python.
    """

    __slots__ = ("_cid", "_context", "_data", "_store", "_verified")

    def __init__(self, store: Store, verified: Verified, cid: bytes) -> None:
        self._store = store
        self._verified = verified
        self._cid = cid
        self._context: AbstractContextManager[memoryview] | None = None

    def __enter__(self) -> memoryview:
        cid = self._cid
        multihash = cids.multihash_of(cid)
        if multihash[0] == IDENTITY:
            return memoryview(cids.identity_data(cid))
        context = self._store.view(_key(multihash))
        try:
            data = context.__enter__()
        except engine.StoreError as error:
            raise translated(error, cid) from error
        if len(multihash) > KEY_SIZE_MAX_BYTES:
            data = data[1 + len(multihash) :]
        if not self._verified.is_known(multihash):
            try:
                _check(self._store, self._verified, cid, multihash, data)
            except BlockDamaged:
                # The caller never enters its `with`, so nobody else would let go of the segment.
                data.release()
                context.__exit__(None, None, None)
                raise
        self._context, self._data = context, data
        return data

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._context is not None:
            # The segment may be reused from here on; whoever kept the view must not see that.
            self._data.release()
            self._context.__exit__(kind, error, traceback)


def _check(store: Store, verified: Verified, cid: bytes, multihash: bytes, data: BytesLike) -> None:
    """Raises BlockDamaged, after telling the engine, so that a put stores the block anew."""
    try:
        verified.check(cid, multihash, data)
    except BlockDamaged:
        store.condemn(_key(multihash))
        raise


def _key(multihash: bytes) -> bytes:
    if len(multihash) <= KEY_SIZE_MAX_BYTES:
        return multihash
    return _LONG + hashlib.sha256(multihash).digest()


def _header_size(multihash: bytes) -> int:
    return 0 if len(multihash) <= KEY_SIZE_MAX_BYTES else 1 + len(multihash)


def _record(block: Block) -> tuple[bytes, BytesLike]:
    multihash = cids.multihash_of(block.cid)
    if len(multihash) <= KEY_SIZE_MAX_BYTES:
        return multihash, block.data
    header = bytes((len(multihash),)) + multihash
    return _key(multihash), b"".join((header, block.data))
