"""Devices that are damaged, foreign, too new, too small, taken, or not writable."""

import contextlib
import os
import random
import subprocess
import sys

import pytest

from blkdev import superblock
from blkdev.care import signature
from blkdev.device import RamDevice, open_device
from blkdev.devices.file import BlockDevice, FileDevice
from blkdev.errors import (
    DeviceBusy,
    DeviceReadOnly,
    DeviceTooSmall,
    ForeignSignature,
    NewerFormat,
    NotAStore,
    StoreDamaged,
    StoreExists,
    StoreFull,
    StoreReadOnly,
    SuperblockDamaged,
)
from blkdev.format import FORMAT_VERSION, PAGE_SIZE_BYTES, SUPERBLOCK
from blkdev.store import Store
from blkdev.superblock import Geometry
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
    formatted,
    new_store,
    put,
)
from tests.users import let_others_through

pytestmark = pytest.mark.slow

ITEMS = blocks(0, 30)
COPIES = 4


@pytest.fixture(scope="module")
def image():
    """Pages of a closed store."""
    store, device = new_store()
    put(store, ITEMS)
    store.close()
    return device.pages


def device_of(image: dict[int, bytes], size_bytes: int = SIZE_BYTES) -> RamDevice:
    return RamDevice(size_bytes, pages=dict(image))


