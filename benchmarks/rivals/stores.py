"""Key-value stores under one protocol. `put_batch` and `delete_batch` return when what they did
is on the disk.

Ours takes a device or makes a file; the rivals take a folder of a file system.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import lmdb
import plyvel
import rocksdict

from blkdev.device import open_device
from blkdev.devices.file import FileDevice
from blkdev.store import Store

Item = tuple[bytes, bytes]
STORE_SIZE_BYTES = 8 << 30


class KeyValueStore(Protocol):
    """One contestant; made in an empty folder of its own, or on a device if it can use one."""

    def __init__(self, place: Path) -> None: ...

    def put_batch(self, items: Sequence[Item]) -> None: ...

    def get(self, key: bytes) -> bytes | None: ...

    def has(self, key: bytes) -> bool: ...

    def delete_batch(self, keys: Sequence[bytes]) -> None: ...

    def reopen(self) -> None:
        """Close and open, so that nothing of it is in this process's memory."""

    def close(self) -> None: ...


class Blkdev:
    """Our engine. Values are not checked on reading, as with the rivals."""

    def __init__(self, place: Path) -> None:
        path = place
        if place.is_dir():
            path = place / "store.blk"
            FileDevice(path, create_size_bytes=STORE_SIZE_BYTES).close()
        device = open_device(path)
        Store.format(device, force=True)
        device.close()
        self._path = path
        self.store = self._open()

    def _open(self) -> Store:
        return Store.open(open_device(self._path), verify_reads=False)

    def put_batch(self, items: Sequence[Item]) -> None:
        self.store.put_many(items)
        self.store.commit()

    def get(self, key: bytes) -> bytes:
        return self.store.get(key)

    def has(self, key: bytes) -> bool:
        return self.store.has(key)

    def delete_batch(self, keys: Sequence[bytes]) -> None:
        self.store.delete_many(keys)
        self.store.commit()

    def reopen(self) -> None:
        self.store.close()
        self.store = self._open()

    def close(self) -> None:
        self.store.close()


class Leveldb:
    """LevelDB through plyvel; each batch is one synced write."""

    def __init__(self, place: Path) -> None:
        self._path = str(place / "leveldb")
        self._database = plyvel.DB(self._path, create_if_missing=True)

    def put_batch(self, items: Sequence[Item]) -> None:
        with self._database.write_batch(sync=True) as batch:
            for key, value in items:
                batch.put(key, value)

    def get(self, key: bytes) -> bytes | None:
        return self._database.get(key)

    def has(self, key: bytes) -> bool:
        return self._database.get(key) is not None

    def delete_batch(self, keys: Sequence[bytes]) -> None:
        with self._database.write_batch(sync=True) as batch:
            for key in keys:
                batch.delete(key)

    def reopen(self) -> None:
        self._database.close()
        self._database = plyvel.DB(self._path)

    def close(self) -> None:
        self._database.close()


class Lmdb:
    """LMDB with its default of a sync at the end of each transaction."""

    def __init__(self, place: Path) -> None:
        self._path = str(place / "lmdb")
        self._environment = lmdb.open(self._path, map_size=STORE_SIZE_BYTES)

    def put_batch(self, items: Sequence[Item]) -> None:
        with self._environment.begin(write=True) as transaction:
            for key, value in items:
                transaction.put(key, value)

    def get(self, key: bytes) -> bytes | None:
        with self._environment.begin() as transaction:
            return transaction.get(key)

    def has(self, key: bytes) -> bool:
        with self._environment.begin(buffers=True) as transaction:
            return transaction.get(key) is not None

    def delete_batch(self, keys: Sequence[bytes]) -> None:
        with self._environment.begin(write=True) as transaction:
            for key in keys:
                transaction.delete(key)

    def reopen(self) -> None:
        self._environment.close()
        self._environment = lmdb.open(self._path, map_size=STORE_SIZE_BYTES)

    def close(self) -> None:
        self._environment.close()


