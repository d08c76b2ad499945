"""A small board on a larger machine: the benchmarks again with little of everything.

    python -m benchmarks.board [PYTEST ARGUMENT...]

One CPU, 512 MiB of memory with the page cache in it, no SHA extensions, disks of 20 MB/s whose
flushes take 20 ms. Each disk is a loop device over a file of `benchmarks/slow_disk.py`, which runs
outside: on other CPUs where there are any, and with memory of its own. Root only.

The benchmarks learn it from the environment (`benchmarks/machine.py`), and do less of the same.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import slow_disk
from benchmarks.limits import NO_SHA_EXTENSIONS
from benchmarks.machine import BOARD, DISKS

MEMORY_BYTES = 512 << 20
TESTS = (
    "benchmarks/test_blocks.py::test_put",
    "benchmarks/test_blocks.py::test_get",
    "benchmarks/test_blocks.py::test_has",
    "benchmarks/test_blocks.py::test_delete_until_the_space_is_back",
    "benchmarks/test_blocks.py::test_single_durable_put",
    "benchmarks/test_blocks.py::test_ingest_hashing_included",
    "benchmarks/test_add.py::test_add[large]",
)
"""Not the import of many small files: Kubo alone would take minutes for each round."""
_GROUPS = Path("/sys/fs/cgroup")
_REMOVALS_MAX = 50
_REMOVAL_PAUSE_S = 0.1


@dataclass(frozen=True)
class MemoryGroup:
    """A control group that limits memory: its folder, and the files that say how much."""

    folder: Path
    limits: Mapping[str, int]

    @classmethod
    def find(cls, groups: Path, name: str) -> MemoryGroup | None:
        """Where it would be, by the version of control groups; None where memory has none."""
        try:
            if "memory" in (groups / "cgroup.controllers").read_text().split():
                limits = {"memory.max": MEMORY_BYTES, "memory.swap.max": 0}
                return cls(groups / name, limits)
        except FileNotFoundError:
            pass
        if (groups / "memory" / "memory.limit_in_bytes").exists():
            return cls(groups / "memory" / name, {"memory.limit_in_bytes": MEMORY_BYTES})
        return None

    def make(self) -> None:
        """Raises OSError where the machine does not let us."""
        self.folder.mkdir()
        for file, value in self.limits.items():
            path = self.folder / file
            # Swap is limited only where the kernel accounts for it.
            if path.exists() or value:
                path.write_text(str(value))

    def enter(self) -> None:
        """The calling process and all that it starts."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self) -> None:
        """When all processes in it have ended, which the kernel may notice a little later."""
        for left in reversed(range(_REMOVALS_MAX)):
            try:
                self.folder.rmdir()
            except OSError:
                if not left:
                    raise
                time.sleep(_REMOVAL_PAUSE_S)
            else:
                return


@contextmanager
def limited_memory() -> Iterator[MemoryGroup | None]:
    """A group for the time of a run; None where there can be none."""
    group = MemoryGroup.find(_GROUPS, f"ipfs-mfs-board-{os.getpid()}")
    try:
        if group is not None:
            group.make()
    except OSError as error:
        print(f"board: memory is not limited: {error}", file=sys.stderr)
        group = None
    try:
        yield group
    finally:
        if group is not None:
            group.remove()


def split(cpus: set[int]) -> tuple[set[int], set[int]]:
    """The board's CPU, and those that the disks may use."""
    first = min(cpus)
    return {first}, (cpus - {first}) or {first}


def in_words(*, memory_limited: bool, speed: slow_disk.Speed) -> str:
    memory = f"{MEMORY_BYTES >> 20} MiB" if memory_limited else "memory not limited"
    return (
        f"1 CPU, {memory}, no SHA extensions, disks of {speed.bytes_s / 1e6:g} MB/s with flushes "
        f"of {speed.flush_s * 1e3:g} ms"
    )


def main() -> int:
    # So that whoever ends us ends what was started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    own, others = split(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "pytest", "-s", *(sys.argv[1:] or TESTS), "--benchmark-enable"]
    with tempfile.TemporaryDirectory() as folder, limited_memory() as group:

        def enter() -> None:
            os.sched_setaffinity(0, own)
            if group is not None:
                group.enter()

        words = in_words(memory_limited=group is not None, speed=slow_disk.Speed())
        environment = {**os.environ, **NO_SHA_EXTENSIONS, BOARD: words, DISKS: folder}
        with slow_disk.served(Path(folder), others):
            command += ["--timeout", "1800"]
            return subprocess.run(
                command, env=environment, preexec_fn=enter, check=False
            ).returncode


if __name__ == "__main__":
    sys.exit(main())
