"""Stores with a past, damage of many kinds, and the oracle of what may be lost by it."""

import random
from dataclasses import dataclass

from blkdev import format as fmt
from blkdev.format import PAGE_SIZE_BYTES
from blkdev.store import Store
from tests.blkdev.devices import SIZE_BYTES, FaultyDevice, block, blocks, formatted, put

STREAM = 7
SIZES = (40, 300, 300, 300, 5000, 30_000)


@dataclass
class Past:
    """A store on a device, what it holds, and where on the device each thing lies."""

    store: Store
    device: FaultyDevice
    blocks: dict[bytes, bytes]
    names: dict[bytes, bytes]
    journal: list[bytes]
    deleted: list[bytes]

    def places(self) -> dict[tuple[str, bytes], range]:
        """Device range of every live record, by what it is."""
        catalog, volume = self.store._catalog, self.store._volume
        found: dict[tuple[str, bytes], range] = {}

        def add(kind: str, key: bytes, location: int) -> None:
            begin = volume.device_offset(location)
            found[kind, key] = range(begin, begin + fmt.location_size(location))

        for _, location in catalog.index.entries():
            header_and_key = self.store._reader.key_at(location)
            assert header_and_key is not None
            add("block", header_and_key[1], location)
        for name, entry in catalog.names.items():
            if not entry.removed:
                add("name", name, entry.location)
        records = catalog.streams[STREAM].records
        for value, sequence in zip(self.journal, sorted(records), strict=True):
            add("journal", value, records[sequence])
        return found

    def used_pages(self) -> list[int]:
        """Every page of every log segment: header, groups, summary."""
        volume = self.store._volume
        pages: list[int] = []
        for slot, segment in self.store._catalog.segments.items():
            begin = volume.geometry.segment_offset(slot)
            last = begin + volume.geometry.segment_size_bytes - PAGE_SIZE_BYTES
            offsets = [*range(begin, begin + segment.end, PAGE_SIZE_BYTES)]
            pages += [offset // PAGE_SIZE_BYTES for offset in offsets]
            if segment.sealed:
                pages.append(last // PAGE_SIZE_BYTES)
        return pages


def past(seed: int, *, small: int = 60) -> Past:
    """A store with sealed segments, dead records, names, removals, a trimmed journal; the log's
    last group is one that nobody cares for, so that all before it is known to be durable.
    """
    rng = random.Random(seed)
    device = FaultyDevice(SIZE_BYTES, pages=formatted())
    store = Store.open(device)
    held: dict[bytes, bytes] = {}
    names: dict[bytes, bytes] = {}
    journal: list[tuple[int, bytes]] = []
    for number in range(small):
        key, value = block(number, rng.choice(SIZES))
        store.put_many([(key, value)])
        held[key] = value
        if number % 6 == 0:
            name, text = b"name %d" % (number % 24), b"%d" % number
            store.set_name(name, text)
            names[name] = text
        if number % 5 == 0:
            record = rng.randbytes(rng.choice((20, 900)))
            journal.append((store.journal(STREAM).append(record), record))
        if rng.random() < 0.5:
            store.commit()
    deleted = rng.sample(sorted(held), small // 4)
    assert store.delete_many(deleted) == len(deleted)
    for key in deleted:
        del held[key]
    store.set_name(b"name 6", None)
    del names[b"name 6"]
    store.journal(STREAM).trim(journal[2][0])
    store.commit()
    put(store, blocks(900, 3))
    held.update(blocks(900, 3))
    store.commit()
    put(store, [block(999)])
    store.commit()
    return Past(store, device, held, names, [value for _, value in journal[3:]], deleted)


def reopened(made: Past, how: str) -> Past:
    """The same device after nothing, an orderly close, or a kill."""
    if how == "closed":
        made.store.close()
    if how != "open":
        made.store = Store.open(made.device)
    return made


def flip(device: FaultyDevice, offset: int, rng: random.Random) -> range:
    """One wrong byte."""
    page, at = divmod(offset, PAGE_SIZE_BYTES)
    changed = bytearray(device.pages.get(page, bytes(PAGE_SIZE_BYTES)))
    changed[at] ^= rng.randrange(1, 256)
    device.pages[page] = bytes(changed)
    return range(offset, offset + 1)


def spoil(device: FaultyDevice, page: int, rng: random.Random) -> range:
    """A page of garbage."""
    device.pages[page] = rng.randbytes(PAGE_SIZE_BYTES)
    return range(page * PAGE_SIZE_BYTES, (page + 1) * PAGE_SIZE_BYTES)


def overlaps(first: range, second: range) -> bool:
    return first.start < second.stop and second.start < first.stop