def copy_pages(device: RamDevice) -> list[int]:
    offsets = Geometry.of(superblock.load(device)).copy_offsets
    return [offset // PAGE_SIZE_BYTES for offset in offsets]


def flip(device: RamDevice, page: int, at: int, mask: int) -> None:
    changed = bytearray(device.pages[page])
    changed[at] ^= mask
    device.pages[page] = bytes(changed)


def rewritten(image: dict[int, bytes], **changes) -> RamDevice:
    """The store with fields of all its superblocks changed and sealed again."""
    device = device_of(image)
    block = superblock.load(device)._replace(**changes)
    for copy, page in enumerate(copy_pages(device)):
        device.pages[page] = SUPERBLOCK.seal(block._replace(copy=copy))
    return device


# ---------------------------------------------------------------------- superblock copies


def field_bytes() -> list[int]:
    """First, last and one inner byte of every field; every byte outside the reserve."""
    reserve = SUPERBLOCK.fields[-1]
    return [*range(reserve.offset), reserve.offset, 1999, PAGE_SIZE_BYTES - 1]


@pytest.mark.parametrize("copy", range(COPIES))
def test_flip_of_any_superblock_byte_makes_that_copy_invalid_and_no_other(image, copy):
    pages = copy_pages(device_of(image))
    whole = superblock.load(device_of(image))
    rng = random.Random(copy)
    for at in range(PAGE_SIZE_BYTES):
        device = device_of({page: image[page] for page in pages})
        flip(device, pages[copy], at, rng.randrange(1, 256))
        valid = {page for page in pages if SUPERBLOCK.open(device.pages[page])}
        assert valid == set(pages) - {pages[copy]}, at
        assert superblock.load(device).generation == whole.generation


@pytest.mark.parametrize("copy", range(COPIES))
def test_store_with_a_damaged_superblock_copy_is_whole_and_repairs_it(image, copy):
    for at in field_bytes()[copy::23]:
        device = device_of(image)
        page = copy_pages(device)[copy]
        flip(device, page, at, 0x81)
        reader = Store.open(device, read_only=True)
        assert [finding.device_offset for finding in reader.check().findings] == [
            page * PAGE_SIZE_BYTES
        ]
        store = Store.open(device)
        assert_holds(store, ITEMS)
        assert_sound(store)


def test_one_whole_superblock_copy_is_enough(image):
    for copy in range(COPIES):
        device = device_of(image)
        for other, page in enumerate(copy_pages(device)):
            if other != copy:
                del device.pages[page]
        assert_sound(store := Store.open(device))
        assert_holds(store, ITEMS)


@pytest.mark.parametrize("whole", range(COPIES))
def test_the_last_whole_superblock_copy_survives_a_torn_update(image, whole):
    """An earlier crash tore the other copies; this one comes in the middle of their repair."""
    damaged = device_of(image)
    pages = copy_pages(damaged)
    for copy, page in enumerate(pages):
        if copy != whole:
            flip(damaged, page, 300, 0xFF)
    recorder = RamDevice(SIZE_BYTES, pages=dict(damaged.pages), record=True)
    superblock.store(recorder, superblock.load(recorder))
    unsynced: list[int] = []
    for event in recorder.events:
        if event.kind == "sync":
            unsynced = []
            continue
        damaged.poke(event.offset, event.data)
        unsynced.append(event.offset // PAGE_SIZE_BYTES)
        torn = device_of(dict(damaged.pages))
        for page in unsynced:
            flip(torn, page, 300, 0xFF)
        assert superblock.load(torn).segment_count == 64


def test_unreadable_superblock_copies_are_passed_over(image):
    device = FaultyDevice(SIZE_BYTES, pages=dict(image))
    device.bad = set(copy_pages(device_of(image))[:3])
    assert_holds(Store.open(device, read_only=True), ITEMS)


def test_all_superblock_copies_damaged_is_said_and_nothing_is_written(image):
    device = device_of(image)
    for page in copy_pages(device):
        flip(device, page, 100, 1)
    before = dict(device.pages)
    with pytest.raises(SuperblockDamaged, match="every copy"):
        Store.open(device)
    assert device.pages == before
    with pytest.raises(ForeignSignature):
        Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)


def test_device_that_cannot_be_read_at_all_is_not_taken_for_an_empty_one(image):
    device = FaultyDevice(SIZE_BYTES, pages=dict(image))
    device.failing = {"read"}
    for read_only in (False, True):
        with pytest.raises(SuperblockDamaged, match=r"is readable: .*on purpose"):
            Store.open(device, read_only=read_only)
    with pytest.raises(OSError, match="on purpose"):
        Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
    assert device.pages == image
    device.failing = set()
    assert_holds(Store.open(device), ITEMS)


def test_newest_generation_wins_over_an_older_copy(image):
    store, device = new_store()
    stale = dict(device.pages)
    put(store, ITEMS)
    store.close()
    first, *others = copy_pages(device)
    for page in others[:2]:
        device.pages[page] = stale[page]
    flip(device, first, 100, 1)
    assert_holds(Store.open(device), ITEMS)


# ------------------------------------------------------------------------ unreadable parts


def killed_image(commits: int) -> dict[int, bytes]:
    """Pages of a store that was killed: its log has to be read."""
    store, device = new_store()
    for first in range(0, 300, 300 // commits):
        put(store, blocks(first, 300 // commits, 3000))
        store.commit()
    return dict(device.pages)


def with_unreadable_slot(image: dict[int, bytes], slot: int) -> FaultyDevice:
    device = FaultyDevice(SIZE_BYTES, pages=dict(image))
    first = Geometry.of(superblock.load(device)).segment_offset(slot) // PAGE_SIZE_BYTES
    device.bad = set(range(first, first + SMALL_SEGMENT_BYTES // PAGE_SIZE_BYTES))
    return device


def test_segment_that_cannot_be_read_is_reported_and_never_taken_for_free():
    """The disk may be well again tomorrow: nothing may be written over what it did not read."""
    image = killed_image(commits=30)
    device = with_unreadable_slot(image, 3)
    store = Store.open(device)
    assert store.recovery.damaged_slots == [3]
    kept = [item for item in blocks(0, 300, 3000) if store.has(item[0])]
    assert 260 < len(kept) < 300
    assert_holds(store, kept)
    with contextlib.suppress(StoreFull):
        for number in range(1000, 3000):
            put(store, [block(number, 3000)])
    store.commit()
    assert all(device.pages[page] == image[page] for page in device.bad)


def test_log_that_may_go_on_behind_an_unreadable_segment_is_not_written_to():
    """Nothing but the last commit says that the segments behind it are no torn tail."""
    image = killed_image(commits=1)
    device = with_unreadable_slot(image, 3)
    with pytest.raises(StoreDamaged, match=r"behind segments \[3\]"):
        Store.open(device)
    assert device.pages == image
    reader = Store.open(device, read_only=True)
    assert_holds(reader, [item for item in blocks(0, 300, 3000) if reader.has(item[0])])
    device.bad = set()
    assert_holds(Store.open(device), blocks(0, 300, 3000))


def test_device_of_which_no_segment_can_be_read_is_damaged_and_not_empty():
    image = killed_image(commits=1)
    device = FaultyDevice(SIZE_BYTES, pages=dict(image))
    geometry = Geometry.of(superblock.load(device))
    first = geometry.segment_offset(0) // PAGE_SIZE_BYTES
    count = geometry.segment_count * SMALL_SEGMENT_BYTES // PAGE_SIZE_BYTES
    device.bad = set(range(first, first + count))
    for read_only in (False, True):
        with pytest.raises(StoreDamaged, match="no segment can be read"):
            Store.open(device, read_only=read_only)
    assert device.pages == image
    device.bad = set()
    assert_holds(Store.open(device), blocks(0, 300, 3000))


# ------------------------------------------------------------------- versions and features


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 0xFFFF_FFFF])
def test_newer_version_is_refused_for_reading_too(image, version):
    device = rewritten(image, version=version)
    before = dict(device.pages)
    for read_only in (False, True):
        with pytest.raises(NewerFormat, match=str(version)):
            Store.open(device, read_only=read_only)
    with pytest.raises(StoreExists):
        Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
    assert device.pages == before


@pytest.mark.parametrize("bit", [1, 31, 63])
def test_unknown_incompatible_feature_is_refused(image, bit):
    device = rewritten(image, features_incompatible=1 << bit)
    with pytest.raises(NewerFormat, match=f"{1 << bit:#x}"):
        Store.open(device, read_only=True)


@pytest.mark.parametrize("bit", [0, 31, 63])
def test_unknown_read_only_feature_allows_reading_only(image, bit):
    device = rewritten(image, features_read_only=1 << bit)
    before = dict(device.pages)
    with pytest.raises(DeviceReadOnly, match="newer version"):
        Store.open(device)
    reader = Store.open(device, read_only=True)
    assert_holds(reader, ITEMS)
    with pytest.raises(StoreReadOnly):
        reader.commit()
    assert device.pages == before


@pytest.mark.parametrize("bit", [0, 31, 63])
def test_unknown_compatible_feature_is_kept(image, bit):
    device = rewritten(image, features_compatible=1 << bit)
    store = Store.open(device)
    assert_holds(store, ITEMS)
    store.close()
    assert superblock.load(device).features_compatible == 1 << bit


# ----------------------------------------------------------------------- not ours, foreign


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"x"])
def test_device_without_a_superblock_is_not_a_store(fill):
    pages = dict.fromkeys(range(64), fill * PAGE_SIZE_BYTES)
    with pytest.raises(NotAStore, match="format"):
        Store.open(RamDevice(SIZE_BYTES, pages=pages))


@pytest.mark.parametrize("size_bytes", [0, 1, 511, 4095, 4096, 5000])
def test_file_of_a_few_bytes_is_not_a_store(tmp_path, size_bytes):
    path = tmp_path / "small"
    path.write_bytes(b"x" * size_bytes)
    with contextlib.closing(FileDevice(path)) as device, pytest.raises(NotAStore):
        Store.open(device)


@pytest.mark.parametrize(
    ("what", "offset", "magic"), signature._MAGICS, ids=[row[0] for row in signature._MAGICS]
)
def test_foreign_signature_is_named_and_survives_a_format(what, offset, magic):
    page, skip = divmod(offset, PAGE_SIZE_BYTES)
    content = (bytes(skip) + magic).ljust(2 * PAGE_SIZE_BYTES, b"\0")
    device = RamDevice(SIZE_BYTES)
    device.poke(page * PAGE_SIZE_BYTES, content)
    before = dict(device.pages)
    with pytest.raises(ForeignSignature) as caught:
        Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
    assert caught.value.signature == what
    assert device.pages == before
    Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES, force=True)
    assert Store.open(device).stats().keys == 0


def test_unknown_data_survives_a_format():
    device = RamDevice(SIZE_BYTES)
    device.poke(100 << 10, b"somebody's".ljust(PAGE_SIZE_BYTES, b"\0"))
    with pytest.raises(ForeignSignature, match="unknown data"):
        Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)


