"""The soak itself: it finds what is wrong, and its last run is on record and found nothing."""

import json
import re
from pathlib import Path

import pytest

from blkdev.device import RamDevice, open_device
from blkdev.devices.file import FileDevice
from blkdev.store import Store
from tests.soak.lives import ACKNOWLEDGED, Plan, State, decoded, encoded, found_in, same
from tests.soak.soak import SEGMENT_SIZE_BYTES, SIZE_BYTES, Patient, Result, soak

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path) -> Path:
    FileDevice(tmp_path / "store", create_size_bytes=SIZE_BYTES).close()
    return tmp_path / "store"


def test_a_few_killed_lives_are_sound(place):
    result = soak([place], 7, lives=3)
    assert result.findings == []
    assert result.kills == 3
    assert sum(result.operations.values()) >= 3


def test_a_lost_block_is_found(place, monkeypatch):
    """A disk that forgets one block between two lives."""
    patient = Patient(place, Result())
    patient.live(1, 1.0)
    with Store.open(open_device(place)) as store:
        store.delete_many([next(store.keys())])
    with pytest.raises(AssertionError, match="none of"):
        patient.live(2, 0.1)


def test_steps_are_drawn_alike_from_the_same_seed_and_outcomes():
    device = RamDevice(SIZE_BYTES)
    Store.format(device, segment_size_bytes=SEGMENT_SIZE_BYTES)
    done, told = Plan(3, State()), Plan(3, decoded(encoded(State())))
    with Store.open(device) as store:
        for _ in range(400):
            step, other = done.step(), told.step()
            assert step.kind == other.kind
            step.act(store)
            for plan, each in ((done, step), (told, other)):
                plan.outcome(each, ACKNOWLEDGED if each.kind == ACKNOWLEDGED else "ok")
        assert same(found_in(store), told.state)
        assert same(done.state, told.state)


def test_the_last_soak_is_on_record_and_found_nothing():
    last = json.loads(Path(__file__).with_name("last.json").read_text())
    assert re.fullmatch(r"[0-9a-f]{40}", last["commit"])
    assert last["findings"] == []
    assert last["minutes"] >= 5
    assert last["kills"] > 50
    assert sum(last["operations"].values()) > 10_000
