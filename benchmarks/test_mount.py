"""The mount against ext4 and gocryptfs: the same script, the same disk, in turns.

Two placements: `pinned` puts the script and the server on one CPU, which shows what the work costs;
`unpinned` lets the kernel choose, which is what users see.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchmarks.rivals.mounts import Memory, MountedFileSystem, memory_of, mounts, pin

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_fuse]

ROUNDS = 3
PINNED_CPU = 0
SCRIPT = Path(__file__).with_name("mount_operations.py")
MANY_FILES = 100_000
MANY_FILES_PER_FOLDER = 1000
SMALL_FILE_SIZE_BYTES = 4096


@pytest.fixture
def mounted(bench_folder) -> Iterator[dict[str, MountedFileSystem]]:
    folder = bench_folder / "mounts"
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder)
        opened: dict[str, MountedFileSystem] = {}
        for name, kind in mounts().items():
            place = folder / name
            place.mkdir(parents=True)
            opened[name] = kind(place)
            undo.callback(opened[name].close)
        yield opened


def operations(file_system: MountedFileSystem, *, pinned: bool) -> dict[str, dict[str, Any]]:
    """One run of the script on one file system."""
    command = [sys.executable, str(SCRIPT), str(file_system.folder), "--json"]
    if pinned:
        command += ["--pin", str(PINNED_CPU)]
    if file_system.server_pid is not None:
        pin(file_system.server_pid, PINNED_CPU if pinned else None)
        command += ["--server", str(file_system.server_pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(done.stderr)
    rows: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("placement", ["pinned", "unpinned"])
def test_operations(results, mounted, placement):
    """Each file system takes its turn in each round."""
    runs = defaultdict(list)
    for _ in range(ROUNDS):
        for name, file_system in mounted.items():
            runs[name].append(operations(file_system, pinned=placement == "pinned"))
    for row in runs["ipfs-mfs"][0]:
        for name, every in runs.items():
            costs = [run[row]["server_cpu_us"] for run in every if "server_cpu_us" in run[row]]
            results.add(
                f"{row}, {placement}",
                name,
                every[0][row]["unit"],
                [run[row]["rate"] for run in every],
                row=row,
                placement=placement,
                server_cpu_us=round(sorted(costs)[len(costs) // 2], 1) if costs else None,
            )


@pytest.mark.timeout(3600)
def test_memory_while_many_files_are_copied_in(results, mounted):
    """100,000 files of 4 KiB: the server's memory after each thousand."""
    for name, file_system in mounted.items():
        if file_system.server_pid is None:
            continue
        samples: list[Memory] = []
        for number in range(MANY_FILES):
            folder = file_system.folder / "many" / f"{number // MANY_FILES_PER_FOLDER:03}"
            if number % MANY_FILES_PER_FOLDER == 0:
                folder.mkdir(parents=True)
                samples.append(memory_of(file_system.server_pid))
            (folder / f"file{number:06}").write_bytes(os.urandom(SMALL_FILE_SIZE_BYTES))
        samples.append(memory_of(file_system.server_pid))
        results.add(
            f"memory, {MANY_FILES:,} files",
            name,
            "MiB",
            [max(sample.resident for sample in samples)],
            own=round(max(sample.own for sample in samples), 1),
        )