# ---------------------------------------------------------------------------- wrong sizes


@pytest.mark.parametrize("lost_bytes", [PAGE_SIZE_BYTES, 4 * MIB, 10 * MIB, 19 * MIB])
def test_truncated_device_is_refused_and_says_both_sizes(image, lost_bytes):
    device = device_of(image, SIZE_BYTES - lost_bytes)
    with pytest.raises(DeviceTooSmall, match=f"{SIZE_BYTES - lost_bytes}.*{SIZE_BYTES}"):
        Store.open(device)


@pytest.mark.parametrize("size_bytes", [4096, 3 * MIB, 19 * MIB])
def test_truncated_file_is_refused(tmp_path, image, size_bytes):
    path = tmp_path / "store"
    write_image(path, image)
    os.truncate(path, size_bytes)
    with contextlib.closing(FileDevice(path)) as device, pytest.raises(DeviceTooSmall):
        Store.open(device)


@pytest.mark.parametrize("grown_bytes", [PAGE_SIZE_BYTES, 4 * MIB, 100 * MIB])
def test_grown_device_opens_with_its_old_size(image, grown_bytes):
    device = device_of(image, SIZE_BYTES + grown_bytes)
    store = Store.open(device)
    assert_holds(store, ITEMS)
    put(store, blocks(100, 30))
    store.close()
    again = Store.open(device)
    assert contents(again) == dict(ITEMS + blocks(100, 30))
    assert again.stats().segments == 64


