"""Contestants do what they are timed for: what is put is there, what is deleted is not."""

import pytest

from benchmarks import contest
from benchmarks.contest import OWN, Contest, InProcess
from benchmarks.race import Timed
from benchmarks.rivals import go_datastores
from benchmarks.rivals.devices import LoopDevice
from benchmarks.rivals.go_datastores import DatastoreError, GoDatastore
from benchmarks.rivals.stores import STORES
from benchmarks.workloads import Blocks, BlockWorkload, absent_key
from ipld import multihash as multihashes

WORKLOAD = BlockWorkload("tiny", 700, 4, 3)
BLOCKS = Blocks("seed", WORKLOAD)


def run_through(contestant):
    """Every operation once; get and has fail by themselves when they find something wrong."""
    contestant.prepare(BLOCKS)
    assert contestant.has(range(12), absent=True).amount == 12
    put = contestant.put()
    assert (put.amount, len(put.seconds)) == (12, 3)
    assert contestant.get([0, 11, 0]).amount == 3
    assert len(contestant.get([0, 11, 0], each=True).seconds) == 3
    assert contestant.has(range(12)).amount == 12
    contestant.reopen()
    assert contestant.get(range(12)).amount == 12
    deleted = contestant.delete()
    assert (deleted.amount, len(deleted.seconds)) == (12, 3)


@pytest.mark.parametrize("name", STORES)
def test_store_of_this_process_has_what_was_put_until_it_is_deleted(tmp_path, name):
    contestant = InProcess(STORES[name](tmp_path))
    run_through(contestant)
    with pytest.raises(AssertionError, match="has found 0 of 12"):
        contestant.has(range(12))
    contestant.put()
    key, value = BLOCKS.items()[5]
    assert contestant.store.get(key) == value
    contestant.close()


def test_blocks_are_the_same_for_a_seed_and_others_for_another():
    assert BLOCKS.items() == Blocks("seed", WORKLOAD).items()
    assert not set(BLOCKS.keys()) & set(Blocks("other", WORKLOAD).keys())
    for key, value in BLOCKS.items():
        assert len(value) == 700
        assert key == multihashes.digest_multihash(multihashes.SHA2_256, value)
    assert not {absent_key(1)} & set(BLOCKS.keys())


def test_batches_have_the_size_that_the_workload_says():
    assert [len(batch) for batch in BLOCKS.batches()] == [4, 4, 4]
    assert WORKLOAD.total_bytes == 12 * 700


def test_contest_without_devices_shares_a_folder_and_cleans_up(tmp_path, monkeypatch):
    monkeypatch.setattr(contest, "can_loop", lambda: False)
    field = Contest(tmp_path / "field", 64 << 20, (OWN, "sqlite"))
    assert not field.devices
    for contestant in field.contestants.values():
        run_through(contestant)
    assert field.own.store.stats().keys == 0
    field.close()
    assert not list((tmp_path / "field").iterdir())


@pytest.mark.needs_root
@pytest.mark.slow
def test_contest_on_devices_counts_what_reached_them(tmp_path):
    field = Contest(tmp_path / "field", 128 << 20, (OWN, "flat files"))
    try:
        before = field.settled()
        used = field.used_bytes("flat files")
        for contestant in field.contestants.values():
            contestant.prepare(BLOCKS)
            contestant.put()
        for name, now in field.settled().items():
            spent = now.since(before[name])
            assert spent.write_bytes >= WORKLOAD.total_bytes, name
            assert spent.flushes >= WORKLOAD.batches, name
        assert field.used_bytes("flat files") >= used + 12 * 700
        assert field.used_bytes(OWN) >= 12 * 700
    finally:
        field.close()


@pytest.mark.needs_root
@pytest.mark.slow
def test_device_that_was_discarded_is_written_again(tmp_path):
    image = tmp_path / "disk.img"
    device = LoopDevice(image, 16 << 20)
    try:
        full = image.stat().st_blocks
        with image.open("r+b") as file:
            file.truncate(4 << 20)
            file.truncate(16 << 20)
        assert image.stat().st_blocks < full
        device.fill()
        assert image.stat().st_blocks == full
    finally:
        device.close()


@pytest.mark.needs_peers
@pytest.mark.parametrize("name", go_datastores.KINDS)
def test_datastore_of_kubo_has_what_was_put_until_it_is_deleted(tmp_path, name):
    kind, synced = go_datastores.KINDS[name]
    contestant = GoDatastore(kind, tmp_path, synced=synced)
    try:
        run_through(contestant)
        with pytest.raises(DatastoreError, match="has found 0 of 12"):
            contestant.has(range(12))
        with pytest.raises(DatastoreError, match="not found"):
            contestant.get([3])
    finally:
        contestant.close()


@pytest.mark.needs_peers
def test_datastore_program_makes_the_same_blocks(tmp_path):
    contestant = GoDatastore("leveldb", tmp_path)
    try:
        contestant.prepare(BLOCKS)
        assert contestant.keys() == BLOCKS.keys()
    finally:
        contestant.close()


@pytest.mark.needs_peers
@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"do": "dance"}, "is not known"),
        ({"do": "get", "order": [12]}, "there is no block 12"),
        ({"do": "open", "kind": "flatfs"}, "open already"),
        ({"do": "prepare", "size": 0}, "at least 1"),
    ],
)
def test_datastore_program_refuses_what_it_cannot_do_and_goes_on(tmp_path, request_, error):
    contestant = GoDatastore("flatfs", tmp_path)
    try:
        contestant.prepare(BLOCKS)
        with pytest.raises(DatastoreError, match=error):
            contestant.ask(**request_)
        assert contestant.put().amount == 12
    finally:
        contestant.close()


@pytest.mark.needs_peers
def test_datastore_program_that_ended_is_an_error_and_no_wait(tmp_path):
    contestant = GoDatastore("pebble", tmp_path)
    contestant._process.kill()
    contestant._process.wait()
    with pytest.raises(DatastoreError, match="the program ended"):
        contestant.ask("put")
    with pytest.raises(DatastoreError):
        contestant.close()


@pytest.mark.needs_peers
def test_datastore_that_cannot_be_opened_leaves_no_process(tmp_path):
    with pytest.raises(DatastoreError, match="is none of"):
        GoDatastore("dbase", tmp_path)


def test_time_of_pieces_is_that_of_the_store_alone():
    timed = Timed(12, [0.5, 0.25])
    assert timed.amount / sum(timed.seconds) == 16
