"""The free segment that may be written while nothing else is: it is free, and is refused else."""

import os

import pytest

from blkdev.device import RamDevice
from blkdev.errors import StoreClosed, StoreFull, StoreReadOnly
from blkdev.store import Store


def made(size_bytes=64 << 20):
    device = RamDevice(size_bytes)
    Store.format(device)
    return device, Store.open(device)


def test_spare_segment_holds_nothing_that_is_needed():
    device, store = made()
    store.put_many([(b"key", b"value" * 1000)])
    store.commit()
    offset, length = store.spare_range()
    assert length == store.geometry.segment_size_bytes
    device.write(offset, [os.urandom(length)])
    assert store.check().ok
    store.close()
    again = Store.open(device)
    assert again.get(b"key") == b"value" * 1000
    again.put_many((b"%d" % n, os.urandom(1 << 20)) for n in range(20))
    again.commit()
    assert again.check().ok
    again.close()


def test_full_store_has_no_spare_segment():
    _, store = made()
    store._catalog.free.clear()
    with pytest.raises(StoreFull):
        store.spare_range()


def test_spare_segment_is_one_that_the_file_system_has_room_for(monkeypatch):
    """A write to another one would fail, and whoever measures would blame the disk."""
    device, store = made()
    store.commit()
    roomy = list(store._catalog.free)[3]
    begin = store.geometry.segment_offset(roomy)
    monkeypatch.setattr(device, "reserve", lambda offset, _length: offset == begin)
    assert store.spare_range() == (begin, store.geometry.segment_size_bytes)
    monkeypatch.setattr(device, "reserve", lambda *_: False)
    with pytest.raises(StoreFull):
        store.spare_range()


def test_store_that_cannot_be_written_has_no_spare_segment():
    device, store = made()
    store.close()
    with pytest.raises(StoreClosed):
        store.spare_range()
    with Store.open(device, read_only=True) as opened, pytest.raises(StoreReadOnly):
        opened.spare_range()
