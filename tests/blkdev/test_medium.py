"""Reading a device piece by piece and ahead: the right bytes, and errors where they belong."""

import contextlib
import os
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blkdev.care import medium
from blkdev.care.medium import PIECE_SIZE_BYTES, Source
from blkdev.device import RamDevice
from blkdev.devices.file import FileDevice
from blkdev.errors import BlockDamaged
from blkdev.format import PAGE_SIZE_BYTES
from blkdev.store import Store
from tests.blkdev.devices import MIB, assert_holds, assert_sound, block, blocks, digest, put

pytestmark = pytest.mark.slow

SIZE_BYTES = 32 * MIB
CONTENT = random.Random(5).randbytes(SIZE_BYTES)


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    path = tmp_path_factory.mktemp("medium") / "file"
    path.write_bytes(CONTENT)
    made = FileDevice(path)
    yield made
    made.close()


@pytest.fixture
def source(device):
    with contextlib.closing(Source(device)) as made:
        yield made


def helpers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("read-ahead")]


class BadSectors:
    """Instead of `os.preadv`: fails with EIO where a range is bad, and notes all that is read."""

    def __init__(self, *bad: range) -> None:
        self.bad = bad
        self.reads: list[tuple[int, int]] = []
        self._preadv = os.preadv

    def __call__(self, descriptor, buffers, offset):
        length = sum(map(len, buffers))
        self.reads.append((offset, length))
        if any(offset < each.stop and each.start < offset + length for each in self.bad):
            raise OSError(5, "bad sector")
        return self._preadv(descriptor, buffers, offset)


# ---------------------------------------------------------------------------- the right bytes


@pytest.mark.parametrize("step", [4096, 100_000, MIB + 8, 5 * MIB, 9 * MIB])
def test_what_is_read_in_order_is_what_is_there(source, step):
    read = [
        source.read(at, min(step, SIZE_BYTES - at), SIZE_BYTES - at)
        for at in range(0, SIZE_BYTES, step)
    ]
    assert b"".join(read) == CONTENT


places_to_read = st.tuples(
    st.integers(0, 7),
    st.integers(0, 4 * MIB - 1),
    st.integers(1, 6 * MIB),
    st.sampled_from(["on", "jump", "expect", "forget"]),
)


