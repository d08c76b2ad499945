"""The repository: one object through which everything above reads, writes and names blocks.

    with repo.lease():
        repo.put_many(blocks)
        repo.refs.update({"root/main": Ref(links=(root_cid,))})
    repo.commit()

Order of writes is the whole protocol: blocks, then the ref that needs them, in one log. A crash
leaves a prefix of it, so a ref that is there has its blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING

from ipld import cid as cids
from ipld.block import Block
from repo import gc
from repo.backend_memory import MemoryBackend
from repo.errors import BlockNotFound, BlockUnavailable
from repo.gc import GcReport
from repo.interface import Backend, Journal, Progress
from repo.leases import Lease, Leases
from repo.refs import Refs

if TYPE_CHECKING:
    from blkdev.store import Store

_BATCH_COUNT_MAX = 128
_BATCH_SIZE_MAX_BYTES = 4 << 20


class Repo:
    """Thread-safe. Locks: `repo.leases` and those of the store; one gc runs at a time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._gc_lock = Lock()
        self.blocks = backend.blocks
        self.leases = Leases(backend.blocks.position)
        self.refs = Refs(backend.names, self.leases)

    @classmethod
    def open_blkdev(cls, store: Store) -> Repo:
        """On an open engine store, empty or a repository's, which `close` closes.

        Raises NotARepository, StoreFailed.
        """
        from repo.backend_blkdev import BlkdevBackend
        from repo.claim import claim

        claim(store)
        return cls(BlkdevBackend(store))

    @classmethod
    def in_memory(cls, backend: MemoryBackend | None = None) -> Repo:
        """Without a device. Give the same backend again to reopen what it holds."""
        return cls(backend or MemoryBackend())

    def get(self, cid: bytes) -> bytes:
        """The block's bytes, verified. Raises BlockUnavailable, BlockDamaged."""
        try:
            return self.blocks.get(cid)
        except BlockNotFound:
            raise BlockUnavailable(cid) from None

    def get_part(self, cid: bytes, start: int, length: int) -> bytes:
        """Bytes of the block from `start` on, fewer only at its end; verified as `get` is."""
        try:
            return self.blocks.get_part(cid, start, length)
        except BlockNotFound:
            raise BlockUnavailable(cid) from None

    def view(self, cid: bytes) -> AbstractContextManager[memoryview]:
        """Zero-copy `get`; the view is read-only and ends with the `with`."""
        return _View(cid, self.blocks.view(cid))

    def has(self, cid: bytes) -> bool:
        """Whether the block is here; if so, an open lease protects it from now on."""
        if self.leases.is_any_open():
            self.leases.touch((cids.multihash_of(cid),))
        return self.blocks.has(cid)

    def put(self, block: Block) -> None:
        """Store one block. Raises StoreFull."""
        self.put_many((block,))

    def put_many(self, blocks: Iterable[Block]) -> int:
        """Store blocks, lazily in batches; returns how many were new. Raises StoreFull."""
        return sum(self._put_batch(batch) for batch in _batches(blocks))

    def lease(self) -> Lease:
        """Protect from gc what is written or touched from now on, until the lease is closed."""
        return self.leases.open()

    def journal(self, stream: int) -> Journal:
        """The journal with this number, 0 … 65535."""
        return self._backend.journal(stream)

    def commit(self) -> None:
        """Everything put, named or journaled before survives a power cut once this returns."""
        self._backend.commit()

    def gc(self, *, dry_run: bool = False, progress: Progress | None = None) -> GcReport:
        """Free what no ref reaches, durably.

        Raises BlockDamaged, LinksUnreadable or RefDamaged when it cannot tell what is alive.
        """
        with self._gc_lock:
            report = gc.collect(
                self.blocks, self.refs, self.leases, dry_run=dry_run, progress=progress
            )
            if dry_run:
                return report
            self._backend.commit()
            return report._replace(reclaimed_bytes=self._backend.reclaim())

    def close(self) -> None:
        """Commit and let go of the store. Idempotent."""
        self._backend.close()

    def _put_batch(self, batch: list[Block]) -> int:
        if self.leases.is_any_open():
            # A new block's position protects it; only one that is here already needs the touch.
            known = [block.cid for block in batch if self.blocks.has(block.cid)]
            if known:
                self.leases.touch(map(cids.multihash_of, known))
        return self.blocks.put_many(batch)


class _View:
    """A store's view, for which a block that is not in the store is unavailable."""

    __slots__ = ("_cid", "_inner")

    def __init__(self, cid: bytes, inner: AbstractContextManager[memoryview]) -> None:
        self._cid = cid
        self._inner = inner

    def __enter__(self) -> memoryview:
        try:
            return self._inner.__enter__()
        except BlockNotFound:
            raise BlockUnavailable(self._cid) from None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._inner.__exit__(kind, error, traceback)


def _batches(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Lists of blocks, bounded in number and bytes, of an iterable that may be endless."""
    batch: list[Block] = []
    size = 0
    for block in blocks:
        batch.append(block)
        size += len(block.data)
        if len(batch) >= _BATCH_COUNT_MAX or size >= _BATCH_SIZE_MAX_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
