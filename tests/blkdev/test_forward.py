"""Stores of a newer program: what an older one reads, what it may write, what it refuses.

Room for encryption and compression is in the format already: a byte `transform` in every record's
header, kinds of records, and three sets of feature bits in the superblock. A program that does not
know a value of theirs must not take transformed bytes for a caller's value.
"""

from zlib import crc32

import pytest

from blkdev import format as fmt
from blkdev import superblock
from blkdev.device import RamDevice
from blkdev.errors import DeviceReadOnly, NewerFormat, StoreReadOnly
from blkdev.segment import read_group_header
from blkdev.store import Store
from tests.blkdev.devices import (
    SIZE_BYTES,
    assert_holds,
    assert_sound,
    blocks,
    contents,
    copied,
    new_store,
    put,
)

ITEMS = blocks(0, 30, 500)
KEY, VALUE = ITEMS[7]
NEWER = [("transform", 1), ("transform", 255), ("kind", 7), ("kind", 255), ("kind", 0)]


def written_by_a_newer_program(field: str, value: int, *, closed: bool) -> RamDevice:
    """The record of KEY has this value in its header, and every checksum is right."""
    store, device = new_store()
    put(store, ITEMS)
    store.set_name(b"name", b"value")
    store.commit()
    volume, found = store._volume, store._reader.find(KEY)
    assert found is not None
    slot = fmt.location_slot(found.location)
    group = read_group_header(volume, slot, fmt.PAGE_SIZE_BYTES)
    assert group is not None
    if closed:
        store.close()
    else:
        device = copied(device)  # type: ignore[assignment]  # a RamDevice, as here
    base = volume.geometry.segment_offset(slot) + fmt.PAGE_SIZE_BYTES
    packed = bytearray(device.read(base, fmt.aligned(group.size_bytes)))
    at, checksum = fmt.GROUP_HEADER.size_bytes, volume.seed
    for _ in range(group.record_count):
        head = fmt.RECORD_HEADER.unpack(packed, at)
        end = at + fmt.RECORD_HEADER.size_bytes + head.key_size_bytes
        if base + at == volume.device_offset(found.location):
            changed = fmt.RECORD_HEADER.pack(head._replace(**{field: value}))
            packed[at : at + fmt.RECORD_HEADER.size_bytes] = changed
            packed[at : at + 4] = crc32(packed[at + 4 : end], volume.seed).to_bytes(4, "little")
        checksum = crc32(packed[at:end], checksum)
        at += fmt.record_size(head.key_size_bytes, head.value_size_bytes)
    sealed = fmt.GROUP_HEADER.seal(group._replace(records_checksum=checksum), volume.seed)
    packed[: len(sealed)] = sealed
    device.poke(base, bytes(packed))
    return device


def with_features(**features: int) -> RamDevice:
    store, device = new_store()
    put(store, ITEMS)
    store.close()
    block = superblock.load(device)._replace(**features)
    superblock.store(device, block)
    return device


@pytest.mark.parametrize(("field", "value"), NEWER)
def test_log_with_an_unknown_kind_or_transform_is_refused_and_left_as_it_is(field, value):
    device = written_by_a_newer_program(field, value, closed=False)
    before = dict(device.pages)
    for read_only in (False, True):
        with pytest.raises(NewerFormat, match="use a newer version"):
            Store.open(device, read_only=read_only)
    assert device.pages == before


@pytest.mark.parametrize(("field", "value"), NEWER)
@pytest.mark.parametrize("verify_reads", [True, False], ids=["verified", "unverified"])
def test_record_with_an_unknown_kind_or_transform_is_never_read_as_a_value(
    field, value, verify_reads
):
    """A store that was closed is opened from its checkpoint, without looking at the records."""
    device = written_by_a_newer_program(field, value, closed=True)
    store = Store.open(device, read_only=True, verify_reads=verify_reads)
    reads = [
        lambda: store.get(KEY),
        lambda: store.get_part(KEY, 0, 10),
        lambda: store.view(KEY).__enter__(),
        lambda: store.size_of(KEY),
        lambda: store.has(KEY),
    ]
    for read in reads:
        with pytest.raises(NewerFormat, match="use a newer version"):
            read()
    assert_holds(store, [item for item in ITEMS if item[0] != KEY])


@pytest.mark.parametrize("bit", [17, 40, 63])
def test_unknown_incompatible_feature_is_refused_for_reading_too(bit):
    device = with_features(features_incompatible=1 << bit)
    before = dict(device.pages)
    for read_only in (False, True):
        with pytest.raises(NewerFormat, match=f"{1 << bit:#x}"):
            Store.open(device, read_only=read_only)
    assert device.pages == before


@pytest.mark.parametrize("bit", [17, 40, 63])
def test_unknown_read_only_feature_is_read_and_not_written(bit):
    device = with_features(features_read_only=1 << bit)
    before = dict(device.pages)
    with pytest.raises(DeviceReadOnly, match="newer version"):
        Store.open(device)
    with Store.open(device, read_only=True) as store:
        assert contents(store) == dict(ITEMS)
        with pytest.raises(StoreReadOnly):
            store.put_many([(b"key", b"value")])
    assert device.pages == before


@pytest.mark.parametrize("bits", [1 << 40, 1 << 63, (1 << 40) | (1 << 63)])
def test_unknown_compatible_feature_is_written_to_and_kept_through_many_lives(bits):
    device = with_features(features_compatible=bits)
    for round_ in range(3):
        with Store.open(device) as store:
            put(store, blocks(1000 * (round_ + 1), 200, 500))
            store.delete_many(key for key, _ in blocks(1000 * (round_ + 1), 150, 500))
            store.compact()
            store.checkpoint()
    assert superblock.load(device).features_compatible & bits == bits
    with Store.open(RamDevice(SIZE_BYTES, pages=dict(device.pages))) as store:
        assert_holds(store, ITEMS)
        assert_sound(store)


def test_reserved_bytes_of_a_superblock_do_not_decide_anything():
    """Bytes that a newer program may use for a compatible feature."""
    store, device = new_store()
    put(store, ITEMS)
    store.close()
    block = superblock.load(device)
    superblock.store(device, block._replace(reserved=b"\x5a" * len(block.reserved)))
    with Store.open(device) as again:
        assert_holds(again, ITEMS)
