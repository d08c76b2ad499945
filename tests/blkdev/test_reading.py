"""Views, their pins and maps, many values at once, and what a cold read asks of the device."""

import contextlib
import gc
import hashlib
import os
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from pickle import PickleBuffer

import pytest

from benchmarks import counters
from blkdev import format as fmt
from blkdev.compaction.compact import Compactor
from blkdev.device import RamDevice, open_device
from blkdev.devices.file import FileDevice, Maps
from blkdev.errors import BlockDamaged, KeyNotFound, StoreClosed, StoreFull
from blkdev.index import Index
from blkdev.pure.shards import Shards
from blkdev.store import Store
from tests.blkdev import loops
from tests.blkdev.devices import (
    MIB,
    SIZE_BYTES,
    assert_sound,
    block,
    blocks,
    contents,
    formatted,
    new_store,
    put,
)

SIZES = [0, 3, 300, 4096, 65_000, 70_000, 250_000]
PAGE = 4096


def opened(path: Path, **options: bool) -> Store:
    device = FileDevice(path, create_size_bytes=SIZE_BYTES)
    Store.format(device, segment_size_bytes=512 << 10)
    return Store.open(device, **options)


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    """On a plain file; whoever reads checks."""
    with opened(tmp_path / "store", verify_reads=False) as store:
        yield store


def pin_count(store: Store) -> int:
    count = store._catalog.index.pin_count
    return sum(count(slot) for slot in range(store.geometry.segment_count))


def flip(store: Store, key: bytes, at: int) -> None:
    """Flip a byte of the record, `at` bytes behind its header's beginning."""
    found = store._reader.find(key)
    assert found is not None
    with Path(store.device.name).open("r+b") as file:
        file.seek(store._volume.device_offset(found.location) + at)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


# --------------------------------------------------------------------------------- deletions


@pytest.mark.parametrize("at", [0, 5, 16, 24], ids=["checksum", "transform", "sequence", "key"])
def test_deletion_of_a_key_whose_header_is_damaged_lets_a_good_copy_be_put(store, at):
    items = blocks(0, 20, 500)
    put(store, items)
    store.commit()
    key, value = items[7]
    flip(store, key, at)
    assert store.delete_many([key], before=store.position()) == 0
    assert store.delete_many([key, items[8][0]]) == 2
    assert not store.has(key)
    put(store, [(key, value)])
    store.commit()
    assert contents(store) == {**dict(items[:8]), **dict(items[9:])}


@pytest.mark.needs_helper
def test_the_helper_gives_the_place_of_what_may_be_deleted_and_nothing_else(store):
    items = blocks(0, 3, 500)
    put(store, items[:2])
    store.commit()
    position = store.position()
    find = store._reader._finder.location
    for key, _ in items[:2]:
        place = store._reader.find(key).location
        assert (find(key, position), find(key, (1 << 64) - 1)) == (place, place)
    assert find(items[1][0], position - 1) is None
    assert find(items[2][0], position) is None
    put(store, items[2:])
    assert find(items[2][0], position) is NotImplemented
    for wrong in [(), (items[0][0],), (items[0][0], 1, 2), (items[0][0], "1")]:
        with pytest.raises(TypeError):
            find(*wrong)
    for limit in (-1, 1 << 64):
        with pytest.raises(OverflowError):
            find(items[0][0], limit)


# ---------------------------------------------------------------------------- checked views


class Known:
    """Keys that were compared; counts how often they had to turn."""

    def __init__(self, *keys: bytes, recent_max: int = 100) -> None:
        self.recent = set(keys)
        self.recent_max = recent_max
        self.turns = 0

    def turn(self) -> None:
        self.turns += 1


