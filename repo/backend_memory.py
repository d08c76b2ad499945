"""A whole store in memory: blocks, names and journals over one log that can lose power."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from repo.blocks_memory import MemoryBlocks
from repo.memory_log import MemoryLog


class MemoryNames:
    """Names in a dict; see `repo.interface.Names`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._values: dict[bytes, bytes] = {}

    def name(self, name: bytes) -> bytes | None:
        return self._values.get(name)

    def set_names(self, values: Mapping[bytes, bytes | None]) -> None:
        with self._log.lock:
            before = {name: self._values.get(name) for name in values}
            self._assign(values)
            self._log.written(lambda: self._assign(before))

    def names(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        with self._log.lock:
            return sorted(item for item in self._values.items() if item[0].startswith(prefix))

    def _assign(self, values: Mapping[bytes, bytes | None]) -> None:
        for name, value in values.items():
            if value is None:
                self._values.pop(name, None)
            else:
                self._values[name] = value


class MemoryJournal:
    """One stream; see `repo.interface.Journal`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._records: dict[int, bytes] = {}

    def append(self, record: bytes) -> int:
        with self._log.lock:
            self._log.reserve(len(record))
            position = self._log.written(lambda: self._drop(position))
            self._records[position] = record
            return position

    def replay(self) -> Iterator[tuple[int, bytes]]:
        with self._log.lock:
            return iter(list(self._records.items()))

    def trim(self, position: int) -> None:
        with self._log.lock:
            dropped = {at: data for at, data in self._records.items() if at <= position}
            for at in dropped:
                self._drop(at)
            self._log.written(lambda: self._restore(dropped))

    def _drop(self, position: int) -> None:
        self._log.reserve(-len(self._records.pop(position)))

    def _restore(self, dropped: Mapping[int, bytes]) -> None:
        self._log.used_bytes += sum(map(len, dropped.values()))
        self._records = {**dropped, **self._records}


class MemoryBackend:
    """A store that outlives the `Repo` opened on it, so that tests reopen it.

    `capacity_bytes` bounds blocks and journals together; names always fit, as on a device.
    """

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.log = MemoryLog(capacity_bytes)
        self.blocks = MemoryBlocks(self.log)
        self.names = MemoryNames(self.log)
        self._journals: dict[int, MemoryJournal] = {}

    def journal(self, stream: int) -> MemoryJournal:
        with self.log.lock:
            return self._journals.setdefault(stream, MemoryJournal(self.log))

    def commit(self) -> None:
        self.log.commit()

    def reclaim(self) -> int:
        """Nothing to do: deleting frees memory at once."""
        return 0

    def close(self) -> None:
        self.log.commit()

    def crash(self, kept_count: int = 0) -> None:
        """Lose power: writes after the last commit go, except the first `kept_count` of them."""
        self.log.crash(kept_count)
