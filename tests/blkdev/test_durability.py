"""Flushes are paid once and mean what they say; a device that fails is not trusted again."""

import threading
from collections.abc import Callable
from functools import partial

import pytest

from blkdev.device import RamDevice
from blkdev.errors import BlockDamaged, StoreReadOnly
from blkdev.format import FOOTER_MAGIC, PAGE_SIZE_BYTES, SEGMENT_FOOTER
from blkdev.store import Store
from tests.blkdev.devices import (
    SIZE_BYTES,
    SMALL_SEGMENT_BYTES,
    FaultyDevice,
    assert_holds,
    assert_sound,
    block,
    blocks,
    contents,
    copied,
    formatted,
    new_store,
    put,
)


def synced(device: RamDevice, before: dict[int, bytes]) -> RamDevice:
    """The device after a power cut that takes every write since the last sync."""
    pages = dict(before)
    events = device.events
    last = max((at for at, event in enumerate(events) if event.kind == "sync"), default=-1)
    image = RamDevice(device.size_bytes, pages=pages)
    for event in events[: last + 1]:
        if event.kind == "write":
            image.poke(event.offset, event.data)
    return image


# ------------------------------------------------------------------------------- flushes


@pytest.mark.parametrize("size_bytes", [1, 300, 4096, 32_000])
def test_single_durable_put_is_one_write_one_flush_and_no_read(size_bytes):
    store, device = new_store()
    put(store, [block(0)])
    store.commit()
    device.events.clear()
    reads = device.counts["read"]
    put(store, [block(1, size_bytes)])
    store.commit()
    assert [event.kind for event in device.events] == ["write", "sync"]
    assert device.counts["read"] == reads


def test_large_batch_is_committed_with_one_flush():
    store, device = new_store(segment_size_bytes=512 << 10)
    put(store, [block(9999)])
    store.commit()
    syncs = device.counts["sync"]
    put(store, blocks(0, 500))
    store.set_name(b"root", b"value")
    store.journal(1).append(b"record")
    store.delete_many([block(9999)[0]])
    store.commit()
    assert device.counts["sync"] == syncs + 1


def test_commit_of_nothing_does_no_io():
    store, device = new_store()
    put(store, [block(0)])
    store.commit()
    counts = dict(device.counts)
    store.commit()
    store.write_out()
    assert device.counts == counts


def test_bytes_written_are_the_payload_and_little_more():
    store, device = new_store(segment_size_bytes=512 << 10)
    put(store, [block(0)])
    store.commit()
    device.events.clear()
    put(store, blocks(1, 200))
    store.commit()
    written = sum(len(event.data) for event in device.events if event.kind == "write")
    assert written <= 200 * (300 + 64) + PAGE_SIZE_BYTES


def test_uncommitted_records_are_lost_whole_by_a_power_cut_and_committed_ones_kept():
    store, device = new_store()
    before = formatted()
    put(store, blocks(0, 20))
    store.commit()
    put(store, blocks(20, 20))
    store.write_out()
    recovered = Store.open(synced(device, before))
    assert contents(recovered) == dict(blocks(0, 20))
    assert contents(Store.open(copied(device))) == dict(blocks(0, 40))


