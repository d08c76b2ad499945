"""Space that comes back: what is chosen, what it costs, what a device gets back, and when."""

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from blkdev import format as fmt
from blkdev.catalog import Segment
from blkdev.compaction import compact
from blkdev.compaction.compact import CompactReport
from blkdev.compaction.pace import Pace, is_worth_it
from blkdev.compaction.victims import by_benefit, utilisation
from blkdev.device import RamDevice, open_device
from blkdev.devices.file import FileDevice
from blkdev.errors import StoreFull, StoreReadOnly
from blkdev.log import COMPACTION, DATA, RELEASE, Log
from blkdev.stats import StoreStats
from blkdev.store import Store
from tests.blkdev import loops
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
    digest,
    entropy,
    new_store,
    put,
)
from tests.blkdev.test_space import SIZE_OF_BLOCK, fill

pytestmark = pytest.mark.slow

PAGE = fmt.PAGE_SIZE_BYTES


# --------------------------------------------------------------------------------- victims


def segments(*rows: tuple[int, int]) -> list[Segment]:
    """Sealed segments of 100 pages from (sequence, live pages)."""
    return [
        Segment(sequence, sequence, 101 * PAGE, live * PAGE, sealed=True) for sequence, live in rows
    ]


def chosen(*rows: tuple[int, int], newest: int = 100) -> list[int]:
    return [segment.sequence for segment in by_benefit(segments(*rows), newest)]


def test_of_two_equally_full_segments_the_older_goes_first():
    assert chosen((1, 50), (90, 50), (50, 50)) == [1, 50, 90]


def test_of_two_equally_old_segments_the_emptier_goes_first():
    """As good as equally old: a few segments apart of a thousand."""
    assert chosen((1, 60), (3, 20), (2, 40), (90, 130), newest=1000) == [3, 2, 1]


def test_an_old_segment_goes_before_a_young_one_that_is_somewhat_emptier():
    assert chosen((1, 60), (95, 40), (96, 100)) == [1, 95]


def test_no_segment_above_the_average_is_chosen_however_old_it_is():
    assert chosen((1, 99), (999_999, 50), newest=1_000_000) == [999_999]


def test_some_segment_is_chosen_when_all_are_equally_full():
    rows = [(number, 33) for number in range(1, 50)]
    assert chosen(*rows) == list(range(1, 50))
    assert by_benefit([], 1) == []
    assert utilisation(Segment(0, 0, PAGE)) == 0


# ------------------------------------------------------------------- write amplification


