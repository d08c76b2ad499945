"""Any sequence of operations on a device that fails, rots and fills up agrees with a dict.

The device has a volatile cache: what no sync made durable may be lost, and a failed sync loses it
while reads still show it, as Linux does. After every fault the store either did what was asked or
says with a typed error that it did not; reads give the right bytes or BlockDamaged; and what was
acknowledged is there when the device is opened again.
"""

import random
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from blkdev.device import RamDevice
from blkdev.errors import BlockDamaged, StoreDamaged, StoreError, StoreFull, StoreReadOnly
from blkdev.format import PAGE_SIZE_BYTES, BytesLike
from blkdev.store import Store
from tests.blkdev.devices import SIZE_BYTES, assert_sound, contents, formatted

pytestmark = pytest.mark.slow

KEYS = [b"key-%02d" % number for number in range(40)]
VALUE_SIZES = (0, 300, 4096, 20_000, 32_768)
FAULTS = ("sync", "write", "short write", "full")
WORK = ("commit", "compact", "checkpoint")
ERRNO = {"sync": 5, "write": 5, "short write": 5, "full": 28}
State = tuple[frozenset[bytes], int, int]
"""Keys stored, number of the name's value, records in the journal. A key determines its value."""


def value_of(key: bytes) -> bytes:
    rng = random.Random(key)
    return rng.randbytes(rng.choice(VALUE_SIZES))


