"""Measure a mounted file system from outside: one number per kind of operation.

    python benchmarks/mount_operations.py DIRECTORY [--pin CPU] [--server PID] [--only NAME …]

DIRECTORY is any writable folder, so the same script measures a rival. Data cannot be
deduplicated. Cold figures drop the kernel's caches first (root only). The rates are operations a
second, or MB/s (10^6) for the sequential ones. With the daemon's process id, each row also has the
CPU time that the daemon spent per operation (per MB), which is steady on a machine that is not
idle; preparations of a row count into it.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MEBIBYTE = 1 << 20
PAGE = 4096


def drop_caches() -> None:
    """Forget clean pages, names and inodes, so that the next access asks the file system."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def cpu_time_s(pid: int) -> float:
    """User and system time of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


Measured = tuple[float, float]
"""A rate, and the number of operations, or of MB, that it was taken from."""


def timed(count: float, run: Callable[[], object]) -> Measured:
    """How fast `run` does `count` operations, or moves `count` MB."""
    started = time.perf_counter()
    run()
    return count / (time.perf_counter() - started), count


class Measurements:
    """Every row, in an order in which earlier ones leave what later ones need."""

    def __init__(self, folder: Path, *, file_size_mib: int, file_count: int) -> None:
        self.folder = folder
        self.large = folder / "large"
        self.file_size_mib = file_size_mib
        self.file_count = file_count
        self.random = random.Random(1)
        self.chunk = bytearray(os.urandom(MEBIBYTE))

    def fresh_chunk(self) -> bytearray:
        """A MiB not seen before, made so cheaply that making it is not what is measured."""
        self.chunk[:16] = os.urandom(16)
        return self.chunk

    def small_files(self) -> list[Path]:
        return [self.folder / "small" / f"f{number:06}" for number in range(self.file_count)]

    def rows(self) -> Iterator[tuple[str, str, Callable[[], Measured]]]:
        yield "seqwrite_1m", "MB/s", self.seqwrite_1m
        yield "seqread_cold", "MB/s", self.seqread_cold
        yield "seqread_warm", "MB/s", self.seqread_warm
        yield "randread_4k_direct", "/s", self.randread_4k_direct
        yield "randread_4k_cold", "/s", self.randread_4k_cold
        yield "seqwrite_4k", "MB/s", self.seqwrite_4k
        yield "randwrite_4k", "/s", self.randwrite_4k
        yield "create_4k", "/s", self.create_4k
        yield "open_read_close", "/s", self.open_read_close
        yield "open_read_close_cold", "/s", self.open_read_close_cold
        yield "stat_cold", "/s", self.stat_cold
        yield "stat_warm", "/s", self.stat_warm
        yield "listdir_cold", "/s", self.listdir_cold
        yield "rename", "/s", self.rename
        yield "unlink", "/s", self.unlink
        yield "mkdir", "/s", self.mkdir
        yield "rmdir", "/s", self.rmdir
        yield "fsync_append_1", "/s", lambda: self.fsync_append(1)
        yield "fsync_append_8", "/s", lambda: self.fsync_append(8)
        yield "sqlite_wal", "/s", lambda: self.sqlite("WAL")
        yield "sqlite_delete", "/s", lambda: self.sqlite("DELETE")

    def seqwrite_1m(self) -> Measured:
        def run() -> None:
            with self.large.open("wb", buffering=0) as file:
                for _ in range(self.file_size_mib):
                    file.write(self.fresh_chunk())

        return timed(self.file_size_mib * MEBIBYTE / 1e6, run)

    def _read_large(self) -> None:
        buffer = bytearray(MEBIBYTE)
        with self.large.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    def seqread_cold(self) -> Measured:
        drop_caches()
        return timed(self.file_size_mib * MEBIBYTE / 1e6, self._read_large)

    def seqread_warm(self) -> Measured:
        self._read_large()
        return timed(self.file_size_mib * MEBIBYTE / 1e6, self._read_large)

    def _offsets(self, count: int) -> list[int]:
        pages = self.file_size_mib * MEBIBYTE // PAGE
        return [self.random.randrange(pages) * PAGE for _ in range(count)]

    def randread_4k_direct(self) -> Measured:
        offsets = self._offsets(5000)
        buffer = mmap.mmap(-1, PAGE)  # O_DIRECT wants an aligned buffer
        descriptor = os.open(self.large, os.O_RDONLY | os.O_DIRECT)

        def run() -> None:
            for offset in offsets:
                os.preadv(descriptor, [buffer], offset)

        try:
            return timed(len(offsets), run)
        finally:
            os.close(descriptor)

    def randread_4k_cold(self) -> Measured:
        drop_caches()
        offsets = self._offsets(3000)
        descriptor = os.open(self.large, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)

        def run() -> None:
            for offset in offsets:
                os.pread(descriptor, PAGE, offset)

        try:
            return timed(len(offsets), run)
        finally:
            os.close(descriptor)

    def seqwrite_4k(self) -> Measured:
        count = 8192
        data = os.urandom(count * PAGE)

        def run() -> None:
            with (self.folder / "pages").open("wb", buffering=0) as file:
                for start in range(0, len(data), PAGE):
                    file.write(data[start : start + PAGE])

        return timed(count * PAGE / 1e6, run)

    def randwrite_4k(self) -> Measured:
        offsets = self._offsets(4000)
        data = os.urandom(PAGE * 2)
        descriptor = os.open(self.large, os.O_WRONLY)

        def run() -> None:
            for number, offset in enumerate(offsets):
                os.pwrite(descriptor, data[number % PAGE : number % PAGE + PAGE], offset)

        try:
            return timed(len(offsets), run)
        finally:
            os.close(descriptor)

    def create_4k(self) -> Measured:
        files = self.small_files()
        files[0].parent.mkdir()
        data = os.urandom(PAGE + self.file_count)

        def run() -> None:
            for number, path in enumerate(files):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                os.write(descriptor, data[number : number + PAGE])
                os.close(descriptor)

        return timed(len(files), run)

    def _open_read_close(self) -> None:
        for path in self.small_files():
            descriptor = os.open(path, os.O_RDONLY)
            os.read(descriptor, PAGE)
            os.close(descriptor)

    def open_read_close(self) -> Measured:
        self._open_read_close()
        return timed(self.file_count, self._open_read_close)

    def open_read_close_cold(self) -> Measured:
        drop_caches()
        return timed(self.file_count, self._open_read_close)

    def _stat_all(self) -> None:
        for path in self.small_files():
            os.stat(path)  # noqa: PTH116  # the bare system call is what is measured

    def stat_cold(self) -> Measured:
        drop_caches()
        return timed(self.file_count, self._stat_all)

    def stat_warm(self) -> Measured:
        self._stat_all()
        return timed(self.file_count, self._stat_all)

    def listdir_cold(self) -> Measured:
        drop_caches()

        def run() -> None:
            with os.scandir(self.folder / "small") as entries:
                assert sum(entry.is_file() for entry in entries) == self.file_count

        return timed(self.file_count, run)

    def rename(self) -> Measured:
        files = self.small_files()

        def run() -> None:
            for path in files:
                os.rename(path, f"{path}.moved")  # noqa: PTH104  # the bare system call is what is measured

        return timed(len(files), run)

    def unlink(self) -> Measured:
        files = self.small_files()

        def run() -> None:
            for path in files:
                os.unlink(f"{path}.moved")  # noqa: PTH108  # the bare system call is what is measured

        return timed(len(files), run)

    def _directories(self) -> list[str]:
        return [f"{self.folder}/directory{number}" for number in range(self.file_count)]

    def mkdir(self) -> Measured:
        def run() -> None:
            for path in self._directories():
                os.mkdir(path)  # noqa: PTH102  # the bare system call is what is measured

        return timed(self.file_count, run)

    def rmdir(self) -> Measured:
        def run() -> None:
            for path in self._directories():
                os.rmdir(path)  # noqa: PTH106  # the bare system call is what is measured

        return timed(self.file_count, run)

    def fsync_append(self, writer_count: int) -> Measured:
        each = 400 // writer_count
        data = os.urandom(PAGE)

        def write(number: int) -> None:
            name = self.folder / f"append{writer_count}-{number}"
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for _ in range(each):
                os.write(descriptor, data)
                os.fsync(descriptor)
            os.close(descriptor)

        def run() -> None:
            threads = [threading.Thread(target=write, args=(n,)) for n in range(writer_count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        return timed(each * writer_count, run)

    def sqlite(self, journal: str) -> Measured:
        count = 200
        database = sqlite3.connect(self.folder / f"{journal}.db", isolation_level=None)
        database.execute(f"PRAGMA journal_mode={journal}")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE entries (number INTEGER PRIMARY KEY, value BLOB)")

        def run() -> None:
            for number in range(count):
                database.execute("INSERT INTO entries VALUES (?, ?)", (number, os.urandom(100)))

        measured = timed(count, run)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        database.close()
        return measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--pin", type=int, help="run on this CPU only")
    parser.add_argument("--server", type=int, help="process id of the daemon")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--file-size-mib", type=int, default=256)
    parser.add_argument("--file-count", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if chosen.pin is not None:
        os.sched_setaffinity(0, {chosen.pin})
    folder = chosen.directory / f"measure-{os.getpid()}"
    folder.mkdir()
    measurements = Measurements(
        folder, file_size_mib=chosen.file_size_mib, file_count=chosen.file_count
    )
    results: dict[str, dict[str, float | str]] = {}
    try:
        for name, unit, measure in measurements.rows():
            if chosen.only and name not in chosen.only:
                continue
            before = cpu_time_s(chosen.server) if chosen.server else 0.0
            rate, count = measure()
            results[name] = {"rate": rate, "unit": unit}
            line = f"{name:24}{rate:12,.1f} {unit:5}"
            if chosen.server:
                spent_us = (cpu_time_s(chosen.server) - before) / count * 1e6
                results[name]["server_cpu_us"] = spent_us
                line += f"{spent_us:10,.0f} µs"
            if not chosen.json:
                print(line, flush=True)
    finally:
        shutil.rmtree(folder)
    if chosen.json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
