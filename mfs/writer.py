"""Blocks of one flush on their way to the repository: written in batches, readable at once."""

from __future__ import annotations

from ipld.block import Block
from repo.service import Repo

_BATCH_COUNT_MAX = 256
_BATCH_SIZE_MAX_BYTES = 4 << 20


class BlockWriter:
    """Collects blocks; `get` sees those that are not stored yet. One thread at a time.

    Order is kept: a block is stored after all that were put before it.
    """

    def __init__(self, repo: Repo) -> None:
        self._repo = repo
        self._pending: dict[bytes, Block] = {}
        self._size = 0

    def put(self, block: Block) -> None:
        """Take a block; its data must not change any more. Raises StoreFull."""
        self._pending[block.cid] = block
        self._size += len(block.data)
        if len(self._pending) >= _BATCH_COUNT_MAX or self._size >= _BATCH_SIZE_MAX_BYTES:
            self.flush()

    def get(self, cid: bytes) -> bytes:
        """The bytes of a block, stored or not. Raises BlockUnavailable, BlockDamaged."""
        block = self._pending.get(cid)
        return self._repo.get(cid) if block is None else bytes(block.data)

    def flush(self) -> None:
        """Store what is left. Raises StoreFull."""
        if self._pending:
            blocks, self._pending, self._size = self._pending, {}, 0
            self._repo.put_many(blocks.values())
