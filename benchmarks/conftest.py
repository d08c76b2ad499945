"""Where to measure and where results go.

Set `IPFS_MFS_BENCH_FOLDER` to measure the disk that it is on; the default is pytest's temporary
folder.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import limits, machine
from benchmarks.results import BOARD_SUITE, Results
from benchmarks.rivals.devices import Ext4, LoopDevice, can_loop

LIMIT_SIZE_BYTES = 16 << 20 if machine.on_board() else 128 << 20
BOARD_SIZE_BYTES = 8 << 30
"""Of the file system that a board works on; what is not used takes no memory."""


@pytest.fixture(scope="session")
def bench_folder(tmp_path_factory) -> Iterator[Path]:
    """A folder on the disk that is measured."""
    if machine.on_board():
        disk = Ext4(tmp_path_factory.mktemp("board"), BOARD_SIZE_BYTES)
        yield disk.folder
        disk.close()
        return
    chosen = os.environ.get("IPFS_MFS_BENCH_FOLDER")
    folder = Path(chosen) / f"bench-{os.getpid()}" if chosen else tmp_path_factory.mktemp("bench")
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def source_folder(bench_folder, tmp_path) -> Path:
    """Where files come from: a board gets them from elsewhere than its slow disk."""
    return tmp_path if machine.on_board() else bench_folder


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, bench_folder) -> Iterator[Results]:
    """The results of this module: `test_blocks.py` writes `results/blocks.json`; a board's are
    all in one file."""
    suite = request.module.__name__.rpartition(".")[2].removeprefix("test_")
    suite = BOARD_SUITE if machine.on_board() else suite
    results = Results(suite, machine.describe(bench_folder))
    yield results
    results.write()


@pytest.fixture(scope="module")
def disk(bench_folder) -> Iterator[limits.Disk]:
    """The disk's limits, measured beside the contestants and on a disk like theirs."""
    device = LoopDevice(bench_folder / "limit.img", LIMIT_SIZE_BYTES) if can_loop() else None
    path = Path(device.path) if device else bench_folder / "limit.bin"
    disk = limits.Disk(path, LIMIT_SIZE_BYTES)
    if device:
        device.fill()
    yield disk
    disk.close()
    if device:
        device.close()