@given(st.lists(places_to_read, max_size=12))
def test_reads_in_any_order_give_what_is_there(device, places):
    """Going on where the last one ended, jumping, and expecting what comes and what does not."""
    at = 0
    with contextlib.closing(Source(device)) as source:
        for region, offset, length, how in places:
            if how in ("jump", "forget"):
                at = region * 4 * MIB + offset
            if how == "forget":
                source.forget()
            if how == "expect":
                source.expect(region * 4 * MIB, 4 * MIB)
            room = min(SIZE_BYTES, (at // (8 * MIB) + 1) * 8 * MIB) - at
            length = min(length, room)
            assert source.read(at, length, room) == CONTENT[at : at + length]
            at = (at + length) % SIZE_BYTES


def test_view_is_no_copy_and_joins_what_two_pieces_have(source):
    first = source.view(0, 64, SIZE_BYTES)
    assert bytes(first) == CONTENT[:64]
    at = PIECE_SIZE_BYTES - 1000
    source.read(64, at - 64, SIZE_BYTES - 64)
    view = source.view(at, 3 * MIB, SIZE_BYTES - at)
    assert bytes(view) == CONTENT[at : at + 3 * MIB]


def test_file_system_that_cannot_go_past_its_cache_is_read_through_it(device, monkeypatch):
    def refuse(*_arguments):
        raise OSError(22, "invalid argument")

    monkeypatch.setattr(medium.os, "preadv", refuse)
    with contextlib.closing(Source(device)) as source:
        assert source.read(5, 6 * MIB, SIZE_BYTES - 5) == CONTENT[5 : 5 + 6 * MIB]


# ----------------------------------------------------------------------- ahead, and no further


def test_next_piece_is_read_while_this_one_is_looked_at(device, monkeypatch):
    reads = BadSectors()
    monkeypatch.setattr(medium.os, "preadv", reads)
    with contextlib.closing(Source(device)) as source:
        source.read(0, 64, 12 * MIB)
        assert len(reads.reads) == 1, "nobody knows yet that it goes on"
        source.read(64, PAGE_SIZE_BYTES * 16, 12 * MIB - 64)
        source.close()
    first, second, third = reads.reads
    assert first[1] < second[1] == PIECE_SIZE_BYTES == third[1]
    assert third[0] == second[0] + second[1]


def test_what_is_expected_is_read_ahead_once_nothing_else_is_left(device, monkeypatch):
    reads = BadSectors()
    monkeypatch.setattr(medium.os, "preadv", reads)
    with contextlib.closing(Source(device)) as source:
        source.expect(16 * MIB, 2 * MIB)
        source.read(0, MIB, MIB)
        source.read(16 * MIB, 64, 2 * MIB)
        assert source.read(0, 64, MIB) == CONTENT[:64]
    assert (16 * MIB, 2 * MIB) not in reads.reads, "it was one read, and it did not go on"
    reads.reads.clear()
    with contextlib.closing(Source(device)) as source:
        source.expect(16 * MIB, 2 * MIB)
        source.read(0, 64, MIB)
        source.read(64, MIB - 64, MIB - 64)
        assert source.read(16 * MIB, 64, 2 * MIB) == CONTENT[16 * MIB :][:64]
    assert reads.reads.count((16 * MIB, 2 * MIB)) == 1


def test_single_places_are_read_alone(device, monkeypatch):
    reads = BadSectors()
    monkeypatch.setattr(medium.os, "preadv", reads)
    with contextlib.closing(Source(device)) as source:
        for at in (20 * MIB, 3 * MIB, 9 * MIB):
            source.read(at, 300, SIZE_BYTES - at)
        assert not helpers()
    assert len(reads.reads) == 3
    assert sum(length for _, length in reads.reads) < MIB


def test_memory_is_bounded_whatever_is_read(source):
    for at in range(0, SIZE_BYTES, 3 * MIB):
        source.read(at, min(3 * MIB, SIZE_BYTES - at), SIZE_BYTES - at)
    assert len(source._buffers) == 2
    assert sum(map(len, source._buffers)) <= 17 * MIB


def test_device_in_memory_needs_no_helper():
    ram = RamDevice(16 * MIB)
    ram.poke(0, CONTENT[: 16 * MIB])
    with contextlib.closing(Source(ram)) as source:
        for at in range(0, 16 * MIB, MIB):
            assert source.read(at, MIB, 16 * MIB - at) == CONTENT[at : at + MIB]
            assert not helpers()


def test_helper_has_ended_when_the_source_is_closed(device):
    source = Source(device)
    source.read(0, 64, SIZE_BYTES)
    source.read(64, 5 * MIB, SIZE_BYTES - 64)
    assert helpers()
    source.close()
    source.close()
    assert not helpers()


# --------------------------------------------------------------------------------- bad sectors


@pytest.mark.parametrize("bad", [0, 64, 5000, 4 * MIB - 1, 4 * MIB, 6 * MIB, 8 * MIB - 1])
def test_bad_sector_fails_those_reads_that_ask_for_it_and_no_others(device, monkeypatch, bad):
    page = bad & -PAGE_SIZE_BYTES
    monkeypatch.setattr(medium.os, "preadv", BadSectors(range(page, page + PAGE_SIZE_BYTES)))
    failed = []
    with contextlib.closing(Source(device)) as source:
        for at in range(0, 16 * MIB, PAGE_SIZE_BYTES):
            try:
                read = source.read(at, PAGE_SIZE_BYTES, 16 * MIB - at)
                assert read == CONTENT[at : at + PAGE_SIZE_BYTES]
            except OSError:
                failed.append(at)
    assert failed == [page]


def test_bad_sector_in_what_was_read_ahead_for_nothing_is_never_raised(device, monkeypatch):
    monkeypatch.setattr(medium.os, "preadv", BadSectors(range(5 * MIB, 5 * MIB + 1)))
    with contextlib.closing(Source(device)) as source:
        source.read(0, 64, SIZE_BYTES)
        source.read(64, 4 * MIB, SIZE_BYTES - 64)
        assert source.read(20 * MIB, 64, 64) == CONTENT[20 * MIB :][:64]


def test_patchy_region_is_left_behind(device, monkeypatch):
    reads = BadSectors(range(2 * MIB, 2 * MIB + 1))
    monkeypatch.setattr(medium.os, "preadv", reads)
    with contextlib.closing(Source(device)) as source:
        for at in range(0, SIZE_BYTES, 64 << 10):
            with contextlib.suppress(OSError):
                source.read(at, 64 << 10, SIZE_BYTES - at)
    large = [offset for offset, length in reads.reads if length == PIECE_SIZE_BYTES]
    assert len(large) >= 6


# ---------------------------------------------------------------------------------- interrupted


def test_pace_is_told_before_every_read_and_may_end_it(device, monkeypatch):
    reads = BadSectors()
    monkeypatch.setattr(medium.os, "preadv", reads)
    announced: list[int] = []

    def pace(size_bytes: int) -> None:
        announced.append(size_bytes)
        if len(announced) == 4:
            raise InterruptedError("enough")

    source = Source(device, pace)
    with pytest.raises(InterruptedError, match="enough"), source:
        for at in range(0, SIZE_BYTES, MIB):
            source.read(at, MIB, SIZE_BYTES - at)
    assert [length for _, length in reads.reads] == announced[:3]
    assert source.read_bytes == sum(announced[:3])
    assert not helpers()


# ------------------------------------------------------------------- a store on a device that rots


@pytest.fixture
def store(tmp_path):
    """Segments of 16 MiB with small blocks and large ones."""
    made = FileDevice(tmp_path / "store", create_size_bytes=256 * MIB)
    Store.format(made, segment_size_bytes=16 * MIB)
    with Store.open(made, verify_reads=False) as opened:
        rng = random.Random(3)
        for first in range(0, 6000, 1000):
            put(opened, blocks(first, 1000))
            large = rng.randbytes(3 * MIB)
            put(opened, [(digest(large), large)])
            opened.set_name(b"name %d" % first, b"value")
            opened.journal(1).append(b"record")
            if first % 2000:
                opened.commit()
        put(opened, blocks(6000, 3, 4 * MIB))
        opened.commit()
        yield opened


def place_of(store: Store, key: bytes) -> int:
    found = store._reader.find(key)
    assert found is not None
    return store._volume.device_offset(found.location)


def test_sound_store_is_read_whole_and_found_sound(store):
    assert_sound(store)
    report = store.scrub()
    assert (report.ok, report.finished) == (True, True)
    assert report.records == store.check().records > 6000
    assert not helpers()


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 999, 1000, 3500, 5999, 6001])
def test_bad_sector_costs_the_blocks_on_it_and_is_found_by_check_and_scrub(
    store, monkeypatch, number
):
    size = 4 * MIB if number >= 6000 else 300
    key, value = block(number, size)
    at = place_of(store, key)
    page = at & -PAGE_SIZE_BYTES
    bad = range(page, page + PAGE_SIZE_BYTES)
    lost = {
        each
        for each in store.keys()  # noqa: SIM118  # a store is no dict
        if place_of(store, each) < bad.stop
        and place_of(store, each) + 58 + store.size_of(each) > bad.start
    }
    monkeypatch.setattr(medium.os, "preadv", BadSectors(bad))
    for report in (store.check(), store.scrub()):
        assert {each.key for each in report.findings if each.lost == "block" and each.key} <= lost
        found = [each for each in report.findings if each.lost == "block"]
        assert len(found) == len(lost)
        assert any("cannot read" in each.what for each in found)
    assert not helpers()
    assert store.get(key) == value, "only the medium is bad, not what the system has cached"


