"""`add` of a large file and of many small ones, process start included, against one core's hash."""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from benchmarks import limits, machine
from benchmarks.race import ROUNDS as RACE_ROUNDS
from benchmarks.race import Round, race
from benchmarks.rivals.importers import Importer, importers
from benchmarks.workloads import (
    HASHED_FILE_SIZE_BYTES,
    LARGE_FILE_SIZE_BYTES,
    MEBIBYTE,
    SMALL_FILE_COUNT,
    SMALL_FILE_SIZE_BYTES,
)

ROUNDS = min(3, RACE_ROUNDS)


@pytest.fixture
def contestants(bench_folder) -> Iterator[dict[str, Importer]]:
    folder = bench_folder / "importers"
    try:
        made: dict[str, Importer] = {}
        for name, kind in importers().items():
            if machine.on_board() and "no sync" in name:
                continue
            place = folder / name
            place.mkdir(parents=True)
            made[name] = kind(place)
        yield made
    finally:
        shutil.rmtree(folder)


def fresh_file(path: Path, size_bytes: int) -> float:
    """A file of random bytes; its size in MB."""
    with path.open("wb") as file:
        for _ in range(size_bytes // MEBIBYTE):
            file.write(os.urandom(MEBIBYTE))
    return size_bytes / 1e6


def large_file(path: Path) -> float:
    return fresh_file(path, LARGE_FILE_SIZE_BYTES)


def huge_file(path: Path) -> float:
    """So large that the start of a process is little of the whole."""
    return fresh_file(path, HASHED_FILE_SIZE_BYTES)


def small_files(path: Path) -> float:
    """A fresh folder of files; their number."""
    shutil.rmtree(path, ignore_errors=True)
    for number in range(SMALL_FILE_COUNT):
        folder = path / f"{number // 500:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file{number:05}").write_bytes(os.urandom(SMALL_FILE_SIZE_BYTES))
    return SMALL_FILE_COUNT


def add_round(importer: Importer, make: Callable[[Path], float], path: Path):
    amount = make(path)
    # Else the contestant's first flush would write back what was made for it.
    os.sync()

    def run() -> float:
        importer.add(path)
        return amount

    return run


@pytest.mark.parametrize(
    ("workload", "make", "unit", "written_bytes"),
    [
        ("add 256 MiB", large_file, "MB/s", LARGE_FILE_SIZE_BYTES),
        ("add 1 GiB", huge_file, "MB/s", HASHED_FILE_SIZE_BYTES),
        ("add 5,000 x 4 KiB", small_files, "/s", LARGE_FILE_SIZE_BYTES),
    ],
    ids=["large", "huge", "small"],
)
def test_add(
    benchmark,
    results,
    contestants,
    bench_folder,
    source_folder,
    workload,
    make,
    unit,
    written_bytes,
):
    if machine.on_board() and make is huge_file:
        pytest.skip("a board has not the room")
    path = source_folder / make.__name__
    rounds: dict[str, Round] = {
        name: partial(add_round, importer, make, path) for name, importer in contestants.items()
    }
    rounds["limit: sha2-256"] = lambda: limits.sha256(MEBIBYTE, LARGE_FILE_SIZE_BYTES)
    rounds["limit: new file"] = partial(limits.fresh_file, bench_folder, written_bytes)
    for name, values in race(benchmark, "ipfs-mfs", rounds, ROUNDS).items():
        results.add(workload, name, "MB/s" if name.startswith("limit") else unit, values)


def test_add_without_sha_extensions(benchmark, results, contestants, bench_folder, monkeypatch):
    """As on most small boards. Kubo's hash cannot be told, so only the limit runs beside it."""
    for name, value in limits.NO_SHA_EXTENSIONS.items():
        monkeypatch.setenv(name, value)
    path = bench_folder / "plain"
    rounds: dict[str, Round] = {
        "ipfs-mfs": partial(add_round, contestants["ipfs-mfs"], large_file, path),
        "limit: sha2-256": lambda: limits.sha256_without_extensions(LARGE_FILE_SIZE_BYTES),
        "limit: new file": partial(limits.fresh_file, bench_folder, LARGE_FILE_SIZE_BYTES),
    }
    for name, values in race(benchmark, "ipfs-mfs", rounds, ROUNDS).items():
        results.add("add 256 MiB, no SHA extensions", name, "MB/s", values)


def test_only_hash(benchmark, results, contestants, bench_folder):
    """Nothing is stored, so only the hash and reading the file can be the limit."""
    path = bench_folder / "hashed"
    huge_file(path)

    def hash_round(importer: Importer):
        def run() -> float:
            importer.only_hash(path)
            return HASHED_FILE_SIZE_BYTES / 1e6

        return run

    rounds: dict[str, Round] = {
        name: partial(hash_round, importer)
        for name, importer in contestants.items()
        if "no sync" not in name
    }
    rounds["limit: sha2-256"] = lambda: limits.sha256(MEBIBYTE, LARGE_FILE_SIZE_BYTES)
    for name, values in race(benchmark, "ipfs-mfs", rounds, ROUNDS).items():
        results.add("add -n 1 GiB", name, "MB/s", values)
    path.unlink()
