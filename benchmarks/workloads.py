"""The workloads, by name. Data is pseudo-random: nothing can deduplicate or compress it, and a
contestant in another language makes the same blocks from the same seed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from benchmarks import machine
from ipld import multihash as multihashes
from ipld.profile import UNIXFS_V1_2025, Profile

KIBIBYTE = 1 << 10
MEBIBYTE = 1 << 20

DEFAULT_PROFILE: Profile = UNIXFS_V1_2025

Item = tuple[bytes, bytes]


@dataclass(frozen=True)
class BlockWorkload:
    """Blocks of one size, put in batches that are durable one by one."""

    name: str
    size_bytes: int
    batch_count: int
    """Blocks in a batch."""
    batches: int
    """Batches in a round."""

    @property
    def blocks(self) -> int:
        return self.batch_count * self.batches

    @property
    def total_bytes(self) -> int:
        """Payload of a round."""
        return self.blocks * self.size_bytes

    @property
    def disk_size_bytes(self) -> int:
        """What a contestant's disk has: room for all rounds, several times over."""
        return 512 * MEBIBYTE + 10 * self.total_bytes


@dataclass(frozen=True)
class Blocks:
    """The blocks of one round: block N is SHAKE128("SEED/N"), its key the multihash."""

    seed: str
    workload: BlockWorkload

    def batches(self) -> list[list[Item]]:
        """Made and hashed here, before anything is timed; kept until others are asked for."""
        return _batches(self)

    def items(self) -> list[Item]:
        return [item for batch in self.batches() for item in batch]

    def keys(self) -> list[bytes]:
        return [key for key, _ in self.items()]


@lru_cache(maxsize=1)
def _batches(blocks: Blocks) -> list[list[Item]]:
    workload = blocks.workload
    items = [
        (multihashes.digest_multihash(multihashes.SHA2_256, data), data)
        for data in (
            hashlib.shake_128(f"{blocks.seed}/{number}".encode()).digest(workload.size_bytes)
            for number in range(workload.blocks)
        )
    ]
    count = workload.batch_count
    return [items[at : at + count] for at in range(0, len(items), count)]


def absent_key(number: int) -> bytes:
    """A key of the same form as the others, which no seed makes."""
    return multihashes.digest_multihash(multihashes.SHA2_256, b"absent/%d" % number)


_LESS = 4 if machine.on_board() else 1
"""A board does so much less of it, in batches that are as large; but as many of 4 KiB, because
giving space back costs the same flushes for few as for many."""

BLOCKS = (
    BlockWorkload("300 B", 300, 128, 16 // _LESS),
    BlockWorkload("4 KiB", 4 * KIBIBYTE, 128, 16),
    BlockWorkload("256 KiB", 256 * KIBIBYTE, 16, 8 // _LESS),
    BlockWorkload("1 MiB", MEBIBYTE, 16, 4 // _LESS),
)
SINGLE_PUT = BlockWorkload("single 4 KiB", 4 * KIBIBYTE, 1, 200 // _LESS)

LARGE_FILE_SIZE_BYTES = 256 * MEBIBYTE
HASHED_FILE_SIZE_BYTES = 1024 * MEBIBYTE
"""Large enough that starting the program is not what is measured."""
SMALL_FILE_COUNT = 5000
SMALL_FILE_SIZE_BYTES = 4 * KIBIBYTE
