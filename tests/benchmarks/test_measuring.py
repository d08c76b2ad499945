"""What figures are made of: turns, percentiles, counters, limits, and what our engine is asked."""

import pytest

from benchmarks import counters, engine, limits
from benchmarks.counters import Counters
from benchmarks.race import Timed, percentile, race
from benchmarks.workloads import Blocks, BlockWorkload
from blkdev.device import RamDevice
from blkdev.errors import StoreReadOnly
from blkdev.store import Store


class Pedantic:
    """Stands for pytest-benchmark: runs set-up and function, once a round."""

    def pedantic(self, function, setup, rounds):
        for _ in range(rounds):
            arguments, _ = setup()
            function(*arguments)


@pytest.fixture
def store():
    device = RamDevice(128 << 20)
    Store.format(device)
    opened = Store.open(device)
    yield opened
    opened.close()


def test_contestants_take_turns_and_ours_is_the_one_handed_on():
    turns = []

    def contestant(name, amount):
        def prepare():
            turns.append(f"prepare {name}")
            return lambda: turns.append(name) or amount

        return prepare

    contestants = {"own": contestant("own", 2.0), "other": contestant("other", 4.0)}
    rates = race(Pedantic(), "own", contestants, rounds=2)
    assert turns == ["prepare other", "other", "prepare own", "own"] * 2
    assert {name: len(values) for name, values in rates.items()} == {"own": 2, "other": 2}


def test_contestant_that_times_itself_is_believed_and_its_pieces_kept():
    pieces: dict[str, list[float]] = {}
    rates = race(
        Pedantic(), "own", {"own": lambda: lambda: Timed(30, [1.0, 2.0])}, rounds=2, pieces=pieces
    )
    assert rates == {"own": [10.0, 10.0]}
    assert pieces == {"own": [1.0, 2.0, 1.0, 2.0]}


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)]
)
def test_percentile_is_a_value_that_was_measured(percent, expected):
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == expected


def test_percentile_of_one_value_is_that_value():
    assert percentile([7.0], 99) == 7.0


STAT = "10 1 80 5 20 2 160 7 0 9 12 3 0 0 0 4 6\n"


def test_counters_are_read_by_their_places():
    assert Counters.parse(STAT) == Counters(10, 80 * 512, 20, 160 * 512, 4)


def test_counters_of_a_kernel_that_counts_no_flushes():
    assert Counters.parse(" ".join(STAT.split()[:11])).flushes == 0


def test_counters_between_two_looks():
    earlier = Counters(1, 2, 3, 4, 5)
    assert Counters(11, 22, 33, 44, 55).since(earlier) == Counters(10, 20, 30, 40, 50)


def test_counters_of_no_device_are_an_error():
    with pytest.raises(FileNotFoundError):
        counters.of("/dev/no-such-device")


@pytest.mark.parametrize("limit", [limits.sha256, limits.sha256_on_all_cores, limits.memory_copy])
def test_limits_of_the_processor_count_what_they_did(limit):
    assert limit(4096, 40960)() == pytest.approx(0.04096, rel=0.2)


def test_limits_of_the_disk_count_what_they_did(tmp_path):
    disk = limits.Disk(tmp_path / "limit.bin", 8 << 20)
    assert disk.sequential_write()() == pytest.approx(8.39, rel=0.01)
    assert disk.flushed_pages(3)() == 3
    assert disk.flushed_batches(3 << 20, 5)() == 5 * (3 << 20) / 1e6, "more than the disk holds"
    assert disk.hash_and_write(64 << 10, 4, 40)() == pytest.approx(10.49, rel=0.01)
    assert disk.random_reads(4096, 10)() == 10
    assert disk.random_reads(1 << 20, 100)() == 7, "no place is read twice"
    disk.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_ingest_stores_every_block_under_its_hash_and_each_batch_durably(store, threads):
    workload = BlockWorkload("tiny", 500, 4, 6)
    run = engine.ingest(store, workload, threads=threads)()
    assert run() == 24 * 500 / 1e6
    assert store.stats().keys == 24
    assert store._log.durable_group == store._log.written_group
    for key, value in Blocks(f"ingest/{threads}/0", workload).items():
        assert store.get(key) == value


def test_commit_that_fails_ends_an_ingest(store, monkeypatch):
    def refuse():
        raise OSError(5, "no")

    monkeypatch.setattr(store.device, "sync", refuse)
    with pytest.raises(StoreReadOnly):
        engine.ingest(store, BlockWorkload("tiny", 500, 4, 6), threads=2)()()
    monkeypatch.undo()


def test_filling_stops_at_the_share_and_replacing_keeps_it(store):
    keys = engine.fill(store, 0.25)
    stats = store.stats()
    assert 0.25 <= stats.live_bytes / stats.capacity_bytes < 0.3
    assert stats.keys == len(keys)
    assert engine.replace(store, keys) > 0.9 * stats.capacity_bytes
    assert store.stats().keys == len(keys)
    assert store.has_many(keys) == [True] * len(keys)


@pytest.mark.slow
def test_store_that_crashed_is_opened_with_its_whole_tail(tmp_path, monkeypatch):
    path = engine.new_store(tmp_path / "store.blk")
    engine.crash(path, 65536)
    assert engine.open_and_close(path) == 1
    monkeypatch.setattr(engine, "TAIL_BYTES", engine.TAIL_BYTES * 2)
    with pytest.raises(AssertionError, match="after the last checkpoint"):
        engine.open_and_close(path)


@pytest.mark.slow
def test_dead_space_comes_back_while_a_writer_goes_on(store, monkeypatch):
    monkeypatch.setattr(engine, "CHURN_DISK_BYTES", 64 << 20)
    back = engine.space_back(store)
    assert back.reclaimed_percent > 80
    assert back.waits_s