class Slow:
    """What Python would look into: notes that it was asked, and how it ended."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.ends: list[type[BaseException] | None] = []

    @contextlib.contextmanager
    def __call__(self, name: bytes) -> Iterator[memoryview]:
        self.names.append(name)
        try:
            yield memoryview(b"slow")
        except BaseException as error:
            self.ends.append(type(error))
            raise
        self.ends.append(None)


def hashed(number: int, size: int) -> tuple[bytes, bytes]:
    """A value under its sha2-256 multihash."""
    value = random.Random(number).randbytes(size)
    return b"\x12\x20" + hashlib.sha256(value).digest(), value


@pytest.mark.needs_helper
@pytest.mark.parametrize("size", SIZES)
def test_checked_view_shows_what_hashes_to_its_key_and_notes_the_key(store, size):
    """Copied, mapped, known to be mapped."""
    items = [hashed(number, size) for number in range(3 if size else 1)]
    put(store, items)
    store.commit()
    known, slow = Known(), Slow()
    for _ in range(3):
        for key, value in items:
            with store.reader.checked_view(b"name", key, known, slow) as view:
                assert view == value
                assert view.readonly
    assert known.recent == {key for key, _ in items}
    assert slow.names == []
    assert pin_count(store) == 0


@pytest.mark.needs_helper
def test_checked_view_of_what_the_helper_cannot_judge_is_pythons(store):
    wrong = b"\x12\x20" + bytes(32), b"not the bytes of this hash" * 400
    other = b"\x1e\x20" + bytes(32), b"another function"
    short = b"\x12\x14" + hashlib.sha256(b"short").digest()[:20], b"short"
    staged = hashed(1, 5000)
    put(store, [wrong, other, short])
    store.commit()
    put(store, [staged])
    known, slow = Known(), Slow()
    keys = [wrong[0], other[0], short[0], staged[0], b"\x12\x20" + bytes(31) + b"1", b"\0"]
    for number, key in enumerate(keys):
        for _ in range(2):
            with store.reader.checked_view(b"%d" % number, key, known, slow) as view:
                assert view == b"slow"
    assert slow.names == [b"%d" % number for number in range(len(keys)) for _ in range(2)]
    assert slow.ends == [None] * len(slow.names)
    assert known.recent == set()
    assert pin_count(store) == 0


@pytest.mark.needs_helper
@pytest.mark.parametrize("size", [300, 4096, 250_000])
def test_rotten_value_is_not_shown_unless_its_key_was_compared_before(store, size):
    key, value = hashed(1, size)
    put(store, [(key, value)])
    store.commit()
    flip(store, key, 24 + len(key) + 7)
    known, slow = Known(), Slow()
    with store.reader.checked_view(b"name", key, known, slow) as view:
        assert view == b"slow"
    assert known.recent == set()
    with store.reader.checked_view(b"name", key, Known(key), slow) as view:
        assert len(view) == size
    assert slow.names == [b"name"]


@pytest.mark.needs_helper
def test_checked_views_turn_when_more_keys_were_compared_than_are_kept(store):
    items = [hashed(number, 500) for number in range(5)]
    put(store, items)
    store.commit()
    known, slow = Known(recent_max=3), Slow()
    for key, _ in items:
        with store.reader.checked_view(b"name", key, known, slow):
            assert known.turns == max(0, len(known.recent) - 3)
    assert known.turns == 2


@pytest.mark.needs_helper
@pytest.mark.parametrize("size", [300, 200_000])
def test_checked_view_is_released_at_its_end_whoever_keeps_it(store, size):
    key, value = hashed(1, size)
    put(store, [(key, value)])
    store.commit()
    known, slow = Known(), Slow()
    for _ in range(3):
        with store.reader.checked_view(b"name", key, known, slow) as view:
            assert view == value
        with pytest.raises(ValueError, match="released"):
            view[0]
    checked = store.reader.checked_view(b"name", key, known, slow)
    held = PickleBuffer(checked.__enter__())
    with pytest.raises(BufferError):
        checked.__exit__(None, None, None)
    assert pin_count(store) == 0
    held.release()


@pytest.mark.needs_helper
def test_checked_view_that_nobody_ends_lets_go_with_the_last_who_knows_it(store):
    key, value = hashed(1, 200_000)
    put(store, [(key, value)])
    store.commit()
    known, slow = Known(), Slow()
    weak = weakref.ref(known)
    view = store.reader.checked_view(b"name", key, known, slow).__enter__()
    del known
    assert pin_count(store) == 1
    assert view == value
    del view
    gc.collect()
    assert weak() is None
    assert pin_count(store) == 0


@pytest.mark.needs_helper
def test_what_ends_a_checked_view_that_python_made_is_told_to_it(store):
    slow = Slow()
    with pytest.raises(KeyError), store.reader.checked_view(b"name", b"absent", Known(), slow):
        raise KeyError
    assert slow.ends == [KeyError]


@pytest.mark.needs_helper
def test_what_makes_no_view_is_raised_and_what_says_nothing_of_use_is_left_to_python(store):
    key, value = hashed(1, 500)
    put(store, [(key, value)])
    store.commit()
    slow = Slow()
    for known in (object(), Known()):
        if isinstance(known, Known):
            known.recent_max = "many"  # type: ignore[assignment]  # what is tested
        with store.reader.checked_view(b"name", key, known, slow) as view:
            assert view == b"slow"
    with pytest.raises(ZeroDivisionError):
        store.reader.checked_view(b"name", b"absent", Known(), lambda _name: 1 / 0).__enter__()
    with pytest.raises(TypeError):
        store._reader._finder.checked_view(key)
    assert pin_count(store) == 0


@pytest.mark.needs_helper
def test_checked_views_of_many_threads_stay_true_while_all_is_replaced(store):
    items = [hashed(number, size) for number, size in enumerate(SIZES[1:] * 3)]
    put(store, items)
    store.commit()
    known, slow = Known(recent_max=4), Slow()
    ended = threading.Event()
    wrong: list[bytes] = []

    def look(seed: int) -> None:
        rng = random.Random(seed)
        while not ended.is_set():
            key, value = rng.choice(items)
            with store.reader.checked_view(key, key, known, slow) as view:
                if view not in (value, b"slow"):
                    wrong.append(key)
            known.recent.discard(key)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        store.delete_many(key for key, _ in items)
        put(store, items)
        store.compact()
    ended.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert pin_count(store) == 0


# ------------------------------------------------------------------------------------ views


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_view_is_the_value_the_first_time_and_every_other(tmp_path, size, verify):
    """Copied, mapped, known to be mapped: three ways for small values, two for large ones."""
    with opened(tmp_path / "store", verify_reads=verify) as store:
        items = [block(number, size) for number in range(6 if size else 1)]
        put(store, items)
        for committed in (False, True):
            if committed:
                store.commit()
            for _ in range(4):
                for key, value in items:
                    with store.view(key) as view:
                        assert view == value and view.readonly and len(view) == size
                    missing = key[:-1] + bytes([key[-1] ^ 1])
                    with pytest.raises(KeyNotFound), store.view(missing):
                        pass
        assert pin_count(store) == 0


def test_views_follow_a_record_that_compaction_moved(store):
    items = blocks(0, 200, 3000)
    put(store, items)
    store.commit()
    for _ in range(3):
        for key, value in items:
            with store.view(key) as view:
                assert view == value
    store.delete_many(key for key, _ in items[::2])
    assert store.compact().segments_freed
    put(store, blocks(1000, 200, 3000))
    store.commit()
    for key, value in items[1::2] + blocks(1000, 200, 3000):
        for _ in range(3):
            with store.view(key) as view:
                assert view == value


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("size", [0, 1, 300, 4096, 65_000, 70_000])
def test_every_read_of_what_was_viewed_often_is_right(tmp_path, size, verify):
    """Those that copy take it from the map, where it is mapped."""
    with opened(tmp_path / "store", verify_reads=verify) as store:
        key, value = block(1, size)
        put(store, [block(2, 5000), (key, value), block(3)])
        store.commit()
        for _ in range(4):
            with store.view(key):
                pass
            assert store.get(key) == value
            assert store.has(key)
            assert store.size_of(key) == size
            assert store.get_part(key, 1, 100) == value[1:101]
            assert dict(store.get_many([key])) == {key: value}


def test_record_that_took_the_place_of_one_that_was_viewed_is_read_in_its_place(store):
    old, new = blocks(0, 300, 3000), blocks(1000, 300, 3000)
    put(store, old)
    store.commit()
    for key, _ in old * 3:
        with store.view(key):
            pass
    used = {store._reader.find(key).location for key, _ in old}
    store.delete_many(key for key, _ in old)
    assert store.compact().segments_freed
    for turn in range(16):
        if turn:
            store.delete_many(key for key, _ in new)
            store.compact()
        put(store, new)
        store.commit()
        for key, value in new:
            assert store.get(key) == value
            with store.view(key) as view:
                assert view == value
        used -= {store._reader.find(key).location for key, _ in new}
        assert not any(store.has_many(key for key, _ in old))
    assert len(used) < 300, "no place was used again"


@pytest.mark.parametrize("size", [300, 100_000])
def test_view_that_is_open_is_not_entered_again_and_a_closed_one_is(store, size):
    key, value = block(1, size)
    put(store, [(key, value)])
    store.commit()
    for _ in range(3):
        context = store.view(key)
        with context as view:
            with pytest.raises(RuntimeError, match="is open"):
                context.__enter__()
            assert view == value
        with context as again:
            assert again == value
        assert view == value, "what is kept too long is not to be trusted, but it is there"
    assert pin_count(store) == 0


@pytest.mark.parametrize("size", [300, 100_000])
def test_error_in_the_with_body_comes_through_and_lets_go_of_the_segment(store, size):
    key, _ = block(1, size)
    put(store, [block(1, size)])
    store.commit()
    for _ in range(4):
        with pytest.raises(ZeroDivisionError), store.view(key):
            raise ZeroDivisionError
        assert pin_count(store) == 0


def test_view_that_could_not_be_entered_can_be_later(store):
    context = store.view(block(1)[0])
    with pytest.raises(KeyNotFound):
        context.__enter__()
    put(store, [block(1)])
    with context as view:
        assert view == block(1)[1]
    assert pin_count(store) == 0


@pytest.mark.needs_helper
def test_pin_of_a_view_that_nobody_left_goes_with_its_bytes(store):
    key, value = block(1, 100_000)
    put(store, [(key, value)])
    store.commit()
    view = store.view(key).__enter__()
    part = view[10:20]
    del view
    gc.collect()
    assert pin_count(store) == 1
    store.delete_many([key])
    store.compact()
    put(store, blocks(50, 20, 100_000))
    store.commit()
    assert part == value[10:20]
    del part
    assert pin_count(store) == 0


@pytest.mark.parametrize("size", [300, 100_000])
def test_view_outlives_a_store_that_is_closed_and_gone(tmp_path, size):
    store = opened(tmp_path / "store", verify_reads=False)
    key, value = block(1, size)
    put(store, [(key, value)])
    store.commit()
    for _ in range(3):
        with store.view(key):
            pass
    context = store.view(key)
    later = store.view(key)
    view = context.__enter__()
    store.close()
    gone = weakref.ref(store)
    with pytest.raises(StoreClosed), later:
        pass
    del store
    gc.collect()
    assert gone() is None
    assert view == value
    context.__exit__(None, None, None)
    assert view == value
    with pytest.raises(StoreClosed), later:
        pass


@pytest.mark.needs_helper
def test_view_in_a_cycle_with_its_store_is_collected(tmp_path):
    store = opened(tmp_path / "store", verify_reads=False)
    put(store, [block(1, 100_000)])
    store.commit()
    context = store.view(block(1, 100_000)[0])
    store.cycle = [context, context.__enter__()]
    store.close()
    gone, maps = weakref.ref(store), store.device.maps
    assert maps is not None and maps.end() > 0
    del store, context
    gc.collect()
    assert gone() is None
    assert maps.end() == 0, "nothing is mapped any more"


def test_views_leak_nothing_however_they_end(store):
    small, large, bad = block(1), block(2, 100_000), block(3)
    put(store, [small, large, bad])
    store.commit()
    flip(store, bad[0], 20)

    def use() -> None:
        for key in (small[0], large[0]):
            with store.view(key):
                pass
            with pytest.raises(ZeroDivisionError), store.view(key):
                raise ZeroDivisionError
            store.view(key)
        with pytest.raises(BlockDamaged), store.view(bad[0]):
            pass
        with pytest.raises(KeyNotFound), store.view(b"missing"):
            pass

    def held() -> tuple[int, ...]:
        gc.collect()
        watched = (small[0], large[0], bad[0], store._reader._finder, store._catalog)
        return (len(gc.get_objects()), *map(sys.getrefcount, watched))

    for _ in range(4):
        use()
    before = held()
    for _ in range(50):
        use()
    after = held()
    assert after[1:] == before[1:]
    assert after[0] - before[0] < 50
    assert pin_count(store) == 0


@pytest.mark.parametrize("at", [0, 4, 6, 9, 16, 30])
@pytest.mark.parametrize("viewed", [0, 1, 2, 3])
def test_damaged_header_is_damage_however_often_it_was_viewed(store, at, viewed):
    put(store, blocks(0, 3))
    store.commit()
    key, _ = block(1)
    for _ in range(viewed):
        with store.view(key):
            pass
    flip(store, key, at)
    for _ in range(3):
        with pytest.raises(BlockDamaged) as caught, store.view(key):
            pass
        assert caught.value.key == key
    with store.view(block(0)[0]) as view:
        assert view == block(0)[1]
    assert pin_count(store) == 0


def test_value_condemned_by_a_caller_is_not_viewed_any_more(store):
    put(store, blocks(0, 2))
    store.commit()
    key, value = block(0)
    for _ in range(3):
        with store.view(key):
            pass
    store.condemn(key)
    for read in (store.get, store.has, lambda key: store.view(key).__enter__()):
        with pytest.raises(BlockDamaged):
            read(key)
    assert store.size_of(key) == len(value)
    put(store, [(key, value)])
    with store.view(key) as view:
        assert view == value


@pytest.mark.slow
def test_views_by_many_threads_stay_true_while_all_is_moved_and_replaced(store):
    """What a view shows belongs to its key from the first look to the last."""
    fixed = blocks(0, 60, 3000) + blocks(100, 12, 90_000)
    put(store, fixed)
    stop = threading.Event()
    failures: list[BaseException] = []

    def look(seed: int) -> None:
        rng = random.Random(seed)
        try:
            while not stop.is_set():
                key, value = rng.choice(fixed)
                with contextlib.suppress(KeyNotFound), store.view(key) as view:
                    assert view == value
                    assert view[-10:] == value[-10:]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        rng = random.Random(9)
        for round_ in range(40):
            others = blocks(1000 + 10 * round_, 10, 40_000)
            put(store, others)
            gone = rng.sample(fixed, 5)
            store.delete_many(key for key, _ in gone)
            store.commit()
            store.delete_many(key for key, _ in others)
            store.compact()
            put(store, gone)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not failures
    assert pin_count(store) == 0
    assert contents(store) == dict(fixed)
    assert_sound(store)


def full_of_halves():
    """A full store, every other record of which is dead, and what is alive."""
    store, _ = new_store()
    items = blocks(0, 20_000, 3000)
    with contextlib.suppress(StoreFull):
        store.put_many(items)
    items = items[: store.stats().keys]
    store.delete_many(key for key, _ in items[::2])
    return store, items[1::2]


@pytest.mark.parametrize("ends", [True, False])
def test_put_on_a_full_store_waits_for_a_view_that_is_about_to_end(monkeypatch, ends):
    """The view began while its segment was being emptied, and nothing may be freed before that."""
    store, alive = full_of_halves()
    views: list[contextlib.AbstractContextManager[memoryview]] = []
    empty, waits = Compactor._empty, []

    def emptied(self, victim, report):
        for key, _ in alive if not views else ():
            if fmt.location_slot(store._reader.find(key).location) == victim.slot:
                views.append(store.view(key))
                views[0].__enter__()
                break
        return empty(self, victim, report)

    def pause(_seconds) -> None:
        waits.append(pin_count(store))
        if ends and len(waits) == 3:
            views[0].__exit__(None, None, None)

    monkeypatch.setattr(Compactor, "_empty", emptied)
    monkeypatch.setattr("blkdev.compaction.compact._VICTIMS_MAX", 1)
    monkeypatch.setattr("blkdev.compaction.compact.time.sleep", pause)
    monkeypatch.setattr("blkdev.compaction.compact._VIEWS_WAIT_S", 1.0 if ends else 0.05)
    added = []
    for number in range(500_000, 500_100):
        try:
            put(store, [block(number, 3000)])
        except StoreFull:
            assert not ends
            views[0].__exit__(None, None, None)
            put(store, [block(number, 3000)])
            ends = True
        added.append(block(number, 3000))
    assert waits[:3] == [1, 1, 1]
    assert contents(store) == dict(alive + added)
    assert_sound(store)


@pytest.mark.parametrize("ends", [True, False])
def test_put_on_a_full_store_waits_for_views_of_all_that_could_be_emptied(monkeypatch, ends):
    """The views began before any of it was chosen to be emptied."""
    store, alive = full_of_halves()
    held: dict[int, contextlib.AbstractContextManager[memoryview]] = {}
    for key, _ in alive:
        slot = fmt.location_slot(store._reader.find(key).location)
        if slot not in held:
            held[slot] = store.view(key)
            held[slot].__enter__()
    waits = []

    def pause(_seconds) -> None:
        waits.append(pin_count(store))
        if ends and len(waits) == 3:
            release()

    def release() -> None:
        while held:
            held.popitem()[1].__exit__(None, None, None)

    monkeypatch.setattr("blkdev.compaction.compact.time.sleep", pause)
    monkeypatch.setattr("blkdev.compaction.compact._VIEWS_WAIT_S", 1.0 if ends else 0.05)
    count = len(held)
    added = [block(number, 3000) for number in range(500_000, 500_100)]
    if not ends:
        with pytest.raises(StoreFull):
            store.put_many(added)
        release()
    store.put_many(added)
    assert waits[:3] == [count] * 3
    assert contents(store) == dict(alive + added)
    assert_sound(store)


# ------------------------------------------------------------------------------------- maps


GONE = """
import os
from pathlib import Path
from blkdev.errors import BlockDamaged
from tests.blkdev.test_reading import opened, block, put
store = opened(Path({path!r}), verify_reads=False)
items = [block(number, {size}) for number in range(2)]
put(store, items)
store.commit()
for key, value in items * {times}:
    with store.view(key) as view:
        assert view == value
