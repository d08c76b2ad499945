"""Any sequence of operations, crashes and reopens agrees with a dict."""

import functools
import random
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from blkdev.device import Event, RamDevice
from blkdev.errors import SizeTooSmall, StoreFull, ValueTooLarge
from blkdev.store import Store
from tests.blkdev.devices import (
    MIB,
    SIZE_BYTES,
    LateDevice,
    assert_sound,
    contents,
    formatted,
)

KEYS = [b"key-%02d" % number for number in range(24)] + [b"k" * 64, b"\0", bytes(8)]
NAMES = [b"name-%d" % number for number in range(5)]
STREAMS = (0, 7)
VALUE_SIZES = (0, 1, 300, 4096, 20_000, 32_768)
SEGMENTS = {20 * MIB: 64, 28 * MIB: 192, 32 * MIB: 256}
TOO_SMALL_BYTES = 16 * MIB
sizes = st.sampled_from([TOO_SMALL_BYTES, *SEGMENTS])

keys = st.sampled_from(KEYS)
State = tuple[dict[bytes, bytes], dict[bytes, bytes], dict[int, tuple[tuple[int, bytes], ...]]]


@functools.cache
def at_the_end() -> tuple[dict[int, bytes], dict[bytes, bytes]]:
    """Pages of the largest store, with some values where smaller ones have nothing, and these."""
    device = RamDevice(32 * MIB, pages=formatted(32 * MIB))
    stored = {key: random.Random(key).randbytes(20_000) for key in KEYS[:6]}
    with Store.open(device) as store:
        dropped = 0
        while store.stats().segments_free > 20:
            store.put_many([(b"dropped %d" % dropped, bytes(30_000))])
            dropped += 1
        store.put_many(stored.items())
        store.delete_many(b"dropped %d" % number for number in range(dropped))
        store.compact()
        assert max(store._catalog.segments) > 192
    return device.pages, stored


