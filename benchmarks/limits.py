"""What the machine can do at best: one core's SHA-256, the disk's writes and flushes, its cache.

A block store cannot be faster than the slower of hash and disk, so these are contestants in every
race about throughput.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MEBIBYTE = 1 << 20
CORES = len(os.sched_getaffinity(0))
CHUNK_SIZE_BYTES = 4 * MEBIBYTE


def sha256(size_bytes: int, total_bytes: int) -> Callable[[], float]:
    """MB of SHA-256 over buffers of that size, on one core."""
    data = os.urandom(size_bytes)
    count = max(1, total_bytes // size_bytes)

    def run() -> float:
        digest = hashlib.sha256
        for _ in range(count):
            digest(data).digest()
        return count * size_bytes / 1e6

    return run


NO_SHA_EXTENSIONS = {"OPENSSL_ia32cap": ":~0x20000000", "OPENSSL_armcap": "0"}
"""Environment in which OpenSSL hashes as on a core that has no instructions for it, as most small
boards (OPENSSL_ia32cap(3), Arm's OPENSSL_armcap)."""


def sha256_without_extensions(total_bytes: int) -> Callable[[], float]:
    """MB of SHA-256 on one core, by a process that may not use the SHA extensions."""
    code = (
        "import hashlib, os; data = os.urandom(1 << 20); print(flush=True); input()\n"
        f"for _ in range({total_bytes // MEBIBYTE}): hashlib.sha256(data).digest()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | NO_SHA_EXTENSIONS,
    )
    assert process.stdout is not None
    process.stdout.readline()

    def run() -> float:
        process.communicate(b"\n")
        return total_bytes / 1e6

    return run


def sha256_on_all_cores(size_bytes: int, total_bytes: int) -> Callable[[], float]:
    """MB of SHA-256 over buffers of that size, a thread for each core."""
    one = sha256(size_bytes, total_bytes // CORES)

    def run() -> float:
        with ThreadPoolExecutor(CORES) as pool:
            return sum(pool.map(lambda _: one(), range(CORES)))

    return run


def memory_copy(size_bytes: int, total_bytes: int) -> Callable[[], float]:
    """MB copied in pieces of that size into new objects, as a `get` has to."""
    source = memoryview(os.urandom(max(size_bytes, min(total_bytes, 64 * MEBIBYTE))))
    count = max(1, total_bytes // size_bytes)
    places = len(source) // size_bytes

    def run() -> float:
        for number in range(count):
            at = number % places * size_bytes
            bytes(source[at : at + size_bytes])
        return count * size_bytes / 1e6

    return run


def drop_caches() -> None:
    """Forget all that the kernel has read of any disk. Root only."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def fresh_file(folder: Path, size_bytes: int) -> Callable[[], float]:
    """MB written to a new file and flushed: what a program that makes its files has at best. Past
    the page cache where the file system takes that: as quick for 256 MiB, quicker for a gigabyte.
    """
    chunk = mmap.mmap(-1, CHUNK_SIZE_BYTES)  # aligned, as a direct write has to be
    chunk.write(os.urandom(CHUNK_SIZE_BYTES))
    path = folder / "limit.fresh"
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT
    try:
        descriptor = os.open(path, flags | os.O_DIRECT, 0o600)
    except OSError:
        descriptor = os.open(path, flags, 0o600)

    def run() -> float:
        try:
            for _ in range(0, size_bytes, CHUNK_SIZE_BYTES):
                os.write(descriptor, chunk)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        return size_bytes / 1e6

    return run


class Disk:
    """A device, or a file on the disk that the stores are on."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._chunk = os.urandom(CHUNK_SIZE_BYTES)
        self._next_offset = 0
        # Written once before anything is measured, so that a file has its space.
        self.sequential_write()()

    def close(self) -> None:
        os.close(self._descriptor)

    def sequential_write(self, chunk_size_bytes: int = CHUNK_SIZE_BYTES) -> Callable[[], float]:
        """MB written over the whole file, one flush at the end."""
        chunk = self._chunk[:chunk_size_bytes]

        def run() -> float:
            for offset in range(0, self._size_bytes, chunk_size_bytes):
                os.pwrite(self._descriptor, chunk, offset)
            os.fdatasync(self._descriptor)
            return self._size_bytes / 1e6

        return run

    def hash_and_write(
        self, size_bytes: int, batch_count: int, batches: int
    ) -> Callable[[], float]:
        """MB hashed by a thread for each core and written by another, a flush for each batch: what
        a store could do that costs nothing itself. Past the page cache where that is possible.
        """
        values = [os.urandom(size_bytes) for _ in range(batch_count)]
        batch_bytes = size_bytes * batch_count
        memory = memoryview(mmap.mmap(-1, batch_bytes))

        def hashed(batch: list[bytes]) -> None:
            for value in batch:
                hashlib.sha256(value).digest()

        def run() -> float:
            descriptor = self._direct_descriptor()
            with ThreadPoolExecutor(CORES) as hashing:
                for number, _ in enumerate(hashing.map(hashed, [values] * batches)):
                    for at, value in enumerate(values):
                        memory[at * size_bytes : (at + 1) * size_bytes] = value
                    os.pwrite(descriptor, memory, number * batch_bytes % self._size_bytes)
                    os.fdatasync(descriptor)
            os.close(descriptor)
            return batches * batch_bytes / 1e6

        return run

    def _direct_descriptor(self) -> int:
        path = f"/proc/self/fd/{self._descriptor}"
        try:
            return os.open(path, os.O_RDWR | os.O_DIRECT)
        except OSError:
            return os.open(path, os.O_RDWR)

    def flushed_pages(self, count: int) -> Callable[[], float]:
        """Writes of 4 KiB, each flushed: what a single durable operation costs at least."""
        page = self._chunk[:4096]

        def run() -> float:
            for number in range(count):
                os.pwrite(self._descriptor, page, number * 4096)
                os.fdatasync(self._descriptor)
            return count

        return run

    def flushed_batches(self, batch_bytes: int, batches: int) -> Callable[[], float]:
        """MB written in batches, each flushed: what a durable batch costs at least, whoever writes
        it. One after the other over the disk, as a log does it, and as there to places that the
        page cache has forgotten.
        """
        batch = os.urandom(batch_bytes)
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

        def run() -> float:
            for _ in range(batches):
                if self._next_offset + batch_bytes > self._size_bytes:
                    self._next_offset = 0
                os.pwrite(self._descriptor, batch, self._next_offset)
                os.fdatasync(self._descriptor)
                self._next_offset += (batch_bytes + 4095) & -4096
            return batches * batch_bytes / 1e6

        return run

    def random_reads(self, size_bytes: int, count: int) -> Callable[[], float]:
        """So many reads of that size, each of a place of its own, none of them read ahead."""
        places = range(0, self._size_bytes - size_bytes, (size_bytes + 4095) & -4096)
        order = random.Random(count).sample(places, min(count, len(places)))
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)

        def run() -> float:
            for offset in order:
                os.pread(self._descriptor, size_bytes, offset)
            return len(order)

        return run
