"""The process that a store is open in, and the run of the machine.

Invariant
- A store belongs to the process that opened it. In a fork of that process it is closed from the
  start: the fork cannot write to it, nor keep its lock.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol
from weakref import WeakSet

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Forkable(Protocol):
    """Something that a fork of this process must not use."""

    def abandon(self) -> None:
        """Called in the fork, whose only thread this is; locks may be held by threads that are
        not there.
        """


_forkables: WeakSet[Forkable] = WeakSet()


def watch(forkable: Forkable) -> None:
    """Abandon it in every fork of this process, as long as it lives."""
    _forkables.add(forkable)


def _abandon_all() -> None:
    for forkable in list(_forkables):
        forkable.abandon()


os.register_at_fork(after_in_child=_abandon_all)


def boot_id() -> bytes:
    """Which run of the machine this is: tells a killed process from a power cut."""
    try:
        return bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)
