"""The device engine under the repository: the conformance suite on memory and on a file."""

from pathlib import Path

import pytest

from blkdev.device import RamDevice
from blkdev.device_file import FileDevice
from blkdev.format import PAGE_SIZE_BYTES
from blkdev.store import Store
from ipld.block import Block
from repo.backend_blkdev import BlkdevBackend
from tests.suites.blocks_suite import TIGHT_BYTES, StoreSuite

DEVICE_SIZE_BYTES = 256 << 20
SEGMENT_SIZE_BYTES = 8 << 20
TIGHT_DEVICE_SIZE_BYTES = 20 << 20
TIGHT_SEGMENT_SIZE_BYTES = 256 << 10


def sizes(size_bytes: int) -> tuple[int, int]:
    """Sizes of the device and of its segments for a store that should hold that much."""
    if size_bytes <= TIGHT_BYTES:
        return TIGHT_DEVICE_SIZE_BYTES, TIGHT_SEGMENT_SIZE_BYTES
    return DEVICE_SIZE_BYTES, SEGMENT_SIZE_BYTES


class PowerCutDevice(RamDevice):
    """Remembers what was synced: after a power cut nothing else is there."""

    def __init__(self, size_bytes: int, pages: dict[int, bytes] | None = None) -> None:
        super().__init__(size_bytes, pages=pages)
        self.synced = dict(self.pages)

    def sync(self) -> None:
        super().sync()
        self.synced = dict(self.pages)


class RamDriver:
    def __init__(self, size_bytes: int) -> None:
        device_size, segment_size = sizes(size_bytes)
        self.device = PowerCutDevice(device_size)
        Store.format(self.device, segment_size_bytes=segment_size)
        self._open()

    def _open(self) -> BlkdevBackend:
        self.backend = BlkdevBackend(Store.open(self.device, verify_reads=False))
        return self.backend

    def reopen(self) -> BlkdevBackend:
        self.backend.close()
        return self._open()

    def crash(self) -> BlkdevBackend:
        self.device = PowerCutDevice(self.device.size_bytes, dict(self.device.synced))
        return self._open()

    def damage(self, block: Block) -> None:
        for first in sorted(self.device.pages):
            at = self.device.read(first * PAGE_SIZE_BYTES, 8192).find(block.data[:64])
            if 0 <= at < PAGE_SIZE_BYTES:
                place = first * PAGE_SIZE_BYTES + at + len(block.data) // 2
                page, inside = divmod(place, PAGE_SIZE_BYTES)
                data = bytearray(self.device.pages[page])
                data[inside] ^= 1
                self.device.pages[page] = bytes(data)
                return
        pytest.fail("the block is not on the device")

    def close(self) -> None:
        self.backend.close()


class FileDriver:
    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        device_size, segment_size = sizes(size_bytes)
        device = FileDevice(path, create_size_bytes=device_size)
        Store.format(device, segment_size_bytes=segment_size)
        device.close()
        self._open()

    def _open(self) -> BlkdevBackend:
        self.store = Store.open(FileDevice(self.path))
        self.backend = BlkdevBackend(self.store)
        return self.backend

    def reopen(self) -> BlkdevBackend:
        self.backend.close()
        return self._open()

    def crash(self) -> BlkdevBackend:
        """As `kill -9`: the file keeps what was written, what was only staged is gone."""
        self.store.device.close()
        return self._open()

    def damage(self, block: Block) -> None:
        place = self.path.read_bytes().index(block.data)
        with self.path.open("r+b") as file:
            file.seek(place + len(block.data) // 2)
            byte = block.data[len(block.data) // 2] ^ 1
            file.seek(place + len(block.data) // 2)
            file.write(bytes([byte]))

    def close(self) -> None:
        self.backend.close()


class TestRamDevice(StoreSuite):
    def new_store(self, tmp_path, size_bytes):
        return RamDriver(size_bytes)


class TestFileDevice(StoreSuite):
    def new_store(self, tmp_path, size_bytes):
        return FileDriver(tmp_path / "store.blk", size_bytes)
