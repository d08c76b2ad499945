"""The device engine as a backend: its names and journals, with the repository's errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from blkdev import errors as engine
from blkdev.store import Store
from repo.blocks_blkdev import BlkdevBlocks, translated
from repo.claim import MARK
from repo.errors import RefDamaged

if TYPE_CHECKING:
    from blkdev.ledger import JournalStream


def _translated(error: engine.StoreError, what: str = "") -> Exception:
    """As `translated`, for names and journals."""
    if not isinstance(error, engine.BlockDamaged):
        return translated(error)
    name = what or error.key.decode(errors="backslashreplace")
    return RefDamaged(name, f"unreadable at device offset {error.offset}; check --repair drops it")


class BlkdevNames:
    """See `repo.interface.Names`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def name(self, name: bytes) -> bytes | None:
        try:
            return self._store.name(name)
        except engine.StoreError as error:
            raise _translated(error) from error

    def set_names(self, values: Mapping[bytes, bytes | None]) -> None:
        try:
            self._store.set_names(values)
        except engine.StoreError as error:
            raise translated(error) from error

    def names(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        try:
            return sorted(each for each in self._store.names(prefix) if each[0] != MARK)
        except engine.StoreError as error:
            raise _translated(error) from error


class BlkdevJournal:
    """See `repo.interface.Journal`."""

    def __init__(self, stream: JournalStream) -> None:
        self._stream = stream

    def append(self, record: bytes) -> int:
        try:
            return self._stream.append(record)
        except engine.StoreError as error:
            raise translated(error) from error

    def replay(self) -> Iterator[tuple[int, bytes]]:
        try:
            yield from self._stream.replay()
        except engine.StoreError as error:
            raise _translated(error, f"journal {self._stream.stream}") from error

    def trim(self, position: int) -> None:
        try:
            self._stream.trim(position)
        except engine.StoreError as error:
            raise translated(error) from error


class BlkdevBackend:
    """Owns the open store; see `repo.interface.Backend`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.blocks = BlkdevBlocks(store)
        self.names = BlkdevNames(store)

    def journal(self, stream: int) -> BlkdevJournal:
        return BlkdevJournal(self._store.journal(stream))

    def commit(self) -> None:
        self.blocks.commit()

    def reclaim(self) -> int:
        before = self._store.stats().free_bytes
        try:
            self._store.compact()
        except engine.StoreError as error:
            raise translated(error) from error
        return max(0, self._store.stats().free_bytes - before)

    def close(self) -> None:
        try:
            self._store.close()
        except engine.StoreError as error:
            raise translated(error) from error
