"""`Store.scrub` and what it notices: damaged blocks that can be put again, bad segments."""

import random
import threading

import pytest

from blkdev import superblock
from blkdev.care import scrub as scrubbing
from blkdev.care.scrub import Pacer
from blkdev.errors import BlockDamaged, StoreClosed, StoreFull, StoreReadOnly
from blkdev.format import PAGE_SIZE_BYTES
from blkdev.store import Store
from tests.blkdev.damage import flip, past, spoil
from tests.blkdev.devices import (
    SIZE_BYTES,
    FaultyDevice,
    assert_holds,
    assert_sound,
    block,
    blocks,
    formatted,
    new_store,
    put,
)

RNG = random.Random(1)


def place_of(store: Store, key: bytes) -> int:
    """Device offset of a block's record."""
    found = store._reader.find(key)
    assert found is not None
    return store._volume.device_offset(found.location)


def rot(store: Store, device: FaultyDevice, key: bytes) -> None:
    """One wrong byte in the key's value."""
    flip(device, place_of(store, key) + 24 + len(key) + 7, RNG)


def unverified(device: FaultyDevice) -> Store:
    """As the repository opens it: values are for the caller to check."""
    return Store.open(device, verify_reads=False)


@pytest.fixture
def store_and_device():
    store, device = new_store()
    put(store, blocks(0, 300))
    store.set_name(b"name", b"value")
    store.journal(1).append(b"record")
    store.commit()
    return store, device


# ------------------------------------------------------------------------------- findings


def test_scrub_of_a_sound_store_reads_everything_and_finds_nothing(store_and_device):
    store, device = store_and_device
    seen: list[tuple[int, int]] = []
    report = store.scrub(progress=lambda done, total: seen.append((done, total)))
    assert (report.ok, report.finished, report.resumed) == (True, True, False)
    assert report.records == 302
    assert report.segments == len(store._catalog.segments)
    assert seen
    assert all(done <= total == store.stats().used_bytes for done, total in seen)
    assert superblock.load(device).scrubbed_ns > 0


def test_rotten_value_is_damaged_for_every_read_and_put_stores_it_anew(store_and_device):
    _, device = store_and_device
    store = unverified(device)
    key, value = block(17)
    offset = place_of(store, key)
    rot(store, device, key)
    assert store.get(key) != value, "nobody has noticed yet"
    (finding,) = store.scrub().findings
    assert (finding.key, finding.lost, finding.device_offset) == (key, "block", offset)
    for read in (store.get, store.has, lambda key: store.get_part(key, 0, 9), store.view(key)):
        with pytest.raises(BlockDamaged) as caught:
            read(key) if callable(read) else read.__enter__()
        assert (caught.value.key, caught.value.offset) == (key, offset)
    assert store.size_of(key) == len(value)
    assert store.put_many([(key, value)]) == 1
    assert store.put_many([(key, value)]) == 0
    store.commit()
    for opened in (store, Store.open(device)):
        assert opened.get(key) == value
        assert_holds(opened, blocks(0, 300))
        assert_sound(opened)


