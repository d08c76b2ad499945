"""Make an empty store. What the arguments mean: `Store.format`."""

from __future__ import annotations

import time
from collections.abc import Callable

from blkdev import format as fmt
from blkdev import process, superblock
from blkdev.care.signature import refuse_foreign
from blkdev.device import Device
from blkdev.errors import DeviceReadOnly, KeyTooLarge


def format_device(
    device: Device,
    segment_size_bytes: int | None,
    label: str,
    entropy: Callable[[int], bytes],
    *,
    force: bool,
) -> None:
    """Everything on the device is lost when this returns; nothing when it raises before writing."""
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
        boot_id=process.boot_id(),
        created_ns=max(0, time.time_ns()),
        label=encoded,
    )
    superblock.store(device, blank)
