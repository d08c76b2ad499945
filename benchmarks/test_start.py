"""How long a command takes from its start to its end: what shell completion and scripts feel."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from benchmarks.race import Round, race

PROGRAM = str(Path(sys.executable).with_name("ipfs-mfs"))
CALLS_PER_ROUND = 5
START_TIMEOUT_S = 30.0


@pytest.fixture
def mounted_store(bench_folder) -> Iterator[Path]:
    """A store whose daemon is running."""
    store, point = bench_folder / "start.blk", bench_folder / "start"
    point.mkdir()
    subprocess.run([PROGRAM, "format", "-q", str(store), "--size", "1G"], check=True)
    subprocess.run([PROGRAM, "mount", "-q", str(point), "--store", str(store)], check=True)
    yield store
    subprocess.run([PROGRAM, "umount", "-q", str(point), "--store", str(store)], check=True)
    deadline = time.monotonic() + START_TIMEOUT_S
    while os.path.ismount(point) and time.monotonic() < deadline:
        time.sleep(0.05)


def call_round(command: list[str]):
    def run() -> float:
        for _ in range(CALLS_PER_ROUND):
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        return CALLS_PER_ROUND

    return run


@pytest.mark.needs_fuse
def test_start(benchmark, results, mounted_store):
    store = ["--store", str(mounted_store)]
    commands = {
        "python, nothing else": [sys.executable, "-c", "pass"],
        "ipfs-mfs --version": [PROGRAM, "--version"],
        "ipfs-mfs --help": [PROGRAM, "--help"],
        "root list, daemon up": [PROGRAM, "root", "list", *store],
        "stats, daemon up": [PROGRAM, "stats", *store],
    }
    contestants: dict[str, Round] = {
        name: partial(call_round, command) for name, command in commands.items()
    }
    for name, rates in race(benchmark, "ipfs-mfs --version", contestants).items():
        results.add("start to end", name, "ms", [1000 / rate for rate in rates])
