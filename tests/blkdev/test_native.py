"""The C helper against its twin: the same slots, the same device, the same answers."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blkdev import checksum, index, log, reader
from blkdev.devices.file import FileDevice
from blkdev.errors import BlockDamaged, KeyNotFound, StoreClosed
from blkdev.format import NO_FINGERPRINT
from blkdev.pure import shards
from blkdev.pure.shards import SHARD_COUNT, Shards
from blkdev.store import Store
from tests.blkdev.devices import SIZE_BYTES, block, blocks, entropy, put

PURE = bool(os.environ.get("IPFS_MFS_PURE"))
NATIVE = pytest.mark.parametrize("table", [Shards, index.Index], ids=["python", "chosen"])

# Few homes of few shards, so that runs, shifts and growth happen all the time.
fingerprints = st.one_of(
    st.integers(0, 40).map(lambda low: low << 24),
    st.integers(0, (1 << 16) - 2).map(lambda low: (0xFF << 56) + (low << 40)),
    st.integers(0, NO_FINGERPRINT - 1),
)
operations = st.lists(
    st.tuples(st.sampled_from(["add", "add", "add", "remove", "replace"]), fingerprints,
              st.integers(1, 1 << 63)),
    max_size=200,
)  # fmt: skip


def test_the_helper_is_built_where_it_was_not_switched_off():
    assert (log.native_stage is None) == PURE
    assert (reader.Finder is None) == PURE
    assert issubclass(index.Index, Shards) == PURE


@given(st.binary(max_size=700), st.integers(0, 20), st.integers(0, (1 << 32) - 1))
def test_checksums_are_those_of_zlib_at_every_length_and_place(data, skip, value):
    for part in (data[skip:], bytearray(data[skip:]), memoryview(data)[skip:]):
        assert checksum.crc32(part, value) == zlib.crc32(part, value)
    assert checksum.crc32(data) == zlib.crc32(data)


@pytest.mark.parametrize(
    "size", [0, 1, 15, 16, 63, 64, 127, 128, 129, 143, 144, 191, 192, 4096, 65_535, 65_536, 1 << 20]
)
@pytest.mark.parametrize("value", [0, 1, 0xFFFF_FFFF])
def test_checksums_of_one_byte_repeated_are_those_of_zlib(size, value):
    for byte in (b"\0", b"\xff", b"\x80"):
        assert checksum.crc32(byte * size, value) == zlib.crc32(byte * size, value)


def test_checksums_of_parts_go_on_where_the_last_one_ended():
    data = random.Random(1).randbytes(100_000)
    for cut in (0, 1, 63, 64, 65, 128, 50_000, 99_999):
        assert checksum.crc32(data[cut:], checksum.crc32(data[:cut])) == zlib.crc32(data)


def test_checksum_of_what_is_no_bytes_is_refused():
    for wrong in ("text", None, 7, [1]):
        with pytest.raises(TypeError):
            checksum.crc32(wrong)  # type: ignore[arg-type]  # what is tested
    with pytest.raises((BufferError, ValueError)):
        checksum.crc32(memoryview(bytes(64))[::2])


def apply(tables: list, operations) -> None:
    alive: list[tuple[int, int]] = []
    for kind, fingerprint, location in operations:
        if kind == "add" or not alive:
            alive.append((fingerprint, location))
            for table in tables:
                table.add(fingerprint, location)
        elif kind == "remove":
            chosen = alive.pop(location % len(alive))
            assert [table.remove(*chosen) for table in tables] == [True] * len(tables)
        else:
            at = location % len(alive)
            alive[at], (where, old) = (alive[at][0], location), alive[at]
            for table in tables:
                table.replace(where, old, location)
    for fingerprint, location in alive:
        for table in tables:
            assert location in table.locations(fingerprint)
            assert table.has(fingerprint, location)


@given(operations)
def test_both_tables_have_the_same_slots_after_any_life(operations):
    both = [Shards(), index.Index()]
    apply(both, operations)
    for number in range(SHARD_COUNT):
        assert both[0].shard(number) == both[1].shard(number)
    assert both[0].count == both[1].count
    assert both[0].size_bytes == both[1].size_bytes


@given(operations)
def test_a_loaded_image_is_the_index_it_was_taken_from(operations):
    table = index.Index()
    apply([table], operations)
    again = index.Index()
    for number, image in enumerate(table.image()):
        again.load(number, *image)
    assert again.image() == table.image()
    assert (again.count, again.size_bytes) == (table.count, table.size_bytes)
    assert sorted(again.entries()) == sorted(table.entries())


@given(st.binary(min_size=1, max_size=64), st.integers(0, (1 << 64) - 1))
def test_both_give_a_key_the_same_fingerprint(key, salt):
    assert index.fingerprint_of(key, salt) == shards.fingerprint_of(key, salt)


@NATIVE
@pytest.mark.parametrize(
    ("homes", "used", "change"),
    [
        (1, 0, lambda slots: slots),
        (2, 3, lambda slots: slots),
        (2, -1, lambda slots: slots),
        (3, 0, lambda slots: slots),
        (2, 0, lambda slots: slots[:-16]),
        (2, 0, lambda slots: slots + slots[:16]),
        (2, 0, lambda slots: slots[:-16] + bytes(16)),
        (1 << 40, 0, lambda slots: slots),
    ],
    ids=["no home", "too full", "negative", "short", "cut", "long", "no end", "huge"],
)
def test_an_impossible_image_is_refused_and_changes_nothing(table, homes, used, change):
    loaded = table()
    before = loaded.shard(7)
    with pytest.raises((ValueError, OverflowError)):
        loaded.load(7, homes, used, change(before[2]))
    assert loaded.shard(7) == before


def part(fingerprints: list[int]) -> tuple[int, int, bytes]:
    """The image of a shard with these entries."""
    made = Shards()
    for location, fingerprint in enumerate(fingerprints, start=1):
        made.add(fingerprint, location)
    return made.shard(fingerprints[0] >> 56)


def fetching(table: type, fetch: Callable[[Any, int], None]) -> Any:
    """An empty index that loads parts in this way."""
    return type("Fetching", (table,), {"fetch": fetch})()


PART = part([(7 << 56) + number for number in range(40)])
FIRST = 7 << 56


@NATIVE
@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda table: table.locations(FIRST + 3), (4,)),
        (lambda table: table.locations(FIRST + 99), ()),
        (lambda table: table.has(FIRST, 1), True),
        (lambda table: table.add(FIRST + 99, 9), None),
        (lambda table: table.replace(FIRST, 1, 2), None),
        (lambda table: table.remove(FIRST, 1), True),
        (lambda table: table.shard(7), PART),
    ],
    ids=["hit", "miss", "has", "add", "replace", "remove", "shard"],
)
def test_a_part_that_is_put_off_is_counted_and_loaded_by_whatever_asks(table, ask, answer):
    asked: list[int] = []

    def fetch(self, number: int) -> None:
        asked.append(number)
        self.load(number, *PART)

    made, plain = fetching(table, fetch), table()
    plain.load(7, *PART)
    made.put_off(7, *PART[:2])
    assert (made.count, made.size_bytes) == (plain.count, plain.size_bytes)
    assert not made.is_there(7)
    assert made.is_there(8)
    assert made.locations(8 << 56) == ()
    assert not asked
    assert ask(made) == ask(plain) == answer
    assert asked == [7]
    assert made.is_there(7)
    assert [made.shard(number) for number in range(SHARD_COUNT)] == [
        plain.shard(number) for number in range(SHARD_COUNT)
    ]
    assert (made.count, made.size_bytes) == (plain.count, plain.size_bytes)


@NATIVE
def test_a_part_that_cannot_be_loaded_ends_the_call_and_may_be_asked_again(table):
    works = False

    def fetch(self, number: int) -> None:
        if not works:
            raise OSError(5, "on purpose")
        self.load(number, *PART)

    made = fetching(table, fetch)
    made.put_off(7, *PART[:2])
    for _ in range(2):
        for ask in (made.locations, made.remove, made.add, made.shard):
            with pytest.raises(OSError, match="on purpose"):
                ask(*{made.locations: (FIRST,), made.shard: (7,)}.get(ask, (FIRST, 1)))
    assert made.count == 40
    works = True
    assert made.locations(FIRST) == (1,)


@NATIVE
def test_a_part_that_nobody_loads_is_an_error_and_not_absence(table):
    made = fetching(table, lambda _self, _number: None)
    made.put_off(7, *PART[:2])
    with pytest.raises((RuntimeError, IndexError)):
        made.locations(FIRST)


@NATIVE
@pytest.mark.parametrize(("number", "homes", "used"), [
    (-1, 2, 0), (SHARD_COUNT, 2, 0), (0, 1, 0), (0, -5, 0), (0, 2, 3), (0, 2, -1), (0, 1 << 70, 0),
])  # fmt: skip
def test_a_part_of_impossible_size_is_not_put_off(table, number, homes, used):
    made = table()
    before = made.count, made.size_bytes
    try:
        made.put_off(number, homes, used)
    except (ValueError, OverflowError):
        assert (made.count, made.size_bytes) == before
        assert all(made.is_there(each) for each in range(SHARD_COUNT))
    else:
        assert homes == 1 << 70, "Python counts as far as anyone likes"


@NATIVE
def test_entries_that_are_not_there_are_told(table):
    made = table()
    made.add(5, 1)
    assert made.locations(6) == ()
    assert not made.has(5, 2)
    assert not made.remove(5, 2)
    with pytest.raises(AssertionError):
        made.replace(5, 2, 3)
    assert made.locations(5) == (1,)


@NATIVE
def test_growth_to_many_entries_keeps_every_one(table):
    made = table()
    rng = [int.from_bytes(hashlib.sha256(b"%d" % n).digest()[:8], "little") for n in range(30_000)]
    for number, fingerprint in enumerate(rng, start=1):
        made.add(fingerprint, number)
    assert made.count == len(rng)
    assert all(made.locations(each) == (number,) for number, each in enumerate(rng, start=1))
    assert made.size_bytes <= 24.5 * len(rng) + SHARD_COUNT * 8 * 16


# ------------------------------------------------------------------------------- one device

LIFE = """
import sys
if {pure}:
    sys.modules["blkdev._native"] = None
