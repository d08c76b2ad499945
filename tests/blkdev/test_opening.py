"""Opening a store that was closed: most of the index stays in the checkpoint until it is asked for,
and what is damaged there is taken from the log or told, and never taken for absent.
"""

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from blkdev import checkpoint, superblock
from blkdev import format as fmt
from blkdev.checkpoint import _Parts, _Stored
from blkdev.errors import KeyNotFound, StoreClosed, StoreDamaged, StoreError
from blkdev.format import PAGE_SIZE_BYTES
from blkdev.index import Index, fingerprint_of
from blkdev.pure.shards import SHARD_COUNT
from blkdev.store import Store
from tests.blkdev import test_fuzz
from tests.blkdev.damage import flip, spoil
from tests.blkdev.devices import (
    MIB,
    SIZE_BYTES,
    FaultyDevice,
    assert_sound,
    blocks,
    contents,
    formatted,
    put,
)
from tests.blkdev.test_state_machine import StoreAgainstDict

pytestmark = pytest.mark.slow

COUNT = 3000
ITEMS = blocks(0, COUNT, 40)
DELETED = [key for key, _ in ITEMS[::7]]
HELD = {key: value for key, value in ITEMS if key not in set(DELETED)}
OTHERS = blocks(COUNT, 300, 40)


@pytest.fixture(autouse=True)
def put_off(monkeypatch):
    """As if the index were large."""
    monkeypatch.setattr(checkpoint, "_LOADED_WHOLE_MAX_BYTES", 0)


def life() -> FaultyDevice:
    """A store that was closed, with sealed segments, tombstones, a name and a journal."""
    device = FaultyDevice(SIZE_BYTES, pages=formatted())
    with Store.open(device) as store:
        put(store, ITEMS)
        store.set_name(b"name", b"value")
        store.journal(3).append(b"record")
        store.delete_many(DELETED)
    return device


@pytest.fixture(scope="module")
def closed_pages() -> dict[int, bytes]:
    return life().pages


@pytest.fixture
def device(closed_pages) -> FaultyDevice:
    return FaultyDevice(SIZE_BYTES, pages=dict(closed_pages))


def missing(store: Store) -> list[int]:
    return store._catalog.index.missing()


def stored(store: Store) -> _Stored:
    source = store._catalog.index.source
    assert source is not None
    return source.__self__


def shard_of(store: Store, key: bytes) -> int:
    return fingerprint_of(key, store._volume.index_salt) >> 56


def offset_of(store: Store, number: int) -> int:
    """Device offset of a shard's slots; they may go on in another segment."""
    source, size = stored(store), store.geometry.segment_size_bytes - PAGE_SIZE_BYTES
    slot, skip = divmod(source._shards[number].at, size)
    return store.geometry.segment_offset(source._slots[slot]) + PAGE_SIZE_BYTES + skip


def damage_shard(device: FaultyDevice, number: int, seed: int = 0) -> None:
    """A wrong byte in a shard of a store that is closed."""
    rng = random.Random(seed)
    with Store.open(FaultyDevice(SIZE_BYTES, pages=dict(device.pages))) as store:
        size_bytes = stored(store)._shards[number].size_bytes
        at = offset_of(store, number) + rng.randrange(min(size_bytes, 64))
    flip(device, at, rng)


def assert_all_there(store: Store) -> None:
    assert contents(store) == HELD
    assert store.has_many(DELETED) == [False] * len(DELETED)
    assert store.names() == [(b"name", b"value")]
    assert [record for _, record in store.journal(3).replay()] == [b"record"]
    assert_sound(store)


def killed(store: Store) -> FaultyDevice:
    device = store.device
    assert isinstance(device, FaultyDevice)
    return FaultyDevice(SIZE_BYTES, pages=dict(device.pages))


# ---------------------------------------------------------------------------- what is read when


def test_opening_reads_no_slots_and_counts_all_the_same(device):
    store = Store.open(device)
    assert store.recovery.from_checkpoint
    assert missing(store) == list(range(SHARD_COUNT))
    stats = store.stats()
    assert stats.keys == len(HELD)
    assert missing(store) == list(range(SHARD_COUNT)), "counting reads nothing"
    assert_all_there(store)
    assert store.stats() == stats
    assert missing(store) == []


