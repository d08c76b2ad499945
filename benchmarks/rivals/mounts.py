"""Mounted file systems, each on a loop device of its own over a file on the same disk.

Ours gets the raw device, ext4 too; gocryptfs stores its files on an ext4. All as root, with the
kernel's default caching of each.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.rivals import devices
from benchmarks.rivals.devices import run

DISK_SIZE_BYTES = 3 << 30
START_TIMEOUT_S = 30.0


class MountedFileSystem(Protocol):
    """One contestant; mounted when it is made."""

    folder: Path
    """Where to work."""
    server_pid: int | None
    """The process that serves it; None where that is the kernel."""

    def __init__(self, place: Path) -> None: ...

    def close(self) -> None:
        """Unmount and give the devices back."""


class Ext4:
    """The kernel's own: no server, no hashing, the floor."""

    server_pid: int | None = None

    def __init__(self, place: Path) -> None:
        self._disk = devices.Ext4(place, DISK_SIZE_BYTES)
        self.folder = self._disk.folder

    def close(self) -> None:
        self._disk.close()


class Gocryptfs:
    """An encrypting overlay in Go, the fastest of the daemons that store what they are given."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "gocryptfs"
        self.folder.mkdir()
        secret = ("-extpass", "echo benchmark")
        with ExitStack() as undo:
            below = devices.Ext4(place, DISK_SIZE_BYTES)
            undo.callback(below.close)
            cipher = below.folder / "cipher"
            cipher.mkdir()
            run("gocryptfs", "-init", "-q", "-scryptn", "10", *secret, str(cipher))
            command = ("gocryptfs", "-fg", "-q", *secret, str(cipher), str(self.folder))
            server = undo.enter_context(subprocess.Popen(command))
            undo.callback(server.terminate)
            _wait_until(lambda: os.path.ismount(self.folder))
            self.server_pid: int | None = server.pid
            self._undo = undo.pop_all()

    def close(self) -> None:
        self._undo.close()


class IpfsMfs:
    """Ours, on the raw device, through libfuse."""

    transport = "pyfuse3"

    def __init__(self, place: Path) -> None:
        self.folder = place / "ipfs-mfs"
        self.folder.mkdir()
        program = str(Path(sys.executable).with_name("ipfs-mfs"))
        with ExitStack() as undo:
            device = devices.LoopDevice(place / "ipfs-mfs.img", DISK_SIZE_BYTES)
            undo.callback(device.close)
            run(program, "format", device.path, "--force")
            device.fill()
            log = undo.enter_context((place / "ipfs-mfs.log").open("w"))
            command = (
                program, "mount", str(self.folder), "--store", device.path, "--foreground",
                "--transport", self.transport,
            )  # fmt: skip
            server = undo.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
            undo.callback(server.terminate)
            _wait_until(lambda: os.path.ismount(self.folder))
            self.server_pid: int | None = server.pid
            self._undo = undo.pop_all()

    def close(self) -> None:
        self._undo.close()


class IpfsMfsKernel(IpfsMfs):
    """Ours, in the kernel's own protocol."""

    transport = "kernel"


def mounts() -> dict[str, type[MountedFileSystem]]:
    """Those that this machine can mount."""
    found: dict[str, type[MountedFileSystem]] = {
        "ipfs-mfs": IpfsMfs,
        "ipfs-mfs, kernel": IpfsMfsKernel,
        "ext4": Ext4,
    }
    if shutil.which("gocryptfs"):
        found["gocryptfs"] = Gocryptfs
    return found


def pin(pid: int, cpu: int | None) -> None:
    """Bind a process and all its threads to one CPU, or to none in particular."""
    cpus = {cpu} if cpu is not None else set(range(os.cpu_count() or 1))
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cpus)


class Memory(NamedTuple):
    """What a process has in RAM, in MiB."""

    resident: float
    own: float
    """Without pages of files, which the kernel takes back when it needs them."""


def memory_of(pid: int) -> Memory:
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    values = {words[0]: int(words[1]) / 1024 for words in lines if words[0] in _MEMORY_FIELDS}
    return Memory(*(values[name] for name in _MEMORY_FIELDS))


_MEMORY_FIELDS = ("VmRSS:", "RssAnon:")


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the mount did not come up")
        time.sleep(0.05)