from pathlib import Path
from tests.blkdev.test_native import live
live(Path({path!r}))
"""


def live(path: Path) -> None:
    """A store's life with every kind of block; the same bytes whoever did the work."""
    device = FileDevice(path, create_size_bytes=SIZE_BYTES)
    Store.format(device, segment_size_bytes=512 << 10, entropy=entropy)
    with Store.open(device) as store:
        items = [block(number, size) for number, size in enumerate(
            [1, 7, 8, 300, 4096, 32 << 10, (32 << 10) + 1, 100_000] * 12)]  # fmt: skip
        for first in range(0, len(items), 10):
            store.put_many(items[first : first + 10])
            store.put_many(iter(items[: first + 3]))
            store.commit()
        store.delete_many(key for key, _ in items[5:60:3])
        store.set_name(b"name", b"value")
        store.compact()
        for key, value in items[60:]:
            assert store.get(key) == value
            assert store.size_of(key) == len(value)


@pytest.mark.slow
def test_a_store_has_the_same_bytes_with_and_without_the_helper(tmp_path):
    made = []
    for pure in (True, False):
        path = tmp_path / f"{pure}.blk"
        code = LIFE.format(pure=pure, path=str(path))
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
        made.append(superblocks_apart(path.read_bytes()))
    assert made[0] == made[1]