def test_a_store_that_was_only_opened_is_closed_without_reading_its_index(device):
    Store.open(device).close()
    before = device.counts["read"]
    store = Store.open(device)
    store.close()
    assert len(missing(store)) == SHARD_COUNT
    assert device.counts["read"] - before < SHARD_COUNT // 2


@pytest.mark.parametrize("how", ["get", "has", "size_of", "get_part", "view", "delete", "put"])
def test_each_operation_loads_the_part_it_needs_and_no_other(device, how):
    store = Store.open(device)
    key, value = ITEMS[1]
    absent = OTHERS[0][0]
    ways: dict[str, Callable[[bytes], Any]] = {
        "get": store.get,
        "has": store.has,
        "size_of": store.size_of,
        "get_part": lambda key: store.get_part(key, 0, 5),
        "view": lambda key: bytes(store.view(key).__enter__()),
        "delete": lambda key: store.delete_many([key]),
        "put": lambda key: store.put_many([(key, value)]),
    }
    expected = {"get": value, "has": True, "size_of": len(value), "get_part": value[:5],
                "view": value, "delete": 1, "put": 0}  # fmt: skip
    assert ways[how](key) == expected[how]
    assert SHARD_COUNT - len(missing(store)) == 1
    if how in ("get", "size_of", "get_part", "view"):
        with pytest.raises(KeyNotFound):
            ways[how](absent)
    else:
        assert ways[how](absent) == {"has": False, "delete": 0, "put": 1}[how]
    assert SHARD_COUNT - len(missing(store)) == len({shard_of(store, key), shard_of(store, absent)})


def test_a_small_index_is_read_at_once(device, monkeypatch):
    monkeypatch.setattr(checkpoint, "_LOADED_WHOLE_MAX_BYTES", 4 * MIB)
    assert missing(Store.open(device)) == []


def test_who_only_reads_and_who_crashed_gets_all_of_it_at_once(device):
    assert missing(Store.open(device, read_only=True)) == []
    store = Store.open(device)
    assert missing(Store.open(killed(store))) == []


def test_new_blocks_go_where_parts_are_still_put_off(device):
    with Store.open(device) as store:
        put(store, OTHERS)
        store.delete_many([OTHERS[0][0], ITEMS[1][0]])
        held = {**HELD, **dict(OTHERS)}
        del held[OTHERS[0][0]], held[ITEMS[1][0]]
        assert contents(store) == held
        assert_sound(store)
    assert contents(Store.open(device)) == held


@pytest.mark.parametrize("what", ["compact", "checkpoint", "grow", "close", "repair", "scrub"])
def test_upkeep_before_anything_was_asked_keeps_everything(device, what):
    store = Store.open(device)
    store.delete_many(key for key, _ in ITEMS[1:400:7])
    store.commit()
    held = {key: value for key, value in HELD.items() if key not in dict(ITEMS[1:400:7])}
    steps: dict[str, Callable[[], object]] = {
        "compact": store.compact,
        "checkpoint": store.checkpoint,
        "grow": lambda: store.resize(SIZE_BYTES + 8 * MIB),
        "close": store.close,
        "repair": store.repair,
        "scrub": store.scrub,
    }
    steps[what]()
    size_bytes = device.size_bytes
    again = Store.open(FaultyDevice(size_bytes, pages=dict(device.pages)))
    assert contents(again) == held
    assert_sound(again)


def test_a_full_store_is_emptied_by_a_put_before_anything_was_asked():
    device = FaultyDevice(SIZE_BYTES, pages=formatted())
    items = blocks(0, 55, 30_000)
    with Store.open(device) as store:
        put(store, items)
        store.delete_many(key for key, _ in items[:50])
    store = Store.open(device)
    more = blocks(1000, 50, 30_000)
    put(store, more)
    assert contents(store) == dict(items[50:] + more)
    assert_sound(store)