@pytest.mark.parametrize("followed", [True, False], ids=["by another segment", "by nothing"])
def test_torn_seal_is_written_again_and_the_segment_can_be_compacted(followed):
    """The footer arrived, the beginning of its summary did not: nothing had been synced."""
    store, device = new_store()
    items = blocks(0, 300)
    put(store, items)
    store.write_out()
    end = store.geometry.segment_offset(0) + store.geometry.segment_size_bytes
    image = copied(device)
    page = image.pages[end // PAGE_SIZE_BYTES - 1]
    image.pages[end // PAGE_SIZE_BYTES - 1] = bytes(PAGE_SIZE_BYTES - 512) + page[-512:]
    if not followed:
        image.discard(end, 4 * SMALL_SEGMENT_BYTES)
    store = Store.open(image)
    assert_sound(store)
    kept = items[:50]
    assert_holds(store, kept)
    store.delete_many({key for key, _ in items} - {key for key, _ in kept})
    put(store, blocks(1000, 300))
    freed = store.compact()
    assert freed.segments_freed and not freed.damaged_segments
    assert_holds(store, kept)
    assert_sound(store)


def test_staged_records_survive_a_kill_only_after_write_out():
    store, device = new_store()
    put(store, blocks(0, 5))
    assert contents(Store.open(copied(device))) == {}
    store.write_out()
    assert contents(Store.open(copied(device))) == dict(blocks(0, 5))


class GatedDevice(FaultyDevice):
    """A sync waits for `gate`: what the slowest disk would do."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes, pages=formatted(size_bytes))
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def sync(self) -> None:
        self.entered.set()
        assert self.gate.wait(60)
        super().sync()


def in_threads(actions: list[Callable[[], object]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    return threads


def test_committers_that_meet_at_a_flush_share_the_next_one():
    device = GatedDevice(SIZE_BYTES)
    store = Store.open(device)
    put(store, [block(0)])
    store.commit()
    before = store.stats().sync_count
    device.gate.clear()
    device.entered.clear()
    put(store, [block(1)])
    threads = in_threads([store.commit])
    assert device.entered.wait(60)
    written = [threading.Event() for _ in range(8)]

    def put_and_commit(number: int) -> None:
        put(store, [block(10 + number)])
        store.write_out()
        written[number].set()
        store.commit()

    threads += in_threads([partial(put_and_commit, n) for n in range(8)])
    for event in written:
        assert event.wait(60)
    device.gate.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert store.stats().sync_count == before + 2
    recovered = Store.open(synced(device, formatted()))
    assert_holds(recovered, [block(0), block(1), *(block(10 + n) for n in range(8))])


def test_every_acknowledged_commit_of_many_threads_is_durable():
    store, device = new_store()
    acknowledged: list[tuple[int, int]] = []

    def work(thread: int) -> None:
        for number in range(25):
            put(store, [block(thread * 100 + number)])
            store.commit()
            syncs = sum(event.kind == "sync" for event in device.events)
            acknowledged.append((thread * 100 + number, syncs))

    for thread in in_threads([partial(work, n) for n in range(4)]):
        thread.join(60)
    assert len(acknowledged) == 100
    syncs_at = [at for at, event in enumerate(device.events) if event.kind == "sync"]
    events = device.events[:]
    for number, syncs in acknowledged[::9]:
        cut = RamDevice(SIZE_BYTES, pages=formatted())
        for event in events[: syncs_at[syncs - 1]]:
            if event.kind == "write":
                cut.poke(event.offset, event.data)
        assert Store.open(cut).get(block(number)[0]) == block(number)[1]


def test_reader_is_not_stopped_by_a_waiting_flush():
    device = GatedDevice(SIZE_BYTES)
    store = Store.open(device)
    put(store, [block(0)])
    device.gate.clear()
    device.entered.clear()
    threads = in_threads([store.commit])
    assert device.entered.wait(60)
    assert store.get(block(0)[0]) == block(0)[1]
    put(store, [block(1)])
    assert store.has(block(1)[0])
    device.gate.set()
    threads[0].join(60)
    assert not threads[0].is_alive()


# ----------------------------------------------------------------------------- torn seals


@pytest.mark.parametrize("newest", [True, False], ids=["newest segment", "older segment"])
def test_footer_whose_summary_was_torn_off_is_no_seal_and_costs_nothing(newest):
    """They lie in different sectors: a cut may keep the footer without the summary."""
    store, device = new_store()
    items = blocks(0, 300)
    put(store, items)
    store.commit()
    seals = [
        (event.offset, event.data)
        for event in device.events
        if event.kind == "write"
        and event.data[-SEGMENT_FOOTER.size_bytes :].startswith(FOOTER_MAGIC)
    ]
    offset, data = seals[0]
    assert len(data) > 512
    image = copied(device)
    image.poke(offset, bytes(len(data) - 512) + data[-512:])
    if newest:
        # The segment after it never came to the device.
        image.poke(offset + len(data), bytes(SMALL_SEGMENT_BYTES))
    recovered = Store.open(image)
    kept = [item for item in items if recovered.has(item[0])]
    assert len(kept) > 100 if newest else len(kept) == len(items)
    assert_holds(recovered, kept)
    assert recovered.recovery.damaged_slots == []
    assert_sound(recovered)
    recovered.delete_many(key for key, _ in kept[:-1])
    assert recovered.compact().damaged_segments == 0
    assert_sound(recovered)


# ------------------------------------------------------------------------ failing devices


def assert_latched(store: Store) -> None:
    assert store.stats().latched
    for write in (
        lambda: store.put_many([block(5000)]),
        lambda: store.set_name(b"n", b"v"),
        lambda: store.journal(1).append(b"r"),
        lambda: store.delete_many([block(0)[0]]),
        store.commit,
        store.write_out,
        store.compact,
        store.checkpoint,
    ):
        with pytest.raises(StoreReadOnly):
            write()


@pytest.mark.parametrize("kind", ["sync", "write"])
def test_failed_sync_or_write_latches_read_only_for_good_and_reads_go_on(kind):
    store, device = new_store()
    put(store, blocks(0, 10))
    store.commit()
    put(store, blocks(10, 10))
    device.failing = {kind}
    with pytest.raises(StoreReadOnly, match="failed on purpose"):
        store.commit()
    device.failing = set()
    assert_latched(store)
    assert_holds(store, blocks(0, 20))
    store.close()
    recovered = Store.open(copied(device))
    assert_holds(recovered, blocks(0, 10))
    assert_sound(recovered)


def test_failed_store_is_never_marked_clean():
    store, device = new_store()
    put(store, blocks(0, 10))
    store.commit()
    put(store, blocks(10, 10))
    device.failing = {"sync"}
    with pytest.raises(StoreReadOnly):
        store.commit()
    device.failing = set()
    writes = device.counts["write"]
    store.close()
    assert device.counts["write"] == writes


def test_sync_error_reaches_every_waiting_committer():
    device = GatedDevice(SIZE_BYTES)
    store = Store.open(device)
    errors: list[BaseException] = []
    device.gate.clear()
    device.failing = {"sync"}

    def work(number: int) -> None:
        try:
            put(store, [block(number)])
            store.commit()
        except StoreReadOnly as error:
            errors.append(error)

    device.entered.clear()
    put(store, [block(99)])
    threads = in_threads([lambda: work(0)])
    assert device.entered.wait(60)
    threads += in_threads([partial(work, n) for n in (1, 2, 3)])
    device.gate.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert len(errors) == 4
    assert store.stats().latched


def pages_of(device: RamDevice, value: bytes) -> set[int]:
    """Pages in which the value's bytes lie."""
    head = value[:32]
    found = {number for number, page in device.pages.items() if head in page}
    assert len(found) == 1
    return found


@pytest.mark.parametrize("read", ["get", "view"])
def test_unreadable_block_is_damaged_with_key_and_offset_and_others_stay(read):
    store, device = new_store()
    items = blocks(0, 10, 9000)
    put(store, items)
    store.commit()
    key, value = items[4]
    device.bad = {page + 1 for page in pages_of(device, value)}
    with pytest.raises(BlockDamaged, match="bad sector") as caught:
        if read == "get":
            store.get(key)
        else:
            store.view(key).__enter__()
    assert caught.value.key == key
    assert caught.value.offset // PAGE_SIZE_BYTES in {page - 1 for page in device.bad}
    readable = [item for item in items if item != items[4]]
    hit = [item for item in readable if not reads(store, item)]
    assert len(hit) <= 1, "one bad page holds the end of one block and the start of another"
    put(store, blocks(100, 1))
    store.commit()
    assert not store.stats().latched


def reads(store: Store, item: tuple[bytes, bytes]) -> bool:
    try:
        assert store.get(item[0]) == item[1]
    except BlockDamaged:
        return False
    return True


def test_wrong_byte_in_a_value_is_damaged_and_check_names_it():
    store, device = new_store()
    items = blocks(0, 10, 9000)
    put(store, items)
    store.commit()
    key, value = items[4]
    (page,) = pages_of(device, value)
    torn = bytearray(device.pages[page + 1])
    torn[100] ^= 1
    device.pages[page + 1] = bytes(torn)
    with pytest.raises(BlockDamaged, match="checksum") as caught:
        store.get(key)
    assert caught.value.key == key
    report = store.check()
    assert [(finding.key, finding.device_offset) for finding in report.findings] == [
        (key, caught.value.offset)
    ]
    assert_holds(store, [item for item in items if item[0] != key])


def test_damaged_name_and_journal_record_are_reported_not_returned():
    store, device = new_store()
    store.set_name(b"name", b"value-of-name" * 5)
    store.journal(1).append(b"journal-record" * 5)
    store.commit()
    for number, page in device.pages.items():
        changed = page.replace(b"value-of-name", b"Value-of-name", 1)
        device.pages[number] = changed.replace(b"journal-record", b"Journal-record", 1)
    with pytest.raises(BlockDamaged) as caught:
        store.name(b"name")
    assert caught.value.key == b"name"
    with pytest.raises(BlockDamaged):
        list(store.journal(1).replay())
