"""Names and journals: small records that are found by the catalog, not by the index.

Same locks and same log as the blocks; see blkdev/log.py. A read settles a location, reads it, and
reads again when compaction moved the record meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from blkdev import format as fmt
from blkdev.catalog import Catalog
from blkdev.checksum import crc32
from blkdev.draft import Draft
from blkdev.errors import BlockDamaged, KeyTooLarge, ValueTooLarge
from blkdev.log import DATA, RELEASE, Log
from blkdev.reader import Reader

WithRoom = Callable[[Callable[[], int], int], int]
"""Runs an action that stages all its records or raises StoreFull, making room for it."""


class Ledger:
    """Names and journals of one open store."""

    def __init__(
        self, catalog: Catalog, log: Log, reader: Reader, with_room: WithRoom, value_max: int
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._reader = reader
        self._with_room = with_room
        self._value_size_max_bytes = value_max

    def set_names(self, changes: Mapping[bytes, bytes | None]) -> None:
        drafts: list[Draft] = []
        for name, value in changes.items():
            if not 0 < len(name) <= fmt.NAME_SIZE_MAX_BYTES:
                raise KeyTooLarge(
                    f"a name has 1 to {fmt.NAME_SIZE_MAX_BYTES} bytes, not {len(name)}"
                )
            frozen = b"" if value is None else bytes(value)
            if len(frozen) > (limit := fmt.NAME_VALUE_SIZE_MAX_BYTES):
                raise ValueTooLarge(f"a name's value has at most {limit} bytes, not {len(frozen)}")
            kind = fmt.KIND_NAME_REMOVAL if value is None else fmt.KIND_NAME
            drafts.append(Draft(kind, bytes(name), frozen, crc32(frozen)))
        total = sum(fmt.record_size(len(draft.key), len(draft.value)) for draft in drafts)
        if total > self._value_size_max_bytes:
            raise ValueTooLarge(f"{len(drafts)} names at once are too much (split the change)")
        self._with_room(lambda: self._set(drafts), RELEASE)

    def _set(self, drafts: list[Draft]) -> int:
        with self._log.write_lock:
            drafts = [d for d in drafts if d.kind == fmt.KIND_NAME or self._location(d.key)]
            return self._log.append(drafts, RELEASE) if drafts else 0

    def _location(self, name: bytes) -> int | None:
        entry = self._catalog.names.get(name)
        return None if entry is None or entry.removed else entry.location

    def name(self, name: bytes) -> bytes | None:
        return self._settled(lambda: self._location(name), name)

    def names(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        with self._log.state_lock:
            wanted = [name for name in self._catalog.names if name.startswith(prefix)]
        found = ((name, self.name(name)) for name in sorted(wanted))
        return [(name, value) for name, value in found if value is not None]

    def append(self, stream: int, record: bytes | memoryview) -> int:
        if len(record) > (limit := self._value_size_max_bytes):
            raise ValueTooLarge(f"journal record of {len(record)} bytes; this store takes {limit}")
        draft = Draft(fmt.KIND_JOURNAL, _stream_key(stream), record, crc32(record))
        return self._with_room(lambda: self._log.append((draft,), DATA), DATA)

    def replay(self, stream: int) -> Iterator[tuple[int, bytes]]:
        with self._log.state_lock:
            state = self._catalog.streams.get(stream)
            positions = sorted(state.records) if state else []
        for position in positions:
            value = self._settled(self._record_of(stream, position), _stream_key(stream))
            if value is not None:
                yield position, value

    def _record_of(self, stream: int, position: int) -> Callable[[], int | None]:
        return lambda: self._catalog.streams[stream].records.get(position)

    def trim(self, stream: int, position: int) -> None:
        self._with_room(lambda: self._trim(stream, position), RELEASE)

    def _trim(self, stream: int, position: int) -> int:
        log = self._log
        with log.write_lock:
            state = self._catalog.streams.get(stream)
            position = min(position, log.position)
            if state is None or position <= state.trimmed_to:
                return 0
            value = position.to_bytes(8, "little", signed=True)
            draft = Draft(fmt.KIND_JOURNAL_TRIM, _stream_key(stream), value, crc32(value))
            return log.append((draft,), RELEASE)

    def _settled(self, locate: Callable[[], int | None], key: bytes) -> bytes | None:
        """The value where `locate` says, once it says the same before and after the read."""
        with self._log.state_lock:
            location = locate()
        while location is not None:
            value: bytes | None = None
            damage: BlockDamaged | None = None
            try:
                value = self._reader.record(location, key)
            except BlockDamaged as error:
                damage = error
            with self._log.state_lock:
                now = locate()
            if now == location:
                if damage is not None:
                    raise damage
                return value
            location = now
        return None


class JournalStream:
    """One journal of a store. Records come back in the order they were appended."""

    def __init__(self, ledger: Ledger, stream: int, check_open: Callable[..., None]) -> None:
        """Use `Store.journal`."""
        self.stream = stream
        self._ledger = ledger
        self._check_open = check_open

    def append(self, record: fmt.BytesLike) -> int:
        """Append one record; its position. Durable with the next commit.

        Raises ValueTooLarge, StoreFull, StoreReadOnly.
        """
        self._check_open(writing=True)
        return self._ledger.append(self.stream, frozen(record))

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """(position, record) of all untrimmed records there are now. Raises BlockDamaged."""
        self._check_open()
        return self._ledger.replay(self.stream)

    def trim(self, position: int) -> None:
        """Drop the records up to and including `position`; durable with the next commit."""
        self._check_open(writing=True)
        self._ledger.trim(self.stream, position)


def frozen(value: fmt.BytesLike) -> bytes | memoryview:
    """The value as something that cannot change until it is written: copied only if it could."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, memoryview) and value.readonly and isinstance(value.obj, bytes):
        return value if value.contiguous and value.itemsize == 1 else bytes(value)
    return bytes(value)


def _stream_key(stream: int) -> bytes:
    return stream.to_bytes(8, "little")
