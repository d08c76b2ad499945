"""CRC-32 as zlib's, by the C helper where it was built: with the processor's own instructions."""

from __future__ import annotations

try:
    from blkdev._native import crc32
except ImportError:
    from zlib import crc32

__all__ = ["crc32"]
