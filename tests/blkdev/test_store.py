"""What the store promises to its callers, on memory and on a file."""

import contextlib
import random
from pathlib import Path

import pytest

from blkdev.device import Device, RamDevice, open_device
from blkdev.devices.file import FileDevice
from blkdev.errors import (
    DeviceReadOnly,
    DeviceTooSmall,
    InvalidGeometry,
    KeyNotFound,
    KeyTooLarge,
    StoreClosed,
    StoreExists,
    StoreReadOnly,
    ValueTooLarge,
)
from blkdev.store import Store
from tests.blkdev.devices import (
    MIB,
    SIZE_BYTES,
    SMALL_SEGMENT_BYTES,
    FaultyDevice,
    assert_holds,
    assert_sound,
    block,
    blocks,
    contents,
    copied,
    entropy,
    formatted,
    new_store,
    put,
)


class Medium:
    """Somewhere a store can be closed and opened again."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self.path = path / "store"
        self.ram = RamDevice(SIZE_BYTES)

    def device(self, *, read_only: bool = False) -> Device:
        if self.kind == "ram":
            return self.ram
        create = None if read_only else SIZE_BYTES
        return FileDevice(self.path, read_only=read_only, create_size_bytes=create)

    def format(self, **options) -> None:
        device = self.device()
        with contextlib.closing(device):
            Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES, entropy=entropy, **options)

    def open(self, *, read_only: bool = False, **options) -> Store:
        return Store.open(self.device(read_only=read_only), read_only=read_only, **options)


@pytest.fixture(params=["ram", "file"])
def medium(request, tmp_path):
    made = Medium(request.param, tmp_path)
    made.format()
    return made


@pytest.fixture
def store(medium):
    with medium.open() as opened:
        yield opened


# ------------------------------------------------------------------------------- blocks


def test_put_is_visible_before_commit_by_every_kind_of_read(store):
    key, value = block(1, 5000)
    assert store.put_many([(key, value)]) == 1
    assert store.get(key) == value
    assert store.has(key)
    assert store.size_of(key) == 5000
    assert store.get_part(key, 4990, 100) == value[4990:]
    with store.view(key) as view:
        assert view == value
    assert store.stats().sync_count == 1, "reading needs no commit"


@pytest.mark.parametrize("size_bytes", [0, 1, 7, 8, 4095, 4096, 32767, 32768])
def test_value_of_any_size_survives_commit_and_reopen(medium, size_bytes):
    key, value = block(1, size_bytes)
    with medium.open() as store:
        put(store, [(key, value)])
        store.commit()
        assert store.get(key) == value
    with medium.open() as store:
        assert store.get(key) == value
        assert store.size_of(key) == size_bytes
        assert store.get_part(key, 0, size_bytes) == value
        with store.view(key) as view:
            assert view == value and view.readonly


def test_view_of_a_large_value_is_read_only_and_exact(tmp_path):
    device = FileDevice(tmp_path / "store", create_size_bytes=128 * MIB)
    Store.format(device, segment_size_bytes=8 * MIB)
    with Store.open(device) as store:
        items = [block(1, 4 * MIB), block(2, 3 * MIB + 1), block(3, 70_000)]
        put(store, items)
        store.commit()
        for key, value in items:
            with store.view(key) as view:
                assert view.readonly and view == value
                with pytest.raises(TypeError):
                    view[0] = 1


def test_missing_key_is_not_found_and_named(store):
    key, _ = block(1)
    for read in (store.get, store.size_of, lambda key: store.view(key).__enter__()):
        with pytest.raises(KeyNotFound) as caught:
            read(key)
        assert caught.value.key == key
        assert key.hex() in str(caught.value)
        assert isinstance(caught.value, KeyError)
    assert not store.has(key)
    assert store.delete_many([key]) == 0


def test_has_many_answers_in_the_order_asked(store):
    items = blocks(0, 4)
    put(store, items[::2])
    assert store.has_many(key for key, _ in items) == [True, False, True, False]


@pytest.mark.parametrize("container", [bytes, bytearray, memoryview])
def test_value_changed_after_put_is_stored_as_it_was(store, container):
    buffer = bytearray(b"before" * 20_000)[:30_000]
    before = bytes(buffer)
    value = container(buffer)
    store.put_many([(b"key", value)])
    buffer[:5] = b"after"
    if container is bytearray:
        value[:5] = b"after"
    store.commit()
    assert store.get(b"key") == before


def test_duplicate_put_writes_nothing(store):
    items = blocks(0, 5)
    assert store.put_many([*items, *items]) == 5
    store.commit()
    before = store.stats()
    assert store.put_many(items) == 0
    store.commit()
    assert store.stats() == before


def test_duplicate_put_with_another_value_keeps_the_first(store):
    store.put_many([(b"key", b"first")])
    assert store.put_many([(b"key", b"second")]) == 0
    assert store.get(b"key") == b"first"


def test_keys_of_equal_tails_are_told_apart(store):
    """The index hashes a key's end; the record's header decides."""
    items = [(b"%d" % number + b"tail-of-8", b"%d" % number) for number in range(100)]
    items += [(b"tail-of-8", b"short"), (b"l-of-8", b"shorter"), (b"8", b"shortest")]
    put(store, items)
    store.commit()
    assert_holds(store, items)


def test_deleted_key_is_gone_at_once_and_after_reopen(medium):
    items = blocks(0, 6)
    with medium.open() as store:
        put(store, items)
        store.commit()
        assert store.delete_many([key for key, _ in items[:3]]) == 3
        assert store.has_many(key for key, _ in items) == [False] * 3 + [True] * 3
        with pytest.raises(KeyNotFound):
            store.get(items[0][0])
    with medium.open() as store:
        assert set(store.keys()) == {key for key, _ in items[3:]}
        assert_sound(store)


def test_key_deleted_and_put_again_is_there_after_reopen(medium):
    with medium.open() as store:
        store.put_many([(b"key", b"old")])
        store.delete_many([b"key"])
        assert store.put_many([(b"key", b"new")]) == 1
    with medium.open() as store:
        assert store.get(b"key") == b"new"
        assert store.stats().keys == 1


def test_key_named_twice_in_one_delete_counts_once(store):
    put(store, [(b"key", b"value")])
    assert store.delete_many([b"key", b"key"]) == 1
    assert_sound(store)


@pytest.mark.parametrize("is_on_device", [False, True])
def test_delete_before_a_position_spares_what_was_put_later(store, is_on_device):
    early, late = blocks(0, 5), blocks(5, 5)
    put(store, early)
    position = store.position()
    put(store, late)
    if is_on_device:
        store.commit()
    keys = [key for key, _ in early + late]
    assert store.delete_many(keys, before=position) == 5
    assert set(store.keys()) == {key for key, _ in late}
    assert store.delete_many(keys, before=-1) == 0


def test_put_again_after_delete_has_a_later_position(store):
    put(store, [(b"key", b"old")])
    position = store.position()
    store.delete_many([b"key"])
    put(store, [(b"key", b"new")])
    assert store.delete_many([b"key"], before=position) == 0
    assert store.get(b"key") == b"new"


def test_delete_of_more_than_one_record_holds(medium):
    items = blocks(0, 2500, 10)
    with medium.open() as store:
        put(store, items)
        assert store.delete_many(key for key, _ in items[:2400]) == 2400
    with medium.open() as store:
        assert store.stats().keys == 100
        assert_holds(store, items[2400:])


def test_position_rises_with_everything_written_and_survives_reopen(medium):
    with medium.open() as store:
        assert store.position() == -1
        positions = [store.position()]
        for write in (
            lambda: store.put_many([(b"a", b"1")]),
            lambda: store.set_name(b"n", b"1"),
            lambda: store.journal(1).append(b"r"),
            lambda: store.delete_many([b"a"]),
        ):
            write()
            positions.append(store.position())
        assert positions == sorted(set(positions))
    with medium.open() as store:
        assert store.position() == positions[-1]


# -------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("key", [b"", b"k" * 65])
def test_key_outside_the_limits_is_refused_and_stores_nothing(store, key):
    with pytest.raises(KeyTooLarge):
        store.put_many([(key, b"value")])
    assert store.stats().keys == 0


@pytest.mark.parametrize("size_bytes", [1, 7, 8, 9, 63, 64])
def test_key_of_every_allowed_size_is_stored(store, size_bytes):
    key = b"\xff" * size_bytes
    put(store, [(key, b"value")])
    store.commit()
    assert store.get(key) == b"value"
    assert list(store.keys()) == [key]


def test_value_above_half_a_segment_is_refused_and_items_before_it_stay(store):
    largest = store.geometry.value_size_max_bytes
    assert largest == SMALL_SEGMENT_BYTES // 2
    with pytest.raises(ValueTooLarge, match=str(largest)):
        store.put_many([(b"a", bytes(largest)), (b"b", bytes(largest + 1)), (b"c", b"")])
    assert list(store.keys()) == [b"a"]
    assert store.get(b"a") == bytes(largest)


def test_value_above_4_mib_is_refused_whatever_the_segment():
    device = RamDevice(256 * MIB)
    Store.format(device, segment_size_bytes=16 * MIB)
    with Store.open(device) as store:
        assert store.put_many([(b"most", bytes(4 * MIB))]) == 1
        with pytest.raises(ValueTooLarge):
            store.put_many([(b"more", bytes(4 * MIB + 1))])
        with pytest.raises(ValueTooLarge):
            store.journal(0).append(bytes(4 * MIB + 1))


def test_names_outside_the_limits_are_refused_whole(store):
    for changes in ({b"": b"x"}, {b"n" * 1025: b"x"}, {b"ok": b"x", b"": None}):
        with pytest.raises(KeyTooLarge):
            store.set_names(changes)
    with pytest.raises(ValueTooLarge):
        store.set_name(b"n", bytes((64 << 10) + 1))
    with pytest.raises(ValueTooLarge, match="split"):
        store.set_names({b"%d" % number: bytes(5000) for number in range(10)})
    assert store.names() == []


def test_stream_number_outside_64_bits_is_refused(store):
    for number in (-1, 1 << 64):
        with pytest.raises(KeyTooLarge):
            store.journal(number)


# ------------------------------------------------------------------------ names, journals


def test_names_are_set_replaced_and_removed_together(medium):
    with medium.open() as store:
        store.set_names({b"root/a": b"1", b"root/b": b"2", b"pin/x": b""})
        store.set_names({b"root/a": b"3", b"root/b": None, b"absent": None})
        expected = [(b"pin/x", b""), (b"root/a", b"3")]
        assert store.names() == expected
        assert store.names(b"root/") == expected[1:]
        assert store.name(b"root/a") == b"3"
        assert store.name(b"root/b") is None
        assert store.stats().names == 2
    with medium.open() as store:
        assert store.names() == expected
        assert store.name(b"pin/x") == b""


def test_torn_group_of_names_takes_effect_as_a_whole_or_not_at_all():
    """The group is cut short page by page; nothing in between ever shows."""
    store, device = new_store()
    old = {b"%d" % number: b"old" * 600 for number in range(8)}
    new = dict.fromkeys(old, b"new" * 600)
    store.set_names(old)
    store.commit()
    before = dict(device.pages)
    store.set_names(new)
    store.write_out()
    changed = [page for page in device.pages if device.pages[page] != before.get(page)]
    assert len(changed) > 3
    seen = set()
    for lost in [*changed, None]:
        pages = {**device.pages}
        if lost is not None:
            pages[lost] = before.get(lost, bytes(4096))
        found = dict(Store.open(RamDevice(SIZE_BYTES, pages=pages)).names())
        assert found in (old, new)
        seen.add(found == new)
    assert seen == {False, True}


def test_removing_a_name_that_is_not_there_writes_nothing(store):
    before = store.stats()
    store.set_names({b"absent": None})
    store.commit()
    assert store.stats() == before


def test_journal_replays_in_order_and_streams_do_not_mix(medium):
    with medium.open() as store:
        first, second = store.journal(0), store.journal((1 << 64) - 1)
        expected = {0: [], 1: []}
        for number in range(20):
            which = number % 2
            record = b"%d" % number * number
            position = (first, second)[which].append(record)
            expected[which].append((position, record))
        assert list(first.replay()) == expected[0]
    with medium.open() as store:
        assert list(store.journal(0).replay()) == expected[0]
        assert list(store.journal((1 << 64) - 1).replay()) == expected[1]
        assert list(store.journal(5).replay()) == []


def test_trimmed_journal_keeps_later_records_after_reopen(medium):
    with medium.open() as store:
        journal = store.journal(3)
        positions = [journal.append(b"%d" % number) for number in range(10)]
        journal.trim(positions[6])
        assert [record for _, record in journal.replay()] == [b"7", b"8", b"9"]
        journal.trim(positions[2])
        assert store.stats().journal_records == 3
    with medium.open() as store:
        assert [record for _, record in store.journal(3).replay()] == [b"7", b"8", b"9"]
        later = store.journal(3).append(b"later")
        assert later > positions[-1]
        assert [record for _, record in store.journal(3).replay()][-1] == b"later"


def test_trim_beyond_the_end_spares_records_appended_later(store):
    journal = store.journal(1)
    journal.append(b"gone")
    journal.trim(1 << 40)
    journal.append(b"kept")
    assert [record for _, record in journal.replay()] == [b"kept"]


def test_journal_trimmed_during_replay_ends_early_without_error(store):
    journal = store.journal(1)
    last = [journal.append(b"%d" % number) for number in range(5)][-1]
    replay = journal.replay()
    assert next(replay)[1] == b"0"
    journal.trim(last)
    assert list(replay) == []


# ---------------------------------------------------------------------------- keys, stats


def test_keys_are_a_snapshot_while_others_write(store):
    old, new = blocks(0, 300), blocks(300, 300)
    put(store, old)
    listing = store.keys()
    seen = [next(listing)]
    deleted = {key for key, _ in old[100:120]} - set(seen)
    put(store, new)
    store.delete_many(deleted)
    store.commit()
    store.compact()
    seen += listing
    assert len(seen) == len(set(seen))
    assert {key for key, _ in old} - deleted <= set(seen) <= {key for key, _ in old}


def test_keys_moved_by_compaction_are_listed_once(store):
    items = blocks(0, 600, 400)
    put(store, items)
    store.commit()
    kept = items[::5]
    listing = store.keys()
    store.delete_many({key for key, _ in items} - {key for key, _ in kept})
    assert store.compact().segments_freed
    seen = list(listing)
    assert len(seen) == len(set(seen))
    assert {key for key, _ in kept} <= set(seen)


@pytest.mark.parametrize("seed", range(4))
def test_stats_after_a_random_history_equal_a_full_scan_and_a_recovery(seed):
    rng = random.Random(seed)
    store, device = new_store()
    for _ in range(300):
        choice = rng.randrange(12)
        if choice < 5:
            store.put_many(
                blocks(rng.randrange(400), rng.randrange(1, 9), rng.choice((0, 50, 3000, 9000)))
            )
        elif choice < 8:
            keys = list(store.keys())
            store.delete_many(rng.sample(keys, min(len(keys), rng.randrange(12))))
        elif choice == 8:
            names = [b"%d" % rng.randrange(9) for _ in range(3)]
            store.set_names({name: rng.choice((None, rng.randbytes(40))) for name in names})
        elif choice == 9:
            position = store.journal(rng.randrange(3)).append(rng.randbytes(rng.randrange(99)))
            if rng.random() < 0.3:
                store.journal(rng.randrange(3)).trim(position - rng.randrange(4))
        elif choice == 10:
            store.commit()
        else:
            rng.choice((store.checkpoint, store.compact, store.write_out))()
    assert_sound(store)
    recovered = Store.open(copied(device))
    assert_sound(recovered)
    for counted in ("keys", "names", "journal_records", "live_bytes", "position"):
        assert getattr(recovered.stats(), counted) == getattr(store.stats(), counted), counted
    assert contents(recovered) == contents(store)


def test_stats_of_an_empty_store_are_zero(store):
    stats = store.stats()
    assert (stats.keys, stats.names, stats.journal_records, stats.live_bytes) == (0, 0, 0, 0)
    assert stats.dead_bytes == 0
    assert stats.segments == stats.segments_free == 64
    assert not stats.read_only and not stats.latched


# ------------------------------------------------------------------- format, open, close


def test_format_refuses_a_store_unless_forced(medium):
    with medium.open() as store:
        put(store, [(b"key", b"value")])
    with pytest.raises(StoreExists):
        medium.format()
    with medium.open() as store:
        assert store.get(b"key") == b"value"
    medium.format(force=True)
    with medium.open() as store:
        assert store.stats().keys == 0
        assert_sound(store)


def test_forced_format_does_not_revive_records_of_the_store_before_it():
    store, device = new_store()
    put(store, blocks(0, 500))
    store.close()
    leftovers = dict(device.pages)
    other = RamDevice(SIZE_BYTES)
    Store.format(other, segment_size_bytes=SMALL_SEGMENT_BYTES)
    # A device whose discard does nothing keeps all old segments.
    mixed = RamDevice(SIZE_BYTES, pages={**leftovers, **other.pages})
    again = Store.open(mixed)
    assert list(again.keys()) == []
    put(again, blocks(0, 20))
    again.commit()
    assert_holds(Store.open(copied(mixed)), blocks(0, 20))


def test_label_is_kept_and_limited(medium):
    medium.format(force=True, label="älter")
    with medium.open() as store:
        assert store.label == "älter"
    with pytest.raises(KeyTooLarge):
        medium.format(force=True, label="ä" * 33)


@pytest.mark.parametrize("size_bytes", [0, 1, 4096, 32 << 10, (64 << 10) + 1, 96 << 10, 128 * MIB])
def test_segment_size_outside_the_format_is_refused(size_bytes):
    device = RamDevice(1 << 30)
    if size_bytes == 0:
        Store.format(device, segment_size_bytes=0)  # 0 asks for the default
        assert Store.open(device).geometry.segment_size_bytes == 16 * MIB
        return
    with pytest.raises(InvalidGeometry):
        Store.format(device, segment_size_bytes=size_bytes)
    assert not device.pages


@pytest.mark.parametrize("size_bytes", [0, 4096, 4 * MIB, 12 * MIB, 17 * MIB])
def test_device_below_the_least_size_is_refused_untouched(size_bytes):
    device = RamDevice(size_bytes, record=True)
    with pytest.raises(DeviceTooSmall):
        Store.format(device)
    assert not device.events


def test_read_only_store_reads_everything_and_writes_nothing(medium):
    key, value = block(1)
    with medium.open() as store:
        put(store, [(key, value)])
        store.set_name(b"name", b"value")
        store.journal(1).append(b"record")
    with medium.open(read_only=True) as store:
        assert store.get(key) == value
        assert store.names() == [(b"name", b"value")]
        assert [record for _, record in store.journal(1).replay()] == [b"record"]
        assert store.check().ok
        assert store.stats().read_only
        for write in writes(store):
            with pytest.raises(StoreReadOnly):
                write()


def test_read_only_open_after_a_crash_leaves_the_device_as_it_was():
    store, device = new_store()
    put(store, blocks(0, 400))
    store.commit()
    image = copied(device)
    before = dict(image.pages)
    reader = Store.open(image, read_only=True)
    assert_holds(reader, blocks(0, 400))
    reader.close()
    assert image.pages == before


def test_read_only_device_cannot_be_opened_for_writing_or_formatted():
    device = RamDevice(SIZE_BYTES, pages=formatted(), read_only=True)
    with pytest.raises(DeviceReadOnly):
        Store.open(device)
    with pytest.raises(DeviceReadOnly):
        Store.format(device, force=True)
    assert Store.open(device, read_only=True).stats().keys == 0


def writes(store: Store):
    return [
        lambda: store.put_many([(b"k", b"v")]),
        lambda: store.delete_many([b"k"]),
        lambda: store.set_name(b"n", b"v"),
        lambda: store.journal(1).append(b"r"),
        lambda: store.journal(1).trim(0),
        store.commit,
        store.write_out,
        store.compact,
        store.checkpoint,
    ]


def closed(medium: Medium) -> Store:
    store = medium.open()
    put(store, [(b"key", b"value")])
    store.set_name(b"name", b"value")
    store.close()
    store.close()
    return store


def test_closed_store_refuses_writes_and_names(medium):
    store = closed(medium)
    reads = [
        lambda: store.name(b"name"),
        lambda: store.names(),
        lambda: list(store.journal(1).replay()),
        lambda: list(store.keys()),
        lambda: store.check(),
    ]
    for operation in [*reads, *writes(store)]:
        with pytest.raises(StoreClosed):
            operation()


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.get(b"key"),
        lambda store: store.get_part(b"key", 0, 1),
        lambda store: store.has(b"key"),
        lambda store: store.has_many([b"key"]),
        lambda store: store.size_of(b"key"),
        lambda store: store.view(b"key").__enter__(),
    ],
    ids=["get", "get_part", "has", "has_many", "size_of", "view"],
)
def test_closed_store_refuses_reads(medium, read):
    store = closed(medium)
    with pytest.raises(StoreClosed):
        read(store)


def test_leaving_the_with_block_commits(medium):
    with medium.open() as store:
        put(store, [(b"key", b"value")])
    with medium.open() as store:
        assert store.get(b"key") == b"value"
        assert store.recovery.from_checkpoint
        assert not store.recovery.groups_replayed


def test_opened_by_path_a_file_is_a_store(tmp_path):
    path = tmp_path / "store"
    device = FileDevice(path, create_size_bytes=SIZE_BYTES)
    Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
    device.close()
    with Store.open(open_device(path)) as store:
        put(store, [block(1)])
    with Store.open(open_device(str(path), read_only=True), read_only=True) as store:
        assert_holds(store, [block(1)])


def test_file_with_few_small_windows_serves_views_everywhere(tmp_path):
    """As on a 32-bit board: maps come and go, views stay valid, crossings are read."""
    path = tmp_path / "store"
    device = FileDevice(path, create_size_bytes=SIZE_BYTES, windows=(2, 128 << 10))
    Store.format(device, segment_size_bytes=512 << 10)
    with Store.open(device) as store:
        items = blocks(0, 20, 100_000)
        put(store, items)
        store.commit()
        with store.view(items[0][0]) as first:
            for key, value in items:
                with store.view(key) as view:
                    assert view == value
            assert first == items[0][1]


def mapped_bytes(path) -> int:
    """What this process has in memory of maps of that file."""
    total, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            ours = line.endswith(str(path))
        elif ours and line.startswith("Rss:"):
            total += int(line.split()[1]) << 10
    return total


@pytest.mark.needs_helper
def test_maps_of_a_store_that_is_read_through_stay_small(tmp_path, monkeypatch):
    monkeypatch.setattr("blkdev.devices.file._MAPPED_MAX_BYTES", 1 << 19)
    path = tmp_path / "store"
    device = FileDevice(path, create_size_bytes=SIZE_BYTES)
    Store.format(device, segment_size_bytes=512 << 10)
    with Store.open(device) as store:
        items = blocks(0, 20, 100_000)
        put(store, items)
        store.commit()
        with store.view(items[0][0]) as first:
            for key, value in items:
                with store.view(key) as view:
                    assert view == value
            # The map that the first view is open on, and the present one.
            assert mapped_bytes(path) < 3 << 19
            assert first == items[0][1]
        del first, view
        assert 0 < mapped_bytes(path) < 1 << 20


def test_unverified_reads_are_left_to_the_caller():
    store, device = new_store()
    key, value = block(1)
    put(store, [(key, value)])
    store.close()
    for number, page in device.pages.items():
        if value[:50] in page:
            device.pages[number] = page.replace(value[:4], b"\0\0\0\0", 1)
    trusting = Store.open(copied(device), verify_reads=False)
    assert trusting.get(key) == b"\0\0\0\0" + value[4:]


def test_reads_need_no_device_on_a_miss():
    store, device = new_store()
    put(store, blocks(0, 200))
    store.commit()
    assert isinstance(device, FaultyDevice)
    before = device.counts["read"]
    assert not any(store.has_many(key for key, _ in blocks(1000, 500)))
    assert device.counts["read"] == before


def test_keys_come_in_the_order_of_the_device_over_all_segments():
    """Not in that of their fingerprints, which another salt makes another."""
    for _ in range(5):
        device = RamDevice(SIZE_BYTES)
        Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
        store = Store.open(device)
        items = blocks(0, 600, 500)
        put(store, items)
        store.commit()
        assert len(store._catalog.segments) > 3
        assert list(store.keys()) == [key for key, _ in items]
