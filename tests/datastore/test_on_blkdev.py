"""The datastore on the device engine: the suite on memory and on a file, and what only it has."""

import random

import pytest

from blkdev.batch import batch_size_max_bytes
from blkdev.device import RamDevice
from blkdev.devices.file import FileDevice
from blkdev.format import KEY_SIZE_MAX_BYTES
from blkdev.store import Store
from datastore import BlkdevDatastore, Datastore, Finding, Key, Query, mapping
from datastore.errors import (
    KeyNotFound,
    NewerDatastore,
    NotADatastore,
    StoreFailed,
    StoreFull,
    StoreReadOnly,
    ValueDamaged,
    ValueTooLarge,
)
from datastore.pending import Changes
from tests.blkdev.devices import FaultyDevice, block, copied, formatted
from tests.suites.datastore_suite import StrictSuite, entries_of, fill

DEVICE_SIZE_BYTES = 128 << 20
SEGMENT_SIZE_BYTES = 4 << 20
LONG_KEY = Key("/" + "long" * 100)


class TestOnRam(StrictSuite):
    @pytest.fixture
    def datastore(self):
        device = RamDevice(DEVICE_SIZE_BYTES)
        Store.format(device, segment_size_bytes=SEGMENT_SIZE_BYTES)
        made = BlkdevDatastore(Store.open(device))
        yield made
        made.close()


class TestOnFile(StrictSuite):
    @pytest.fixture
    def datastore(self, tmp_path):
        device = FileDevice(tmp_path / "store", create_size_bytes=DEVICE_SIZE_BYTES)
        Store.format(device, segment_size_bytes=SEGMENT_SIZE_BYTES)
        made = BlkdevDatastore(Store.open(device))
        yield made
        made.close()


@pytest.fixture
def device():
    """Segments of 64 KiB: values of at most 32 KiB."""
    device = FaultyDevice(20 << 20, pages=formatted())
    device.name = "small device"
    return device


@pytest.fixture
def small(device):
    return BlkdevDatastore(Store.open(device))


def contents(datastore: Datastore) -> dict[str, bytes | None]:
    return {str(entry.key): entry.value for entry in datastore.query()}


# ---------------------------------------------------------------------------- durability


def test_what_was_synced_survives_a_kill_and_the_rest_is_lost_from_the_end(device, small):
    small.put(Key("/a"), b"old")
    small.put(Key("/b"), b"old")
    small.sync()
    small.put(Key("/a"), b"new")
    small.delete(Key("/b"))
    small.put(Key("/c"), b"new")
    assert contents(small) == {"/a": b"new", "/c": b"new"}
    assert contents(BlkdevDatastore(Store.open(copied(device)))) == {"/a": b"old", "/b": b"old"}
    small.sync(Key("/elsewhere"))
    found = contents(BlkdevDatastore(Store.open(copied(device))))
    assert found == {"/a": b"new", "/c": b"new"}


def test_one_sync_is_one_flush_however_much_was_put(device, small):
    small.sync()
    device.events.clear()
    for number in range(20):
        small.put(Key(f"/{number}"), b"value" * 20)
    small.sync()
    assert [event.kind for event in device.events] == ["write", "sync"]


def test_value_that_is_there_already_is_not_written_again(device, small):
    for key in (Key("/key"), LONG_KEY):
        small.put(key, b"value" * 100)
    small.sync()
    device.events.clear()
    for key in (Key("/key"), LONG_KEY):
        small.put(key, b"value" * 100)
    small.sync()
    assert device.events == []


def test_close_makes_everything_durable(device, small):
    small.put(Key("/a"), b"1")
    small.put(LONG_KEY, b"2")
    small.close()
    again = BlkdevDatastore(Store.open(device))
    assert contents(again) == {"/a": b"1", str(LONG_KEY): b"2"}


# ------------------------------------------------------------------------------- batches


def test_batch_as_large_as_the_engine_takes_is_one_group(device, small):
    small.sync()
    device.events.clear()
    batch = small.batch()
    batch.put(Key("/large"), bytes(30_000))
    for number in range(20):
        batch.put(Key(f"/{number}"), b"small")
    batch.commit()
    small.sync()
    assert [event.kind for event in device.events] == ["write", "sync"]


def test_batch_above_that_is_split_and_complete(small):
    values = {f"/{number}": random.Random(number).randbytes(20_000) for number in range(12)}
    batch = small.batch()
    for text, value in values.items():
        batch.put(Key(text), value)
    batch.put(Key("/0"), b"changed last")
    batch.commit()
    assert contents(small) == {**values, "/0": b"changed last"}
    parts = small._parts({Key(text): value for text, value in values.items()})
    assert len(parts) == 12
    most = batch_size_max_bytes(32 << 10)
    assert most < 2 * 20_000


