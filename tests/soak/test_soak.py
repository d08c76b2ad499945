"""The soak itself: it finds what is wrong, and its last run is on record and found nothing."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from blkdev.device import RamDevice, open_device
from blkdev.devices.file import FileDevice
from blkdev.errors import SizeTooSmall, StoreFull
from blkdev.store import Store
from tests.soak.lives import ACKNOWLEDGED, MOODS, Plan, State, decoded, encoded, found_in, same
from tests.soak.soak import SEGMENT_SIZE_BYTES, SIZE_BYTES, Patient, Result, soak

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path) -> Path:
    FileDevice(tmp_path / "store", create_size_bytes=SIZE_BYTES).close()
    return tmp_path / "store"


def seed_of(mood: str) -> int:
    """The first seed of a life that has this mood."""
    return next(seed for seed in range(1000) if Plan(seed, State()).mood == mood)


def test_a_few_killed_lives_are_sound(place):
    result = soak([place], 7, lives=3)
    assert result.findings == []
    assert result.kills == 3
    assert sum(result.operations.values()) >= 3


def test_lost_blocks_are_found(place):
    """A disk that forgets half of the blocks between two lives: more than the second one deletes
    before it is looked at."""
    patient = Patient(place, Result())
    keys = []
    for _ in range(20):
        patient.live(seed_of("steady"), 0.5)
        with Store.open(open_device(place)) as store:
            keys = list(store.keys())
            if len(keys) >= 20:
                store.delete_many(keys[::2])
                break
    assert len(keys) >= 20, "else nothing was lost"
    with pytest.raises(AssertionError, match="none of"):
        patient.live(seed_of("filling"), 0.1)


@pytest.mark.parametrize("mood", MOODS)
def test_steps_are_drawn_alike_from_the_same_seed_and_outcomes(mood):
    seed = seed_of(mood)
    device = RamDevice(SIZE_BYTES)
    Store.format(device, segment_size_bytes=SEGMENT_SIZE_BYTES)
    done, told = Plan(seed, State()), Plan(seed, decoded(encoded(State())))
    with Store.open(device) as store:
        for _ in range(400):
            step, other = done.step(), told.step()
            assert step.kind == other.kind
            said = ACKNOWLEDGED if step.kind == ACKNOWLEDGED else "ok"
            try:
                step.act(store)
            except (StoreFull, SizeTooSmall):
                said = "full"
            for plan, each in ((done, step), (told, other)):
                plan.outcome(each, said)
        assert same(found_in(store), told.state)
        assert same(done.state, told.state)


def test_a_store_of_another_size_than_anybody_asked_for_is_found(place):
    patient = Patient(place, Result())
    with Store.open(open_device(place)) as store:
        store.resize(40 << 20)
    with pytest.raises(AssertionError, match=r"of .* bytes"):
        patient.live(2, 0.0)


def test_stores_are_filled_and_emptied_and_resized_again_and_again():
    """Without a kill, on one device, as a run of some minutes does it."""
    device, state, seen = RamDevice(SIZE_BYTES), State(), Counter[str]()
    Store.format(device, segment_size_bytes=SEGMENT_SIZE_BYTES)
    with Store.open(device) as store:
        for seed in range(16):
            plan = Plan(seed, state)
            for _ in range(250):
                step = plan.step()
                try:
                    step.act(store)
                except (StoreFull, SizeTooSmall):
                    plan.outcome(step, "full")
                    seen[f"{step.kind}, full"] += 1
                else:
                    plan.outcome(step, "ok")
                    seen[step.kind] += 1
            state = plan.state
        assert same(found_in(store), state)
    assert seen["put, full"] > 10
    assert seen["resize"] > 5
    assert seen["put"] > 10 * seen["put, full"] / 4


def test_the_last_soak_is_on_record_and_found_nothing():
    last = json.loads(Path(__file__).with_name("last.json").read_text())
    assert re.fullmatch(r"[0-9a-f]{40}", last["commit"])
    assert last["findings"] == []
    assert last["minutes"] >= 5
    assert last["kills"] > 50
    assert sum(last["operations"].values()) > 10_000
    assert last["operations"]["put, full"] > 100, "it never filled a store"
    assert last["operations"]["resize"] > 50