def superblocks_apart(image: bytes) -> bytes:
    """All but the superblocks, which say when they were made."""
    pages = [image[at : at + 4096] for at in range(0, len(image), 4096)]
    return b"".join(page for page in pages if not page.startswith(b"ipfs-mfs"))


# ----------------------------------------------------------------------------- odd answers


def opened(path: Path) -> Store:
    device = FileDevice(path, create_size_bytes=SIZE_BYTES)
    Store.format(device, segment_size_bytes=512 << 10)
    return Store.open(device)


@pytest.fixture
def store(tmp_path):
    with opened(tmp_path / "store") as store:
        yield store


def damage(store, key: bytes, at: int) -> None:
    """Flip a byte of the record, `at` bytes behind its header's beginning."""
    found = store._reader.find(key)
    assert found is not None
    offset = store._volume.device_offset(found.location) + at
    with Path(store.device.name).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("size", [3, 300, 4096, 65_000, 70_000])
def test_every_size_is_read_staged_and_written(store, committed, size):
    items = blocks(0, 5, size)
    put(store, items)
    if committed:
        store.commit()
    for key, value in items:
        assert store.get(key) == value
        assert store.has(key)
        assert store.size_of(key) == size
        assert not store.has(key[:-1] + bytes([key[-1] ^ 1]))


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("size", [1, 4096, 100_000])
@pytest.mark.parametrize(
    ("start", "length"), [(0, 0), (0, 1), (0, 1 << 30), (1, 100), (4000, 200), (1 << 40, 5)]
)
def test_every_part_is_the_part_of_the_value(store, committed, size, start, length):
    key, value = block(1, size)
    put(store, [(key, value)])
    if committed:
        store.commit()
    assert store.get_part(key, start, length) == value[start : start + length]
    with pytest.raises(KeyNotFound):
        store.get_part(key[:-1] + bytes([key[-1] ^ 1]), start, length)