os.truncate({path!r}, 4096)
for key, value in items:
    for read in (lambda key: store.view(key).__enter__(), store.get, store.has, store.size_of):
        try:
            read(key)
            print("no error")
        except BlockDamaged as error:
            print("damaged", error.key == key)
"""


@pytest.mark.parametrize("size", [300, 4096, 100_000])
@pytest.mark.parametrize("times", [1, 2, 4])
def test_pages_that_are_gone_since_they_were_mapped_are_damage_and_not_the_end(
    tmp_path, size, times
):
    code = GONE.format(path=str(tmp_path / "store"), size=size, times=times)
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["damaged True"] * 8


@pytest.fixture
def pages(tmp_path) -> Iterator[int]:
    """A descriptor of eight pages, each full of its number."""
    path = tmp_path / "pages"
    path.write_bytes(b"".join(bytes([number]) * PAGE for number in range(8)))
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


@pytest.mark.needs_helper
@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 0), (0, -1), (8 * PAGE, 1), (8 * PAGE - 1, 2), (3 * PAGE, 2 * PAGE), (1 << 60, 1),
     ((1 << 64) - 1, 2), (0, (1 << 63) - 1)],
    ids=["nothing", "negative", "behind", "across the end", "across windows", "far", "wrap", "all"],
)  # fmt: skip
def test_range_that_cannot_be_mapped_is_left_to_a_read(pages, offset, length):
    assert Maps(pages, 8 * PAGE, 2, 4 * PAGE, MIB).view(offset, length) is None


@pytest.mark.needs_helper
def test_every_range_within_a_window_is_what_is_there(pages):
    maps = Maps(pages, 8 * PAGE, 1, 4 * PAGE, MIB)
    whole = os.pread(pages, 8 * PAGE, 0)
    rng = random.Random(4)
    for _ in range(300):
        window = rng.randrange(2) * 4 * PAGE
        begin = rng.randrange(4 * PAGE)
        length = rng.randrange(1, 4 * PAGE - begin + 1)
        view = maps.view(window + begin, length)
        assert view is not None and view.readonly
        assert view == whole[window + begin : window + begin + length]


@pytest.mark.needs_helper
def test_a_map_lives_as_long_as_its_last_view_and_is_known_to(pages):
    maps = Maps(pages, 8 * PAGE, 1, 4 * PAGE, MIB)
    assert maps.end() == 0
    first = maps.view(0, 10)
    assert maps.end() == 4 * PAGE
    assert maps.view(7 * PAGE, 10) is not None
    assert maps.end() == 8 * PAGE
    maps.resize(6 * PAGE)
    assert maps.end() == 4 * PAGE, "the view's alone"
    assert maps.view(7 * PAGE, 10) is None
    kept = maps.view(5 * PAGE, 10)
    assert maps.end() == 6 * PAGE
    maps.close()
    assert maps.view(0, 10) is None
    assert maps.end() == 6 * PAGE
    assert kept is not None and bytes(kept) == bytes([5]) * 10
    del kept
    assert maps.end() == 4 * PAGE
    del maps
    assert first is not None and bytes(first) == bytes(10)


@pytest.mark.needs_helper
def test_two_devices_do_not_keep_each_others_maps(pages, tmp_path):
    one, other = (Maps(pages, 8 * PAGE, 1, 4 * PAGE, MIB) for _ in range(2))
    view = one.view(0, 10)
    assert view is not None
    assert (one.end(), other.end()) == (4 * PAGE, 0)


@pytest.mark.needs_helper
def test_maps_are_dropped_when_they_hold_too_much(pages):
    maps = Maps(pages, 8 * PAGE, 2, 4 * PAGE, 1)
    assert bytes(maps.view(0, 10) or b"") == bytes(10)
    assert maps.end() == 0


@pytest.mark.needs_helper
@pytest.mark.parametrize(
    ("count", "size"), [(0, PAGE), (-1, PAGE), (1, 0), (1, PAGE + 1), (1, 100)]
)
def test_windows_that_cannot_be_are_refused(pages, count, size):
    with pytest.raises(ValueError, match="windows"):
        Maps(pages, PAGE, count, size, MIB)


@pytest.mark.needs_helper
def test_without_room_for_another_guard_nothing_is_mapped(tmp_path):
    """More maps than the handler has a place for: they would not be safe."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(9000 * PAGE)
    code = f"""
import os
from blkdev._native import Maps
maps = Maps(os.open({str(path)!r}, os.O_RDONLY), {9000 * PAGE}, 9000, {PAGE}, 1 << 40)
views = [maps.view(number * {PAGE}, 5) for number in range(9000)]
print(sum(view is not None for view in views), views[-1])
del views
maps.resize({9000 * PAGE})
print(maps.end(), maps.view(8999 * {PAGE}, 5) is not None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["8192 None", "0 True"]


@pytest.mark.parametrize("table", ["python", "chosen"])
def test_pins_are_those_of_records_that_are_there(table):
    index = Shards() if table == "python" else Index()
    first, second = (5 << 43) + (7 << 23) + 512, (5 << 43) + (900_000 << 23) + 512
    index.add(1, first)
    index.add(2, second)
    assert not index.pin(1, second)
    assert not index.pin(3, first)
    assert index.pin_count(7) == 0
    assert index.pin(1, first) and index.pin(1, first) and index.pin(2, second)
    assert [index.pin_count(slot) for slot in (6, 7, 8, 900_000, 1 << 20)] == [0, 2, 0, 1, 0]
    assert index.remove(1, first)
    assert not index.pin(1, first)
    index.unpin(first)
    index.unpin(first)
    index.unpin(second)
    assert index.pin_count(7) == index.pin_count(900_000) == 0
    with pytest.raises(AssertionError):
        index.unpin(first)


# --------------------------------------------------------------------------- many at once


@pytest.fixture(params=["ram", "file"])
def any_store(request, tmp_path) -> Iterator[Store]:
    if request.param == "file":
        made = opened(tmp_path / "store")
    else:
        made = new_store()[0]
    with made as store:
        yield store


def test_many_values_are_those_of_their_keys_whatever_they_are(any_store):
    items = [block(number, size) for number in range(40) for size in (300, 5000, 20_000)]
    put(any_store, items[:60])
    any_store.commit()
    put(any_store, items[60:])
    wanted = [*items, *items[:5], (b"missing", None), (block(77)[0], None)]
    random.Random(1).shuffle(wanted)
    found = list(any_store.get_many(iter([key for key, _ in wanted])))
    assert sorted(found, key=repr) == sorted(wanted, key=repr)
    assert list(any_store.get_many([])) == []


def test_many_values_come_in_the_order_of_the_device(any_store):
    items = blocks(0, 100, 3000)
    put(any_store, items)
    any_store.commit()
    keys = [key for key, _ in items]
    assert [key for key, _ in any_store.get_many(sorted(keys))] == keys


def test_many_values_are_read_while_they_are_deleted_and_moved(any_store):
    items = blocks(0, 200, 3000)
    put(any_store, items)
    any_store.commit()
    found = {}
    for number, (key, value) in enumerate(any_store.get_many(key for key, _ in items)):
        found[key] = value
        if number == 50:
            any_store.delete_many(key for key, _ in items[100:])
            any_store.compact()
    assert found == dict(items[:100]) | {key: None for key, _ in items[100:]}


def test_damaged_one_of_many_is_named_and_those_before_it_are_given(store):
    put(store, blocks(0, 30))
    store.commit()
    flip(store, block(20)[0], 9)
    found = []
    with pytest.raises(BlockDamaged) as caught:
        found.extend(store.get_many(key for key, _ in blocks(0, 30)))
    assert caught.value.key == block(20)[0]
    assert len(list(store.get_many(key for key, _ in blocks(0, 20)))) == 20


def test_many_values_of_a_closed_store_are_refused(tmp_path):
    store = opened(tmp_path / "store")
    put(store, blocks(0, 40))
    store.commit()
    running = store.get_many(key for key, _ in blocks(0, 40))
    next(running)
    store.close()
    with pytest.raises(StoreClosed):
        store.get_many([block(0)[0]])
    with pytest.raises(StoreClosed):
        list(running)


class Asked(RamDevice):
    """Notes what it is asked to read ahead, and what was read before that."""

    def __init__(self) -> None:
        super().__init__(SIZE_BYTES, pages=formatted())
        self.ahead: list[tuple[int, int]] = []
        self.unasked: list[int] = []

    def read(self, offset: int, length: int) -> bytes:
        if not any(begin <= offset < begin + size for begin, size in self.ahead):
            self.unasked.append(offset)
        return super().read(offset, length)

    def read_ahead(self, offset: int, length: int) -> None:
        if length:
            self.ahead.append((offset, length))


def test_many_values_are_asked_for_before_they_are_read_and_nothing_else_is():
    device = Asked()
    with Store.open(device) as store:
        items = blocks(0, 300, 3000)
        put(store, items)
        store.commit()
        put(store, blocks(1000, 1))
        device.ahead, device.unasked = [], []
        wanted = [key for key, _ in [*items[:100], *items[200:], *blocks(1000, 1), (b"no", b"")]]
        assert len(list(store.get_many(wanted))) == len(wanted)
        assert not device.unasked
        asked = sum(length for _, length in device.ahead)
        assert 200 * 3000 < asked < 200 * 3000 * 1.1
        assert len(device.ahead) < 40, "neighbours are asked for together"


# ---------------------------------------------------------------------------- a cold device


@pytest.fixture
def loop_store(tmp_path) -> Iterator[Store]:
    with loops.attached(tmp_path / "disk", 64 * MIB) as name:
        device = open_device(name)
        Store.format(device)
        with Store.open(device, verify_reads=False) as store:
            yield store


def cold(store: Store) -> counters.Counters:
    """Forget what is cached of the device; what it has done so far."""
    assert store.device.descriptor is not None
    os.posix_fadvise(store.device.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return counters.of(store.device.name)


@pytest.mark.needs_root
@pytest.mark.parametrize("size", [300, 4096, 65_536, 262_144, 1_048_576])
def test_cold_get_is_one_read_of_the_pages_that_hold_the_record(loop_store, size):
    store = loop_store
    items = blocks(0, 8, size)
    for number, item in enumerate(items):
        # At another place in its page each.
        put(store, [item, block(1000 + number, 700)])
    store.commit()
    for key, value in items:
        before = cold(store)
        assert store.get(key) == value
        spent = counters.of(store.device.name).since(before)
        assert spent.read_bytes <= size + 2 * PAGE
        # A request has 128 pieces of memory at most, which may be pages.
        assert spent.reads <= 1 + size // (128 * PAGE)


@pytest.mark.needs_root
@pytest.mark.parametrize("size", [300, 4096, 262_144, 1_048_576])
def test_cold_view_reads_the_pages_that_hold_the_record_and_no_others(loop_store, size):
    store = loop_store
    items = blocks(0, 8, size)
    put(store, items)
    store.commit()
    for key, value in items:
        for _ in range(3):
            before = cold(store)
            with store.view(key) as view:
                assert view == value
            spent = counters.of(store.device.name).since(before)
            assert spent.read_bytes <= size + 2 * PAGE


@pytest.mark.needs_root
def test_many_cold_values_cost_what_they_hold(loop_store):
    store = loop_store
    items = blocks(0, 40, 100_000)
    put(store, items)
    store.commit()
    wanted = dict(items[::2])
    before = cold(store)
    assert dict(store.get_many(wanted)) == wanted
    spent = counters.of(store.device.name).since(before)
    assert spent.read_bytes <= len(wanted) * (100_000 + 2 * PAGE)