@pytest.mark.parametrize("grown_bytes", [4 * MIB, 100 * MIB])
def test_check_of_a_grown_device_finds_nothing(image, grown_bytes):
    store = Store.open(device_of(image, SIZE_BYTES + grown_bytes))
    assert store.check().findings == []


def test_device_shrunk_back_after_growth_opens(image):
    grown = device_of(image, SIZE_BYTES + 40 * MIB)
    store = Store.open(grown)
    put(store, blocks(100, 30))
    store.close()
    assert_holds(Store.open(device_of(grown.pages)), ITEMS + blocks(100, 30))


# -------------------------------------------------------------------------- files, sharing


def write_image(path, image: dict[int, bytes], size_bytes: int = SIZE_BYTES) -> None:
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for page, content in image.items():
            file.seek(page * PAGE_SIZE_BYTES)
            file.write(content)


HOLD = """
import sys
from blkdev.device import open_device
from blkdev.store import Store
store = Store.open(open_device(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held_by_another_process(path):
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"open\n"
            yield holder.pid
        finally:
            holder.stdin.close()
            holder.wait(60)


def test_second_opener_is_told_who_has_the_file(tmp_path, image):
    path = tmp_path / "store"
    write_image(path, image)
    with held_by_another_process(path) as pid:
        for read_only in (False, True):
            with pytest.raises(DeviceBusy, match=str(pid)) as caught:
                open_device(path, read_only=read_only)
            assert caught.value.pid == pid
    with Store.open(open_device(path)) as store:
        assert_holds(store, ITEMS)


def test_two_readers_share_a_file_and_keep_a_writer_out(tmp_path, image):
    path = tmp_path / "store"
    write_image(path, image)
    with (
        Store.open(open_device(path, read_only=True), read_only=True) as first,
        Store.open(open_device(path, read_only=True), read_only=True) as second,
    ):
        assert_holds(first, ITEMS)
        assert_holds(second, ITEMS)
        with pytest.raises(DeviceBusy) as caught:
            open_device(path)
        assert caught.value.pid == os.getpid()


@pytest.mark.needs_root
def test_file_without_write_permission_is_read_only_for_other_users(tmp_path, image):
    path = tmp_path / "store"
    write_image(path, image)
    path.chmod(0o444)
    let_others_through(tmp_path)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setuid(65534)
            with contextlib.closing(open_device(path, read_only=True)) as device:
                assert_holds(Store.open(device, read_only=True), ITEMS)
            try:
                open_device(path)
            except DeviceReadOnly:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_cannot_be_a_device_is_an_os_error(tmp_path, kind):
    path = tmp_path / "device"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(OSError, match=r"device"):
        FileDevice(path)
    with pytest.raises(OSError, match=r"device"):
        BlockDevice(path)


def test_file_truncated_under_an_open_store_is_an_error_and_no_crash(tmp_path, image):
    path = tmp_path / "store"
    write_image(path, image)
    device = FileDevice(path)
    store = Store.open(device)
    large = blocks(500, 20, 30_000)
    put(store, large)
    store.commit()
    os.truncate(path, 9 * MIB)
    outcomes: set[bool | str] = set()
    for key, value in large + ITEMS:
        try:
            outcomes.add(store.get(key) == value)
        except Exception as error:
            outcomes.add(type(error).__name__)
    assert outcomes <= {True, "BlockDamaged"}
    assert "BlockDamaged" in outcomes
    device.close()


# --------------------------------------------------------------------------- block devices


@pytest.fixture
def loop_device(tmp_path):
    with loops.attached(tmp_path / "disk", SIZE_BYTES) as name:
        yield name


@pytest.mark.needs_root
def test_store_on_a_block_device_survives_reopen(loop_device):
    device = open_device(loop_device)
    assert isinstance(device, BlockDevice)
    assert device.size_bytes == SIZE_BYTES
    Store.format(device, segment_size_bytes=512 << 10)
    items = blocks(0, 20, 100_000)
    with Store.open(device) as store:
        put(store, items)
        store.delete_many(key for key, _ in items[:15])
        store.commit()
        assert store.compact().segments_freed
    with Store.open(open_device(loop_device)) as store:
        assert contents(store) == dict(items[15:])
        assert_sound(store)
        for key, value in items[15:]:
            with store.view(key) as view:
                assert view == value


@pytest.mark.needs_root
def test_second_opener_of_a_block_device_is_told_who_has_it(loop_device):
    with contextlib.closing(open_device(loop_device)):
        for read_only in (False, True):
            with pytest.raises(DeviceBusy) as caught:
                open_device(loop_device, read_only=read_only)
            assert caught.value.pid == os.getpid()


@pytest.mark.needs_root
def test_block_device_set_read_only_is_refused_for_writing(loop_device):
    with contextlib.closing(open_device(loop_device)) as device:
        Store.format(device, segment_size_bytes=512 << 10)
    subprocess.run(["blockdev", "--setro", loop_device], check=True)
    try:
        with pytest.raises(DeviceReadOnly):
            open_device(loop_device)
        with Store.open(open_device(loop_device, read_only=True), read_only=True) as store:
            assert store.stats().keys == 0
    finally:
        subprocess.run(["blockdev", "--setrw", loop_device], check=True)


def test_superblock_fields_are_all_covered_by_the_flips():
    flipped = set(field_bytes())
    for field in SUPERBLOCK.fields:
        assert flipped & set(range(field.offset, field.offset + field.size_bytes)), field.name
    assert SUPERBLOCK.fields[-1].name == "reserved"
    assert copied(device_of(formatted())).size_bytes == SIZE_BYTES
