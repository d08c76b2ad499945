"""The workloads, by name. Data is random, so that nothing can deduplicate or compress it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ipld import multihash as multihashes
from ipld.profile import UNIXFS_V1_2025, Profile

KIBIBYTE = 1 << 10
MEBIBYTE = 1 << 20

DEFAULT_PROFILE: Profile = UNIXFS_V1_2025


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

    def batches_of_items(self) -> list[list[tuple[bytes, bytes]]]:
        """Fresh blocks under their multihashes; hashed here, before anything is timed."""
        return [
            [
                (multihashes.digest_multihash(multihashes.SHA2_256, data), data)
                for data in (os.urandom(self.size_bytes) for _ in range(self.batch_count))
            ]
            for _ in range(self.batches)
        ]


BLOCKS = (
    BlockWorkload("300 B", 300, 128, 16),
    BlockWorkload("4 KiB", 4 * KIBIBYTE, 128, 16),
    BlockWorkload("256 KiB", 256 * KIBIBYTE, 16, 16),
)
SINGLE_PUT = BlockWorkload("single 4 KiB", 4 * KIBIBYTE, 1, 200)

LARGE_FILE_SIZE_BYTES = 256 * MEBIBYTE
HASHED_FILE_SIZE_BYTES = 1024 * MEBIBYTE
"""Large enough that starting the program is not what is measured."""
SMALL_FILE_COUNT = 5000
SMALL_FILE_SIZE_BYTES = 4 * KIBIBYTE
