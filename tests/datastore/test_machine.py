"""Any sequence of puts, batches, queries, crashes and reopens agrees with a dict."""

import random
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from blkdev.device import RamDevice
from blkdev.store import Store
from datastore import (
    BY_KEY,
    BY_VALUE,
    BlkdevDatastore,
    Key,
    KeyContains,
    Query,
    ValueCompare,
)
from datastore.errors import KeyNotFound, StoreFull
from datastore.mapping import engine_key
from tests.blkdev.devices import SIZE_BYTES, assert_sound, formatted
from tests.suites.datastore_suite import agree

SHORT = [Key(f"/{folder}/{number}") for folder in ("a", "b/c") for number in range(6)]
LONG = [Key(f"/a/{'n' * length}") for length in (61, 62, 63, 400, 4000)]
KEYS = [*SHORT, *LONG, Key("/a"), Key("/b/c")]
SIZES = (0, 1, 64, 3000, 20_000, 28_000)

keys = st.sampled_from(KEYS)
State = dict[Key, bytes]


class DatastoreAgainstDict(RuleBasedStateMachine):
    """`states` are the contents after each step that a power cut may still undo, oldest first; the
    first one is synced, the last one is what everybody sees.
    """

    def __init__(self) -> None:
        super().__init__()
        self.device = RamDevice(SIZE_BYTES, pages=formatted(), record=True)
        self.durable = dict(self.device.pages)
        self.states: deque[State] = deque([{}])
        self.version = 0

    @initialize()
    def begin(self) -> None:
        self._open()

    def _open(self) -> None:
        self.store = Store.open(self.device)
        self.datastore = BlkdevDatastore(self.store)

    @property
    def state(self) -> State:
        return self.states[-1]

    def _value(self, size_bytes: int) -> bytes:
        self.version += 1
        return random.Random(self.version).randbytes(size_bytes)

    @rule(key=keys, size=st.sampled_from(SIZES))
    def put(self, key: Key, size: int) -> None:
        value = self._value(size)
        try:
            self.datastore.put(key, value)
        except StoreFull:
            return
        self.states.append({**self.state, key: value})

    @rule(key=keys)
    def put_what_is_there(self, key: Key) -> None:
        if key in self.state:
            before = self.store.stats().position
            self.datastore.put(key, self.state[key])
            assert self.store.stats().position == before

    @rule(key=keys)
    def delete(self, key: Key) -> None:
        self.datastore.delete(key)
        left = dict(self.state)
        if left.pop(key, None) is not None:
            self.states.append(left)

    @rule(changes=st.lists(st.tuples(keys, st.none() | st.sampled_from(SIZES)), max_size=12))
    def batch(self, changes: list[tuple[Key, int | None]]) -> None:
        """What the engine takes at once is one step, and a larger batch a few."""
        batch, wanted = self.datastore.batch(), {}
        for key, size in changes:
            wanted[key] = None if size is None else self._value(size)
            value = wanted[key]
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        before = self.state
        try:
            batch.commit()
        except StoreFull:
            self._judge_parts_of(before, wanted)
            return
        changed = dict(before)
        for part in self.datastore._parts(wanted):
            named = {key: value for key, value in wanted.items() if engine_key(key.raw) in part}
            changed = _with(changed, named)
            self.states.append(changed)

    def _judge_parts_of(self, before: State, wanted: dict[Key, bytes | None]) -> None:
        """A batch that did not fit was made up to some part, and can be told by looking."""
        changed = dict(before)
        found = self._found()
        for part in self.datastore._parts(wanted):
            if changed == found:
                return
            named = {key: value for key, value in wanted.items() if engine_key(key.raw) in part}
            changed = _with(changed, named)
            self.states.append(changed)
        assert changed == found

    @rule(key=keys)
    def sync(self, key: Key) -> None:
        self.datastore.sync(key)
        self._acknowledge()

    def _acknowledge(self) -> None:
        while len(self.states) > 1:
            self.states.popleft()

    @rule()
    def collect_garbage(self) -> None:
        self.datastore.collect_garbage()

    @rule()
    def check(self) -> None:
        assert self.datastore.check() == []
        assert self.datastore.scrub() == []
        assert_sound(self.store)

    @rule(
        prefix=keys | st.just(Key()), offset=st.integers(0, 3), limit=st.none() | st.integers(0, 5)
    )
    def query(self, prefix: Key, offset: int, limit: int | None) -> None:
        for filters in ((), (KeyContains("n"),), (ValueCompare(">", b"\x80"),)):
            for orders in ((BY_KEY,), (BY_VALUE,)):
                agree(self.datastore, self.state, Query(prefix, filters, orders, offset, limit))

    @rule()
    def reopen(self) -> None:
        self.datastore.close()
        self._acknowledge()
        self._open()

    @rule(subset=st.integers(min_value=0))
    def power_cut(self, subset: int) -> None:
        """Of the writes since the last sync, those of the subset arrived."""
        events = self.device.events
        last = max((at for at, event in enumerate(events) if event.kind == "sync"), default=-1)
        image = RamDevice(SIZE_BYTES, pages=dict(self.durable))
        for at, event in enumerate(events):
            if event.kind == "write" and (at <= last or subset >> at & 1):
                image.poke(event.offset, event.data)
        self._restart(image.pages)

    @rule()
    def kill(self) -> None:
        self._restart(dict(self.device.pages))

    def _restart(self, pages: dict[int, bytes]) -> None:
        self.device = RamDevice(SIZE_BYTES, pages=pages, record=True)
        self.durable = dict(pages)
        self._open()
        found = self._found()
        while self.states and self.states[-1] != found:
            self.states.pop()
        assert self.states, "no state since the last sync was recovered"
        # Recovery has made it durable: a second cut must arrive here again.
        self.states = deque([found])

    def _found(self) -> State:
        return {entry.key: entry.value or b"" for entry in self.datastore.query()}

    @invariant()
    def reads_agree(self) -> None:
        if not hasattr(self, "datastore"):
            return
        for key in KEYS[:: max(1, self.version % 5)]:
            value = self.state.get(key)
            assert self.datastore.has(key) == (value is not None)
            if value is None:
                for read in (self.datastore.get, self.datastore.get_size):
                    try:
                        read(key)
                    except KeyNotFound:
                        continue
                    raise AssertionError(f"{key} was found")
            else:
                assert self.datastore.get(key) == value
                assert self.datastore.get_size(key) == len(value)


def _with(state: State, changes: dict[Key, bytes | None]) -> State:
    changed = {**state, **changes}
    return {key: value for key, value in changed.items() if value is not None}


TestDatastoreAgainstDict = DatastoreAgainstDict.TestCase
TestDatastoreAgainstDict.settings = settings(stateful_step_count=40)
