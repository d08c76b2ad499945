"""Recognise what a device holds before a format destroys it."""

from __future__ import annotations

from blkdev.device import Device
from blkdev.errors import ForeignSignature, StoreExists
from blkdev.superblock import read_copies

_SCANNED_BYTES = 128 << 10
_MAGICS: tuple[tuple[str, int, bytes], ...] = (
    ("an XFS file system", 0, b"XFSB"),
    ("a LUKS volume", 0, b"LUKS\xba\xbe"),
    ("a squashfs image", 0, b"hsqs"),
    ("an NTFS file system", 3, b"NTFS    "),
    ("an exFAT file system", 3, b"EXFAT   "),
    ("a FAT file system", 54, b"FAT1"),
    ("a FAT32 file system", 82, b"FAT32"),
    ("a partition table (GPT)", 512, b"EFI PART"),
    ("an LVM physical volume", 512, b"LABELONE"),
    ("a partition table or boot sector", 510, b"\x55\xaa"),
    ("an F2FS file system", 1024, b"\x10\x20\xf5\xf2"),
    ("an HFS+ file system", 1024, b"H+"),
    ("an ext2/3/4 file system", 1080, b"\x53\xef"),
    ("swap space", 4086, b"SWAPSPACE2"),
    ("a RAID member", 4096, b"\xfc\x4e\x2b\xa9"),
    ("a bcache device", 4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    ("an ISO 9660 image", 32769, b"CD001"),
    ("a btrfs file system", 65600, b"_BHRfS_M"),
)


def foreign_signature(head: bytes) -> str | None:
    """What the first bytes of a device look like; None when they are all zero."""
    for what, offset, magic in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return what
    return "unknown data" if any(head) else None


def refuse_foreign(device: Device) -> None:
    """Raises StoreExists or ForeignSignature when formatting would destroy something."""
    if any(block is not None for block, _ in read_copies(device)):
        raise StoreExists(device.name)
    found = foreign_signature(device.read(0, min(_SCANNED_BYTES, device.size_bytes)))
    if found is not None:
        raise ForeignSignature(device.name, found)
