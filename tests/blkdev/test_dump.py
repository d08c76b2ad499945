"""`blkdev.care.dump`: every structure, whole or damaged; writes nothing, never fails badly."""

import json
import random

import pytest

from blkdev import superblock
from blkdev.care.dump import Dumper, Item, superblocks
from blkdev.device import RamDevice
from blkdev.errors import NoSuchPlace, NotAStore, StoreError, SuperblockDamaged
from blkdev.format import PAGE_SIZE_BYTES
from blkdev.store import Store
from tests.blkdev.damage import STREAM, Past, flip, past, spoil
from tests.blkdev.devices import SIZE_BYTES, FaultyDevice, block


@pytest.fixture(scope="module")
def made():
    made = past(1)
    made.store.checkpoint()
    return made


def copied(made: Past) -> FaultyDevice:
    return FaultyDevice(SIZE_BYTES, pages=dict(made.device.pages))


def everything(device: RamDevice) -> list[Item]:
    """All that can be asked for."""
    found = list(superblocks(device))
    dumper = Dumper(device)
    segments = list(dumper.segments())
    found += segments
    for item in segments:
        found += dumper.segment(item.fields["slot"])
    found += [*dumper.checkpoint(), *dumper.names(), *dumper.journals()]
    return found


def of(items: list[Item], kind: str) -> list[Item]:
    return [item for item in items if item.kind == kind]


def test_whole_store_is_shown_without_damage_and_as_json(made):
    items = everything(copied(made))
    assert not [item for item in items if item.damaged]
    assert len(of(items, "superblock")) == 4
    assert len([item for item in of(items, "segment") if item.fields["holds"] == "free"]) > 20
    assert of(items, "checkpoint")[0].fields["keys"] == made.store.stats().keys
    assert of(items, "footer")
    json.dumps([item._asdict() for item in items])


def test_records_of_the_segments_are_all_records_of_the_log(made):
    dumper = Dumper(copied(made))
    keys = set()
    count = 0
    for slot in made.store._catalog.segments:
        for item in of(list(dumper.segment(slot)), "record"):
            count += 1
            keys.add(item.fields.get("key"))
    assert {key.hex() for key in made.blocks} <= keys
    assert count == made.store.check().records


def test_names_and_journals_are_shown_with_the_beginning_of_their_values(made):
    dumper = Dumper(copied(made))
    shown = {item.fields["name"]: item.fields for item in dumper.names()}
    assert {name: fields["record"] for name, fields in shown.items()}["name 6"] == (
        "removal of a name"
    )
    kept = {name.decode(): value.decode() for name, value in made.names.items()}
    assert {n: f["value"] for n, f in shown.items() if f["record"] == "name"} == kept
    records = [item.fields for item in dumper.journals()]
    assert {fields["stream"] for fields in records} == {STREAM}
    assert [f["value_bytes"] for f in records if f["record"] == "journal record"] == [
        len(record) for record in made.journal
    ]


def test_record_is_found_by_key_and_by_any_offset_in_it(made):
    dumper = Dumper(copied(made))
    for (kind, key), place in made.places().items():
        if kind != "block":
            continue
        (item,) = dumper.record_of(key)
        assert (item.device_offset, item.fields["key"]) == (place.start, key.hex())
        for offset in (place.start, place.start + 30, place.stop - 1):
            segment, found = dumper.record_at(offset)
            assert segment.kind == "segment"
            assert found == item
    assert list(dumper.record_of(b"not there")) == []
    (name,) = dumper.record_of(b"name 0")
    assert name.fields["value"] == made.names[b"name 0"].decode()


def test_places_that_are_none_are_refused(made):
    dumper = Dumper(copied(made))
    for slot in (-1, 64, 1 << 40):
        with pytest.raises(NoSuchPlace, match="0 to 63"):
            list(dumper.segment(slot))
    for offset in (-1, 0, 4 << 20, SIZE_BYTES, 1 << 60):
        with pytest.raises(NoSuchPlace):
            list(dumper.record_at(offset))


def test_damaged_superblock_copies_are_shown_as_found(made):
    device = copied(made)
    flip(device, 0, random.Random(1))
    spoil(device, 1024, random.Random(1))
    device.bad = {superblock.load(device).end_offset // PAGE_SIZE_BYTES}
    first, second, third, fourth = superblocks(device)
    assert "checksum" in first.damaged
    assert first.fields["segment_count"] == 64
    assert "nothing" in second.damaged
    assert third.damaged == ""
    assert "bad sector" in fourth.damaged


def test_device_that_is_no_store_is_shown_to_be_none():
    device = RamDevice(SIZE_BYTES)
    assert all("nothing" in item.damaged for item in superblocks(device))
    with pytest.raises(NotAStore):
        Dumper(device)
    tiny = RamDevice(4096)
    assert len(list(superblocks(tiny))) == 4


def test_store_without_a_whole_superblock_can_still_be_shown_its_remains(made):
    device = copied(made)
    for offset in superblock.Geometry.of(superblock.load(device)).copy_offsets:
        flip(device, offset + 300, random.Random(1))
    assert [item.damaged for item in superblocks(device)] == [
        "it fails its checksum; as found:"
    ] * 4
    with pytest.raises(SuperblockDamaged):
        Dumper(device)


@pytest.mark.parametrize("seed", range(20))
def test_any_damage_is_shown_or_a_typed_error_and_nothing_is_written(made, seed):
    rng = random.Random(seed)
    device = copied(made)
    pages = [*made.used_pages(), 0, 1024]
    for page in rng.sample(pages, 8):
        if rng.random() < 0.5:
            spoil(device, page, rng)
        else:
            flip(device, page * PAGE_SIZE_BYTES + rng.randrange(64), rng)
    device.bad = set(rng.sample(pages, 3)) - {0}
    before = dict(device.pages)
    try:
        items = everything(device)
        assert any(item.damaged for item in items)
        json.dumps([item._asdict() for item in items])
        dumper = Dumper(device)
        for number in range(10):
            list(dumper.record_of(block(number)[0]))
            list(dumper.record_at((8 << 20) + rng.randrange(1 << 20)))
    except StoreError:
        assert not Store.open(device, read_only=True).check().ok
    assert device.pages == before
    assert not device.counts["write"]


def test_retired_segment_is_marked():
    made = past(2)
    place = made.places()["block", block(900)[0]]
    made.device.bad = {place.start // PAGE_SIZE_BYTES}
    made.store.repair()
    shown = [item for item in Dumper(made.device).segments() if "bad" in item.fields]
    assert [item.fields["bad"] for item in shown] == ["retired"]
    assert any("retired" in text for text in next(superblocks(made.device)).fields["bad_slots"])
