"""Mutated images: a typed error or the right bytes, never anything else and never a hang.

`FUZZ_SEED` replays a run (a failure prints seed and number), `FUZZ_COUNT` changes the number of
images.
"""

import os
import random
import struct
from zlib import crc32

import pytest

from blkdev import format as fmt
from blkdev import superblock
from blkdev.device import RamDevice
from blkdev.errors import StoreError
from blkdev.format import PAGE_SIZE_BYTES
from blkdev.segment import Volume, read_footer, read_group, read_group_header, read_summary
from blkdev.store import Store
from blkdev.superblock import Geometry
from tests.blkdev.devices import SIZE_BYTES, blocks, formatted, new_store, put

SEED = int(os.environ.get("FUZZ_SEED", "20261123"))
IMAGES = int(os.environ.get("FUZZ_COUNT", "1000"))
RECORDS = 9000
READ_LIMIT = 20_000

Pages = dict[int, bytes]


class LimitedDevice(RamDevice):
    """Recovery that reads without end is a hang: it fails here instead."""

    reads = 0

    def read(self, offset: int, length: int) -> bytes:
        self.reads += 1
        assert self.reads < READ_LIMIT, "reads without end"
        assert length < SIZE_BYTES, "a length from the device was believed"
        return super().read(offset, length)


def lived(*, clean: bool) -> Pages:
    """An image with everything in it: sealed segments, tombstones, names, a checkpoint, a tail."""
    store, device = new_store()
    put(store, blocks(0, 60, 3000))
    put(store, blocks(100, 60, 20))
    store.set_names({b"a": b"name-a" * 9, b"b": b"name-b"})
    store.journal(1).append(b"journal" * 30)
    store.delete_many(key for key, _ in blocks(0, 30, 3000))
    store.compact()
    store.checkpoint()
    store.set_names({b"b": None, b"c": b"name-c"})
    put(store, blocks(400, 10, 3000))
    position = store.journal(1).append(b"last")
    store.journal(1).trim(position - 1)
    store.commit()
    if clean:
        store.close()
    return device.pages


VALUES = dict(blocks(0, 60, 3000) + blocks(100, 60, 20) + blocks(400, 10, 3000))
NAMES = {b"a": {b"name-a" * 9}, b"b": {b"name-b"}, b"c": {b"name-c"}}
RECORD_TEXTS = {b"journal" * 30, b"last"}


