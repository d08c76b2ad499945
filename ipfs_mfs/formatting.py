"""Making a store: the device's format, then the first root."""

from dataclasses import dataclass

from ipfs_mfs import connect, owner
from ipfs_mfs.config import DEFAULT_ROOT, Config


@dataclass(frozen=True, slots=True)
class Formatted:
    """What `format` made."""

    store: str
    device_bytes: int
    root: str
    cid: str


def format_store(config: Config, *, size_bytes: int | None, force: bool) -> Formatted:
    """Formats the configured device or file and makes the root `main`.

    `size_bytes` is for files and defaults to the configured size. Raises the engine's errors for
    devices that are too small, in use or hold something else.
    """
    from ipfs_mfs.node import Node, format_device

    if config.store.exists():
        connect.require_store(config)
    place = owner.place_of(config)
    lock = connect.lock_store(config, place)
    try:
        format_device(config, size_bytes, force)
        node = Node.open(config, lock)
    except BaseException:
        lock.release()
        raise
    try:
        root = node.root_create(DEFAULT_ROOT, config.profile, None, None)
        device_bytes = node.stats().device_bytes
    finally:
        node.close()
    return Formatted(str(config.store), device_bytes, root.name, root.cid)
