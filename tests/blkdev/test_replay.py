"""Replaying the log with the C helper and without it: the same state of the same device, whatever
was logged and whatever happened to it since.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from typing import Any
from unittest import mock
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blkdev import format as fmt
from blkdev import segment, superblock
from blkdev.errors import NewerFormat, StoreError, StoreFull
from blkdev.format import PAGE_SIZE_BYTES
from blkdev.index import Index
from blkdev.recovery import recover
from blkdev.recovery.recover import Recovered
from blkdev.segment import Volume, read_entries, read_group
from blkdev.store import Store
from tests.blkdev.damage import flip, spoil
from tests.blkdev.devices import (
    SIZE_BYTES,
    FaultyDevice,
    block,
    blocks,
    contents,
    formatted,
    put,
)

STREAM = 5


def python_alone() -> Any:
    """As on a machine without a compiler; the index itself is compared in test_native."""
    return mock.patch.multiple(recover, enter_plain=lambda _index, _entries, at, _slot: (at, 0))


def state(found: Recovered, volume: Volume) -> dict[str, Any]:
    """All that recovery says, in a form that can be compared."""
    catalog, tail = found.catalog, found.tail
    return {
        "index": catalog.index.image(),
        "counted": (catalog.index.count, catalog.index.size_bytes, catalog.live_bytes,
                    catalog.used_bytes, catalog.name_count, catalog.journal_record_count),
        "segments": list(catalog.segments.values()),
        "by sequence": catalog.by_sequence,
        "names": catalog.names,
        "streams": catalog.streams,
        "tombstones": catalog.tombstones,
        "free": list(catalog.free),
        "tail": tail._replace(entries=array("Q")),
        "entries": tail.entries.tobytes(),
        "report": found.report,
        "epoch": found.epoch,
        "order": (found.checkpoint_slots, found.garbage_slots, found.leftover_slots,
                  found.stale_footer_slot, found.is_cut_short),
        "unsealed": [(full.segment.slot, full.entries.tobytes(), full.last_group)
                     for full in found.unsealed],
        "headers": [(each.slot, group) for each, group in found.damaged_headers],
        "failed": volume.failed_slots,
    }  # fmt: skip


def recovered(device: FaultyDevice) -> dict[str, Any] | str:
    """The state, or the name of the error that says why there is none."""
    try:
        block_ = superblock.load(device)
        volume = Volume.of(device, block_)
        return state(recover.recover(volume, block_), volume)
    except StoreError as error:
        return type(error).__name__


def assert_both_agree(device: FaultyDevice) -> dict[str, Any] | str:
    with_helper = recovered(device)
    with python_alone(), mock.patch.object(segment, "native_scan", None):
        alone = recovered(device)
    assert with_helper == alone
    return with_helper


# ------------------------------------------------------------------------------- whole lives


class Life:
    """A store whose log gets records of every kind."""

    def __init__(self) -> None:
        self.device = FaultyDevice(SIZE_BYTES, pages=formatted())
        self.store = Store.open(self.device)
        self.next = 0

    def put(self, rng: random.Random) -> None:
        """Mostly a run of new small blocks, some of which are there already."""
        size = rng.choice((0, 1, 40, 300, 300, 4096, 20_000))
        count = rng.randrange(1, 80 if size < 1000 else 4)
        self.store.put_many([*blocks(self.next, count, size), block(rng.randrange(self.next + 1))])
        self.next += count

    def delete(self, rng: random.Random) -> None:
        first = rng.randrange(self.next + 1)
        self.store.delete_many(key for key, _ in blocks(first, rng.randrange(1, 30)))

    def replace(self, rng: random.Random) -> None:
        keys = [block(rng.randrange(self.next + 1))[0] for _ in range(3)]
        self.store.apply({key: rng.choice((None, rng.randbytes(50))) for key in keys})

    def name(self, rng: random.Random) -> None:
        self.store.set_name(b"name %d" % rng.randrange(4), rng.choice((None, rng.randbytes(20))))

    def journal(self, rng: random.Random) -> None:
        position = self.store.journal(STREAM).append(rng.randbytes(rng.choice((0, 30, 3000))))
        if rng.random() < 0.3:
            self.store.journal(STREAM).trim(position - rng.randrange(20))

    def commit(self, _rng: random.Random) -> None:
        self.store.commit()

    def write_out(self, _rng: random.Random) -> None:
        self.store.write_out()

    def checkpoint(self, _rng: random.Random) -> None:
        self.store.checkpoint()

    def compact(self, _rng: random.Random) -> None:
        self.store.compact()

    def kill(self, _rng: random.Random) -> None:
        self.store.write_out()
        self.store = Store.open(self.device)

    def close(self, _rng: random.Random) -> None:
        self.store.close()
        self.store = Store.open(self.device)


STEPS = (
    "put", "put", "put", "delete", "replace", "name", "journal", "commit", "write_out",
    "checkpoint", "compact", "kill", "close",
)  # fmt: skip
DAMAGES = ("flip", "flip", "spoil", "lose", "unreadable", "torn")


def damaged(life: Life, kind: str, rng: random.Random) -> FaultyDevice:
    """A copy of the device as it might be found: most damage hits what was written last."""
    pages = dict(life.device.pages)
    made = FaultyDevice(SIZE_BYTES, pages=pages)
    writes = [event for event in life.device.events if event.kind == "write"]
    recent = writes[-rng.choice((1, 3, 30, len(writes))) :]
    event = rng.choice(recent)
    page = (event.offset + rng.randrange(len(event.data))) // PAGE_SIZE_BYTES
    if page * PAGE_SIZE_BYTES in superblock.Geometry.of(superblock.load(made)).copy_offsets:
        return made
    if kind == "flip":
        content = pages.get(page, b"").rstrip(b"\0")
        flip(made, page * PAGE_SIZE_BYTES + rng.randrange(len(content) or 1), rng)
    elif kind == "spoil":
        spoil(made, page, rng)
    elif kind == "lose":
        pages.pop(page, None)
    elif kind == "unreadable":
        made.bad = {page}
    else:
        # Everything from a sector of some write on did not arrive.
        at = rng.randrange(0, len(event.data), 512)
        kept = event.data[:at].ljust(len(event.data), b"\0")
        for first in range(0, len(kept), PAGE_SIZE_BYTES):
            pages[(event.offset + first) // PAGE_SIZE_BYTES] = kept[first : first + PAGE_SIZE_BYTES]
    return made


@given(
    st.lists(st.sampled_from(STEPS), min_size=1, max_size=25),
    st.lists(st.sampled_from(DAMAGES), max_size=6),
    st.integers(0, 1 << 32),
)
def test_both_recover_the_same_state_of_any_log(steps, damages, seed):
    rng = random.Random(seed)
    life = Life()
    for step in steps:
        try:
            getattr(life, step)(rng)
        except StoreFull:
            break
    life.store.write_out()
    assert isinstance(assert_both_agree(life.device), dict)
    for kind in damages:
        assert_both_agree(damaged(life, kind, rng))


def test_log_of_blocks_alone_and_their_copies_is_the_same_for_both():
    life = Life()
    put(life.store, blocks(0, 600, 300))
    life.store.delete_many(key for key, _ in blocks(0, 500, 300))
    life.store.compact()
    put(life.store, blocks(1000, 600, 300))
    life.store.commit()
    found = assert_both_agree(life.device)
    assert isinstance(found, dict)
    assert found["report"].groups_replayed
    store = Store.open(FaultyDevice(SIZE_BYTES, pages=dict(life.device.pages)))
    assert contents(store) == dict(blocks(500, 100, 300) + blocks(1000, 600, 300))


def test_key_that_is_in_the_index_twice_after_an_interrupted_compaction_is_kept_once():
    """A copy whose source was not freed yet: the second record of a key is no new block."""
    life = Life()
    items = blocks(0, 400, 300)
    put(life.store, items)
    life.store.delete_many({key for key, _ in items} - {key for key, _ in items[::4]})
    life.store.commit()
    made = FaultyDevice(SIZE_BYTES, pages=dict(life.device.pages))
    life.device.events.clear()
    life.store.compact()
    interrupted = 0
    for event in life.device.events:
        if event.kind == "write":
            made.poke(event.offset, event.data)
            found = assert_both_agree(made)
            assert isinstance(found, dict)
            assert found["counted"][0] == len(items[::4])
            interrupted += any(each.copied for each in found["segments"])
    assert interrupted
    assert contents(Store.open(life.device)) == dict(items[::4])


# ------------------------------------------------------------------------------- one group

SLOT = 0


def volume_of(device: FaultyDevice) -> Volume:
    return Volume.of(device, superblock.load(device))


def grouped(records: list[tuple[int, bytes, bytes]], volume: Volume) -> bytes:
    """Bytes of a group of records (kind, key, value), with its header."""
    packed, checksum = bytearray(fmt.GROUP_HEADER.size_bytes), volume.seed
    for number, (kind, key, value) in enumerate(records):
        head = fmt.encode_record_head(kind, key, len(value), crc32(value), number, volume.seed)
        checksum = crc32(head, checksum)
        packed += head + value
        packed += bytes(-len(packed) % 8)
    header = fmt.GROUP_HEADER.zero()._replace(
        size_bytes=len(packed), record_count=len(records), records_checksum=checksum
    )
    packed[: fmt.GROUP_HEADER.size_bytes] = fmt.GROUP_HEADER.seal(header, volume.seed)
    return bytes(packed)


def poked(device: FaultyDevice, volume: Volume, packed: bytes) -> None:
    at = volume.geometry.segment_offset(SLOT) + PAGE_SIZE_BYTES
    device.poke(at, packed.ljust(fmt.aligned(len(packed)), b"\0"))


def outcome(work: Callable[[], tuple[array[int], bytes] | None]) -> list[int] | str | None:
    try:
        found = work()
    except NewerFormat:
        return "newer"
    return None if found is None else found[0].tolist()


def assert_group_is_the_same(volume: Volume, header: fmt.Row, *, verify: bool) -> Any:
    def read() -> tuple[array[int], bytes] | None:
        return read_entries(volume, SLOT, PAGE_SIZE_BYTES, header, verify_values=verify)

    with_helper = outcome(read)
    with mock.patch.object(segment, "native_scan", None):
        assert outcome(read) == with_helper
    return with_helper


records = st.lists(
    st.tuples(
        st.sampled_from((1, 1, 1, 2, 3, 4, 5, 6)),
        st.binary(max_size=70),
        st.binary(max_size=120),
    ),
    max_size=12,
)


@given(records, st.booleans())
def test_entries_of_a_whole_group_are_those_of_its_records(made, verify):
    device = FaultyDevice(SIZE_BYTES, pages=formatted())
    volume = volume_of(device)
    packed = grouped(made, volume)
    poked(device, volume, packed)
    header = fmt.GROUP_HEADER.unpack(packed)
    entries = assert_group_is_the_same(volume, header, verify=verify)
    found = read_group(volume, SLOT, PAGE_SIZE_BYTES, header, verify_values=verify)
    assert found is not None
    pairs = [pair for record in found for pair in record.entry(volume.index_salt)]
    assert entries == pairs
    assert len(entries) == 2 * len(made)


@given(
    records,
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), max_size=3),
    st.sampled_from(("", "record_count", "size_bytes", "records_checksum")),
    st.integers(-3, 1 << 32),
)
def test_group_that_is_damaged_or_lies_is_judged_the_same(made, verify, flips, field, other):
    device = FaultyDevice(SIZE_BYTES, pages=formatted())
    volume = volume_of(device)
    packed = bytearray(grouped(made, volume))
    header = fmt.GROUP_HEADER.unpack(packed)
    if field:
        changed = other if other > 1000 else getattr(header, field) + other
        header = header._replace(**{field: max(0, changed) & 0xFFFF_FFFF})
        header = header._replace(size_bytes=min(header.size_bytes, 60_000))
    for at, bits in flips:
        packed[at % len(packed)] ^= bits
    poked(device, volume, bytes(packed))
    assert_group_is_the_same(volume, header, verify=verify)


@pytest.mark.parametrize(
    ("at", "changed", "expected"),
    [
        (4, b"\0", "newer"),
        (4, b"\7", "newer"),
        (4, b"\xff", "newer"),
        (5, b"\1", "newer"),
        (6, b"\xff\xff", None),
        (8, b"\xff\xff\xff\xff", None),
        (8, b"\xff\xff\xff\x7f", None),
        (8, b"\0\0\0\0", None),
    ],
)
@pytest.mark.parametrize("verify", [False, True])
def test_header_that_verifies_and_says_nonsense_is_not_followed(at, changed, expected, verify):
    device = FaultyDevice(SIZE_BYTES, pages=formatted())
    volume = volume_of(device)
    packed = bytearray(grouped([(1, b"k" * 34, b"v" * 300)], volume))
    begin = fmt.GROUP_HEADER.size_bytes
    packed[begin + at : begin + at + len(changed)] = changed
    key_size = int.from_bytes(packed[begin + 6 : begin + 8], "little")
    checksum = crc32(packed[begin + 4 : begin + 24 + key_size], volume.seed)
    packed[begin : begin + 4] = checksum.to_bytes(4, "little")
    poked(device, volume, bytes(packed))
    header = fmt.GROUP_HEADER.unpack(packed)
    sums = crc32(packed[begin : begin + 24 + key_size], volume.seed)
    header = header._replace(records_checksum=sums)
    assert assert_group_is_the_same(volume, header, verify=verify) == expected


@pytest.mark.parametrize("at", range(4))
def test_record_whose_own_checksum_is_wrong_is_damaged_whatever_the_group_says(at):
    device = FaultyDevice(SIZE_BYTES, pages=formatted())
    volume = volume_of(device)
    packed = bytearray(grouped([(1, b"k" * 34, b"v" * 300)], volume))
    begin = fmt.GROUP_HEADER.size_bytes
    packed[begin + at] ^= 1
    poked(device, volume, bytes(packed))
    sums = crc32(packed[begin : begin + 24 + 34], volume.seed)
    header = fmt.GROUP_HEADER.unpack(packed)._replace(records_checksum=sums)
    assert assert_group_is_the_same(volume, header, verify=True) is None


def test_group_that_cannot_be_read_has_no_entries():
    device = FaultyDevice(SIZE_BYTES, pages=formatted())
    volume = volume_of(device)
    packed = grouped([(1, b"key", b"value")], volume)
    poked(device, volume, packed)
    device.bad = {(volume.geometry.segment_offset(SLOT) + PAGE_SIZE_BYTES) // PAGE_SIZE_BYTES}
    header = fmt.GROUP_HEADER.unpack(packed)
    assert assert_group_is_the_same(volume, header, verify=True) is None
    assert volume.failed_slots == {SLOT}


# ------------------------------------------------------------------------------- the index

entry = st.tuples(
    st.one_of(st.integers(0, 30).map(lambda low: low << 24), st.integers(0, fmt.NO_FINGERPRINT)),
    st.one_of(
        st.integers(1, 1 << 20).map(lambda at: fmt.pack_location(3, at << 3 & 0x3FF_FFF8, 64)),
        st.integers(1, 99).map(lambda at: fmt.pack_location(3, at << 3, 64) | fmt.OTHER_KIND),
        st.integers(0, (1 << 64) - 1),
    ),
)


@given(st.lists(entry, max_size=60), st.lists(entry, max_size=10), st.integers(0, 5))
def test_plain_entries_are_entered_up_to_the_first_that_is_not(made, there, start):
    index, model = Index(), Index()
    for each in there:
        if each[0] != fmt.NO_FINGERPRINT:
            index.add(*each)
            model.add(*each)
    entries = array("Q", [part for pair in made for part in pair])
    at, size_bytes = recover.enter_plain(index, entries, start, 3)
    assert start <= at <= max(start, len(made))
    for fingerprint, location in made[start:at]:
        assert not model.locations(fingerprint)
        assert location >> 63 == 0
        assert fmt.location_slot(location) == 3
        model.add(fingerprint, location)
    assert size_bytes == sum(fmt.location_size(pair[1]) for pair in made[start:at])
    assert index.image() == model.image()


def test_entries_of_a_part_that_is_put_off_are_left_to_python():
    index = Index()
    index.put_off(0, 2, 0)
    entries = array("Q", [1 << 24, fmt.pack_location(3, 4096, 64)])
    assert recover.enter_plain(index, entries, 0, 3) == (0, 0)
    assert not index.is_there(0)
