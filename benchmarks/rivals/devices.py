"""Disks for the contestants: a loop device each, over a file on the disk that is measured.

The file is written once from end to end before it is used, and again where making a file system
or a store has discarded it. A sparse one would make the file system below allocate and journal
during every flush, and that would be measured instead of the contestant. On a board the file is
one of `benchmarks/slow_disk.py` instead, which becomes slow when it is full.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from itertools import count
from pathlib import Path

from benchmarks import slow_disk
from benchmarks.machine import disks_folder

_CHUNK = bytes(4 << 20)
_UMOUNT_ATTEMPTS = 100
_NUMBERS = count()
"""Of a board's disks."""


class LoopDevice:
    """A file as a block device, until `close`."""

    def __init__(self, image: Path, size_bytes: int) -> None:
        board = disks_folder()
        self._is_slow = board is not None
        if board is not None:
            image = slow_disk.create(board, str(next(_NUMBERS)), size_bytes)
        else:
            _write_zeros(image, size_bytes)
        self._image = image
        self.path = run("losetup", "--find", "--show", str(image))

    def fill(self) -> None:
        """Write zeros into what was discarded, which read as zeros already."""
        if self._is_slow:
            slow_disk.make_slow(self._image)
            return
        with self._image.open("r+b", buffering=0) as file:
            descriptor, size = file.fileno(), self._image.stat().st_size
            at = 0
            while at < size and (at := os.lseek(descriptor, at, os.SEEK_HOLE)) < size:
                end = _next_data(descriptor, at, size)
                for offset in range(at, end, len(_CHUNK)):
                    os.pwrite(descriptor, _CHUNK[: min(len(_CHUNK), end - offset)], offset)
                at = end
            os.fsync(descriptor)

    def close(self) -> None:
        run("losetup", "--detach", self.path)
        self._image.unlink()


def _write_zeros(image: Path, size_bytes: int) -> None:
    with image.open("wb", buffering=0) as file:
        for _ in range(0, size_bytes, len(_CHUNK)):
            file.write(_CHUNK)
        os.fsync(file.fileno())


def _next_data(descriptor: int, offset: int, size_bytes: int) -> int:
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError:  # a hole up to the end
        return size_bytes


class Ext4:
    """A fresh ext4 on such a device, mounted at `folder`."""

    def __init__(self, place: Path, size_bytes: int) -> None:
        self._device = LoopDevice(place / "ext4.img", size_bytes)
        self.path = self._device.path
        self.folder = place / "ext4"
        self.folder.mkdir()
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self._device.path)
        self._device.fill()
        run("mount", self._device.path, str(self.folder))

    def close(self) -> None:
        for attempt in range(_UMOUNT_ATTEMPTS):
            try:
                run("umount", str(self.folder))
                break
            except RuntimeError:
                # The kernel lets go of the files of a server that ended a moment after its end.
                if attempt == _UMOUNT_ATTEMPTS - 1:
                    raise
                time.sleep(0.1)
        self._device.close()


def can_loop() -> bool:
    """Whether this user may make loop devices here."""
    if os.geteuid() != 0 or not shutil.which("losetup"):
        return False
    return subprocess.run(("losetup", "--find"), capture_output=True, check=False).returncode == 0


def run(*command: str) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout.strip()
