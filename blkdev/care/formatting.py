"""Make an empty store: the only thing that writes to a device without one.

The superblock is all there is of it: a segment that no header, footer or group of this very store
identifies is free.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from blkdev import format as fmt
from blkdev import superblock
from blkdev.care.signature import refuse_foreign
from blkdev.device import Device
from blkdev.errors import DeviceReadOnly, KeyTooLarge

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def format_device(
    device: Device,
    segment_size_bytes: int | None,
    label: str,
    *,
    force: bool,
    entropy: Callable[[int], bytes],
) -> None:
    """See `Store.format`."""
    if device.read_only:
        raise DeviceReadOnly(f"{device.name} was opened read-only (open it for writing)")
    encoded = label.encode()
    if len(encoded) > fmt.LABEL_SIZE_MAX_BYTES:
        raise KeyTooLarge(f"a label has at most {fmt.LABEL_SIZE_MAX_BYTES} bytes")
    size = segment_size_bytes or superblock.default_segment_size(device.size_bytes)
    geometry = superblock.Geometry.for_device(device, size)
    if not force:
        refuse_foreign(device)
    device.discard(0, device.size_bytes & -fmt.PAGE_SIZE_BYTES)
    blank = superblock.blank(device, geometry)._replace(
        uuid=entropy(16),
        index_salt=int.from_bytes(entropy(8), "little"),
        boot_id=boot_id(),
        created_ns=time.time_ns(),
        label=encoded,
    )
    superblock.store(device, blank)


def boot_id() -> bytes:
    """Which run of the machine this is: tells a killed process from a power cut."""
    try:
        return bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)
