"""Charts show the figures of the results, and equal results give equal files."""

import pytest

from benchmarks import charts, growth
from benchmarks.results import load

ROWS = [
    {"workload": "put 4 KiB", "contestant": "blkdev", "unit": "/s", "median": 1000.0,
     "p50_ms": 1.0, "p99_ms": 5.0},
    {"workload": "put 4 KiB", "contestant": "leveldb", "unit": "/s", "median": 500.0,
     "p50_ms": 2.0, "p99_ms": 50.0},
    {"workload": "put 4 KiB", "contestant": "limit: disk write", "unit": "MB/s", "median": 900.0},
    {"workload": "get 256 KiB", "contestant": "blkdev", "unit": "MB/s", "median": 5000.0},
    {"workload": "has, hit, 4 KiB", "contestant": "blkdev", "unit": "/s", "median": 9.0},
]  # fmt: skip
GROWTH = [
    {"workload": "get", "contestant": "100,000 blocks", "unit": "µs", "median": 3.0},
    {"workload": "get", "contestant": "10,000 blocks", "unit": "µs", "median": 2.0},
    {"workload": "memory", "contestant": "10,000 blocks", "unit": "MB", "median": 7.0},
]


def test_throughput_is_in_megabytes_whatever_the_unit_of_the_row():
    assert charts.throughput(ROWS) == {
        "put": [
            ("4 KiB", {"blkdev": 4.096, "leveldb": 2.048, "limit: disk write": 900.0}),
        ],
        "get": [("256 KiB", {"blkdev": 5000.0})],
    }


def test_latencies_are_those_that_were_measured():
    assert charts.latencies(ROWS) == {"put 4 KiB": {"blkdev": (1.0, 5.0), "leveldb": (2.0, 50.0)}}


def test_growth_is_ordered_by_number_of_blocks_and_shows_times_only():
    assert charts.growth(GROWTH) == {"get": [(10_000, 2.0), (100_000, 3.0)]}


DRAWN = [
    (charts.draw_throughput, ROWS), (charts.draw_latencies, ROWS), (charts.draw_growth, GROWTH),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "rows"), DRAWN)
def test_equal_results_give_an_equal_chart(tmp_path, draw, rows):
    draw(rows, tmp_path / "one.svg")
    draw(rows, tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


@pytest.mark.parametrize("draw", [draw for draw, _ in DRAWN])
def test_nothing_measured_draws_nothing(tmp_path, draw):
    draw([], tmp_path / "none.svg")
    assert not list(tmp_path.iterdir())


def test_records_of_growth_have_keys_like_multihashes():
    key, value = growth.item(7)
    assert len(key) == 34
    assert key[:2] == b"\x12\x20"
    assert len(value) == growth.VALUE_SIZE_BYTES
    assert growth.item(7) == (key, value)
    assert growth.item(8)[0] != key


@pytest.mark.slow
def test_growth_is_measured_in_a_process_of_its_own(tmp_path):
    from benchmarks.engine import new_store

    path = new_store(tmp_path / "store.blk")
    growth.ask("grow", path, 0, 3000)
    seen = growth.ask("look", path, 3000)
    assert seen["keys"] == 3000
    assert set(seen["us"]) == {*growth.OPERATIONS, growth.LIMIT}
    assert all(len(values) == growth.ROUNDS for values in seen["us"].values())
    assert len(seen["open_ms"]) == growth.ROUNDS
    assert seen["memory_bytes"] > seen["index_bytes"] // 2
    assert growth.ask("look", path, 3000)["keys"] == 3000, "what was put to be timed is gone"


def test_process_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="No such file"):
        growth.ask("look", tmp_path / "none.blk", 10)


def test_results_that_are_not_there_are_empty(tmp_path):
    assert load(tmp_path / "none.json")["rows"] == []