def mutate(pages: Pages, rng: random.Random) -> None:
    """One to three faults, of kinds that disks and software make."""
    targets = sorted(pages)
    for _ in range(rng.choice((1, 1, 2, 3))):
        number = rng.choice(targets)
        page = bytearray(pages.get(number, bytes(PAGE_SIZE_BYTES)))
        kind = rng.randrange(7)
        at = rng.randrange(PAGE_SIZE_BYTES if rng.random() < 0.5 else 160)
        if kind == 0:
            page[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            end = min(PAGE_SIZE_BYTES, at + rng.randrange(1, 64))
            page[at:end] = rng.randbytes(end - at)
        elif kind == 2:
            page[:] = bytes(PAGE_SIZE_BYTES)
        elif kind == 3:
            page[:] = pages[rng.choice(targets)]
        elif kind == 4:
            word = rng.choice((0, 1, 0xFFFF_FFFF, 0x7FFF_FFFF, rng.getrandbits(32)))
            struct.pack_into("<I", page, at & ~3 if at < 4092 else 4092, word)
        elif kind == 5:
            sector = rng.randrange(8) * 512
            page[sector : sector + 512] = bytes(512)
        else:
            page[at:] = bytes(PAGE_SIZE_BYTES - at)
        pages[number] = bytes(page)


def read_everything(store: Store) -> None:
    """Any read may say that it cannot; none may give what was never put."""
    for key in list(store.keys()):
        typed(lambda key=key: judge_value(key, store.get(key)))
    for key in list(VALUES)[::5]:
        typed(lambda key=key: judge_value(key, store.get(key)))
        typed(lambda key=key: store.has(key))
        typed(lambda key=key: store.size_of(key))
    for name, values in NAMES.items():
        found = typed(lambda name=name: store.name(name))
        assert found is None or found in values
    typed(store.names)
    for record in typed(lambda: list(store.journal(1).replay())) or ():
        assert record[1] in RECORD_TEXTS
    store.stats()
    store.check()


def judge_value(key: bytes, value: bytes) -> None:
    assert VALUES.get(key) == value, f"wrong bytes for {key.hex()}"


def typed(read):
    """The result, or None where the store says by a typed error that it cannot."""
    try:
        return read()
    except StoreError:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("clean", [False, True], ids=["killed", "closed"])
def test_mutated_image_gives_typed_errors_and_never_wrong_bytes(clean):
    print(f"FUZZ_SEED={SEED}")
    image = lived(clean=clean)
    opened = 0
    for number in range(IMAGES // 2):
        rng = random.Random(SEED * 1_000_003 + number)
        pages = dict(image)
        mutate(pages, rng)
        read_only = number % 4 != 0
        try:
            store = typed(
                lambda pages=pages, read_only=read_only: Store.open(
                    LimitedDevice(SIZE_BYTES, pages=pages), read_only=read_only
                )
            )
            if store is None:
                continue
            opened += 1
            read_everything(store)
            if not read_only:
                typed(lambda store=store: store.put_many(blocks(900, 2)))
                typed(store.commit)
                typed(store.compact)
                typed(store.close)
        except Exception as error:
            error.add_note(f"FUZZ_SEED={SEED}, image {number}, clean {clean}")
            raise
    assert opened > IMAGES // 3, "most single faults leave a store that opens"


# ---------------------------------------------------------------- parsers, checksums right


def resealed(layout: fmt.CheckedLayout, packed: bytes, seed: int) -> bytes:
    """Valid magic and checksum whatever the fields say: what only a bug or malice writes."""
    return layout.seal(layout.unpack(packed), seed)


def mutated(packed: bytes, rng: random.Random) -> bytes:
    changed = bytearray(packed)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(changed))
        changed[at] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    return bytes(changed)


def volume_of(image: Pages) -> tuple[LimitedDevice, Volume]:
    device = LimitedDevice(SIZE_BYTES, pages=dict(image))
    return device, Volume.of(device, superblock.load(device))


def log_slots(volume: Volume) -> list[int]:
    found = []
    for slot in range(volume.geometry.segment_count):
        header = read_group_header(volume, slot, PAGE_SIZE_BYTES)
        if header is not None:
            found.append(slot)
    return found


def test_group_with_lying_fields_and_right_checksum_is_refused_or_whole():
    print(f"FUZZ_SEED={SEED}")
    device, volume = volume_of(lived(clean=False))
    slots = log_slots(volume)
    rng = random.Random(SEED)
    for number in range(RECORDS // 2):
        slot = rng.choice(slots)
        offset = volume.geometry.segment_offset(slot) + PAGE_SIZE_BYTES
        page = offset // PAGE_SIZE_BYTES
        whole = device.pages[page]
        device.reads = 0
        packed = resealed(fmt.GROUP_HEADER, mutated(whole[:64], rng), volume.seed)
        body = mutated(whole[64:], rng) if number % 3 == 0 else whole[64:]
        device.pages[page] = packed + body
        header = read_group_header(volume, slot, PAGE_SIZE_BYTES)
        if header is not None:
            group = typed(
                lambda slot=slot, header=header: read_group(
                    volume, slot, PAGE_SIZE_BYTES, header, verify_values=True
                )
            )
            if group is not None:
                assert all(crc32(r.value) == r.header.value_checksum for r in group)
        device.pages[page] = whole


def test_record_header_of_random_bytes_is_none_or_checked():
    rng = random.Random(SEED)
    seed = 77
    for _ in range(RECORDS // 4):
        packed = fmt.encode_record_head(fmt.KIND_BLOCK, rng.randbytes(34), 9, 5, 1, seed)
        broken = mutated(packed, rng)
        found = fmt.decode_record_head(broken[: rng.randrange(len(broken) + 8)], 0, seed)
        assert (found is None) or broken == packed


def test_footer_with_lying_fields_and_right_checksum_never_gives_a_wrong_summary():
    device, volume = volume_of(lived(clean=False))
    rng = random.Random(SEED)
    sealed = [slot for slot in log_slots(volume) if read_footer(volume, slot) is not None]
    assert sealed
    for _ in range(RECORDS // 4):
        slot = rng.choice(sealed)
        size = volume.geometry.segment_size_bytes
        page = (volume.geometry.segment_offset(slot) + size) // PAGE_SIZE_BYTES - 1
        whole = device.pages[page]
        device.reads = 0
        right = read_summary(volume, slot, read_footer(volume, slot))
        lying = resealed(fmt.SEGMENT_FOOTER, mutated(whole[-64:], rng), volume.seed)
        device.pages[page] = whole[:-64] + lying
        footer = read_footer(volume, slot)
        if footer is not None:
            assert read_summary(volume, slot, footer) in (None, right)
        device.pages[page] = whole


def lying_superblock(at: int, value: int) -> LimitedDevice:
    """A new store whose superblocks all have this byte, and right checksums."""
    device = LimitedDevice(SIZE_BYTES, pages=formatted())
    offsets = Geometry.of(superblock.load(device)).copy_offsets
    changed = bytearray(device.pages[0])
    changed[at] = value
    for offset in offsets:
        device.pages[offset // PAGE_SIZE_BYTES] = resealed(fmt.SUPERBLOCK, bytes(changed), 0)
    return device


def test_superblock_of_lying_fields_is_refused_or_opens():
    """A geometry outside the device must not reach the log."""
    rng = random.Random(SEED)
    wrong: list[str] = []
    for _ in range(100):
        at, value = rng.randrange(76, 190), rng.randrange(256)
        try:
            store = Store.open(lying_superblock(at, value), read_only=True)
            assert list(store.keys()) == []
        except StoreError:
            pass
        except Exception as error:
            wrong.append(f"byte {at} = {value}: {error!r}")
    assert not wrong