@pytest.mark.parametrize("number", [7, 2345, 6002])
def test_rotten_value_is_found_by_key_and_place(store, number):
    key, _ = block(number, 4 * MIB if number >= 6000 else 300)
    at = place_of(store, key)
    with open(store.device.name, "r+b") as file:  # noqa: PTH123  # the device's own name
        file.seek(at + 100)
        (byte,) = file.read(1)
        file.seek(at + 100)
        file.write(bytes([byte ^ 1]))
    for report in (store.check(), store.scrub()):
        (finding,) = report.findings
        assert (finding.key, finding.device_offset) == (key, at)
        assert (finding.lost, finding.what.endswith("value fails its checksum")) == ("block", True)
    with pytest.raises(BlockDamaged):
        store.get(key)


def test_progress_that_raises_ends_a_check_or_a_scrub_and_its_helper(store):
    """Also an OSError, which is none of the device."""
    for work in (store.check, store.scrub):
        calls = 0

        def enough(done: int, total: int) -> None:
            nonlocal calls
            calls += 1
            assert 0 <= done <= total
            if calls == 8:
                raise InterruptedError("enough")

        with pytest.raises(InterruptedError, match="enough"):
            work(progress=enough)
        assert calls == 8
        assert not helpers()
    report = store.scrub()
    assert (report.ok, report.finished, report.resumed) == (True, True, True)
    assert_holds(store, blocks(0, 100))
