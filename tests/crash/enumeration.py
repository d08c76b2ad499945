"""Every state a device may be left in by a power cut, and the oracle that judges recovery.

A recorded run is a list of events: write, sync, discard, change of size. A cut after event n leaves
all writes before the last completed sync, and of each later write: all of it, nothing, some of its
512-byte sectors, or garbage in some sectors. Devices do not keep the order of unsynced writes, so
every subset counts. A discard is a wish: whether it was synced or not, it may have been granted, or
not, or for some pages. A plain file is as long as it was at the last sync, or as it was made since.

The oracle is strict: the log is a sequence of steps, so what recovery finds must be exactly the
state after some step, not before the last acknowledged one and not after the last one begun.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from blkdev.device import Event, RamDevice
from blkdev.format import PAGE_SIZE_BYTES
from blkdev.store import Store
from tests.blkdev.devices import LateDevice

SEED = int(os.environ.get("CRASH_SEED", "20261101"))
ENUMERATED_STATES_MIN = 20_000
"""Distinct states that test_enumeration.py judges over all first operations. Each of them has to
find its share, because they run in processes that do not see each other's states."""
SECTOR_SIZE_BYTES = 512
EXHAUSTIVE_WRITES_MAX = 10
SAMPLED_SUBSETS = 60
ALL_TORN = 0.2
"""How often a cut tears every write that is under way, and not one of them."""

Pages = dict[int, bytes]


@dataclass(frozen=True)
class State:
    """What a store holds, as far as its users can see."""

    blocks: dict[bytes, bytes] = field(default_factory=dict)
    names: dict[bytes, bytes] = field(default_factory=dict)
    journal: tuple[bytes, ...] = ()


def contents(store: Store) -> State:
    """Read everything back, through every kind of read."""
    keys = list(store.keys())
    assert len(keys) == len(set(keys)), "a key is listed twice"
    blocks = {key: store.get(key) for key in keys}
    for key in keys[::7]:
        value = blocks[key]
        assert store.has(key) and store.size_of(key) == len(value)
        with store.view(key) as view:
            assert view == value
    journal = tuple(record for _, record in store.journal(1).replay())
    assert store.stats().keys == len(keys)
    return State(blocks, dict(store.names()), journal)


class Run:
    """A store on a recording device, together with the states it went through."""

    def __init__(self, size_bytes: int, pages: Pages, state: State) -> None:
        self.before = dict(pages)
        self.size_bytes = size_bytes
        self.device = LateDevice(size_bytes, pages=dict(pages), record=True)
        self.states = [state]
        self.acknowledged = 0
        # (events so far, acknowledged step, last step begun), one at the start of each operation.
        self.marks: list[tuple[int, int, int]] = [(0, 0, 0)]
        self.store = Store.open(self.device)

    @property
    def state(self) -> State:
        return self.states[-1]

    def step(self, state: State) -> None:
        """The next operation appends to the log what makes this the state."""
        self.states.append(state)

    def acknowledge(self) -> None:
        """Everything so far was promised to survive; takes effect after the events so far."""
        self.acknowledged = len(self.states) - 1

    def mark(self) -> None:
        """Between operations: later events belong to the steps added after this."""
        self.marks.append((len(self.device.events), self.acknowledged, len(self.states) - 1))

    def allowed(self, event_count: int) -> range:
        """Steps that recovery may arrive at after a cut with that many events done."""
        acknowledged, begun = 0, len(self.states) - 1
        for events, acked, last in self.marks:
            if events <= event_count:
                acknowledged = acked
            if events > event_count:
                begun = last
                break
        return range(acknowledged, begun + 1)


