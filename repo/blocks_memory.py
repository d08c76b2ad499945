"""Blocks in a dict: for tests, for `--only-hash`, and as the model the device is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ipld import cid as cids
from ipld.block import Block
from repo.errors import BlockNotFound
from repo.interface import BlockStats
from repo.memory_log import MemoryLog
from repo.verified import Verified


class _Stored(NamedTuple):
    data: bytes
    position: int


class MemoryBlocks:
    """A BlockStore; see `repo.interface`."""

    def __init__(self, log: MemoryLog | None = None) -> None:
        self._log = log or MemoryLog()
        self._blocks: dict[bytes, _Stored] = {}
        self._verified = Verified()

    def get(self, cid: bytes) -> bytes:
        if cids.is_identity(cid):
            return cids.identity_data(cid)
        multihash = cids.multihash_of(cid)
        data = self._stored(cid, multihash).data
        if not self._verified.is_known(multihash):
            self._verified.check(cid, multihash, data)
        return data

    def get_part(self, cid: bytes, start: int, length: int) -> bytes:
        return self.get(cid)[start : start + length]

    @contextmanager
    def view(self, cid: bytes) -> Iterator[memoryview]:
        # Released on leaving, so that a caller who keeps it fails here as on a device.
        with memoryview(self.get(cid)) as view:
            yield view

    def has(self, cid: bytes) -> bool:
        return cids.is_identity(cid) or cids.multihash_of(cid) in self._blocks

    def size_of(self, cid: bytes) -> int:
        if cids.is_identity(cid):
            return len(cids.identity_data(cid))
        return len(self._stored(cid, cids.multihash_of(cid)).data)

    def put_many(self, blocks: Iterable[Block]) -> int:
        return sum(self._put(block) for block in blocks)

    def delete_many(self, multihashes: Iterable[bytes], *, before: int | None = None) -> int:
        return sum(self._delete(multihash, before) for multihash in multihashes)

    def keys(self) -> Iterator[bytes]:
        with self._log.lock:
            return iter(list(self._blocks))

    def position(self) -> int:
        return self._log.position()

    def commit(self) -> None:
        self._log.commit()

    def stats(self) -> BlockStats:
        capacity = self._log.capacity_bytes
        free = None if capacity is None else capacity - self._log.used_bytes
        return BlockStats(len(self._blocks), self._log.used_bytes, capacity, free)

    def damage(self, cid: bytes, data: bytes) -> None:
        """Put other bytes under a CID, as a failing device does. For tests of what follows."""
        multihash = cids.multihash_of(cid)
        with self._log.lock:
            self._blocks[multihash] = self._blocks[multihash]._replace(data=data)
            self._verified.forget(multihash)

    def _stored(self, cid: bytes, multihash: bytes) -> _Stored:
        stored = self._blocks.get(multihash)
        if stored is None:
            raise BlockNotFound(cid)
        return stored

    def _put(self, block: Block) -> bool:
        if cids.is_identity(block.cid):
            return False
        multihash = cids.multihash_of(block.cid)
        with self._log.lock:
            if multihash in self._blocks:
                return False
            data = bytes(block.data)
            self._log.reserve(len(data))
            position = self._log.written(lambda: self._drop(multihash))
            self._blocks[multihash] = _Stored(data, position)
        return True

    def _delete(self, multihash: bytes, before: int | None) -> bool:
        with self._log.lock:
            stored = self._blocks.get(multihash)
            if stored is None or (before is not None and stored.position > before):
                return False
            self._drop(multihash)
            self._log.written(lambda: self._restore(multihash, stored))
        return True

    def _drop(self, multihash: bytes) -> None:
        stored = self._blocks.pop(multihash)
        self._verified.forget(multihash)
        self._log.reserve(-len(stored.data))

    def _restore(self, multihash: bytes, stored: _Stored) -> None:
        # A crash may bring a deletion back when later blocks took its room: the limit on memory
        # is what a test asked for, never a reason to fail here.
        self._log.used_bytes += len(stored.data)
        self._blocks[multihash] = stored