def test_no_change_of_a_batch_is_in_two_parts_and_none_is_lost(small):
    changes: Changes = {Key(f"/{number}"): bytes(100 * number) for number in range(100)}
    changes |= dict.fromkeys((Key(f"/gone/{number}") for number in range(100)), None)
    parts = small._parts(changes)
    assert len(parts) > 5
    joined = [item for part in parts for item in part.items()]
    assert joined == [(key.raw, value) for key, value in changes.items()]


def test_batch_that_fails_for_want_of_room_can_be_committed_again(small):
    number = 0
    with pytest.raises(StoreFull):
        while True:
            small.put(Key(f"/fill/{number}"), random.Random(number).randbytes(20_000))
            number += 1
    batch = small.batch()
    batch.put(Key("/0"), bytes(20_000))
    batch.put(Key("/1"), bytes(30_000))
    with pytest.raises(StoreFull):
        batch.commit()
    for at in range(12):
        small.delete(Key(f"/fill/{at}"))
    small.sync()
    assert small.collect_garbage() > 0
    batch.commit()
    assert small.get_size(Key("/0")) == 20_000
    assert small.get_size(Key("/1")) == 30_000


def test_full_store_keeps_all_values_and_takes_a_put_after_a_delete(small):
    count = 0
    with pytest.raises(StoreFull, match="your data is safe"):
        while True:
            small.put(Key(f"/{count}"), random.Random(count).randbytes(30_000))
            count += 1
    for number in range(count):
        assert small.get(Key(f"/{number}")) == random.Random(number).randbytes(30_000)
    for number in range(4):
        small.delete(Key(f"/{number}"))
    small.put(Key("/again"), bytes(30_000))
    assert len(contents(small)) == count - 3


# -------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    "key", [Key("/k"), Key("/" + "k" * 63), LONG_KEY], ids=lambda key: f"{len(key.raw)} bytes"
)
def test_value_of_the_largest_size_is_stored_and_one_byte_more_is_refused(small, key):
    most = (32 << 10) - mapping.front_size(key.raw)
    value = random.Random(1).randbytes(most)
    small.put(key, value)
    assert small.get(key) == value
    with pytest.raises(ValueTooLarge, match=f"this store takes {most} under"):
        small.put(key, value + b"x")
    assert small.get(key) == value


def test_value_that_is_too_large_refuses_the_whole_batch(small):
    batch = small.batch()
    for number in range(5):
        batch.put(Key(f"/{number}"), bytes(20_000))
    batch.put(Key("/huge"), bytes(5 << 20))
    with pytest.raises(ValueTooLarge):
        batch.commit()
    assert contents(small) == {}


def test_limit_of_short_keys_is_that_of_the_engine():
    assert mapping.SHORT_KEY_SIZE_MAX_BYTES == KEY_SIZE_MAX_BYTES


# ---------------------------------------------------------------------- whose store it is


def test_store_of_somebody_else_is_refused_untouched(device):
    with Store.open(device) as store:
        store.put_many([block(1)])
    store = Store.open(device)
    with pytest.raises(NotADatastore, match="small device holds no datastore"):
        BlkdevDatastore(store)
    assert store.names() == []


def test_store_with_names_only_is_refused_too(device):
    store = Store.open(device)
    store.set_name(b"root/main", b"ref")
    with pytest.raises(NotADatastore):
        BlkdevDatastore(store)


def test_newer_datastore_is_refused(device):
    store = Store.open(device)
    store.set_name(mapping.MARK, b"\2")
    with pytest.raises(NewerDatastore, match="version 02"):
        BlkdevDatastore(store)


def test_read_only_store_is_read_and_takes_nothing(device, small):
    small.put(Key("/a"), b"1")
    small.put(LONG_KEY, b"2")
    small.close()
    reader = BlkdevDatastore(Store.open(device, read_only=True))
    assert contents(reader) == {"/a": b"1", str(LONG_KEY): b"2"}
    for call in (
        lambda: reader.put(Key("/b"), b""),
        lambda: reader.delete(Key("/a")),
        lambda: reader.sync(),
        lambda: reader.collect_garbage(),
    ):
        with pytest.raises(StoreReadOnly, match="small device was opened read-only"):
            call()


def test_empty_store_opened_read_only_is_an_empty_datastore(device):
    reader = BlkdevDatastore(Store.open(device, read_only=True))
    assert contents(reader) == {}


def test_keys_of_others_in_the_store_are_not_listed(small):
    """Nobody should put them there; who does is not taken for a datastore."""
    small.put(Key("/mine"), b"value")
    small._store.put_many([block(1), (b"~" + bytes(32), b"\x02\x00/x"), (b"~short", b"")])
    assert contents(small) == {"/mine": b"value"}


# -------------------------------------------------------------------------------- damage


def spoil(device: RamDevice, needle: bytes) -> None:
    """Change a byte where `needle` is on the device."""
    page = next(page for page, data in device.pages.items() if needle in data)
    at = device.pages[page].index(needle) + len(needle) // 2
    spoiled = bytearray(device.pages[page])
    spoiled[at] ^= 1
    device.pages[page] = bytes(spoiled)