class Writer:
    """Keeps a store at a utilisation by deleting one value for each that it puts."""

    def __init__(self, store: Store, used: float, value_size_bytes: int, seed: int) -> None:
        self.store = store
        self.rng = random.Random(seed)
        self.size_bytes = value_size_bytes
        record = fmt.record_size(34, value_size_bytes)
        count = int(used * store.stats().capacity_bytes / record)
        self.keys = [self.key(number) for number in range(count)]
        self.number = count
        for key in self.keys:
            store.put_many([(key, self.value(key))])
        store.commit()

    @staticmethod
    def key(number: int) -> bytes:
        return digest(b"%d" % number)

    def value(self, key: bytes) -> bytes:
        return (key * (self.size_bytes // len(key) + 1))[: self.size_bytes]

    def place(self, hot: float) -> int:
        """Which value to replace: with `hot`, nine of ten times one of that share."""
        if self.rng.random() < 0.9:
            return self.rng.randrange(max(1, int(len(self.keys) * hot)))
        return self.rng.randrange(len(self.keys))

    def churn(self, count: int, hot: float = 1.0) -> int:
        """Replace values; the bytes of their records."""
        for _ in range(count):
            place = self.place(hot)
            self.store.delete_many([self.keys[place]])
            self.keys[place] = self.key(self.number)
            self.number += 1
            self.store.put_many([(self.keys[place], self.value(self.keys[place]))])
        self.store.commit()
        return count * fmt.record_size(34, self.size_bytes)

    def amplification(self, rounds: float, hot: float = 1.0) -> float:
        """Bytes written to the device for a byte of records, in the steady state."""
        count = int(rounds * len(self.keys))
        self.churn(count, hot)
        device = self.store.device
        assert isinstance(device, FaultyDevice)
        device.events.clear()
        put_bytes = self.churn(count, hot)
        assert contents(self.store).keys() == set(self.keys)
        return sum(len(event.data) for event in device.events if event.kind == "write") / put_bytes


@pytest.mark.slow
@pytest.mark.parametrize("used", [0.4, 0.6, 0.75, 0.85])
def test_write_amplification_stays_below_one_over_one_minus_utilisation(used):
    store, _ = new_store(56 * MIB, 512 << 10)
    writer = Writer(store, used, 4000, 1)
    measured = writer.amplification(1.5)
    print(f"utilisation {used}: {measured:.2f}, bound {1 / (1 - used):.2f}")
    assert 1 < measured <= 1.05 / (1 - used)
    assert_sound(store)


@pytest.mark.slow
def test_age_spares_writes_where_a_tenth_of_the_values_changes_all_the_time(monkeypatch):
    """Against emptying the emptiest, whatever its age."""
    store, _ = new_store(56 * MIB, 512 << 10)
    by_age = Writer(store, 0.75, 4000, 2).amplification(1.5, hot=0.1)
    monkeypatch.setattr(
        compact, "by_benefit", lambda found, _newest: sorted(found, key=lambda s: s.live_bytes)
    )
    store, _ = new_store(56 * MIB, 512 << 10)
    greedy = Writer(store, 0.75, 4000, 2).amplification(1.5, hot=0.1)
    print(f"cost and benefit {by_age:.2f}, emptiest first {greedy:.2f}")
    assert by_age < greedy


def test_compact_gives_back_nearly_every_dead_byte_while_others_write_and_read():
    store, _ = new_store(64 * MIB, 512 << 10)
    items = blocks(0, 6000, 5000)
    put(store, items)
    rng = random.Random(3)
    kept = dict(rng.sample(items, 2000))
    store.delete_many(key for key, _ in items if key not in kept)
    store.commit()
    before = store.stats()
    added: list[tuple[bytes, bytes]] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set() and len(added) < 500:
            item = block(100_000 + len(added), 1000)
            put(store, [item])
            added.append(item)
            assert store.get(items[0][0] if items[0][0] in kept else item[0])

    thread = threading.Thread(target=write)
    thread.start()
    report = store.compact()
    stop.set()
    thread.join()
    after = store.stats()
    assert before.dead_bytes > 15 * MIB
    assert after.dead_bytes <= 0.05 * before.dead_bytes
    assert report.reclaimed_bytes >= 0.95 * before.dead_bytes - 1 * MIB
    assert contents(store) == kept | dict(added)
    assert_sound(store)


def test_a_log_whose_beginning_was_freed_is_found_by_the_durable_mark_of_its_free_slots():
    """No header of the log was written since the commit, and there is no checkpoint: without the
    mark the log seems to begin with a hole, and all of it would be dropped."""
    store, device = new_store()
    items = blocks(0, 300, SIZE_OF_BLOCK)
    put(store, items)
    store.delete_many(key for key, _ in items[:100])
    store._compactor.free_some(CompactReport(), limit_bytes=1)
    assert min(store._catalog.by_sequence) > 0, "the first segment of the log is gone"
    killed = Store.open(copied(device))
    assert contents(killed) == dict(items[100:])
    assert_sound(killed)


def test_writers_wait_for_a_few_records_at_a_time_while_a_segment_is_emptied(monkeypatch):
    """Counted: between two rounds the lock is free, so nobody waits for a whole segment."""
    store, _ = new_store(64 * MIB, 512 << 10)
    items = blocks(0, 2000, 5000)
    put(store, items)
    store.delete_many(key for key, _ in items[::2])
    held_bytes: list[int] = []
    append = Log.append

    def counted(log: Log, drafts, right: int) -> int:
        if right == COMPACTION:
            held_bytes.append(sum(len(draft.value) for draft in drafts))
        return append(log, drafts, right)

    monkeypatch.setattr(Log, "append", counted)
    free_between = []
    copy = compact.Compactor.copy

    def probed(self, *arguments) -> int:
        def take() -> None:
            free_between.append(store._log.write_lock.acquire(timeout=20))
            store._log.write_lock.release()

        if len(free_between) < 20:
            thread = threading.Thread(target=take)
            thread.start()
            thread.join()
        return copy(self, *arguments)

    monkeypatch.setattr(compact.Compactor, "copy", probed)
    assert store.compact().segments_freed
    few = range(2 * 5000, 5 * 5000)
    assert len(held_bytes) > 200
    assert max(held_bytes) in few
    assert free_between == [True] * 20


# ------------------------------------------------------------------------- in the background


def dead_store() -> tuple[Store, FaultyDevice, dict[bytes, bytes]]:
    """Half of it dead, in every segment."""
    store, device = new_store()
    items = blocks(0, 900, SIZE_OF_BLOCK)
    put(store, items)
    store.delete_many(key for key, _ in items[::2])
    store.commit()
    return store, device, dict(items[1::2])


def test_background_step_copies_no_more_than_its_budget_and_a_segment():
    store, _, kept = dead_store()
    steps = 0
    while True:
        report = store.compact(10_000, background=True)
        if not report.copied_bytes and not report.segments_freed:
            break
        assert report.copied_bytes <= 10_000 + (64 << 10)
        steps += 1
    assert steps > 10
    assert contents(store) == kept
    assert_sound(store)


def test_background_frees_segments_only_when_they_are_worth_a_checkpoint(monkeypatch):
    store, device, kept = dead_store()
    checkpoints = 0
    write = store._checkpointer.write

    def counted() -> bool:
        nonlocal checkpoints
        checkpoints += 1
        return write()

    monkeypatch.setattr(store._checkpointer, "write", counted)
    freed = store.stats().segments_free
    while store.compact(1, background=True).copied_bytes:
        assert_sound(store)
        assert contents(Store.open(copied(device))) == kept
    freed = store.stats().segments_free - freed
    assert freed > 10
    assert 1 < checkpoints <= freed / 2
    assert store.stats().index_bytes * 8 > 3 * (64 << 10), "several segments pay for one"


def test_what_waits_to_be_freed_survives_power_cuts_deletes_and_a_close():
    store, device, kept = dead_store()
    for _ in range(3):
        assert store.compact(1, background=True).copied_bytes
    gone = random.Random(5).sample(sorted(kept), 200)
    store.delete_many(gone)
    store.commit()
    for key in gone:
        del kept[key]
    assert contents(Store.open(copied(device))) == kept
    assert store.checkpoint()
    killed = Store.open(copied(device))
    assert killed.recovery.from_checkpoint
    killed.compact()
    assert contents(killed) == kept
    assert_sound(killed)
    store.close()
    closed = Store.open(device)
    assert closed.compact().segments_freed > 3
    assert contents(closed) == kept
    assert_sound(closed)


def test_who_needs_room_gets_what_waits_to_be_freed():
    store, _, kept = dead_store()
    while store.compact(1, background=True).copied_bytes and not store._compactor._emptied:
        pass
    assert store._compactor._emptied
    count = fill(store, 10_000) - 10_000
    assert count > 450
    assert not store._compactor._emptied
    assert_holds(store, list(kept.items()))
    assert_sound(store)


def test_background_does_nothing_while_other_upkeep_runs():
    store, _, _ = dead_store()
    with store._maintenance_lock:
        assert store.compact(10_000, background=True) == CompactReport()
    assert store.compact(10_000, background=True).copied_bytes


def quiet(**changes: int | bool) -> StoreStats:
    """1 GiB, half full, nothing dead."""
    store, _ = new_store()
    base = replace(
        store.stats(), live_bytes=512 * MIB, free_bytes=512 * MIB, capacity_bytes=1024 * MIB
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # fields of its own


@pytest.mark.parametrize(
    ("worth", "changes"),
    [
        (False, {}),
        (False, {"dead_bytes": 100 * MIB}),
        (True, {"dead_bytes": 180 * MIB}),
        (False, {"dead_bytes": 180 * MIB, "latched": True}),
        (False, {"dead_bytes": 180 * MIB, "read_only": True}),
        (True, {"dead_bytes": 100 * MIB, "free_bytes": 100 * MIB}),
        (False, {"dead_bytes": 10 * MIB, "free_bytes": 100 * MIB}),
        (False, {"dead_bytes": 100 << 10, "live_bytes": 0, "free_bytes": 0}),
    ],
)
def test_compacting_is_worth_it_when_much_is_dead_or_room_is_scarce(worth, changes):
    assert is_worth_it(quiet(**changes)) is worth


def test_pace_never_exceeds_its_rate_and_saves_up_no_burst():
    stats, pace = quiet(dead_bytes=400 * MIB), Pace(1000)
    assert pace.budget(10.0, stats) == 0
    assert pace.budget(10.5, stats) == 500
    pace.spend(CompactReport(copied_bytes=2500))
    assert pace.budget(12.0, stats) == 0, "overdrawn by 500"
    assert pace.budget(13.0, stats) == 500
    assert pace.budget(5000.0, stats) == 1000
    pace.spend(CompactReport(copied_bytes=1000))
    total = 0
    for tick in range(1, 200):
        budget = pace.budget(5000.0 + tick / 2, stats)
        if budget:
            pace.spend(CompactReport(copied_bytes=budget + 300))
            total += budget + 300
    assert 0.9 * 99_500 < total <= 1.1 * 99_500


def test_pace_rests_after_a_step_that_found_nothing():
    stats, pace = quiet(dead_bytes=400 * MIB), Pace(1000)
    pace.budget(0.0, stats)
    assert pace.budget(1.0, stats)
    pace.spend(CompactReport())
    assert not pace.budget(30.0, stats)
    assert pace.budget(62.0, stats)


def test_pace_of_zero_never_compacts():
    pace = Pace(0)
    stats = quiet(dead_bytes=400 * MIB)
    assert [pace.budget(float(second), stats) for second in range(1000)] == [0] * 1000


# -------------------------------------------------------------------------------- discards


def freed_slots(device: RamDevice, store: Store) -> list[tuple[int, int]]:
    """(slot, offset in the slot) of each discard."""
    size = store.geometry.segment_size_bytes
    places = {store.geometry.segment_offset(slot): slot for slot in range(store.stats().segments)}
    found = []
    for event in device.events:
        if event.kind == "discard":
            start = max(place for place in places if place <= event.offset)
            assert int.from_bytes(event.data, "little") + event.offset - start == size - PAGE
            found.append((places[start], event.offset - start))
    return found


def test_freed_segments_are_discarded_but_for_the_pages_that_say_they_are_free():
    store, device = new_store()
    items = blocks(0, 500, SIZE_OF_BLOCK)
    put(store, items)
    store.commit()
    device.events.clear()
    store.delete_many(key for key, _ in items)
    report = store.compact()
    discarded = freed_slots(device, store)
    assert len(discarded) >= report.segments_freed > 10
    assert {offset for _, offset in discarded} == {2 * PAGE}
    assert store.stats().discarded_bytes == len(discarded) * ((64 << 10) - 3 * PAGE)


def test_a_segment_is_discarded_after_its_free_mark_is_durable_and_before_it_is_used_again():
    store, device = new_store()
    items = blocks(0, 2000, SIZE_OF_BLOCK)
    for first in range(0, 2000, 100):
        put(store, items[first : first + 100])
        store.delete_many(key for key, _ in items[first : first + 100])
        store.compact()
    size = store.geometry.segment_size_bytes
    begins = {store.geometry.segment_offset(slot) for slot in range(store.stats().segments)}
    discards = 0
    for number, event in enumerate(device.events):
        if event.kind != "discard":
            continue
        start = max(begin for begin in begins if begin <= event.offset)
        before = [
            (at, earlier)
            for at, earlier in enumerate(device.events[:number])
            if earlier.kind == "write" and start <= earlier.offset < start + size
        ]
        last_at = before[-1][0]
        assert any(between.kind == "sync" for between in device.events[last_at:number])
        header = next(earlier for _, earlier in reversed(before) if earlier.offset == start)
        kind = fmt.SEGMENT_HEADER.open(header.data, 0, fmt.store_seed(store.uuid)).kind
        assert kind == fmt.SEGMENT_FREE
        discards += 1
    assert discards > 20


def test_nothing_that_a_view_shows_is_discarded():
    store, device = new_store()
    items = blocks(0, 200, SIZE_OF_BLOCK)
    put(store, items)
    store.commit()
    with store.view(items[0][0]) as view:
        pinned = store._catalog.index.pin_count
        slot = next(slot for slot in range(store.geometry.segment_count) if pinned(slot))
        store.delete_many(key for key, _ in items)
        store.compact()
        assert view == items[0][1]
        assert slot not in dict(freed_slots(device, store))


def test_a_sparse_file_shrinks_on_disk_when_its_segments_are_freed(tmp_path):
    path = tmp_path / "store"
    device = FileDevice(path, create_size_bytes=64 * MIB)
    Store.format(device, segment_size_bytes=1 * MIB)
    with Store.open(device) as store:
        items = blocks(0, 400, 100_000)
        put(store, items)
        store.commit()
        full = path.stat().st_blocks * 512
        store.delete_many(key for key, _ in items[40:])
        store.compact()
        device.sync()
        left = path.stat().st_blocks * 512
        assert full > 38 * MIB
        assert left < 12 * MIB
        assert path.stat().st_size == 64 * MIB
        assert contents(store) == dict(items[:40])
        again = blocks(1000, 300, 100_000)
        put(store, again)
        assert contents(store) == dict(items[:40] + again)
        assert_sound(store)


class Unwilling(FaultyDevice):
    """Does with a discard what real devices do: nothing, or half."""

    def discard(self, offset: int, length: int) -> None:
        if offset // MIB % 2:
            super().discard(offset, length // 2 & -PAGE)


def test_devices_that_ignore_or_halve_discards_make_no_difference():
    _, formatted = new_store()
    device = Unwilling(SIZE_BYTES, pages=formatted.pages)
    store = Store.open(device)
    kept: dict[bytes, bytes] = {}
    for number in range(30):
        items = blocks(number * 100, 100, SIZE_OF_BLOCK)
        put(store, items)
        kept |= dict(items[::20])
        store.delete_many(key for key, _ in items if key not in kept)
        store.compact()
    store.commit()
    for opened in (store, Store.open(copied(device))):
        assert contents(opened) == kept
        assert_sound(opened)


@pytest.mark.needs_root
def test_freed_segments_of_a_real_device_are_trimmed_and_not_written(tmp_path):
    """A hole in a device would be written zeros, or refused by one that cannot promise them."""
    with loops.attached(tmp_path / "disk", SIZE_BYTES) as name:
        with contextlib.closing(open_device(name)) as device:
            Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
        with Store.open(open_device(name)) as store:
            items = blocks(0, 500, SIZE_OF_BLOCK)
            put(store, items)
            store.delete_many(key for key, _ in items[20:])
            store.commit()
            before, known = done_by(name), store.stats()
            store.compact()
            now, spent = done_by(name), store.stats()
        discarded = spent.discarded_bytes - known.discarded_bytes
        assert discarded > MIB
        assert now.discarded_bytes - before.discarded_bytes == discarded
        written = spent.written_bytes - known.written_bytes
        assert 0 < now.written_bytes - before.written_bytes < written + MIB < discarded


class Done(NamedTuple):
    written_bytes: int
    discarded_bytes: int


def done_by(device: str) -> Done:
    """What the kernel has counted of a device (Documentation/block/stat.rst)."""
    words = Path(f"/sys/block/{Path(device).name}/stat").read_text().split()
    return Done(int(words[6]) * 512, int(words[13]) * 512)


# ---------------------------------------------------------------------- to the last byte


def full_to_the_last_byte() -> tuple[Store, FaultyDevice, dict[bytes, bytes]]:
    """No value of any size fits any more."""
    store, device = new_store()
    kept: dict[bytes, bytes] = {}
    for size in (20_000, 3000, 300, 1):
        first = len(kept) + 10**6 * size
        count = fill(store, first, size) - first
        kept |= dict(blocks(first, count, size))
    with pytest.raises(StoreFull):
        store.put_many([(b"one more", b"")])
    store.commit()
    return store, device, kept


@pytest.fixture
def brim() -> Iterator[tuple[Store, FaultyDevice, dict[bytes, bytes]]]:
    store, device, kept = full_to_the_last_byte()
    yield store, device, kept
    assert contents(store) == kept
    assert_sound(store)
    store.commit()
    again = Store.open(copied(device))
    assert contents(again) == kept
    assert_sound(again)


def test_a_full_store_takes_deletes_one_by_one_until_it_is_empty(brim):
    store, _, kept = brim
    for key in sorted(kept):
        assert store.delete_many([key]) == 1
        del kept[key]
    store.compact()
    assert store.stats().live_bytes < 64 << 10
    assert fill(store, 77_000) - 77_000 > 900
    store.delete_many(list(store.keys()))


def test_a_full_store_takes_names_and_their_removal_without_end(brim):
    store, _, _ = brim
    for number in range(3000):
        store.set_names({b"a": b"%d" % number * 50, b"b %d" % (number % 3): b"x", b"c": None})
    assert store.name(b"a") == b"2999" * 50
    for name, _ in store.names():
        store.set_name(name, None)


def test_a_full_store_takes_trims_and_refuses_journal_records(brim):
    store, _, _ = brim
    stream = store.journal(1)
    positions = []
    with pytest.raises(StoreFull):
        while True:
            positions.append(stream.append(b"r" * 1000))
    for position in positions:
        stream.trim(position)
    stream.trim(store.position())
    assert list(stream.replay()) == []


def test_a_full_store_compacts_checkpoints_and_closes(brim):
    store, device, kept = brim
    assert store.compact().segments_freed == 0
    assert not store.checkpoint()
    closing = copied(device)
    with Store.open(closing):
        pass
    assert contents(Store.open(closing)) == kept


def test_a_full_store_that_is_opened_again_and_again_stays_as_full_as_it_was(brim):
    _, device, kept = brim
    image = copied(device)
    for _ in range(5):
        with Store.open(image) as store:
            assert store.has_many(kept) == [True] * len(kept)
            with contextlib.suppress(StoreFull):
                store.put_many([(b"one more", bytes(4000))])
            store.delete_many([b"one more"])
    assert contents(Store.open(image)) == kept


def test_a_full_store_grows_and_does_not_shrink(brim):
    store, device, kept = brim
    assert store.resize(28 * MIB).segments > 64
    added = blocks(5, 50, SIZE_OF_BLOCK)
    put(store, added)
    kept |= dict(added)
    store.delete_many(key for key, _ in added)
    for key, _ in added:
        del kept[key]
    assert device.size_bytes == 28 * MIB


@pytest.mark.parametrize("right", [DATA, RELEASE, COMPACTION])
def test_each_right_leaves_the_segments_of_the_rights_above_it(right):
    store, _ = new_store()
    number = 0
    with pytest.raises(StoreFull):
        while True:
            key, value = block(number, 10_000)
            draft = compact.Draft(fmt.KIND_BLOCK, key, value, 0, number + 1)
            store._log.append((draft,), right)
            number += 1
    assert store.stats().segments_free == right


class Crammed(FaultyDevice):
    """A sparse file on a full file system: says ENOSPC at one write or sync."""

    def _count(self, kind: str) -> None:
        self.counts[kind] += 1
        if self.counts["write"] + self.counts["sync"] == self.fail_at and kind != "read":
            raise OSError(28, "No space left on device")


GONE = block(1, SIZE_OF_BLOCK)[0]
OPERATIONS: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put_many(blocks(5000, 60, SIZE_OF_BLOCK)),
    "delete": lambda store: store.delete_many([GONE]),
    "names": lambda store: store.set_name(b"n", b"v"),
    "journal": lambda store: store.journal(1).append(b"x" * 30_000),
    "checkpoint": lambda store: store.checkpoint(),
    "compact": lambda store: store.compact(100_000),
    "grow": lambda store: store.resize(24 * MIB),
    "shrink": lambda store: store.resize(SIZE_BYTES),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_device_without_room_of_its_own_damages_nothing_wherever_it_says_so(operation):
    base, device = new_store(22 * MIB)
    items = blocks(0, 900, SIZE_OF_BLOCK)
    put(base, items)
    base.delete_many(key for key, _ in items[::3])
    base.commit()
    kept = {key: value for number, (key, value) in enumerate(items) if number % 3}
    failed = 0
    for number in range(1, 60):
        crammed = Crammed(22 * MIB, pages=dict(device.pages))
        store = Store.open(crammed)
        crammed.fail_at = crammed.counts["write"] + crammed.counts["sync"] + number
        try:
            OPERATIONS[operation](store)
            store.commit()
        except StoreReadOnly:
            assert store.stats().latched
            failed += 1
        if crammed.counts["write"] + crammed.counts["sync"] < crammed.fail_at:
            break
        crammed.fail_at = -1
        again = Store.open(copied(crammed))
        assert_sound(again)
        for found in (contents(store), contents(again)):
            for key in {GONE} - found.keys() if operation == "delete" else ():
                found[key] = kept[key]
            assert kept.items() <= found.items()
    assert failed >= 2


def compacted_syncs(*, with_checkpoint: bool) -> tuple[int, Store, RamDevice]:
    """How often a compaction syncs that frees segments, and what it leaves."""
    device = RamDevice(SIZE_BYTES, record=True)
    Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES, entropy=entropy)
    store = Store.open(device)
    items = [block(number, 3000) for number in range(100)]
    put(store, items)
    store.commit()
    if with_checkpoint:
        assert store.checkpoint()
    store.delete_many(key for key, _ in items[:80])
    store.commit()
    device.events.clear()
    assert store.compact().segments_freed > 1
    return sum(event.kind == "sync" for event in device.events), store, device


def test_old_checkpoint_is_freed_with_the_segments_for_no_sync_but_those_of_the_superblock():
    without, *_ = compacted_syncs(with_checkpoint=False)
    syncs, store, device = compacted_syncs(with_checkpoint=True)
    assert syncs == without + 2
    assert_sound(store)
    used = {*store._catalog.segments, *store._catalog.free, *store._checkpointer.slots}
    assert used == set(range(store.geometry.segment_count)), "no slot is forgotten"
    again = Store.open(copied(device))
    assert contents(again) == contents(store)
    assert again.recovery.bytes_replayed == 0


def test_cut_between_forgetting_a_checkpoint_and_wiping_it_costs_nothing():
    _, store, device = compacted_syncs(with_checkpoint=True)
    expected = contents(store)
    extra = [block(number, 3000) for number in range(200, 230)]
    put(store, extra)
    store.commit()
    store.delete_many(key for key, _ in extra)
    store.commit()
    log, images = store._log, []
    wipe = log.wipe

    def cut(slots):
        images.append(copied(device))
        wipe(slots)

    log.wipe = cut  # the power goes right before it
    assert store.compact().segments_freed
    assert images
    for image in images:
        again = Store.open(image)
        assert contents(again) == expected
        assert_sound(again)
        put(again, extra)
        again.close()
