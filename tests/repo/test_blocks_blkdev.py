"""The device engine under the repository: the conformance suite on memory and on a file."""

from pathlib import Path

import pytest

from blkdev.device import RamDevice
from blkdev.devices.file import FileDevice
from blkdev.format import PAGE_SIZE_BYTES
from blkdev.store import Store
from ipld import cid as cids
from ipld.block import Block
from repo.backend_blkdev import BlkdevBackend
from repo.errors import BlockDamaged, StoreFailed
from tests.suites.blocks_suite import TIGHT_BYTES, StoreSuite, block_of, blocks_of

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
        flip(self.device, bytes(block.data[:64]), len(block.data) // 2)

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


@pytest.fixture
def ram():
    driver = RamDriver(TIGHT_BYTES)
    yield driver
    driver.close()


def test_block_with_an_unreadable_header_is_not_here_and_is_stored_again(ram):
    block = blocks_of(1, 5000)[0]
    ram.backend.blocks.put_many([block])
    ram.backend.commit()
    flip(ram.device, cids.multihash_of(block.cid), -8)
    blocks = ram.backend.blocks
    with pytest.raises(BlockDamaged):
        blocks.get(block.cid)
    assert not blocks.has(block.cid)
    assert blocks.put_many([block]) == 1
    assert blocks.get(block.cid) == block.data


@pytest.mark.parametrize("read", ["get", "view", "get_part"])
def test_block_with_wrong_bytes_is_damaged_then_not_here_and_is_stored_again(ram, read):
    block, other = blocks_of(2, 5000)
    blocks = ram.backend.blocks
    blocks.put_many([block, other])
    ram.backend.commit()
    flip(ram.device, bytes(block.data[:64]), 20)
    assert blocks.has(block.cid)
    with pytest.raises(BlockDamaged):
        if read == "view":
            with blocks.view(block.cid):
                raise AssertionError("wrong bytes were shown")
        elif read == "get":
            blocks.get(block.cid)
        else:
            blocks.get_part(block.cid, 0, 10)
    assert not blocks.has(block.cid)
    assert blocks.put_many([block, other]) == 1
    assert blocks.get(block.cid) == block.data


def test_long_multihash_is_damaged_when_its_value_is(ram):
    block = block_of(b"long multihash" * 300, function="sha2-512")
    ram.backend.blocks.put_many([block])
    ram.backend.commit()
    flip(ram.device, bytes(block.data[:64]), 100)
    with pytest.raises(BlockDamaged):
        ram.backend.blocks.get(block.cid)


def test_device_that_fails_is_a_failed_store_and_reads_go_on(ram, monkeypatch):
    old, new = blocks_of(2)
    ram.backend.blocks.put_many([old])
    ram.backend.commit()

    def broken():
        raise OSError(5, "input/output error")

    monkeypatch.setattr(ram.device, "sync", broken)
    ram.backend.blocks.put_many([new])
    with pytest.raises(StoreFailed):
        ram.backend.commit()
    monkeypatch.undo()
    with pytest.raises(StoreFailed):
        ram.backend.commit()
    with pytest.raises(StoreFailed):
        ram.backend.names.set_names({b"root/main": b"x"})
    with pytest.raises(StoreFailed):
        ram.backend.journal(1).append(b"x")
    assert ram.backend.blocks.get(old.cid) == old.data


def test_closed_store_is_a_failed_store(ram):
    ram.backend.close()
    ram.backend.close()
    with pytest.raises(StoreFailed, match="closed"):
        ram.backend.blocks.put_many(blocks_of(1))
    with pytest.raises(StoreFailed, match="closed"):
        ram.backend.commit()


def flip(device: RamDevice, found: bytes, distance: int) -> None:
    """Change the byte at a distance from where these bytes lie on the device."""
    for page in sorted(device.pages):
        at = device.read(page * PAGE_SIZE_BYTES, 2 * PAGE_SIZE_BYTES).find(found)
        if 0 <= at < PAGE_SIZE_BYTES:
            page, inside = divmod(page * PAGE_SIZE_BYTES + at + distance, PAGE_SIZE_BYTES)
            data = bytearray(device.pages[page])
            data[inside] ^= 1
            device.pages[page] = bytes(data)
            return
    pytest.fail("the bytes are not on the device")
