"""Power cuts under a datastore: what was synced is there, a replaced key is never missing.

The device records what is written and synced. After each event the power fails in every way that
`tests/crash/enumeration.py` knows: each subset of the unsynced writes, and torn ones.
"""

import random
from collections.abc import Iterator

import pytest

from blkdev.device import RamDevice
from blkdev.store import Store
from datastore import BlkdevDatastore, Key
from datastore.pending import Changes
from tests.blkdev.devices import assert_sound, formatted
from tests.crash.enumeration import Pages, cuts

SIZE_BYTES = 20 << 20
ALWAYS = (Key("/counter"), Key("/" + "long" * 50), Key("/config/main"))
"""Put first and synced, then replaced over and over, and never deleted."""

Contents = dict[str, bytes]


class History:
    """What a datastore went through, and what it had promised after how many device events."""

    def __init__(self) -> None:
        self.start = formatted()
        self.device = RamDevice(SIZE_BYTES, pages=dict(self.start), record=True)
        self.datastore = BlkdevDatastore(Store.open(self.device))
        self.states: list[Contents] = [{}]
        self.reclaimed_bytes = 0
        # (events, index of the state promised, index of the newest state begun)
        self.marks: list[tuple[int, int, int]] = [(0, 0, 0)]

    def step(self, changes: dict[Key, bytes | None]) -> None:
        changed = {**self.states[-1], **{str(key): value for key, value in changes.items()}}
        self.states.append({key: value for key, value in changed.items() if value is not None})
        batch = self.datastore.batch()
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.commit()
        self.marks.append((len(self.device.events), self.marks[-1][1], len(self.states) - 1))

    def promised(self) -> None:
        newest = len(self.states) - 1
        self.marks.append((len(self.device.events), newest, newest))

    def allowed(self, events: int) -> list[Contents]:
        synced = [mark for mark in self.marks if mark[0] <= events][-1][1]
        later = [mark for mark in self.marks if mark[0] > events]
        newest = later[0][2] if later else len(self.states) - 1
        return self.states[synced : newest + 1]


def lived(rounds: int) -> History:
    history, rng = History(), random.Random(3)
    for key in ALWAYS:
        history.step({key: b"first"})
    history.datastore.sync()
    history.promised()
    for number in range(rounds):
        history.step({key: rng.randbytes(rng.choice((8, 700, 9000))) for key in ALWAYS})
        history.step({Key(f"/block/{number}"): rng.randbytes(12_000)})
        history.step({Key(f"/block/{number - 2}"): None, ALWAYS[0]: b"%d" % number})
        if number % 2:
            history.datastore.sync()
            history.promised()
        if number % 4 == 3:
            history.reclaimed_bytes += history.datastore.collect_garbage()
    history.datastore.close()
    history.promised()
    return history


def images(history: History, torn: int) -> Iterator[tuple[int, Pages]]:
    rng = random.Random(11)
    seen: set[int] = set()
    for events in range(len(history.device.events) + 1):
        for image in cuts(history.start, history.device.events, events, rng, torn):
            fingerprint = hash(frozenset(image.items()))
            if fingerprint not in seen:
                seen.add(fingerprint)
                yield events, image


def judge(history: History, events: int, image: Pages) -> None:
    store = Store.open(RamDevice(SIZE_BYTES, pages=dict(image)))
    datastore = BlkdevDatastore(store)
    found = {str(entry.key): entry.value for entry in datastore.query()}
    allowed = history.allowed(events)
    assert found in allowed, f"after event {events}: {sorted(found)} of {len(allowed)} states"
    if len(allowed[0]) >= len(ALWAYS):
        assert all(datastore.has(key) for key in ALWAYS), f"after event {events}"
    assert_sound(store)


@pytest.mark.slow
def test_every_cut_leaves_what_was_synced_and_no_replaced_key_missing():
    history = lived(14)
    assert history.reclaimed_bytes > 100_000, "compaction is part of the history"
    count = 0
    for events, image in images(history, torn=8):
        judge(history, events, image)
        count += 1
    assert count > 800, count


@pytest.mark.slow
def test_defect_replacing_by_delete_and_put_is_found(monkeypatch):
    """What the engine would do without batches: the oracle above sees the moment between."""

    def one_by_one(self: BlkdevDatastore, changes: Changes) -> None:
        for part in self._parts(changes):
            self._store.delete_many(part)
            self._store.write_out()
            self._store.put_many((key, value) for key, value in part.items() if value is not None)

    monkeypatch.setattr(BlkdevDatastore, "_apply", one_by_one)
    history = lived(2)
    with pytest.raises(AssertionError, match="after event"):
        for events, image in images(history, torn=1):
            judge(history, events, image)
