"""Every error the engine raises, by whose fault it is.

    StoreError
    +-- RequestError            your request: the store is fine, ask for something else
    |   +-- KeyNotFound         no such key (also a KeyError)
    |   +-- NoSuchPlace         no segment of that number, or none at that device offset
    |   +-- KeyTooLarge         key, name or label longer than the format allows, or empty
    |   +-- ValueTooLarge       value larger than one record of this store may be
    |   +-- StoreFull           no room left: delete, compact, or use a larger device
    |   +-- StoreReadOnly       opened read-only, or latched read-only after a failed write or sync
    |   +-- StoreClosed         the store was closed, or opened by the process we are a fork of
    |   +-- StoreBusy           a resize is running, or open views keep what it must move
    |   +-- SizeTooSmall        what is stored does not fit into the wanted size
    +-- DeviceError             your device: it cannot be used as asked
    |   +-- NotAStore           no superblock of ours on it
    |   +-- StoreExists         format would destroy a store
    |   +-- ForeignSignature    format would destroy somebody else's data
    |   +-- NewerFormat         written by a version that this one does not understand
    |   +-- DeviceTooSmall      fewer bytes than the format needs, or than the superblock says
    |   +-- DeviceBusy          another process has it (.pid when known)
    |   +-- DeviceReadOnly      the device or its permissions refuse writing
    |   +-- InvalidGeometry     segment size or the like outside the format's limits
    +-- StoreDamaged            your data: bytes on the device are not what was written
        +-- SuperblockDamaged   every copy of the superblock is bad or unreadable
        +-- SegmentDamaged      a segment that has to be moved cannot be read
        +-- BlockDamaged        one record (.key, .offset)

Anything else that escapes the engine (AssertionError, TypeError, struct.error) is our bug.
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of all; never raised itself."""


class RequestError(StoreError):
    """The request cannot be met; the store is unharmed."""


class KeyNotFound(RequestError, KeyError):
    """The key is not in the store."""

    def __init__(self, key: bytes) -> None:
        super().__init__(f"key {key.hex()} is not in the store")
        self.key = key

    def __str__(self) -> str:
        # KeyError would show the repr of the message.
        return str(self.args[0])


class NoSuchPlace(RequestError):
    """The store has no segment of that number, or none at that device offset."""


class KeyTooLarge(RequestError):
    """A key, name or label is empty or longer than the format allows."""


class ValueTooLarge(RequestError):
    """A value is larger than one record of this store may be."""


class StoreFull(RequestError):
    """No segment is left for this kind of write; everything stored stays readable."""

    def __init__(self, device: str) -> None:
        super().__init__(
            f"{device} is full, or the file system under it (delete something and compact, "
            "or use a larger device)"
        )


class StoreReadOnly(RequestError):
    """Writing is refused: opened read-only, or latched after a failed write or sync."""


class StoreClosed(RequestError):
    """The store was closed; or this process is a fork of the one that it is open in."""

    def __init__(self) -> None:
        super().__init__("the store is closed (open it again)")


class StoreBusy(RequestError):
    """Another resize is running, or open views keep what this one must move."""


class SizeTooSmall(RequestError):
    """What is stored, or any store at all, does not fit into the wanted size."""


class DeviceError(StoreError):
    """The device cannot be used as asked; its contents are untouched."""


class NotAStore(DeviceError):
    """The device holds no superblock of ours."""

    def __init__(self, device: str) -> None:
        super().__init__(f"{device} is not a store (format it first)")


class StoreExists(DeviceError):
    """Formatting would destroy a store."""

    def __init__(self, device: str) -> None:
        super().__init__(f"{device} already is a store (force the format to destroy it)")


class ForeignSignature(DeviceError):
    """Formatting would destroy data that is not ours."""

    def __init__(self, device: str, signature: str) -> None:
        super().__init__(f"{device} holds {signature} (force the format to destroy it)")
        self.signature = signature


class NewerFormat(DeviceError):
    """The store uses a version or a feature that this program does not know."""


class DeviceTooSmall(DeviceError):
    """The device has fewer bytes than the format or the superblock asks for."""


class DeviceBusy(DeviceError):
    """Another process uses the device; `pid` is its process id, or None when unknown."""

    def __init__(self, device: str, pid: int | None) -> None:
        owner = f"process {pid}" if pid else "another process"
        super().__init__(f"{device} is in use by {owner} (stop it first)")
        self.pid = pid


class DeviceReadOnly(DeviceError):
    """The device, or our permission on it, allows no writing."""


class InvalidGeometry(DeviceError):
    """A segment size or count outside the limits of the format."""


class StoreDamaged(StoreError):
    """Bytes on the device are not what was written."""


class SuperblockDamaged(StoreDamaged):
    """There was a store here, and no copy of its superblock is whole; or none can be read."""


class SegmentDamaged(StoreDamaged):
    """A segment that has to be moved holds a live record that cannot be read."""


class BlockDamaged(StoreDamaged):
    """One record is unreadable or fails its checksum.

    `key` is the record's key or name, `offset` the device offset of its header in bytes.
    """

    def __init__(self, key: bytes, offset: int, why: str) -> None:
        super().__init__(f"key {key.hex()} at device offset {offset}: {why}")
        self.key = key
        self.offset = offset
