"""`Store.repair`: keeps everything that verifies, says what is lost, leaves a sound store."""

import random

import pytest

from blkdev.care.repair import RepairReport
from blkdev.errors import BlockDamaged, KeyNotFound, NewerFormat, StoreFull, StoreReadOnly
from blkdev.format import PAGE_SIZE_BYTES
from blkdev.store import Store
from tests.blkdev.damage import STREAM, Past, flip, overlaps, past, reopened, spoil
from tests.blkdev.devices import (
    SIZE_BYTES,
    FaultyDevice,
    assert_sound,
    block,
    blocks,
    digest,
    new_store,
    put,
)
from tests.crash.enumeration import cuts

pytestmark = pytest.mark.slow

HOW = ("open", "closed", "killed")


def hit(places: dict[tuple[str, bytes], range], damage: list[range]) -> set[tuple[str, bytes]]:
    """What a damage can have cost: the records whose bytes it touched."""
    return {what for what, place in places.items() if any(overlaps(place, d) for d in damage)}


def assert_kept(
    store: Store, made: Past, may_be_lost: set[tuple[str, bytes]], *, forgetful: bool = False
) -> None:
    """Everything else is there, bit by bit, and nothing is there that was never put. `forgetful` is
    a store that knows only what its log says: what was deleted comes back with the tombstone lost.
    """
    for key, value in made.blocks.items():
        if store.has(key):
            assert store.get(key) == value
        else:
            assert ("block", key) in may_be_lost, key
    gone = set(made.deleted) if forgetful else set()
    assert set(store.keys()) <= {*made.blocks, block(999)[0]} | gone
    for key in gone:
        assert not store.has(key) or digest(store.get(key)) == key
    names = dict(store.names())
    for name, value in made.names.items():
        assert names.get(name) == value or ("name", name) in may_be_lost, name
    assert names.keys() <= made.names.keys() | ({b"name 6"} if forgetful else set())
    journal = [record for _, record in store.journal(STREAM).replay()]
    if forgetful:
        journal = [record for record in journal if record in made.journal]
    kept = [record for record in made.journal if record in journal]
    assert journal == kept, "in order, and nothing twice"
    assert all(("journal", record) in may_be_lost for record in made.journal if record not in kept)


def assert_repaired(report: RepairReport, store: Store) -> None:
    assert report.ok, report.left.findings
    assert_sound(store)
    assert store.repair().found.ok


