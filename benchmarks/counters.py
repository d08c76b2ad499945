"""What a block device has done, as the kernel counts it: no contestant can tell it otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_SECTOR_SIZE_BYTES = 512
_READS, _READ_SECTORS, _WRITES, _WRITE_SECTORS, _FLUSHES = 0, 2, 4, 6, 15


class Counters(NamedTuple):
    """Requests and bytes since the device was made, or between two looks at it."""

    reads: int
    read_bytes: int
    writes: int
    write_bytes: int
    flushes: int

    @classmethod
    def parse(cls, text: str) -> Counters:
        """Of a `stat` file in /sys/block; flushes are 0 where the kernel does not count them."""
        words = [int(word) for word in text.split()]
        return cls(
            reads=words[_READS],
            read_bytes=words[_READ_SECTORS] * _SECTOR_SIZE_BYTES,
            writes=words[_WRITES],
            write_bytes=words[_WRITE_SECTORS] * _SECTOR_SIZE_BYTES,
            flushes=words[_FLUSHES] if len(words) > _FLUSHES else 0,
        )

    def since(self, earlier: Counters) -> Counters:
        return Counters(*(now - then for now, then in zip(self, earlier, strict=True)))


def of(device: str) -> Counters:
    """Of the device with that path."""
    return Counters.parse(Path(f"/sys/block/{Path(device).name}/stat").read_text())