class StoreAgainstDict(RuleBasedStateMachine):
    """`states` are the contents after each step that a power cut may still undo, oldest first;
    the first one is acknowledged, the last one is what readers see.
    """

    def __init__(self) -> None:
        super().__init__()
        self.device: RamDevice = RamDevice(SIZE_BYTES, pages=formatted(), record=True)
        self.durable = RamDevice(SIZE_BYTES, pages=dict(self.device.pages))
        self.store = Store.open(self.device)
        self.states: deque[State] = deque([({}, {}, {})])
        self.version = 0

    @initialize(large=st.booleans())
    def begin(self, large: bool) -> None:
        if large:
            pages, stored = at_the_end()
            self.states = deque([(dict(stored), {}, {})])
            self._restart(RamDevice(32 * MIB, pages=pages))
        self._synced()

    def _synced(self) -> None:
        """Move every event up to the last sync into the durable image."""
        events = self.device.events
        last = max((at for at, event in enumerate(events) if event.kind == "sync"), default=-1)
        _arrive(self.durable, events[: last + 1])
        del events[: last + 1]

    def _step(self, state: State) -> None:
        self.states.append(state)

    def _acknowledge(self) -> None:
        while len(self.states) > 1:
            self.states.popleft()

    @rule(chosen=st.lists(keys, max_size=6), size=st.sampled_from(VALUE_SIZES))
    def put_many(self, chosen: list[bytes], size: int) -> None:
        self.version += 1
        stored, names, journals = self.states[-1]
        for key in chosen:
            value = random.Random(self.version).randbytes(size)
            try:
                new = self.store.put_many([(key, value)])
            except StoreFull:
                return
            assert new == (key not in stored)
            if new:
                stored = {**stored, key: value}
                self._step((stored, names, journals))

    @rule(chosen=st.lists(keys, max_size=12))
    def delete_many(self, chosen: list[bytes]) -> None:
        stored, names, journals = self.states[-1]
        gone = set(chosen) & set(stored)
        assert self.store.delete_many(chosen) == len(gone)
        left = {key: value for key, value in stored.items() if key not in gone}
        self._step((left, names, journals))

    @rule(
        chosen=st.dictionaries(keys, st.none() | st.sampled_from(VALUE_SIZES), max_size=5),
        again=st.booleans(),
    )
    def apply(self, chosen: dict[bytes, int | None], again: bool) -> None:
        """New values, or with `again` perhaps those that are there; and deletions: one step."""
        self.version += not again
        stored, names, journals = self.states[-1]
        changes = {
            key: None if size is None else random.Random(self.version).randbytes(size)
            for key, size in chosen.items()
        }
        try:
            self.store.apply(changes)
        except (StoreFull, ValueTooLarge):
            return
        changed = {**stored, **changes}
        left = {key: value for key, value in changed.items() if value is not None}
        if left != stored:
            self._step((left, names, journals))

    @rule(chosen=keys)
    def delete_before_a_position(self, chosen: bytes) -> None:
        assert self.store.delete_many([chosen], before=-1) == 0

    @rule(
        changes=st.dictionaries(
            st.sampled_from(NAMES), st.none() | st.binary(max_size=40), max_size=4
        )
    )
    def set_names(self, changes: dict[bytes, bytes | None]) -> None:
        stored, names, journals = self.states[-1]
        self.store.set_names(changes)
        named = {**names, **changes}
        kept = {name: value for name, value in named.items() if value is not None}
        self._step((stored, kept, journals))

    @rule(stream=st.sampled_from(STREAMS), record=st.binary(max_size=200))
    def append(self, stream: int, record: bytes) -> None:
        stored, names, journals = self.states[-1]
        try:
            position = self.store.journal(stream).append(record)
        except StoreFull:
            return
        grown = (*journals.get(stream, ()), (position, record))
        self._step((stored, names, {**journals, stream: grown}))

    @rule(stream=st.sampled_from(STREAMS), kept=st.integers(0, 3))
    def trim(self, stream: int, kept: int) -> None:
        stored, names, journals = self.states[-1]
        records = journals.get(stream, ())
        if len(records) <= kept:
            return
        cut = len(records) - kept
        self.store.journal(stream).trim(records[cut - 1][0])
        self._step((stored, names, {**journals, stream: records[cut:]}))

    @rule()
    def commit(self) -> None:
        self.store.commit()
        self._acknowledge()

    @rule()
    def write_out(self) -> None:
        self.store.write_out()

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule()
    def checkpoint(self) -> None:
        self.store.checkpoint()

    @rule()
    def check(self) -> None:
        assert_sound(self.store)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self._acknowledge()
        self.store = Store.open(self.device)
        self._judge()

    @rule(subset=st.integers(min_value=0))
    def power_cut(self, subset: int) -> None:
        """Of the writes since the last sync, those of the subset arrived."""
        self._synced()
        arrived = RamDevice(self.durable.size_bytes, pages=dict(self.durable.pages))
        events = self.device.events
        _arrive(arrived, [event for at, event in enumerate(events) if subset >> at & 1])
        self._restart(arrived)

    @rule()
    def kill(self) -> None:
        """The process ends, the machine goes on: nothing handed over is lost."""
        self._restart(self.device)

    @rule(size_bytes=sizes)
    def resize(self, size_bytes: int) -> None:
        """What is stored always fits, unless the size is none for a store at all."""
        before = self.store.geometry
        try:
            self.store.resize(size_bytes)
        except SizeTooSmall:
            assert size_bytes == TOO_SMALL_BYTES
            assert self.store.geometry == before
        else:
            assert self.store.geometry.segment_count == SEGMENTS[size_bytes]
            assert self.device.size_bytes == size_bytes

    @rule(size_bytes=sizes, moment=st.integers(min_value=0), subset=st.integers(min_value=0))
    def power_cut_in_a_resize(self, size_bytes: int, moment: int, subset: int) -> None:
        """After any of its events; with the old size or the new one everything is there."""
        self._synced()
        events = self.device.events
        before, segments = len(events), self.store.geometry.segment_count
        self.resize(size_bytes)
        del events[before + moment % (len(events) - before + 1) :]
        self.power_cut(subset)
        now = self.store.geometry.segment_count
        assert now in (segments, SEGMENTS.get(size_bytes))

    @precondition(lambda self: len(self.states[-1][0]) < 4)
    @rule(first=st.integers(0, 5))
    def fill(self, first: int) -> None:
        """Many values at once, so that segments are sealed and compaction has work."""
        stored, names, journals = self.states[-1]
        for key in KEYS[first:]:
            self.version += 1
            value = random.Random(self.version).randbytes(25_000)
            if self.store.put_many([(key, value)]):
                stored = {**stored, key: value}
                self._step((stored, names, journals))

    def _restart(self, left: RamDevice) -> None:
        size_bytes, pages = left.size_bytes, left.pages
        self.device = LateDevice(size_bytes, pages=dict(pages), record=True)
        self.durable = RamDevice(size_bytes, pages=dict(pages))
        self.store = Store.open(self.device)
        self._synced()
        found = self._found()
        while self.states and self._as_found(self.states[-1]) != found:
            self.states.pop()
        assert self.states, "no state since the last commit was recovered"
        self._judge()
        # Whatever recovery decided on is durable by now: a second cut must arrive here again.
        state = self.states[-1]
        self.states.clear()
        self.states.append(state)

    def _found(self) -> State:
        journals = {stream: tuple(self.store.journal(stream).replay()) for stream in STREAMS}
        return contents(self.store), dict(self.store.names()), journals

    @staticmethod
    def _as_found(state: State) -> State:
        stored, names, journals = state
        return stored, names, {stream: journals.get(stream, ()) for stream in STREAMS}

    def _judge(self) -> None:
        assert self._found() == self._as_found(self.states[-1])
        assert_sound(self.store)

    @invariant()
    def reads_agree(self) -> None:
        stored, names, journals = self.states[-1]
        stats = self.store.stats()
        assert stats.keys == len(stored)
        assert stats.names == len(names)
        assert stats.journal_records == sum(map(len, journals.values()))
        assert self.store.has_many(KEYS) == [key in stored for key in KEYS]
        for key in list(stored)[:: max(1, len(stored) // 4)]:
            assert self.store.get(key) == stored[key]
            assert self.store.size_of(key) == len(stored[key])
            with self.store.view(key) as view:
                assert view == stored[key]
        assert dict(self.store.names()) == names


def _arrive(device: RamDevice, events: list[Event]) -> None:
    """What a device kept of what was done to it; what lies behind its end is nowhere."""
    for event in events:
        if event.kind == "write":
            device.poke(event.offset, event.data)
        elif event.kind == "resize":
            device.set_size(event.offset)
    device.set_size(device.size_bytes)


TestStoreAgainstDict = StoreAgainstDict.TestCase
TestStoreAgainstDict.settings = settings(stateful_step_count=40)
