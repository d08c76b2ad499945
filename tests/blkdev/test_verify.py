"""Verifying whole groups: the C helper and its twin agree, on every group and on every damage."""

import random
import struct
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blkdev import format as fmt
from blkdev.care import verify
from blkdev.care.check import Checker
from blkdev.care.verify import count_alive, decoded, verified, verify_group
from blkdev.errors import NewerFormat
from blkdev.index import Index, fingerprint_of
from blkdev.pure.shards import Shards
from blkdev.recovery.past_damage import group_headers
from blkdev.segment import Volume
from tests.blkdev.damage import past
from tests.blkdev.devices import assert_sound, block, blocks, new_store, put

SEED, SALT = 12345, 0x1234_5678_9ABC_DEF0
PLACE = fmt.pack_location(7, 8192, 0)

records = st.lists(
    st.tuples(
        st.sampled_from([fmt.KIND_BLOCK] * 4 + sorted(fmt.KINDS)),
        st.binary(max_size=70),
        st.binary(max_size=300),
        st.booleans(),
    ),
    max_size=12,
)


def group_of(items) -> tuple[bytes, int, int]:
    """A group's bytes with an empty header, its number of records and their checksum; the value of
    a record that is not whole fails its checksum.
    """
    packed, heads = bytearray(fmt.GROUP_HEADER.size_bytes), b""
    for number, (kind, key, value, whole) in enumerate(items):
        checksum = verify.crc32(value) ^ (not whole)
        head = fmt.encode_record_head(kind, key, len(value), checksum, number, SEED)
        packed += head + value
        packed += bytes(-len(packed) % 8)
        heads += head
    return bytes(packed), len(items), verify.crc32(heads, SEED)


def both(group: bytes, count: int, checksum: int, place: int = PLACE):
    arguments = (memoryview(group), count, checksum, SEED, SALT, place)
    chosen, plain = verify_group(*arguments), verify._verify_group(*arguments)
    assert chosen == plain
    return plain


@given(records)
def test_entries_and_odd_records_of_a_whole_group_are_what_was_put_in(items):
    found = both(*group_of(items))
    assert found is not None
    entries, numbers = array("Q", found[0]), array("I", found[1])
    at, expected = fmt.GROUP_HEADER.size_bytes, array("Q")
    for kind, key, value, _ in items:
        size = fmt.record_size(len(key), len(value))
        location = PLACE + fmt.pack_location(0, at, size)
        if kind == fmt.KIND_BLOCK:
            expected.extend((fingerprint_of(key, SALT), location))
        else:
            expected.extend((fmt.NO_FINGERPRINT, location | fmt.OTHER_KIND))
        at += size
    assert entries == expected
    odd = [n for n, (kind, _, _, whole) in enumerate(items) if kind != fmt.KIND_BLOCK or not whole]
    assert list(numbers) == odd


@given(records, st.data())
def test_group_with_any_byte_changed_is_judged_alike_and_never_wrongly_whole(items, data):
    group, count, checksum = group_of(items)
    at = data.draw(st.integers(fmt.GROUP_HEADER.size_bytes, max(len(group) - 1, 64)))
    if at >= len(group):
        return
    changed = bytearray(group)
    changed[at] ^= data.draw(st.integers(1, 255))
    found, before = both(bytes(changed), count, checksum), both(group, count, checksum)
    assert before is not None
    if found is not None:
        # Padding is nobody's, and a value only its own record's.
        assert found[0] == before[0]
        assert len(found[1]) - len(before[1]) in (-4, 0, 4)


@given(records, st.integers(0, 100), st.integers(0, 1 << 32))
def test_group_that_is_cut_short_or_miscounted_is_refused(items, cut, wrong):
    group, count, checksum = group_of(items)
    if cut:
        assert both(group[: max(0, len(group) - cut)], count, checksum) is None
    assert both(group, count + 1, checksum) is None
    if wrong & 0xFFFF_FFFF != checksum:
        assert both(group, count, wrong & 0xFFFF_FFFF) is None
    assert both(group + bytes(8), count, checksum) is None


@given(st.binary(max_size=600), st.integers(0, (1 << 32) - 1))
def test_bytes_of_any_kind_are_judged_alike_and_harm_nothing(group, count):
    both(group, count if count % 3 else count % 30, 0)


@given(st.binary(min_size=24, max_size=24), st.integers(0, 200))
def test_forged_record_heads_are_judged_alike(head, more):
    """With a checksum that fits, whatever sizes and kinds they claim."""
    packed = bytearray(64) + head + bytes(more)
    key_size = int.from_bytes(head[6:8], "little")
    packed[64:68] = struct.pack("<I", verify.crc32(packed[68 : 64 + 24 + key_size], SEED))
    sum_of_heads = verify.crc32(packed[64 : 64 + 24 + key_size], SEED)
    both(bytes(packed), 1, sum_of_heads)


