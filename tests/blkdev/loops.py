"""Loop devices, for tests that need a real block device (marker `needs_root`)."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path


def attach(path: Path) -> str:
    """The name of a new loop device over the file."""
    command = ["losetup", "--find", "--show", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def detach(name: str) -> None:
    subprocess.run(["losetup", "--detach", name], check=True)


@contextlib.contextmanager
def attached(path: Path, size_bytes: int) -> Iterator[str]:
    """A loop device over a new sparse file of that size."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
    name = attach(path)
    try:
        yield name
    finally:
        detach(name)