@pytest.mark.parametrize("how", HOW)
def test_repair_of_a_sound_store_changes_nothing(how):
    made = reopened(past(1), how)
    made.device.events.clear()
    report = made.store.repair()
    assert report.ok
    assert report.found.ok
    assert (report.lost, report.segments_freed, report.records_kept) == ([], 0, 0)
    assert not [event for event in made.device.events if event.kind == "write"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("seed", range(12))
def test_one_wrong_byte_anywhere_costs_at_most_the_record_it_is_in(seed, how):
    rng = random.Random(f"{seed} {how}")
    for _ in range(6):
        made = past(seed)
        places = made.places()
        if how == "closed":
            made.store.close()
        page = rng.choice(made.used_pages())
        damage = flip(made.device, page * PAGE_SIZE_BYTES + rng.randrange(PAGE_SIZE_BYTES), rng)
        store = made.store if how == "open" else Store.open(made.device)
        report = store.repair()
        assert_kept(store, made, hit(places, [damage]), forgetful=how == "killed")
        assert_repaired(report, store)
        assert len(report.lost) <= 1


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("seed", range(8))
def test_pages_of_garbage_cost_at_most_the_records_they_are_in(seed, how):
    rng = random.Random(f"{seed} {how}")
    for count in (1, 2, 5):
        made = past(seed)
        places = made.places()
        if how == "closed":
            made.store.close()
        pages = made.used_pages()
        if how == "killed":
            # Two headers that name the same segment may not both go, nor the last group, whose
            # header says that those before it were durable.
            pages = [page for page in pages if page not in last_pages(made)][2:]
        damage = [spoil(made.device, page, rng) for page in rng.sample(pages, count)]
        store = made.store if how == "open" else Store.open(made.device)
        kinds = {"block", "name", "journal record"}
        before = {f.key for f in store.check().lost if f.lost in kinds}
        report = store.repair()
        assert_kept(store, made, hit(places, damage), forgetful=how == "killed")
        assert_repaired(report, store)
        assert {f.key for f in report.lost if f.key} == before - {b""}


def last_pages(made: Past) -> set[int]:
    active = made.store._log.active
    assert active is not None
    end = made.store._volume.geometry.segment_offset(active.slot) + active.end
    return {end // PAGE_SIZE_BYTES - 1}


# ------------------------------------------------------------------------------ what is lost


def place_of(store: Store, key: bytes) -> int:
    """Device offset of a block's record."""
    found = store._reader.find(key)
    assert found is not None
    return store._volume.device_offset(found.location)


def slot_of(store: Store, key: bytes) -> int:
    found = store._reader.find(key)
    assert found is not None
    return found.location >> 23 & 0xFFFFF


def test_lost_block_is_named_and_missing_and_can_be_put_again():
    store, device = new_store()
    put(store, blocks(0, 30))
    store.commit()
    key, value = block(11)
    offset = place_of(store, key)
    flip(device, offset + 24 + len(key) + 5, random.Random(1))
    (finding,) = store.check().findings
    assert (finding.key, finding.lost, finding.device_offset) == (key, "block", offset)
    report = store.repair()
    assert [(f.key, f.lost, f.device_offset) for f in report.lost] == [(key, "block", offset)]
    assert not store.has(key)
    with pytest.raises(KeyNotFound):
        store.get(key)
    assert store.put_many([(key, value)]) == 1
    assert store.get(key) == value
    assert_repaired(report, store)


def test_lost_name_is_reported_and_an_older_value_of_it_does_not_come_back():
    store, device = new_store()
    store.set_name(b"root/main", b"old value")
    store.set_name(b"root/other", b"kept")
    store.set_name(b"root/main", b"new value")
    store.commit()
    location = store._catalog.names[b"root/main"].location
    offset = store._volume.device_offset(location)
    flip(device, offset + 24 + len(b"root/main"), random.Random(1))
    (finding,) = store.check().lost
    assert (finding.key, finding.lost) == (b"root/main", "name")
    report = store.repair()
    assert [(f.key, f.lost) for f in report.lost] == [(b"root/main", "name")]
    assert_repaired(report, store)
    for opened in (store, Store.open(device)):
        assert opened.names() == [(b"root/other", b"kept")]
        assert_sound(opened)


def test_lost_journal_record_is_reported_by_stream_and_the_others_keep_their_positions():
    store, device = new_store()
    stream = store.journal(3)
    positions = [stream.append(b"record %d" % number) for number in range(5)]
    store.commit()
    location = store._catalog.streams[3].records[positions[2]]
    flip(device, store._volume.device_offset(location) + 24 + 8, random.Random(1))
    report = store.repair()
    (lost,) = report.lost
    assert (lost.key, lost.lost) == ((3).to_bytes(8, "little"), "journal record")
    assert_repaired(report, store)
    kept = [(positions[number], b"record %d" % number) for number in (0, 1, 3, 4)]
    for opened in (store, Store.open(device)):
        assert list(opened.journal(3).replay()) == kept


def test_what_was_deleted_stays_deleted_when_its_tombstones_rot():
    store, device = new_store()
    put(store, blocks(0, 40))
    store.commit()
    fill_segment(store)  # the tombstones shall lie in another one
    holder = store._log.active
    assert holder is not None
    begin = store._volume.geometry.segment_offset(holder.slot) + holder.end
    gone = [key for key, _ in blocks(0, 20)]
    store.delete_many(gone)
    store.set_name(b"name", b"value")
    store.set_name(b"name", None)
    store.journal(1).append(b"trimmed")
    store.journal(1).trim(store.position())
    store.commit()
    spoil(device, begin // PAGE_SIZE_BYTES, random.Random(1))
    report = store.repair()
    assert report.lost == []
    assert_repaired(report, store)
    for opened in (store, Store.open(device)):
        assert not any(opened.has_many(gone))
        assert opened.names() == []
        assert list(opened.journal(1).replay()) == []
        assert dict(blocks(20, 20)).keys() <= set(opened.keys())


# ------------------------------------------------------------------------- bad sectors


def fill_segment(store: Store) -> None:
    """Put until another segment is begun."""
    before, number = store._log.active, 5000
    while store._log.active is before:
        put(store, [block(number, 9000)])
        number += 1
    store.commit()


def with_bad_sector() -> tuple[Store, FaultyDevice, int]:
    """A store, its device, and the slot of the segment in which one page cannot be read."""
    store, device = new_store()
    put(store, blocks(0, 300))
    store.commit()
    key, _ = block(21)
    slot = slot_of(store, key)
    device.bad = {place_of(store, key) // PAGE_SIZE_BYTES}
    return store, device, slot


def segments_written(device: FaultyDevice, store: Store) -> set[int]:
    geometry = store._volume.geometry
    begins = {geometry.segment_offset(slot): slot for slot in range(geometry.segment_count)}
    size = geometry.segment_size_bytes
    offsets = [event.offset for event in device.events if event.kind == "write"]
    return {s for begin, s in begins.items() if any(begin <= at < begin + size for at in offsets)}


def test_segment_with_a_bad_sector_is_emptied_retired_and_never_written_again():
    store, device, slot = with_bad_sector()
    device.events.clear()
    report = store.repair()
    assert report.found.unreadable_slots == {slot}
    assert "the device cannot read it" in report.lost[0].what
    assert (report.segments_retired, report.segments_freed) == (1, 0)
    lost = {finding.key for finding in report.lost}
    assert lost <= {item[0] for item in blocks(0, 300)} | {b""}
    assert_repaired(report, store)
    kept = [item for item in blocks(0, 300) if store.has(item[0])]
    assert len(kept) == 300 - len(report.lost)
    assert len(report.lost) <= 14, "no more than what a page holds"
    # Used to the brim, closed and opened, killed and opened: that segment stays as it is.
    for opened in churned(store, device):
        assert all(opened.get(k) == v for k, v in kept)
        assert opened.stats().segments_retired == 1
        assert slot not in opened._catalog.free
        assert_sound(opened)
    assert slot not in segments_written(device, store)
    assert not store._catalog.segments.get(slot)


def churned(store: Store, device: FaultyDevice):
    """The store in several lives, each of which writes to every segment that is free."""
    for life in range(3):
        for number in range(1000 + 100 * life, 1000 + 100 * life + 70):
            key, value = block(number, 30_000)
            store.put_many([(key, value)])
            store.commit()
            store.delete_many([key])
        store.commit()
        store.compact()
        yield store
        if life == 0:
            store.close()
        store = Store.open(device)


def test_full_list_of_bad_segments_still_frees_what_it_cannot_list(monkeypatch):
    monkeypatch.setattr("blkdev.format.BAD_SLOTS_MAX", 0)
    store, _, slot = with_bad_sector()
    report = store.repair()
    assert (report.segments_retired, report.segments_freed) == (0, 1)
    assert slot not in store._catalog.free
    assert_repaired(report, store)


def test_older_program_refuses_a_store_with_a_retired_segment(monkeypatch):
    store, device, _ = with_bad_sector()
    Store.open(device, read_only=True)
    store.repair()
    store.close()
    monkeypatch.setattr("blkdev.format.FEATURES_INCOMPATIBLE", 0)
    with pytest.raises(NewerFormat, match="0x1"):
        Store.open(device, read_only=True)


# -------------------------------------------------------------------- room, views, rights


def test_repair_on_a_full_store_keeps_everything_else():
    store, device = new_store()
    held = fill(store)
    rng = random.Random(3)
    damaged = rng.sample(sorted(held), 5)
    damage = [flip(device, place_of(store, key) + 2000, rng) for key in damaged]
    assert len(damage) == 5
    report = store.repair()
    assert {finding.key for finding in report.lost} == set(damaged)
    assert_repaired(report, store)
    for opened in (store, Store.open(device)):
        for key, value in held.items():
            assert opened.has(key) is (key not in damaged)
            assert key in damaged or opened.get(key) == value


def fill(store: Store) -> dict[bytes, bytes]:
    held = {}
    for number in range(5000):
        key, value = block(number, 9000)
        try:
            store.put_many([(key, value)])
        except StoreFull:
            store.commit()
            return held
        held[key] = value
    raise AssertionError("the store never filled up")


def test_full_store_keeps_its_reserve_and_mends_bad_sectors_once_there_is_room():
    store, device = new_store()
    held = fill(store)
    slots = sorted(store._catalog.segments)[:6]
    begins = [store._volume.geometry.segment_offset(slot) for slot in slots]
    device.bad = {begin // PAGE_SIZE_BYTES + 3 for begin in begins}
    report = store.repair()
    assert not report.ok
    assert report.segments_retired == 0
    good = {key for key, value in held.items() if value_or_none(store, key) == value}
    assert len(held) - len(good) <= 2 * len(slots), "a sector costs what lies in it"
    told = [finding.key for finding in report.lost + report.left.lost]
    unnamed = {*held}.difference(good, told)
    assert len(unnamed) <= told.count(b""), "only what has no readable header has no key"
    dropped = sorted(good)[:100]
    assert store.delete_many(dropped) == len(dropped)
    store.compact()
    report = store.repair()
    assert report.segments_retired == len(slots)
    assert_repaired(report, store)
    assert all(store.get(key) == held[key] for key in good.difference(dropped))


def value_or_none(store: Store, key: bytes) -> bytes | None:
    try:
        return store.get(key)
    except (BlockDamaged, KeyNotFound):
        return None


def test_segment_under_an_open_view_is_mended_once_the_view_is_closed():
    store, device = new_store()
    put(store, blocks(0, 300))
    store.commit()
    damaged, viewed = block(5)[0], block(6)[0]
    flip(device, place_of(store, damaged) + 100, random.Random(1))
    with store.view(viewed) as view:
        report = store.repair()
        assert not report.ok
        assert {finding.key for finding in report.lost} == {damaged}
        assert bytes(view) == block(6)[1]
    assert store.repair().ok
    assert_sound(store)


def test_read_only_store_is_not_repaired():
    store, device = new_store()
    put(store, blocks(0, 30))
    store.close()
    reader = Store.open(device, read_only=True)
    with pytest.raises(StoreReadOnly):
        reader.repair()


def test_repair_of_a_device_that_fails_to_write_is_latched_and_loses_nothing():
    store, device = new_store()
    put(store, blocks(0, 30))
    store.commit()
    put(store, [block(99)])
    store.commit()
    flip(device, place_of(store, block(3)[0]) + 80, random.Random(1))
    device.failing = {"write"}
    with pytest.raises(StoreReadOnly):
        store.repair()
    device.failing = set()
    again = Store.open(device)
    assert_repaired(again.repair(), again)
    assert all(again.get(key) == value for key, value in blocks(0, 30) if key != block(3)[0])


def test_repair_reports_progress_and_ends_when_told_to():
    store, device = new_store(segment_size_bytes=512 << 10)
    put(store, blocks(0, 60, 30_000))
    store.commit()
    flip(device, place_of(store, block(3, 30_000)[0]) + 80, random.Random(1))
    seen: list[tuple[int, int]] = []
    assert store.repair(lambda done, total: seen.append((done, total))).ok
    assert seen
    assert all(done <= total for done, total in seen)

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.repair(stop)
    assert_sound(store)


# ------------------------------------------------------------------------------ power cuts


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flip", "garbage", "sector"])
@pytest.mark.parametrize("seed", range(3))
def test_power_cut_at_any_write_of_a_repair_loses_nothing_good(seed, kind):
    rng = random.Random(f"{seed} {kind}")
    made = past(seed, small=40)
    places = made.places()
    live = sorted(offset for place in places.values() for offset in place[40::2000])
    offsets = rng.sample([at for at in live if at // PAGE_SIZE_BYTES not in last_pages(made)], 2)
    pages = [offset // PAGE_SIZE_BYTES for offset in offsets]
    if kind == "sector":
        made.device.bad = set(pages)
    wrong = {
        "flip": lambda at: flip(made.device, at, rng),
        "garbage": lambda at: spoil(made.device, at // PAGE_SIZE_BYTES, rng),
        "sector": lambda at: range(at & -PAGE_SIZE_BYTES, (at & -PAGE_SIZE_BYTES) + 4096),
    }[kind]
    may_be_lost = hit(places, [wrong(offset) for offset in offsets])
    before, bad = dict(made.device.pages), made.device.bad
    made.device.events.clear()
    report = made.store.repair()
    assert_kept(made.store, made, may_be_lost)
    assert_repaired(report, made.store)
    events = list(made.device.events)
    images = 0
    for event_count in range(len(events) + 1):
        for image in cuts(before, events, event_count, rng, torn=1):
            device = FaultyDevice(SIZE_BYTES, pages=dict(image))
            device.bad = bad
            store = Store.open(device)
            store.repair()
            assert_kept(store, made, may_be_lost, forgetful=True)
            assert_repaired(store.repair(), store)
            images += 1
    assert images > 12


# -------------------------------------------------------------------------------- resizing


def test_retired_segment_stays_out_of_use_through_shrinking_and_growing():
    size, small = 2 * SIZE_BYTES, SIZE_BYTES + (4 << 20)
    store, device = new_store(size)
    put(store, blocks(0, 1500, 9000))
    store.commit()
    far, near = block(1400, 9000)[0], block(100, 9000)[0]
    slots = {slot_of(store, key) for key in (far, near)}
    device.bad = {place_of(store, key) // PAGE_SIZE_BYTES for key in (far, near)}
    assert store.repair().ok
    store.delete_many([key for key, _ in blocks(0, 1300, 9000)])
    store.commit()
    store.compact()
    assert store.resize(small).segments < max(slots)
    for opened in (store, Store.open(device)):
        assert opened.stats().segments_retired == 1
        assert_sound(opened)
    grown = Store.open(device)
    grown.resize(size)
    for opened in (grown, Store.open(device)):
        # The far one lies where it did, and has another number since the middle copy moved.
        geometry = opened.geometry
        begins = {geometry.segment_offset(slot) for slot in opened._catalog.bad_slots}
        bad = {page * PAGE_SIZE_BYTES for page in device.bad}
        assert {max(at for at in begins if at <= place) for place in bad} == begins
        assert all(place - geometry.segment_size_bytes < max(begins) for place in bad)
        assert opened.stats().segments_retired == 2
        assert_sound(opened)
        kept = [item for item in blocks(1300, 200, 9000) if opened.has(item[0])]
        assert len(kept) >= 198
        assert all(opened.get(key) == value for key, value in kept)
