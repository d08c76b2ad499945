"""A free slot stays free: nothing of an earlier use comes back through the next one."""

import pytest

from blkdev import format as fmt
from blkdev.device import Event, RamDevice
from blkdev.segment import FIRST_GROUP_OFFSET, read_footer, read_group_header
from blkdev.store import Store
from tests.blkdev.devices import (
    SIZE_BYTES,
    assert_holds,
    assert_sound,
    block,
    blocks,
    contents,
    formatted,
    put,
)


class Lives:
    """A device whose power is cut; the test says which of the unsynced writes arrived."""

    def __init__(self) -> None:
        self.pages = formatted()
        self.open()

    def open(self) -> None:
        self.device = RamDevice(SIZE_BYTES, pages=dict(self.pages), record=True)
        self.store = Store.open(self.device)

    @property
    def slot_offset(self) -> int:
        """Where the first segment lies."""
        return self.store.geometry.segment_offset(0)

    def cut(self, arrived, synced_events: int | None = None) -> None:
        """Keep what was synced (or the first events) and what `arrived` says of the rest."""
        events = self.device.events
        last = max(at for at, event in enumerate(events) if event.kind == "sync") + 1
        durable = last if synced_events is None else synced_events
        image = RamDevice(SIZE_BYTES, pages=dict(self.pages))
        for event in [*events[:durable], *(e for e in events[durable:] if arrived(e))]:
            if event.kind == "write":
                image.poke(event.offset, event.data)
        self.pages = image.pages
        self.open()

    def is_header(self, event: Event) -> bool:
        return event.offset == self.slot_offset


def freed_slot() -> Lives:
    """A header arrived and its group did not: recovery frees the slot."""
    lives = Lives()
    put(lives.store, [block(1)])
    lives.store.write_out()
    lives.cut(lives.is_header)
    assert contents(lives.store) == {}
    # Once more: recovery finds free slots in their order on the device.
    lives.cut(lambda event: False)
    return lives


def test_group_that_came_without_its_header_is_not_revived_by_the_next_header():
    lives = freed_slot()
    put(lives.store, [block(2)])
    lives.store.write_out()
    lives.cut(lambda event: not lives.is_header(event))
    assert contents(lives.store) == {}, "the slot is marked free"
    put(lives.store, [block(3)])
    lives.store.write_out()
    lives.cut(lives.is_header)
    assert contents(lives.store) == {}, "the second life's group came back under the third's header"
    assert_sound(lives.store)


def test_footer_that_came_without_its_header_does_not_seal_the_next_segment():
    """Both segments have one number, and their footers would end at one group."""
    lives = freed_slot()
    put(lives.store, blocks(2, 300))
    lives.store.write_out()
    end = lives.slot_offset + lives.store.geometry.segment_size_bytes
    lives.cut(lambda event: end - fmt.PAGE_SIZE_BYTES * 4 < event.offset < end)
    assert contents(lives.store) == {}
    assert read_footer(lives.store._volume, 0) is None
    put(lives.store, [block(3)])
    lives.store.commit()
    lives.cut(lambda event: False)
    assert contents(lives.store) == dict([block(3)])
    assert_sound(lives.store)


def test_slot_with_a_leftover_group_is_used_again_in_the_same_life():
    lives = freed_slot()
    put(lives.store, [block(2)])
    lives.store.write_out()
    lives.cut(lambda event: not lives.is_header(event))
    put(lives.store, blocks(10, 300))
    lives.store.commit()
    lives.cut(lambda event: False)
    assert_holds(lives.store, blocks(10, 300))
    assert len(contents(lives.store)) == 300
    assert_sound(lives.store)


@pytest.mark.parametrize("groups_wiped", [False, True])
def test_wipe_that_was_cut_is_finished_when_the_store_is_opened(groups_wiped):
    """The free marks are durable, the rest is not: a torn header of the slot's next use would be
    read as the segment that was freed.
    """
    lives = Lives()
    items = blocks(0, 500)
    put(lives.store, items)
    lives.store.commit()
    kept = items[::10]
    lives.store.delete_many({key for key, _ in items} - {key for key, _ in kept})
    lives.store.commit()
    assert lives.store.compact().segments_freed
    events = lives.device.events
    marks = [at for at, event in enumerate(events) if is_free_mark(lives.store, event)]
    synced = next(at for at in range(marks[-1], len(events)) if events[at].kind == "sync") + 1
    wiped = synced
    while groups_wiped and events[wiped].kind == "write":
        wiped += 1
    first_groups = {events[at].offset + fmt.PAGE_SIZE_BYTES for at in marks}
    arrived = [event for event in events[synced:wiped] if event.offset in first_groups]
    assert len(arrived) == (len(marks) if groups_wiped else 0)
    lives.cut(lambda event: event in arrived, synced)
    volume, catalog = lives.store._volume, lives.store._catalog
    assert len(catalog.free) >= len(marks)
    for slot in catalog.free:
        assert read_group_header(volume, slot, FIRST_GROUP_OFFSET) is None
        assert read_footer(volume, slot) is None
    assert contents(lives.store) == dict(kept)
    assert_sound(lives.store)


def is_free_mark(store: Store, event: Event) -> bool:
    seed = fmt.store_seed(store.uuid)
    header = fmt.SEGMENT_HEADER.open(event.data, 0, seed) if event.kind == "write" else None
    return header is not None and header.kind == fmt.SEGMENT_FREE