class Sqlite:
    """SQLite with a write-ahead log; `synchronous=FULL` flushes it at the end of each batch."""

    def __init__(self, place: Path) -> None:
        self._path = place / "blocks.sqlite"
        self._database = self._open()
        self._database.execute("CREATE TABLE blocks (key BLOB PRIMARY KEY, value BLOB NOT NULL)")

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        return database

    def put_batch(self, items: Sequence[Item]) -> None:
        run = self._database.execute
        run("BEGIN IMMEDIATE")
        self._database.executemany("INSERT OR IGNORE INTO blocks VALUES (?, ?)", items)
        run("COMMIT")

    def get(self, key: bytes) -> bytes | None:
        row = self._database.execute("SELECT value FROM blocks WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def has(self, key: bytes) -> bool:
        found = self._database.execute("SELECT 1 FROM blocks WHERE key = ?", (key,))
        return found.fetchone() is not None

    def delete_batch(self, keys: Sequence[bytes]) -> None:
        run = self._database.execute
        run("BEGIN IMMEDIATE")
        self._database.executemany("DELETE FROM blocks WHERE key = ?", [(key,) for key in keys])
        run("COMMIT")

    def reopen(self) -> None:
        self._database.close()
        self._database = self._open()

    def close(self) -> None:
        self._database.close()


class Rocksdb:
    """RocksDB through rocksdict, keys and values as bytes; each batch is one synced write."""

    def __init__(self, place: Path) -> None:
        self._path = str(place / "rocksdb")
        self._database = self._open()
        self._durable = rocksdict.WriteOptions()
        self._durable.sync = True

    def _open(self) -> rocksdict.Rdict:
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        return rocksdict.Rdict(self._path, options)

    def put_batch(self, items: Sequence[Item]) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in items:
            batch.put(key, value)
        self._database.write(batch, self._durable)

    def get(self, key: bytes) -> bytes | None:
        return self._database.get(key)

    def has(self, key: bytes) -> bool:
        return key in self._database

    def delete_batch(self, keys: Sequence[bytes]) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key in keys:
            batch.delete(key)
        self._database.write(batch, self._durable)

    def reopen(self) -> None:
        self._database.close()
        self._database = self._open()

    def close(self) -> None:
        self._database.close()


class FlatFiles:
    """A file per block in 1,024 folders, as Kubo's flatfs lays them out (last two characters but
    one of the name), with its order of a batch: write and flush each temporary file, rename all,
    flush the folders.
    """

    synced = True

    def __init__(self, place: Path) -> None:
        self._folder = place / "blocks"
        self._folder.mkdir()
        self._made: set[str] = set()

    def put_batch(self, items: Sequence[Item]) -> None:
        renames: list[tuple[str, str]] = []
        folders: set[str] = set()
        for key, value in items:
            path = self._path(key)
            folder = os.path.dirname(path)  # noqa: PTH120  # pathlib would be a third of the cost
            if folder not in self._made:
                os.makedirs(folder, exist_ok=True)  # noqa: PTH103  # as above
                self._made.add(folder)
            folders.add(folder)
            renames.append((path + ".tmp", path))
            self._write(path + ".tmp", value)
        for temporary, path in renames:
            os.rename(temporary, path)  # noqa: PTH104  # as above
        if self.synced:
            for folder in folders:
                self._sync_folder(folder)

    def get(self, key: bytes) -> bytes | None:
        with open(self._path(key), "rb", buffering=0) as file:  # noqa: PTH123  # as above
            return file.read()

    def has(self, key: bytes) -> bool:
        return os.path.exists(self._path(key))  # noqa: PTH110  # as above

    def delete_batch(self, keys: Sequence[bytes]) -> None:
        folders: set[str] = set()
        for key in keys:
            path = self._path(key)
            os.unlink(path)  # noqa: PTH108  # as above
            folders.add(os.path.dirname(path))  # noqa: PTH120  # as above
        if self.synced:
            for folder in folders:
                self._sync_folder(folder)

    def reopen(self) -> None:
        """Nothing is held open."""

    def close(self) -> None:
        """Nothing is held open."""

    def _path(self, key: bytes) -> str:
        name = key.hex()
        return f"{self._folder}/{name[-4:-1]}/{name}"

    def _write(self, path: str, value: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, value)
            if self.synced:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _sync_folder(self, folder: str) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class FlatFilesUnsynced(FlatFiles):
    """The same without any flush: what is put may be gone after a power cut."""

    synced = False


STORES: dict[str, type[KeyValueStore]] = {
    "blkdev": Blkdev,
    "leveldb": Leveldb,
    "lmdb": Lmdb,
    "sqlite": Sqlite,
    "rocksdb": Rocksdb,
    "flat files": FlatFiles,
    "flat files, no sync": FlatFilesUnsynced,
}