@pytest.mark.parametrize("key", [Key("/short"), LONG_KEY], ids=lambda key: f"{len(key.raw)} bytes")
def test_damaged_value_is_an_error_by_name_and_every_other_is_read(device, small, key):
    others = entries_of(10)
    fill(small, others)
    small.put(key, b"the value that will be damaged")
    small.sync()
    spoil(device, b"that will be")
    with pytest.raises(ValueDamaged, match=str(key)) as caught:
        small.get(key)
    assert caught.value.key == key
    assert small.has(key) and small.get_size(key) == 30
    assert all(small.get(other) == value for other, value in others.items())
    assert key in {entry.key for entry in small.query(Query(keys_only=True))}
    with pytest.raises(ValueDamaged):
        list(small.query())
    assert [finding.key for finding in small.check()] == [key]
    assert [finding.key for finding in small.scrub()] == [key]
    small.put(key, b"the value that will be damaged")
    assert small.get(key) == b"the value that will be damaged"
    assert small.scrub() == []


def test_key_before_a_value_that_is_damaged_is_said(device, small):
    """The engine's checksum would tell; a reader who left that to us is told as well."""
    small.put(LONG_KEY, b"value")
    small.close()
    spoil(device, LONG_KEY.raw)
    unverified = BlkdevDatastore(Store.open(device, verify_reads=False))
    with pytest.raises(ValueDamaged):
        unverified.get(LONG_KEY)
    assert contents(unverified) == {}
    (finding,) = unverified.check()
    assert finding.key is None
    assert mapping.engine_key(LONG_KEY.raw).hex() in finding.what


def test_damaged_header_is_found_by_check_and_the_key_can_be_put_again(device, small):
    small.put(Key("/damaged"), b"value")
    small.put(Key("/whole"), b"value")
    small.sync()
    spoil(device, b"/damaged")
    with pytest.raises(ValueDamaged):
        small.get(Key("/damaged"))
    with pytest.raises(ValueDamaged):
        small.get_size(Key("/damaged"))
    assert small.has(Key("/damaged"))
    assert set(contents(small)) == {"/whole"}
    assert small.check()
    small.put(Key("/damaged"), b"again")
    assert contents(small) == {"/damaged": b"again", "/whole": b"value"}


def test_damage_outside_of_values_is_found_without_a_key(device, small):
    small.put(Key("/key"), b"value")
    small.sync()
    device.pages[0] = bytes(4096)
    findings = small.check()
    assert findings == [Finding("a superblock copy is damaged (device offset 0)", None)]


def test_unreadable_sector_is_damage_and_no_crash(device, small):
    small.put(Key("/key"), b"the value on the bad sector")
    small.sync()
    device.bad = {page for page, data in device.pages.items() if b"the bad sector" in data}
    with pytest.raises(ValueDamaged):
        small.get(Key("/key"))
    assert small.scrub(), "a sector that cannot be read is found"
    assert small.has(Key("/key"))


def test_failed_sync_makes_the_store_read_only_and_reads_go_on(device, small):
    small.put(Key("/a"), b"1")
    device.failing = {"sync"}
    with pytest.raises(StoreReadOnly, match="read-only since a failed write"):
        small.sync()
    with pytest.raises(StoreReadOnly):
        small.put(Key("/b"), b"2")
    assert small.get(Key("/a")) == b"1"


def test_other_failures_of_the_engine_keep_their_message(small, monkeypatch):
    from blkdev.errors import DeviceTooSmall

    def fail() -> None:
        raise DeviceTooSmall("it shrank")

    monkeypatch.setattr(small._store, "check", fail)
    monkeypatch.setattr(small._store, "commit", fail)
    for call in (small.check, small.sync):
        with pytest.raises(StoreFailed, match="it shrank"):
            call()


# ---------------------------------------------------------------------- listings and space


def test_keys_are_listed_while_compaction_moves_them(small):
    everything = entries_of(50)
    fill(small, everything)
    small.sync()
    listing = small.query()
    seen = [next(listing)]
    for number in range(300):
        small.put(Key("/busy"), random.Random(number).randbytes(2000))
    small.sync()
    assert small.collect_garbage() > 0
    seen += listing
    found = {entry.key: entry.value for entry in seen}
    assert len(found) == len(seen)
    assert found == everything


def test_space_of_replaced_values_comes_back(small):
    for round_ in range(200):
        small.put(Key("/one"), random.Random(round_).randbytes(10_000))
    small.sync()
    before = small.disk_usage()
    given_back = small.collect_garbage()
    assert given_back > 1_500_000
    assert before - small.disk_usage() >= given_back - 64 * 1024
    assert small.collect_garbage() == 0


def test_missing_key_is_named_in_full(small):
    with pytest.raises(KeyNotFound) as caught:
        small.get(LONG_KEY)
    assert caught.value.key == LONG_KEY
    assert str(LONG_KEY) in str(caught.value)