@pytest.mark.parametrize("fault", ["kind 0", "kind 7", "transform"])
def test_record_of_a_newer_program_is_none_and_says_so_when_it_is_decoded(fault):
    store, device = new_store()
    put(store, blocks(0, 5))
    store.commit()
    volume, segment = store._volume, store._log.active
    assert segment is not None
    ((offset, group),) = group_headers(volume, segment.slot, segment.sequence, end=segment.end)
    at = volume.geometry.segment_offset(segment.slot) + offset
    packed = bytearray(device.read(at, fmt.aligned(group.size_bytes)))
    packed[64 + (5 if fault == "transform" else 4)] = {"kind 0": 0, "kind 7": 7}.get(fault, 1)
    end = 64 + 24 + len(block(0)[0])
    packed[64:68] = struct.pack("<I", verify.crc32(packed[68:end], volume.seed))
    device.poke(at, bytes(packed))
    with pytest.raises(NewerFormat):
        verified(volume, segment.slot, offset, group)


# --------------------------------------------------------------------------------- of a store


def groups_of(volume: Volume, store):
    for segment in store._catalog.segments.values():
        for offset, group in group_headers(volume, segment.slot, segment.sequence, end=segment.end):
            yield segment.slot, offset, group


def test_verified_groups_of_a_store_are_the_decoded_ones_without_whole_blocks():
    made = past(4)
    volume, seen = made.store._volume, 0
    for slot, offset, group in groups_of(volume, made.store):
        quick, slow = verified(volume, slot, offset, group), decoded(volume, slot, offset, group)
        assert quick is not None
        assert slow is not None
        assert quick.entries == slow.entries
        assert quick.records == [
            each for each in slow.records if each.header.kind != fmt.KIND_BLOCK or not each.is_whole
        ]
        seen += len(slow.records)
    assert seen > 60


def test_device_that_fails_is_a_group_that_cannot_be_read():
    made = past(4)
    volume = made.store._volume
    slot, offset, group = next(iter(groups_of(volume, made.store)))
    made.device.failing = {"read"}
    assert verified(volume, slot, offset, group) is None


# -------------------------------------------------------------------------------- what is alive


@given(
    st.lists(st.tuples(st.integers(0, 60).map(lambda low: low << 40), st.integers(1, 40))),
    st.lists(st.tuples(st.integers(0, 60).map(lambda low: low << 40), st.integers(1, 40))),
)
def test_count_of_what_is_alive_is_that_of_both_tables(inside, asked):
    tables: tuple[Any, Any] = (Index(), Shards())
    for fingerprint, number in set(inside):
        for table in tables:
            table.add(fingerprint, fmt.pack_location(1, number * 8, number * 16))
    entries = array("Q")
    for fingerprint, number in (*asked, (fmt.NO_FINGERPRINT, 1)):
        entries.extend((fingerprint, fmt.pack_location(1, number * 8, number * 16)))
    alive = [number * 16 for fingerprint, number in asked if (fingerprint, number) in set(inside)]
    assert count_alive(tables[0], entries) == (len(alive), sum(alive))
    assert verify._count_alive(tables[1], entries) == (len(alive), sum(alive))
    assert verify._count_alive(tables[0], entries) == (len(alive), sum(alive))


def test_records_that_are_no_blocks_are_not_counted_as_alive_ones():
    index = Index()
    location = fmt.pack_location(1, 64, 64) | fmt.OTHER_KIND
    entries = array("Q", (fmt.NO_FINGERPRINT, location))
    assert count_alive(index, entries) == (0, 0)
    assert count_alive(index, array("Q")) == (0, 0)


# -------------------------------------------------------- what the index says and the log does not


def checked(store):
    return Checker(store._volume, store._catalog).run()


def test_block_of_which_the_log_has_nothing_is_found_by_its_place():
    store, _ = new_store()
    put(store, blocks(0, 50))
    store.commit()
    assert_sound(store)
    found = store._reader.find(block(20)[0])
    assert found is not None
    wrong = found.location + (3 << 43)
    store._catalog.index.replace(found.fingerprint, found.location, wrong)
    report = checked(store)
    assert any("a live record is lost" in each.what for each in report.findings)
    assert {each.device_offset for each in report.lost} == {store._volume.device_offset(wrong)}


def test_entry_of_the_index_in_no_segment_is_found():
    store, _ = new_store()
    put(store, blocks(0, 50))
    store.commit()
    free = store._catalog.free[0]
    store._catalog.index.add(77 << 56, fmt.pack_location(free, 4160, 400))
    (finding,) = checked(store).findings
    assert (finding.what, finding.lost) == ("1 live blocks are in no segment", "block")


def test_dead_record_that_rotted_is_no_finding():
    store, device = new_store()
    put(store, blocks(0, 50))
    store.commit()
    found = store._reader.find(block(20)[0])
    assert found is not None
    store.delete_many([block(20)[0]])
    store.commit()
    at = store._volume.device_offset(found.location) + 100
    page = bytearray(device.pages[at // 4096])
    page[at % 4096] ^= 1
    device.pages[at // 4096] = bytes(page)
    assert store.check().ok
    assert store.scrub().ok


def test_both_twins_give_the_same_reports_of_damaged_stores(monkeypatch):
    for seed in range(6):
        rng = random.Random(seed)
        made = past(seed)
        for page in rng.sample(made.used_pages(), 3):
            spoiled = bytearray(made.device.pages.get(page, bytes(4096)))
            spoiled[rng.randrange(4096)] ^= 1 << rng.randrange(8)
            made.device.pages[page] = bytes(spoiled)
        quick = made.store.check()
        with monkeypatch.context() as patched:
            patched.setattr(verify, "verify_group", verify._verify_group)
            slow = made.store.check()
        assert quick == slow