def apply(pages: Pages, offset: int, data: bytes, sectors: Callable[[int], bytes | None]) -> None:
    """Write `data` sector by sector; `sectors` gives each one's bytes, or None to leave it out."""
    first = offset // PAGE_SIZE_BYTES
    per_page = PAGE_SIZE_BYTES // SECTOR_SIZE_BYTES
    for number in range(len(data) // PAGE_SIZE_BYTES):
        page = bytearray(pages.get(first + number, bytes(PAGE_SIZE_BYTES)))
        for index in range(per_page):
            written = sectors(number * per_page + index)
            if written is not None:
                page[index * SECTOR_SIZE_BYTES : (index + 1) * SECTOR_SIZE_BYTES] = written
        pages[first + number] = bytes(page)


def write_whole(pages: Pages, offset: int, data: bytes) -> None:
    first = offset // PAGE_SIZE_BYTES
    for at in range(0, len(data), PAGE_SIZE_BYTES):
        pages[first + at // PAGE_SIZE_BYTES] = data[at : at + PAGE_SIZE_BYTES]


def write_torn(pages: Pages, event: Event, rng: random.Random) -> None:
    """Part of a write: a beginning, an end, a hole, scattered sectors, or garbage among them."""
    count = len(event.data) // SECTOR_SIZE_BYTES
    cut, other = sorted((rng.randrange(count + 1), rng.randrange(count + 1)))
    shape = rng.choice(("beginning", "end", "hole", "scattered", "garbage"))
    scattered = rng.getrandbits(count)

    def sectors(index: int) -> bytes | None:
        own = event.data[index * SECTOR_SIZE_BYTES : (index + 1) * SECTOR_SIZE_BYTES]
        if shape == "beginning":
            return own if index < cut else None
        if shape == "end":
            return own if index >= cut else None
        if shape == "hole":
            return None if cut <= index < other else own
        if shape == "scattered":
            return own if scattered >> index & 1 else None
        return rng.randbytes(SECTOR_SIZE_BYTES) if cut <= index <= other else own

    apply(pages, event.offset, event.data, sectors)


def pending(events: list[Event], event_count: int) -> tuple[list[Event], list[Event]]:
    """(writes and discards that are durable, those that are not) after a cut."""
    done = events[:event_count]
    last_sync = max((at for at, event in enumerate(done) if event.kind == "sync"), default=-1)
    matter = ("write", "discard")
    durable = [event for event in done[: last_sync + 1] if event.kind in matter]
    return durable, [event for event in done[last_sync + 1 :] if event.kind in matter]


def sizes(first_size_bytes: int, done: list[Event]) -> set[int]:
    """Lengths that the device may have: the last that was synced, and every one since."""
    found, durable = [first_size_bytes], 0
    for event in done:
        if event.kind == "resize":
            found.append(event.offset)
        elif event.kind == "sync":
            durable = len(found) - 1
    return set(found[durable:])


def cut_off(pages: Pages, size_bytes: int) -> Pages:
    """What of the pages a file of that length has."""
    return {at: page for at, page in pages.items() if at < size_bytes // PAGE_SIZE_BYTES}


def advance(
    pages: Pages, events: list[Event], keeps: Callable[[int], bool] = lambda _page: False
) -> None:
    """Apply events as if each arrived whole and in order, but for the pages that a device keeps
    when they are discarded.
    """
    for event in events:
        if event.kind == "write":
            write_whole(pages, event.offset, event.data)
        elif event.kind == "discard":
            first = event.offset // PAGE_SIZE_BYTES
            count = int.from_bytes(event.data, "little") // PAGE_SIZE_BYTES
            for page in [page for page in pages if first <= page < first + count]:
                if not keeps(page):
                    del pages[page]


def cuts(
    before: Pages, events: list[Event], event_count: int, rng: random.Random, torn: int
) -> Iterator[Pages]:
    """All images that a cut after `event_count` events may leave, sampled where too many."""
    durable, open_writes = pending(events, event_count)
    bases = [dict(before)]
    advance(bases[0], durable)
    if any(event.kind == "discard" for event in durable):
        for keeps in (lambda _page: True, lambda page: bool(page & 4)):
            bases.append(dict(before))
            advance(bases[-1], durable, keeps)
    count = len(open_writes)
    if count <= EXHAUSTIVE_WRITES_MAX:
        subsets = range(1 << count)
    else:
        chosen = {0, (1 << count) - 1}
        chosen |= {rng.getrandbits(count) for _ in range(SAMPLED_SUBSETS)}
        subsets = sorted(chosen)  # type: ignore[assignment]  # both iterate as int
    if not count:
        yield from bases[1:]
    for subset in subsets:
        image = dict(bases[subset % len(bases)])
        advance(image, [event for at, event in enumerate(open_writes) if subset >> at & 1])
        yield image
    for victim in range(count):
        for _ in range(torn):
            image = dict(rng.choice(bases) if len(bases) > 1 else bases[0])
            others = rng.choice((0, (1 << count) - 1, rng.getrandbits(count)))
            # Writes of one size are then torn alike: copies are hit in the same place.
            alike = rng.random() if rng.random() < ALL_TORN else None
            for at, event in enumerate(open_writes):
                if event.kind == "write" and (alike is not None or at == victim):
                    write_torn(image, event, rng if alike is None else random.Random(alike))
                elif at == victim:
                    advance(image, [event], lambda _page: rng.random() < 0.5)
                elif others >> at & 1:
                    advance(image, [event])
            yield image


class Explorer:
    """Counts distinct images and judges the recovery from each. `size_bytes` is that of the device
    that is judged.
    """

    def __init__(self, size_bytes: int, seed: int, *, again: float = 0.1, torn: int = 4) -> None:
        self.size_bytes = size_bytes
        self.seed = seed
        self.rng = random.Random(seed)
        self.again = again
        self.torn = torn
        self.seen: set[int] = set()
        self.survivors: list[tuple[Pages, State]] = []

    def explore(self, run: Run, first_event: int = 0) -> None:
        """Cut the run after every event from `first_event` on."""
        events = run.device.events
        is_resized = any(event.kind == "resize" for event in events)
        for event_count in range(first_event, len(events) + 1):
            allowed = [run.states[step] for step in run.allowed(event_count)]
            for size_bytes in sorted(sizes(run.size_bytes, events[:event_count])):
                self.size_bytes = size_bytes
                for image in cuts(run.before, events, event_count, self.rng, self.torn):
                    self.judge(cut_off(image, size_bytes) if is_resized else image, allowed)

    def judge(self, image: Pages, allowed: list[State]) -> None:
        fingerprint = hash((self.size_bytes, frozenset(image.items())))
        if fingerprint in self.seen:
            return
        self.seen.add(fingerprint)
        recovered = self.recover(image, allowed)
        if self.rng.random() < self.again:
            self.cut_during_recovery(image, recovered)
            self.survivors.append((image, recovered))

    def recover(self, image: Pages, allowed: list[State]) -> State:
        device = RamDevice(self.size_bytes, pages=dict(image))
        store = Store.open(device)
        found = contents(store)
        assert found in allowed, self.explain(found, allowed)
        self.check(store)
        return found

    @staticmethod
    def check(store: Store) -> None:
        report = store.check()
        assert report.ok, report.findings
        stats = store.stats()
        assert report.live_bytes == stats.live_bytes, "live bytes differ from a full scan"
        assert stats.names == len(store.names()), "names differ from a full count"
        in_use = stats.segments - stats.segments_free - stats.segments_checkpoint
        assert report.segments == in_use, "free segments differ from a full scan"

    def cut_during_recovery(self, image: Pages, expected: State) -> None:
        device = RamDevice(self.size_bytes, pages=dict(image), record=True)
        Store.open(device)
        events = device.events
        for event_count in self.rng.sample(range(len(events) + 1), min(3, len(events) + 1)):
            states = list(cuts(image, events, event_count, self.rng, 1))
            for state in self.rng.sample(states, min(3, len(states))):
                self.recover(state, [expected])

    def explain(self, found: State, allowed: list[State]) -> str:
        nearest = allowed[-1]
        return (
            f"seed {self.seed}: recovered neither of {len(allowed)} allowed states; compared with "
            f"the newest: missing {sorted(set(nearest.blocks) - set(found.blocks))}, "
            f"unexpected {sorted(set(found.blocks) - set(nearest.blocks))}, "
            f"names {found.names} for {nearest.names}, "
            f"journal {[r[:8] for r in found.journal]} for {[r[:8] for r in nearest.journal]}"
        )