@pytest.mark.parametrize("at", [0, 4, 6, 9, 16, 30])
def test_a_damaged_header_is_damage_and_not_absence(store, at):
    put(store, blocks(0, 3))
    store.commit()
    key, _ = block(1)
    damage(store, key, at)
    for read in (store.get, store.has, store.size_of, lambda key: store.get_part(key, 0, 1)):
        with pytest.raises(BlockDamaged):
            read(key)
    assert store.get(block(0)[0]) == block(0)[1]


def test_a_damaged_value_is_told_and_its_size_is_known(store):
    put(store, blocks(0, 3))
    store.commit()
    key, value = block(1)
    damage(store, key, 24 + len(key) + 5)
    with pytest.raises(BlockDamaged):
        store.get(key)
    assert store.size_of(key) == len(value)


TRUNCATED = """
import os, sys
if {pure}:
    sys.modules["blkdev._native"] = None
from pathlib import Path
from blkdev.errors import BlockDamaged
from tests.blkdev.test_native import opened, block, put
store = opened(Path({path!r}))
key, value = block(1, 200_000)
put(store, [(key, value), block(2, 200_000)])
store.commit()
try:
    with store.view(key) as view:
        os.truncate({path!r}, 4096)
        shown = bytes(view)
    print("no error")
except BlockDamaged:
    print("damaged", shown == value)
for key in (key, block(2, 200_000)[0]):
    try:
        store.get(key)
        print("no error")
    except BlockDamaged:
        print("damaged")
"""


@pytest.mark.parametrize("pure", [False, True])
def test_a_device_that_fails_under_a_view_is_damage_and_not_the_end(tmp_path, pure):
    """The page was there when it was asked for, and is not when it is touched: SIGBUS. Without
    the helper there are no maps, and the view is a copy.
    """
    code = TRUNCATED.format(pure=pure, path=str(tmp_path / "store"))
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first = "no error" if pure else "damaged False"
    assert done.stdout.splitlines() == [first, "damaged", "damaged"]


def test_a_bus_error_that_is_not_ours_still_ends_the_process():
    lines = ["import mmap, os", "file = os.memfd_create('empty')"]
    lines += ["os.ftruncate(file, 4096)", "memory = mmap.mmap(file, 4096)"]
    if not PURE:
        lines += ["from blkdev._native import Maps", "other = os.memfd_create('other')"]
        lines += ["os.ftruncate(other, 4096)", "maps = Maps(other, 4096, 1, 4096, 4096)"]
        lines += ["view = maps.view(0, 4096)", "assert view is not None"]
    lines += ["os.ftruncate(file, 0)", "memory[0]"]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGBUS


def test_two_keys_of_one_fingerprint_are_told_apart(store, monkeypatch):
    """Nobody can make such keys without the salt; here the index is told a lie."""
    put(store, blocks(0, 2))
    store.commit()
    (first, one), (second, _) = blocks(0, 2)
    catalog, found = store._catalog, store._reader.find(second)
    mine = store._reader.find(first)
    catalog.index.add(mine.fingerprint, found.location)
    assert store.get(first) == one
    catalog.index.remove(mine.fingerprint, mine.location)
    with pytest.raises(KeyNotFound):
        store.get(first)
    assert not store.has(first)


def test_keys_that_are_no_bytes_are_refused_as_before(store):
    put(store, blocks(0, 1))
    key, value = block(0)
    assert store.get(bytes(memoryview(key))) == value
    with pytest.raises(KeyNotFound):
        store.get(b"x" * 65)
    with pytest.raises(KeyNotFound):
        store.get(b"\x00")


def test_after_close_nothing_is_read_through_the_old_descriptor(store, tmp_path):
    put(store, blocks(0, 1))
    store.close()
    # The number of the descriptor may be given to this file.
    with (tmp_path / "other").open("wb"), pytest.raises(StoreClosed):
        store.get(block(0)[0])


def test_blocks_before_an_error_of_the_source_are_stored(store):
    def source():
        yield from blocks(0, 3)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        store.put_many(source())
    assert [store.get(key) for key, _ in blocks(0, 3)] == [value for _, value in blocks(0, 3)]


def test_blocks_before_a_bad_one_in_a_list_are_stored(store):
    items = [*blocks(0, 3), (b"", b"no key"), *blocks(3, 2)]
    with pytest.raises(Exception, match="a key has 1 to 64 bytes"):
        store.put_many(items)
    assert store.has_many([key for key, _ in blocks(0, 5)]) == [True] * 3 + [False] * 2


def test_one_key_twice_in_a_list_is_stored_once(store):
    assert store.put_many([block(0), block(1), block(0)]) == 2
    assert store.stats().keys == 2