@pytest.mark.parametrize("cut", range(2))
def test_fresh_copy_and_the_death_of_the_damaged_one_survive_together(store_and_device, cut):
    """A power cut leaves the damaged record or the good one: never both, never none."""
    _, device = store_and_device
    store = unverified(device)
    key, value = block(17)
    rot(store, device, key)
    store.scrub()
    before = len(device.events)
    store.put_many([(key, value)])
    store.commit()
    writes = [event for event in device.events[before:] if event.kind == "write"]
    assert len(writes) == 1, "one group"
    pages = dict(device.pages)
    if cut:
        for page in range(len(writes[0].data) // PAGE_SIZE_BYTES):
            del pages[writes[0].offset // PAGE_SIZE_BYTES + page]
    again = Store.open(FaultyDevice(SIZE_BYTES, pages=pages))
    if cut:
        with pytest.raises(BlockDamaged):
            again.get(key)
    else:
        assert again.get(key) == value
    assert again.stats().keys == 300


def test_value_found_rotten_by_a_read_can_be_put_again(store_and_device):
    store, device = store_and_device
    key, value = block(33)
    rot(store, device, key)
    with pytest.raises(BlockDamaged):
        store.get(key)
    assert store.put_many([(key, value)]) == 1
    assert store.get(key) == value
    assert_sound(store)


def test_block_with_a_damaged_header_can_be_put_again(store_and_device):
    store, device = store_and_device
    key, value = block(33)
    flip(device, place_of(store, key) + 9, RNG)
    with pytest.raises(BlockDamaged):
        store.has(key)
    assert store.put_many([(key, value)]) == 1
    store.commit()
    for opened in (store, Store.open(device)):
        assert opened.get(key) == value
        assert sorted(opened.keys()) == sorted(key for key, _ in blocks(0, 300))


def test_unreadable_block_can_be_put_again_and_is_readable_again_when_the_device_is(
    store_and_device,
):
    store, device = store_and_device
    by_page: dict[int, list[bytes]] = {}
    for key, _ in blocks(0, 300):
        by_page.setdefault(place_of(store, key) // PAGE_SIZE_BYTES, []).append(key)
    page, (key, other, *_) = sorted(by_page.items())[3]
    device.bad = {page}
    for each in (key, other):
        with pytest.raises(BlockDamaged, match="bad sector"):
            store.get(each)
    values = dict(blocks(0, 300))
    assert store.put_many([(key, values[key])]) == 1
    assert store.get(key) == values[key]
    device.bad = set()
    assert store.get(other) == values[other]


def test_condemned_block_is_damaged_until_it_is_put_again(store_and_device):
    store, _ = store_and_device
    key, value = block(5)
    store.condemn(key)
    store.condemn(b"not there")
    with pytest.raises(BlockDamaged):
        store.get(key)
    store.condemn(key)
    assert store.put_many([(key, value)]) == 1
    assert store.get(key) == value
    assert_sound(store)


def test_damaged_block_can_be_deleted_and_is_forgotten(store_and_device):
    store, device = store_and_device
    key, value = block(5)
    rot(store, device, key)
    assert not store.scrub().ok
    assert store.delete_many([key]) == 1
    assert not store.has(key)
    assert store.put_many([(key, value)]) == 1
    assert store.get(key) == value
    assert_sound(store)


def test_location_of_a_damaged_record_is_good_again_when_its_segment_is_used_again():
    store, device = new_store()
    key, value = block(3, 9000)
    put(store, blocks(0, 20, 9000))
    store.commit()
    rot(store, device, key)
    assert store.scrub().findings[0].key == key
    assert store._catalog.damaged
    store.delete_many([key for key, _ in blocks(0, 20, 9000)])
    store.commit()
    for first in range(100, 700, 6):
        put(store, blocks(first, 6, 9000))
        store.delete_many([key for key, _ in blocks(first, 6, 9000)])
    assert not store._catalog.damaged
    assert store.put_many([(key, value)]) == 1
    assert store.get(key) == value


def test_put_of_a_damaged_block_on_a_full_store_is_full_or_good():
    store, device = new_store()
    held = {}
    for number in range(5000):
        key, value = block(number, 9000)
        try:
            store.put_many([(key, value)])
        except StoreFull:
            break
        held[key] = value
    store.commit()
    key = sorted(held)[3]
    rot(store, device, key)
    store.scrub()
    try:
        store.put_many([(key, held[key])])
    except StoreFull:
        with pytest.raises(BlockDamaged):
            store.get(key)
        others = sorted(held)[4:60]
        assert store.delete_many(others) == len(others)
        assert store.put_many([(key, held[key])]) == 1
    assert store.get(key) == held[key]


@pytest.mark.parametrize("seed", range(10))
def test_scrub_finds_what_check_finds(seed):
    """On a store at rest both name the same lost keys."""
    rng = random.Random(seed)
    made = past(seed)
    for page in rng.sample(made.used_pages(), 3):
        if rng.random() < 0.5:
            spoil(made.device, page, rng)
        else:
            flip(made.device, page * PAGE_SIZE_BYTES + rng.randrange(PAGE_SIZE_BYTES), rng)
    checked = {(f.lost, f.key) for f in made.store.check().lost}
    report = made.store.scrub()
    assert {(f.lost, f.key) for f in report.findings if f.lost} == checked
    for kind, key in checked:
        if kind == "block" and key:
            with pytest.raises(BlockDamaged):
                made.store.get(key)


def test_damaged_superblock_copy_is_written_again(store_and_device):
    store, device = store_and_device
    spoil(device, 1024, RNG)
    (finding,) = store.scrub().findings
    assert "superblock" in finding.what
    assert finding.device_offset == 4 << 20
    assert_sound(store)
    assert store.scrub().ok


# ---------------------------------------------------------------------------- bad segments


def test_bad_segment_is_listed_and_retired_once_it_is_empty(store_and_device):
    _, device = store_and_device
    store = unverified(device)
    found = store._reader.find(block(7)[0])
    assert found is not None
    slot = found.location >> 23 & 0xFFFFF
    device.bad = {place_of(store, block(7)[0]) // PAGE_SIZE_BYTES}
    report = store.scrub()
    assert any("cannot read" in finding.what for finding in report.findings)
    assert superblock.load(device).bad_count == 1
    assert store.stats().segments_retired == 0
    store = Store.open(device)
    assert store._catalog.bad_slots == {slot: False}
    assert slot in store._catalog.segments, "what can be read of it is still there"
    readable = [key for key, _ in blocks(0, 300) if key_is_readable(store, key)]
    assert len(readable) > 250
    store.delete_many(key for key, _ in blocks(0, 300))
    put(store, blocks(1000, 300))
    store.commit()
    store.repair()
    assert store._catalog.bad_slots == {slot: True}
    assert slot not in store._catalog.segments
    assert slot not in store._catalog.free
    assert_sound(store)
    assert_holds(Store.open(device), blocks(1000, 300))


def key_is_readable(store: Store, key: bytes) -> bool:
    try:
        return bool(store.get(key))
    except BlockDamaged:
        return False


# ------------------------------------------------------------------- online, paced, resumed


def test_readers_writers_and_compaction_go_on_during_a_scrub():
    store, device = new_store()
    put(store, blocks(0, 600))
    store.commit()
    rotten = block(450)[0]
    rot(store, device, rotten)
    failures: list[BaseException] = []
    number = 1000

    def work(_done: int, _total: int) -> None:
        """Between two reads of the scrub, in its own thread: no lock is held that stops this."""
        nonlocal number
        try:
            with store.view(block(500)[0]) as view:
                assert view == block(500)[1]
            put(store, blocks(number, 3))
            assert_holds(store, blocks(number, 3))
            store.delete_many([block(number % 400)[0]])
            store.commit()
            store.compact(1)
            number += 3
        except BaseException as error:
            failures.append(error)

    def elsewhere(done: int, total: int) -> None:
        other = threading.Thread(target=work, args=(done, total))
        other.start()
        other.join(60)
        assert not other.is_alive(), "somebody waits for the scrub"

    report = store.scrub(progress=elsewhere)
    assert not failures
    assert number > 1000
    assert report.finished
    assert [finding.key for finding in report.findings] == [rotten]
    assert_holds(store, blocks(1000, number - 1000))


def test_scrub_goes_on_where_it_was_ended_also_after_a_restart(store_and_device):
    store, device = store_and_device
    total = len(store._catalog.segments)
    first = stopped_after(store, 2)
    assert first == 2
    store.close()
    store = Store.open(device)
    report = store.scrub()
    assert (report.resumed, report.finished) == (True, True)
    assert report.segments <= total - first + 1
    again = store.scrub()
    assert (again.resumed, again.segments) == (False, len(store._catalog.segments))


def test_scrub_from_the_start_forgets_where_the_last_one_was(store_and_device):
    store, _ = store_and_device
    assert stopped_after(store, 2) == 2
    report = store.scrub(restart=True)
    assert (report.resumed, report.segments) == (False, len(store._catalog.segments))


def stopped_after(store: Store, segments: int) -> int:
    """End a scrub by an interrupt; how many segments it had done."""
    scrubber_segments = 0
    real = scrubbing.Scrubber._scrub

    def counted(self, segment) -> None:
        nonlocal scrubber_segments
        if scrubber_segments == segments:
            raise KeyboardInterrupt
        real(self, segment)
        scrubber_segments += 1

    scrubbing.Scrubber._scrub = counted
    try:
        with pytest.raises(KeyboardInterrupt):
            store.scrub()
    finally:
        scrubbing.Scrubber._scrub = real
    return scrubber_segments


def test_killed_scrub_loses_only_what_it_did_since_the_last_save(store_and_device, monkeypatch):
    store, device = store_and_device
    monkeypatch.setattr(scrubbing, "_SAVE_EVERY_S", 0.0)
    images = []
    real = scrubbing.Scrubber._scrub

    def copying(self, segment) -> None:
        images.append((segment.sequence, dict(device.pages)))
        real(self, segment)

    monkeypatch.setattr(scrubbing.Scrubber, "_scrub", copying)
    store.scrub()
    monkeypatch.setattr(scrubbing.Scrubber, "_scrub", real)
    for number, (_, pages) in enumerate(images[1:], 1):
        killed = FaultyDevice(SIZE_BYTES, pages=pages)
        report = Store.open(killed).scrub()
        assert report.resumed
        assert report.segments <= len(images) - number


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds


def test_pace_keeps_the_rate_and_looks_around_while_it_waits():
    clock, looks = Clock(), []
    pacer = Pacer(1000, clock, clock.wait)
    for _ in range(10):
        pacer.take(700, lambda: looks.append(clock.now_s))
    assert clock.now_s == pytest.approx(100 + 9 * 0.7)
    assert max(clock.waits) <= 0.5
    assert len(looks) == len(clock.waits) >= 18
    Pacer(None, clock, clock.wait).take(1 << 40, lambda: looks.append(0.0))
    assert clock.now_s == pytest.approx(100 + 9 * 0.7)


def test_time_that_was_idle_is_not_made_up_for():
    clock = Clock()
    pacer = Pacer(1000, clock, clock.wait)
    pacer.take(100, lambda: None)
    clock.now_s += 60
    for _ in range(3):
        pacer.take(1000, lambda: None)
    assert clock.now_s == pytest.approx(100 + 60 + 2)


def test_clock_that_goes_backwards_does_not_stop_the_pace():
    clock = Clock()
    pacer = Pacer(1000, clock, clock.wait)
    pacer.take(1000, lambda: None)
    clock.now_s -= 5
    pacer.take(1000, lambda: None)
    assert len(clock.waits) < 20


def test_scrub_of_a_store_that_is_closed_meanwhile_ends(store_and_device):
    store, device = store_and_device

    def close(_done: int, _total: int) -> None:
        store.close()

    with pytest.raises(StoreClosed):
        store.scrub(progress=close)
    with pytest.raises(StoreClosed):
        store.scrub()
    assert Store.open(device).check().ok


def test_scrub_of_a_read_only_or_latched_store_is_refused(store_and_device):
    store, device = store_and_device
    device.failing = {"sync"}
    store.put_many([block(999)])
    with pytest.raises(StoreReadOnly):
        store.commit()
    with pytest.raises(StoreReadOnly):
        store.scrub()
    with pytest.raises(StoreReadOnly):
        Store.open(device, read_only=True).scrub()


def test_store_formatted_before_scrubs_were_known_is_scrubbed():
    device = FaultyDevice(SIZE_BYTES, pages=formatted())
    block_then = superblock.load(device)
    assert (block_then.scrubbed_to, block_then.scrubbed_ns, block_then.bad_count) == (0, 0, 0)
    report = Store.open(device).scrub()
    assert (report.finished, report.segments) == (True, 0)