@pytest.mark.parametrize("work", ["compact", "checkpoint", "close"])
def test_power_cut_at_any_write_that_gives_the_checkpoint_up_loses_nothing(device, work):
    """From the first write on the checkpoint may be gone, and the log is what counts."""
    recording = Store.open(device)
    key = ITEMS[1][0]
    recording.delete_many([key])
    recording.commit()
    before = dict(device.pages)
    device.events.clear()
    getattr(recording, work)()
    held = {each: value for each, value in HELD.items() if each != key}
    writes = [event for event in device.events if event.kind == "write"]
    for count in range(0, len(writes), max(1, len(writes) // 25)):
        cut = FaultyDevice(SIZE_BYTES, pages=dict(before))
        for event in writes[:count]:
            cut.poke(event.offset, event.data)
        store = Store.open(cut)
        assert contents(store) == held
        assert_sound(store)


# --------------------------------------------------------------------------------- many threads


def test_many_threads_that_ask_at_once_load_each_part_once(device, monkeypatch):
    loads: list[int] = []
    load = Index.load

    def counted(self, number, *image):
        loads.append(number)
        load(self, number, *image)

    monkeypatch.setattr(Index, "load", counted, raising=False)
    store = Store.open(device)
    wrong: list[bytes] = []
    begin = threading.Barrier(8)

    def ask(seed: int) -> None:
        rng = random.Random(seed)
        begin.wait()
        for key, value in rng.sample(sorted(HELD.items()), 700):
            if store.get(key) != value:
                wrong.append(key)
        wrong.extend(key for key in rng.sample(DELETED, 100) if store.has(key))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(loads) == len(set(loads)) == SHARD_COUNT


def test_closing_while_a_part_is_on_its_way_says_closed_and_not_absent(device, monkeypatch):
    store = Store.open(device)
    fetch = _Stored._fetch

    def slow(self, index, number):
        store._release()
        device.failing.add("read")
        fetch(self, index, number)

    monkeypatch.setattr(_Stored, "_fetch", slow)
    store._catalog.index.source = stored(store)._fetch
    with pytest.raises(StoreClosed):
        store.get(ITEMS[1][0])


def test_after_close_nothing_is_loaded_any_more(device):
    store = Store.open(device)
    store.close()
    for ask in (store.get, store.has, store.size_of):
        with pytest.raises(StoreClosed):
            ask(ITEMS[1][0])
    with pytest.raises(StoreClosed):
        store.keys()


# ---------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("number", [0, 1, 100, 254, 255])
@pytest.mark.parametrize("how", ["byte", "page", "unreadable"])
def test_damaged_part_of_the_index_is_taken_from_the_log(device, number, how):
    store = Store.open(device)
    at = offset_of(store, number)
    if how == "byte":
        flip(device, at + 3, random.Random(number))
    elif how == "page":
        spoil(device, at // PAGE_SIZE_BYTES, random.Random(number))
    else:
        device.bad = {at // PAGE_SIZE_BYTES}
    assert_all_there(store)
    store.close()
    device.bad.clear()
    again = Store.open(device)
    assert again.recovery.from_checkpoint, "closing wrote a whole one"
    assert_all_there(again)
    assert not again._catalog.index.was_damaged


def test_whole_index_that_was_lost_is_taken_from_the_log_with_what_was_put_since(device):
    store = Store.open(device)
    put(store, OTHERS[:20])
    store.delete_many([OTHERS[0][0]])
    there = [number for number in range(SHARD_COUNT) if number not in missing(store)]
    first, end = offset_of(store, 0), offset_of(store, SHARD_COUNT - 1)
    for page in range(first // PAGE_SIZE_BYTES, end // PAGE_SIZE_BYTES + 1):
        spoil(device, page, random.Random(page))
    assert 0 < len(there) < SHARD_COUNT
    assert contents(store) == {**HELD, **dict(OTHERS[1:20])}
    assert_sound(store)
    store.commit()
    assert contents(Store.open(killed(store))) == {**HELD, **dict(OTHERS[1:20])}


def test_damage_that_only_compaction_meets_costs_nothing(device):
    damage_shard(device, 9)
    store = Store.open(device)
    gone = [key for key, _ in ITEMS[1:2000] if key in HELD and shard_of(store, key) < 9]
    assert store.delete_many(gone) == len(gone)
    assert len(missing(store)) == SHARD_COUNT - 9
    assert store.compact().segments_freed
    assert store._catalog.index.was_damaged is False, "a whole checkpoint was written"
    assert contents(store) == {key: value for key, value in HELD.items() if key not in gone}
    assert_sound(store)


def lose_a_record(device: FaultyDevice, number: int) -> list[bytes]:
    """Damage that takes records of a shard out of the log for good; their keys."""
    with Store.open(FaultyDevice(SIZE_BYTES, pages=dict(device.pages))) as store:
        volume, catalog = store._volume, store._catalog
        _, _, slots = catalog.index.shard(number)
        locations = [at for _, at in fmt.SUMMARY_ENTRY.struct.iter_unpack(slots) if at]
        slot = fmt.location_slot(locations[0])
        gone = [at for at in locations if fmt.location_slot(at) == slot]
        found = [store._reader.key_at(at) for at in gone]
        keys = [each[1] for each in found if each]
        begin = volume.geometry.segment_offset(slot)
        last = begin + volume.geometry.segment_size_bytes
        for at in gone:
            flip(device, volume.device_offset(at), random.Random(at))
        # The summary would still name them.
        if catalog.segments[slot].sealed:
            spoil(device, last // PAGE_SIZE_BYTES - 1, random.Random(slot))
    return keys


def test_part_that_neither_checkpoint_nor_log_has_is_an_error_and_not_absence(device):
    number = 77
    damage_shard(device, number)
    lost = lose_a_record(device, number)
    store = Store.open(device)
    mine = [key for key in HELD if shard_of(store, key) == number]
    others = [key for key in HELD if shard_of(store, key) != number]
    assert lost
    assert set(lost) <= set(mine)
    for key in mine:
        for ask in (store.get, store.has, store.size_of, lambda key: store.delete_many([key])):
            with pytest.raises(StoreDamaged, match="open the store again"):
                ask(key)
        with pytest.raises(StoreDamaged):
            store.put_many([(key, b"value")])
    assert [store.get(key) for key in others] == [HELD[key] for key in others]
    for work in (store.keys, store.check, store.repair):
        with pytest.raises(StoreDamaged):
            work()
    assert not store.checkpoint()
    store.set_name(b"name", b"other")
    store.close()
    again = Store.open(device)
    assert again.recovery.damaged_slots
    assert not again.recovery.from_checkpoint
    assert again.name(b"name") == b"other"
    assert {key: again.get(key) for key in HELD if key not in lost} == {
        key: value for key, value in HELD.items() if key not in lost
    }
    assert not again.check().ok
    again.repair()
    assert again.check().ok


def test_disk_that_went_away_is_an_error_and_comes_back_whole(device):
    store = Store.open(device)
    device.failing = {"read"}
    for key in (ITEMS[1][0], DELETED[0]):
        for ask in (store.get, store.has, store.size_of):
            with pytest.raises(StoreDamaged, match="look at the disk"):
                ask(key)
    with pytest.raises(StoreDamaged):
        store.keys()
    assert store.stats().keys == len(HELD)
    device.failing = set()
    assert_all_there(store)


def test_other_stores_bytes_under_an_open_store_are_never_taken_for_its_own(device):
    store = Store.open(device)
    other = FaultyDevice(SIZE_BYTES)
    Store.format(other, segment_size_bytes=64 << 10)
    device.pages.clear()
    device.pages.update(other.pages)
    for key in (ITEMS[1][0], DELETED[0]):
        with pytest.raises(StoreDamaged):
            store.has(key)


def small_pages(device: FaultyDevice) -> Iterator[int]:
    """Pages of the checkpoint that hold anything but slots, and those next to them."""
    with Store.open(FaultyDevice(SIZE_BYTES, pages=dict(device.pages))) as store:
        slots = store._checkpointer.slots
        first = store.geometry.segment_offset(slots[0]) // PAGE_SIZE_BYTES
        yield from (first, first + 1)
        end = offset_of(store, SHARD_COUNT - 1) // PAGE_SIZE_BYTES
        last = store.geometry.segment_offset(slots[-1]) + store.geometry.segment_size_bytes
        yield from (page for page in range(end, last // PAGE_SIZE_BYTES) if page in device.pages)


def test_damage_anywhere_but_in_the_slots_is_found_when_opening(device):
    rng = random.Random(5)
    pages = list(small_pages(device))
    assert len(pages) > 3
    for page in pages:
        if not any(device.pages[page]):
            continue
        content = device.pages[page].rstrip(b"\0")
        for _ in range(6):
            made = FaultyDevice(SIZE_BYTES, pages=dict(device.pages))
            flip(made, page * PAGE_SIZE_BYTES + rng.randrange(len(content)), rng)
            assert_all_there(Store.open(made))


def test_pages_of_the_checkpoint_that_were_never_written_are_told(device):
    """A write that the device lost leaves what was there before."""
    store = Store.open(device)
    put(store, OTHERS)
    assert store.checkpoint()
    store.close()
    held = {**HELD, **dict(OTHERS)}
    slots = store._checkpointer.slots
    offsets = [store.geometry.segment_offset(slot) // PAGE_SIZE_BYTES for slot in slots]
    count = store.geometry.segment_size_bytes // PAGE_SIZE_BYTES
    for first in offsets:
        for page in range(first + 1, first + count, 3):
            made = FaultyDevice(SIZE_BYTES, pages=dict(device.pages))
            made.pages[page] = bytes(PAGE_SIZE_BYTES)
            assert contents(Store.open(made)) == held


# ------------------------------------------------------------------------- other programs' stores


def without_trailer(self: _Parts, head: fmt.Row, listed: bytes, seed: int) -> list[bytes]:
    """The stream as programs wrote it that knew no trailer."""
    body = [self.sizes, *self.shards, self.rest]
    checksum = checkpoint.crc32(b"".join((listed, *body)))
    head = head._replace(body_checksum=checksum, body_size_bytes=sum(map(len, body)))
    return [fmt.CHECKPOINT_HEAD.seal(head, seed), listed, *body]


@pytest.fixture
def old_device(monkeypatch) -> FaultyDevice:
    with monkeypatch.context() as patch:
        patch.setattr(_Parts, "sealed", without_trailer)
        return life()


def test_store_of_a_program_without_trailers_is_opened_and_then_has_one(old_device):
    store = Store.open(old_device)
    assert store.recovery.from_checkpoint
    assert_all_there(store)
    store.close()
    store = Store.open(old_device)
    assert store.recovery.from_checkpoint
    put(store, OTHERS[:1])
    store.close()
    assert missing(Store.open(old_device)) == list(range(SHARD_COUNT))


def test_any_damage_of_a_checkpoint_without_trailer_is_found_when_opening(old_device):
    block_ = superblock.load(old_device)
    first = superblock.Geometry.of(block_).segment_offset(block_.checkpoint_slot)
    rng = random.Random(6)
    for page in range(first // PAGE_SIZE_BYTES, first // PAGE_SIZE_BYTES + 16):
        made = FaultyDevice(SIZE_BYTES, pages=dict(old_device.pages))
        flip(made, page * PAGE_SIZE_BYTES + rng.randrange(60), rng)
        store = Store.open(made)
        assert not store.recovery.from_checkpoint
        assert_all_there(store)


def test_program_without_trailers_reads_what_is_written_now(device, monkeypatch):
    """It checks the whole body and looks at its beginning only."""
    with monkeypatch.context() as patch:
        patch.setattr(fmt.CHECKPOINT_TRAILER, "open", lambda *_: None)
        store = Store.open(device)
        assert store.recovery.from_checkpoint
        assert_all_there(store)


def test_damage_met_after_opening_a_store_without_trailers_is_damage_too(old_device):
    store = Store.open(old_device)
    flip(old_device, offset_of(store, 50) + 5, random.Random(1))
    assert_all_there(store)


# ---------------------------------------------------------------------------------- any life


class PutOffAgainstDict(StoreAgainstDict):
    """Any sequence of operations, crashes and reopens, with parts put off after each close."""


TestPutOffAgainstDict = PutOffAgainstDict.TestCase
TestPutOffAgainstDict.settings = settings(stateful_step_count=30, max_examples=30)


def test_mutated_images_give_typed_errors_and_never_wrong_bytes(device):
    rng = random.Random(test_fuzz.SEED)
    opened = 0
    for _ in range(60):
        pages = dict(device.pages)
        test_fuzz.mutate(pages, rng)
        try:
            store = Store.open(FaultyDevice(SIZE_BYTES, pages=pages))
        except StoreError:
            continue
        opened += 1
        for key, value in ITEMS[::20]:
            try:
                assert store.get(key) == value
            except StoreError:
                continue
    assert opened > 20
