"""Rivals under the contract of `datastore.interface`, each in an empty folder of a file system.

All have the same policy, which is also ours: a put is visible at once and durable after `sync`. The
conformance suite runs on every one of them, so a benchmark compares stores that do the same.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

import lmdb
import plyvel
import rocksdict

from datastore.errors import KeyNotFound, StoreClosed
from datastore.interface import BytesLike, Finding
from datastore.key import ROOT, Key
from datastore.pending import Changes, PendingBatch, checked, frozen, storable
from datastore.query import EVERYTHING, Entry, Query, answer

MAP_SIZE_BYTES = 8 << 30
"""What LMDB may grow to; nothing is taken before it is used."""


class RivalDatastore:
    """A Datastore on few operations of a database; see `datastore.interface`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_closed = False

    def read(self, raw: bytes) -> bytes | None:
        raise NotImplementedError

    def keys(self, prefix: bytes) -> list[bytes]:
        """The keys that begin so."""
        raise NotImplementedError

    def write(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        """Set and remove (None)."""
        raise NotImplementedError

    def flush(self) -> None:
        """Make what was written durable."""
        raise NotImplementedError

    def compact(self) -> None:
        """Give space back, where that is a thing of its own."""

    def release(self) -> None:
        """Close the database."""

    def size_of(self, raw: bytes) -> int | None:
        value = self.read(raw)
        return None if value is None else len(value)

    # The contract

    def get(self, key: Key) -> bytes:
        self._check_open()
        value = self.read(checked(key).raw)
        if value is None:
            raise KeyNotFound(key)
        return value

    def has(self, key: Key) -> bool:
        self._check_open()
        return self.size_of(checked(key).raw) is not None

    def get_size(self, key: Key) -> int:
        self._check_open()
        size = self.size_of(checked(key).raw)
        if size is None:
            raise KeyNotFound(key)
        return size

    def put(self, key: Key, value: BytesLike) -> None:
        self._check_open()
        self.write([(storable(key).raw, frozen(value))])

    def delete(self, key: Key) -> None:
        self._check_open()
        self.write([(checked(key).raw, None)])

    def query(self, query: Query = EVERYTHING) -> Iterator[Entry]:
        self._check_open()
        prefix = query.prefix.raw if query.prefix.is_root else query.prefix.raw + b"/"
        keys = map(Key.from_raw, self.keys(prefix))
        return answer(query, keys, self.get, self.get_size)

    def batch(self) -> PendingBatch:
        return PendingBatch(self._apply)

    def _apply(self, changes: Changes) -> None:
        self._check_open()
        self.write([(key.raw, value) for key, value in changes.items()])

    def sync(self, prefix: Key = ROOT) -> None:
        self._check_open()
        checked(prefix)
        self.flush()

    def disk_usage(self) -> int:
        """What the file system has allocated for the folder."""
        self._check_open()
        return sum(path.lstat().st_blocks * 512 for path in self._folder.rglob("*"))

    def collect_garbage(self) -> int:
        before = self.disk_usage()
        self.compact()
        return max(0, before - self.disk_usage())

    def check(self) -> list[Finding]:
        """Nothing is found by reading; a database that is damaged raises."""
        for _ in self.query():
            continue
        return []

    def scrub(self) -> list[Finding]:
        return self.check()

    def close(self) -> None:
        if not self._is_closed:
            self.flush()
            self.release()
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreClosed


class FlatFilesDatastore(RivalDatastore):
    """A file for each key in up to 1,024 folders, written beside its place and renamed into it.
    Names are keys in hexadecimal, so a key has at most 127 bytes. A batch is not atomic.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._dirty: set[str] = set()
        self._lock = Lock()
        self._count = 0

    def _path(self, raw: bytes) -> str:
        name = raw.hex()
        return f"{self._folder}/{name[-4:-1]}/{name}"

    def read(self, raw: bytes) -> bytes | None:
        try:
            with open(self._path(raw), "rb", buffering=0) as file:  # noqa: PTH123  # a third faster
                return file.read()
        except FileNotFoundError:
            return None

    def size_of(self, raw: bytes) -> int | None:
        try:
            return os.stat(self._path(raw)).st_size  # noqa: PTH116  # as above
        except FileNotFoundError:
            return None

    def keys(self, prefix: bytes) -> list[bytes]:
        names = (path.name for path in self._folder.glob("*/*") if path.suffix != ".tmp")
        return [raw for raw in map(bytes.fromhex, names) if raw.startswith(prefix)]

    def write(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        with self._lock:
            for raw, value in changes:
                path = self._path(raw)
                folder = os.path.dirname(path)  # noqa: PTH120  # as above
                if value is None:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)  # noqa: PTH108  # as above
                    self._dirty.discard(path)
                else:
                    os.makedirs(folder, exist_ok=True)  # noqa: PTH103  # as above
                    with open(path + ".tmp", "wb", buffering=0) as file:  # noqa: PTH123  # as above
                        file.write(value)
                    os.replace(path + ".tmp", path)  # noqa: PTH105  # as above
                    self._dirty.add(path)
                self._dirty.add(folder)

    def flush(self) -> None:
        with self._lock:
            dirty, self._dirty = self._dirty, set()
        for path in [*sorted(dirty), str(self._folder)]:
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)


class LeveldbDatastore(RivalDatastore):
    """LevelDB through plyvel. An empty batch that is synced syncs the log, and all before it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._database = plyvel.DB(str(folder), create_if_missing=True)

    def read(self, raw: bytes) -> bytes | None:
        value: bytes | None = self._database.get(raw)
        return value

    def keys(self, prefix: bytes) -> list[bytes]:
        with self._database.iterator(prefix=prefix, include_value=False) as found:
            return list(found)

    def write(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        with self._database.write_batch() as batch:
            for raw, value in changes:
                if value is None:
                    batch.delete(raw)
                else:
                    batch.put(raw, value)

    def flush(self) -> None:
        with self._database.write_batch(sync=True):
            pass

    def compact(self) -> None:
        self._database.compact_range()

    def release(self) -> None:
        self._database.close()


class LmdbDatastore(RivalDatastore):
    """LMDB without its sync at the end of each transaction: until `sync`, a power cut may leave
    any of the pages. Keys have at most 511 bytes.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._environment = lmdb.open(str(folder), map_size=MAP_SIZE_BYTES, sync=False)

    def read(self, raw: bytes) -> bytes | None:
        with self._environment.begin() as transaction:
            return transaction.get(raw)

    def size_of(self, raw: bytes) -> int | None:
        with self._environment.begin(buffers=True) as transaction:
            value = transaction.get(raw)
            return None if value is None else len(value)

    def keys(self, prefix: bytes) -> list[bytes]:
        found: list[bytes] = []
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            if cursor.set_range(prefix):
                for raw in cursor.iternext(keys=True, values=False):
                    if not raw.startswith(prefix):
                        break
                    found.append(raw)
        return found

    def write(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        with self._environment.begin(write=True) as transaction:
            for raw, value in changes:
                if value is None:
                    transaction.delete(raw)
                else:
                    transaction.put(raw, value)

    def flush(self) -> None:
        self._environment.sync(True)

    def release(self) -> None:
        self._environment.close()


class SqliteDatastore(RivalDatastore):
    """SQLite with a write-ahead log that is synced by a checkpoint only, one connection."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._lock = Lock()
        path = folder / "store.sqlite"
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS store (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
        )

    def _one(self, query: str, raw: bytes) -> tuple[bytes | int, ...] | None:
        with self._lock:
            row: tuple[bytes | int, ...] | None
            row = self._connection.execute(query, (raw,)).fetchone()
            return row

    def read(self, raw: bytes) -> bytes | None:
        row = self._one("SELECT value FROM store WHERE key = ?", raw)
        return None if row is None else bytes(row[0])

    def size_of(self, raw: bytes) -> int | None:
        row = self._one("SELECT length(value) FROM store WHERE key = ?", raw)
        return None if row is None else int(row[0])

    def keys(self, prefix: bytes) -> list[bytes]:
        query = "SELECT key FROM store WHERE key >= ? AND substr(key, 1, ?) = ? ORDER BY key"
        with self._lock:
            rows = self._connection.execute(query, (prefix, len(prefix), prefix)).fetchall()
        return [row[0] for row in rows]

    def write(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        put = [(raw, value) for raw, value in changes if value is not None]
        removed = [(raw,) for raw, value in changes if value is None]
        with self._lock:
            self._connection.execute("BEGIN")
            self._connection.executemany("REPLACE INTO store VALUES (?, ?)", put)
            self._connection.executemany("DELETE FROM store WHERE key = ?", removed)
            self._connection.execute("COMMIT")

    def flush(self) -> None:
        with self._lock:
            self._connection.execute("PRAGMA wal_checkpoint(FULL)")

    def compact(self) -> None:
        with self._lock:
            self._connection.execute("VACUUM")

    def release(self) -> None:
        self._connection.close()


class RocksdbDatastore(RivalDatastore):
    """RocksDB through rocksdict, keys and values as they are; `sync` syncs its log."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._database = rocksdict.Rdict(str(folder), rocksdict.Options(raw_mode=True))

    def read(self, raw: bytes) -> bytes | None:
        value: bytes | None = self._database.get(raw)
        return value

    def keys(self, prefix: bytes) -> list[bytes]:
        found: list[bytes] = []
        for raw in self._database.keys(from_key=prefix):
            assert isinstance(raw, bytes)
            if not raw.startswith(prefix):
                break
            found.append(raw)
        return found

    def write(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for raw, value in changes:
            if value is None:
                batch.delete(raw)
            else:
                batch.put(raw, value)
        self._database.write(batch)

    def flush(self) -> None:
        self._database.flush_wal(True)

    def compact(self) -> None:
        self._database.compact_range(None, None)

    def release(self) -> None:
        self._database.close()


DATASTORES: dict[str, type[RivalDatastore]] = {
    "flat files": FlatFilesDatastore,
    "leveldb": LeveldbDatastore,
    "lmdb": LmdbDatastore,
    "sqlite": SqliteDatastore,
    "rocksdb": RocksdbDatastore,
}
