"""What a result was measured on: part of every file in `results/`."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BOARD = "IPFS_MFS_BENCH_BOARD"
"""In the environment of what is measured on a small board (`benchmarks/board.py`): what it has."""
DISKS = "IPFS_MFS_BENCH_DISKS"
"""In the environment there: the folder in which its disks are made."""


def on_board() -> bool:
    """Whether this process is to measure a small board."""
    return BOARD in os.environ


def disks_folder() -> Path | None:
    """Where disks are made on a board."""
    return Path(os.environ[DISKS]) if on_board() else None


def describe(folder: Path) -> dict[str, Any]:
    """The machine, the file system that `folder` is on, and the state of the code."""
    board = {"board": os.environ[BOARD]} if on_board() else {}
    return {
        **board,
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "rev-parse", "--short", "HEAD"),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "sha_extensions": "sha_ni" in _read("/proc/cpuinfo"),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "file_system": _output("stat", "-f", "-c", "%T", str(folder)),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return match[1] if match else platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read(path: str) -> str:
    return Path(path).read_text(errors="replace")


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