class WornDevice(RamDevice):
    """`pages` is what reads show, `durable` what the medium holds; `countdown` operations of the
    kind go well before the fault strikes, and from then on it strikes always.
    """

    def __init__(self, pages: dict[int, bytes]) -> None:
        super().__init__(SIZE_BYTES, pages=dict(pages))
        self.durable = dict(pages)
        self.fault = ""
        self.countdown = 0
        self.struck = False
        self.unreadable: set[int] = set()

    def _strikes(self, *faults: str) -> bool:
        if self.fault not in faults:
            return False
        self.countdown -= 1
        self.struck = self.struck or self.countdown < 0
        return self.countdown < 0

    def read(self, offset: int, length: int) -> bytes:
        last = (offset + max(length, 1) - 1) // PAGE_SIZE_BYTES
        if not self.unreadable.isdisjoint(range(offset // PAGE_SIZE_BYTES, last + 1)):
            raise OSError(5, "unreadable on purpose")
        return super().read(offset, length)

    def write(self, offset: int, buffers: Sequence[BytesLike]) -> None:
        if self._strikes("write", "short write", "full"):
            if self.fault == "short write":
                data = b"".join(buffers)
                super().write(offset, [data[: len(data) // 2 & -PAGE_SIZE_BYTES]])
            raise OSError(ERRNO[self.fault], f"{self.fault} on purpose")
        super().write(offset, buffers)

    def sync(self) -> None:
        if self._strikes("sync"):
            raise OSError(5, "sync on purpose")
        self.durable = dict(self.pages)

    def after_power_cut(self, rng: random.Random) -> dict[int, bytes]:
        """Of the pages that no sync made durable, some arrived."""
        kept = self.durable.get
        changed = {n: page for n, page in self.pages.items() if page is not kept(n)}
        return self.durable | {n: page for n, page in changed.items() if rng.random() < 0.5}


class StoreOnAFailingDevice(RuleBasedStateMachine):
    """`states` are what a power cut may arrive at, oldest first: the first is acknowledged, the
    last is what readers see.
    """

    def __init__(self) -> None:
        super().__init__()
        self.device = WornDevice(formatted())
        self.store = Store.open(self.device)
        self.states: list[State] = [(frozenset(), 0, 0)]
        self.number = 0

    def _attempt(self, state: State | None, action) -> bool:
        """Do what leads to `state`; False when it was refused, and nothing changed."""
        try:
            action()
        except StoreFull:
            return False
        except StoreReadOnly:
            assert self.device.struck, "read-only, and no fault struck"
            if state is not None:
                # It may have been staged and written before the device failed.
                self.states.append(state)
                self._judge_latched()
            return False
        if state is not None:
            self.states.append(state)
        return True

    def _put(self, key: bytes, state: State | None) -> bool:
        return self._attempt(state, lambda: self.store.put_many([(key, value_of(key))]))

    def _judge_latched(self) -> None:
        """What readers see now is the state before or after the write that failed."""
        found = self._found(self.store)
        assert found in self.states[-2:]
        self.states.append(found)

    @staticmethod
    def _found(store: Store) -> State:
        found = contents(store)
        for key, value in found.items():
            assert value == value_of(key), key
        name = store.name(b"name")
        journal = [record for _, record in store.journal(1).replay()]
        assert journal == [b"record %d" % number for number in range(len(journal))]
        return frozenset(found), int(name or 0), len(journal)

    # Operations

    @rule(chosen=st.lists(st.sampled_from(KEYS), max_size=8))
    def put(self, chosen: list[bytes]) -> None:
        for key in chosen:
            keys, name, records = self.states[-1]
            state = (keys | {key}, name, records) if key not in keys else None
            if not self._attempt(
                state, lambda key=key: self.store.put_many([(key, value_of(key))])
            ):
                return

    @rule()
    def fill(self) -> None:
        """Until nothing more goes in; what is in stays, and can be deleted again."""
        for number in range(400):
            key = b"fill-%03d" % number
            keys, name, records = self.states[-1]
            if key in keys:
                continue
            if not self._put(key, (keys | {key}, name, records)):
                return

    @rule(share=st.sampled_from((1, 2, 5)))
    def delete(self, share: int) -> None:
        keys, name, records = self.states[-1]
        gone = sorted(keys)[::share]
        if gone:
            state = (keys - set(gone), name, records)
            done = self._attempt(state, lambda: self.store.delete_many(gone))
            assert done or self.device.struck, "a full store must take deletes"

    @rule()
    def set_name(self) -> None:
        keys, _, records = self.states[-1]
        self.number += 1
        value = b"%d" % self.number
        state = (keys, self.number, records)
        done = self._attempt(state, lambda: self.store.set_name(b"name", value))
        assert done or self.device.struck, "a full store must take names"

    @rule()
    def append(self) -> None:
        keys, name, records = self.states[-1]
        record = b"record %d" % records
        self._attempt((keys, name, records + 1), lambda: self.store.journal(1).append(record))

    @rule()
    def commit(self) -> None:
        if self._attempt(None, self.store.commit):
            del self.states[:-1]

    @rule(how=st.sampled_from(("compact", "checkpoint", "write_out")))
    def maintain(self, how: str) -> None:
        self._attempt(None, getattr(self.store, how))

    # Faults

    @precondition(lambda self: not self.device.fault)
    @rule(fault=st.sampled_from(FAULTS), after=st.integers(0, 4), work=st.sampled_from(WORK))
    def break_device(self, fault: str, after: int, work: str) -> None:
        """While something is written, or soon after."""
        self.device.fault, self.device.countdown = fault, after
        keys, name, records = self.states[-1]
        key = b"last words %d" % len(keys)
        state = (keys | {key}, name, records) if key not in keys else None
        self._put(key, state)
        self._attempt(None, getattr(self.store, work))

    @rule(seed=st.integers(0, 1 << 30), share=st.floats(0.01, 1.0))
    def read_bad_sectors(self, seed: int, share: float) -> None:
        """Every read gives the right bytes or the typed error; afterwards all is as before."""
        pages = sorted(self.device.pages)
        rng = random.Random(seed)
        self.device.unreadable = set(rng.sample(pages, int(len(pages) * share)))
        self._judge_damaged(self.store)
        self.device.unreadable = set()

    @rule(seed=st.integers(0, 1 << 30), count=st.integers(1, 40))
    def flip_bits(self, seed: int, count: int) -> None:
        """On a copy of the medium: wrong bytes are never returned, whatever rotted."""
        rng = random.Random(seed)
        pages = dict(self.device.pages)
        for number in rng.choices(sorted(pages), k=count):
            rotten = bytearray(pages[number])
            rotten[rng.randrange(PAGE_SIZE_BYTES)] ^= 1 << rng.randrange(8)
            pages[number] = bytes(rotten)
        try:
            store = Store.open(WornDevice(pages))
        except StoreDamaged:
            return
        store.check()
        self._judge_damaged(store)

    def _judge_damaged(self, store: Store) -> None:
        ever = frozenset().union(*(keys for keys, _, _ in self.states))
        for key in sorted(ever):
            try:
                assert store.get(key) == value_of(key)
                with store.view(key) as view:
                    assert view == value_of(key)
            except BlockDamaged as error:
                assert error.key == key
            except KeyError:
                pass
        try:
            for _, record in store.journal(1).replay():
                assert record.startswith(b"record ")
        except BlockDamaged:
            pass
        assert not store.has(b"a key that never was")

    # Restarts

    @rule(how=st.sampled_from(("cut", "kill", "close")), seed=st.integers(0, 1 << 30))
    def restart(self, how: str, seed: int) -> None:
        """A store whose device failed may say so when it is closed; nothing acknowledged depends
        on that. Its process is killed only together with the machine: the cache lies by now.
        """
        pages = self.device.pages
        if how == "close":
            try:
                self.store.close()
                acknowledged = not self.device.struck
            except StoreError:
                assert self.device.struck
                acknowledged = False
            if acknowledged:
                del self.states[:-1]
        if how == "cut" or self.device.struck:
            pages = self.device.after_power_cut(random.Random(seed))
        self._restart(pages)

    def _restart(self, pages: dict[int, bytes]) -> None:
        self.device = WornDevice(pages)
        self.store = Store.open(self.device)
        found = self._found(self.store)
        assert found in self.states, "no state since the last commit was recovered"
        self.states = [found]
        assert_sound(self.store)

    @invariant()
    def reads_agree(self) -> None:
        keys, name, _ = self.states[-1]
        assert self.store.stats().keys == len(keys)
        assert self.store.has_many(KEYS) == [key in keys for key in KEYS]
        assert int(self.store.name(b"name") or 0) == name
        for key in sorted(keys)[:: max(1, len(keys) // 3)]:
            assert self.store.get(key) == value_of(key)


TestStoreOnAFailingDevice = StoreOnAFailingDevice.TestCase
TestStoreOnAFailingDevice.settings = settings(stateful_step_count=40)
