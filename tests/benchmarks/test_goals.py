"""Goals are computed from figures of one run, and say no where a figure is too low."""

import pytest

from benchmarks import goals, growth, report
from benchmarks.goals import GOALS, Figures, Goal


def rows_of(**workloads):
    return [
        {
            "workload": name.replace("_", " "),
            "contestant": contestant,
            "unit": "/s",
            "median": value,
        }
        for name, contestants in workloads.items()
        for contestant, value in contestants.items()
    ]


def figures(suite, rows):
    return Figures({suite: {"rows": rows}})


def goals_of(row):
    return [goal for goal in GOALS if goal.row == row]


def test_small_blocks_are_compared_with_the_best_rival_of_each_kind():
    of = figures(
        "blocks",
        rows_of(
            put_300_B={
                "blkdev": 60_000,
                "flat files": 1_000,
                "go-ds-flatfs": 4_000,
                "flat files, no sync": 30_000,
                "leveldb": 30_000,
            }
        ),
    )
    found = {goal.what: goal.measured(of) for goal in goals_of("durable ingest, 300 B")}
    assert found == {
        "flat files or go-ds-flatfs": 15,
        "flat files, no sync or go-ds-flatfs, no sync": 2,
        "leveldb": 2,
        "lmdb": None,
    }
    reached = {goal.what: goal.is_reached(15) for goal in goals_of("durable ingest, 300 B")}
    assert reached["flat files or go-ds-flatfs"] is False
    assert reached["leveldb"] is True


def test_batches_of_somebody_who_only_writes_and_flushes_are_what_the_limit_allows():
    rows = rows_of(
        put_4_KiB={
            "blkdev": 60_000,
            "leveldb": 30_000,
            "lmdb": 20_000,
            "limit: batch + flush": 4096 * 0.08,
        }
    )
    allowed = {
        goal.what: goal.allowed(figures("blocks", rows))
        for goal in goals_of("durable ingest, 4 KiB")
    }
    assert allowed["leveldb"] == pytest.approx(80 / 30)
    assert allowed["lmdb"] == pytest.approx(4)
    assert allowed["flat files or go-ds-flatfs"] is None
    table = goals.table({"blocks": {"rows": rows}}, report.figure)
    assert any(line.endswith("| ≥ 3 x | 2 x | **no** | 2.67 x |") for line in table)


def test_ingest_is_compared_with_the_slower_of_hash_and_device():
    of = figures(
        "blocks",
        [
            {"workload": "ingest 256 KiB, hashed", "contestant": name, "median": value}
            for name, value in (
                ("blkdev", 900.0),
                ("limit: sha2-256, all cores", 3000.0),
                ("limit: disk write", 1000.0),
                ("limit: both at once", 750.0),
            )
        ],
    )
    (goal,) = goals_of("durable ingest, 256 KiB")
    assert goal.measured(of) == 0.9
    assert goal.allowed(of) == 0.75
    assert goal.is_reached(0.9)
    assert not goal.is_reached(0.79)


def test_what_was_not_measured_is_left_out():
    assert goals.table({}, report.figure) == []
    assert all(goal.measured(Figures({})) is None for goal in GOALS)


def test_table_says_which_goals_are_reached():
    found = {
        "blocks": {
            "rows": rows_of(
                flushes_per_single_put={"blkdev": 1.0}, device_reads_per_single_put={"blkdev": 2.0}
            )
        }
    }
    assert goals.table(found, report.figure)[2:] == [
        "| single durable put | flushes | ≤ 1.01 | 1 | yes |  |",
        "| single durable put | device reads | ≤ 0 | 2 | **no** |  |",
    ]


def test_growth_is_the_spread_over_all_sizes():
    sizes = {"1,000,000 blocks": 3.0, "10,000 blocks": 2.0, "100,000 blocks": 2.5}
    of = figures("growth", rows_of(get=sizes))
    assert list(of.growth("get").items()) == [(10_000, 2.0), (100_000, 2.5), (1_000_000, 3.0)]
    assert of.largest("get") == (1_000_000, 3.0)
    (goal,) = goals_of("growth: get")
    assert goal.measured(of) == 1.5
    assert goal.allowed(of) is None
    assert not goal.is_reached(1.5)


def test_reads_may_grow_as_much_as_those_of_the_system_do():
    rows = rows_of(get={"10 blocks": 1.0, "100 blocks": 2.0})
    limits = {"10 blocks": 0.5, "100 blocks": 0.8}
    rows += [
        {"workload": growth.LIMIT, "contestant": name, "unit": "µs", "median": value}
        for name, value in limits.items()
    ]
    (goal,) = goals_of("growth: get")
    assert goal.allowed(figures("growth", rows)) == 1.6
    (goal,) = goals_of("growth: has, miss")
    assert goal.allowed(figures("growth", rows)) is None


@pytest.mark.parametrize(
    ("at_least", "value", "reached"),
    [(True, 5, True), (True, 4.9, False), (False, 5, True), (False, 5.1, False)],
)
def test_bound_itself_is_reached(at_least, value, reached):
    assert Goal("row", "what", 5, at_least, lambda of: 0).is_reached(value) is reached


def test_clean_opening_may_take_longer_for_more_blocks():
    of = figures("growth", rows_of(**{"open,_closed_in_order": {"10,000,000 blocks": 58.0}}))
    (goal,) = goals_of("open, clean")
    assert goal.measured(of) == 48.0


def test_every_goal_is_about_what_the_benchmarks_write():
    """No name in a goal is misspelt: the results have a figure for each, but for rivals that are
    not installed everywhere."""
    found = Figures(report.suites())
    assert [goal.row for goal in GOALS if goal.measured(found) is None] == []


def test_page_has_the_goals_and_the_charts_of_its_suites():
    machine = report.suites()["blocks"]["machine"]
    rows = [{**row, "unit": "µs"} for row in rows_of(get={"10 blocks": 1.0, "100 blocks": 1.1})]
    page = report.markdown({"growth": {"machine": machine, "rows": rows}})
    assert "## Goals of the engine" in page
    assert "| growth: get | slowest / quickest size | ≤ 1.2 x | 1.1 x | yes |  |" in page
    assert "(benchmarks-growth.svg)" in page
    assert "(benchmarks-latency.svg)" not in page
