"""The report says what the results say: the committed page is the one the results give."""

import pytest

from benchmarks import machine, report, results


def row(workload, contestant, median, unit="MB/s", **more):
    return {
        "workload": workload,
        "contestant": contestant,
        "unit": unit,
        "median": median,
        "values": [median],
        **more,
    }


PUT = [
    row("put 4 KiB", "blkdev", 3000.0, "/s"),
    row("put 4 KiB", "leveldb", 1500.0, "/s"),
    row("put 4 KiB", "lmdb", 1000.0, "/s"),
    row("put 4 KiB", "flat files, no sync", 9000.0, "/s"),
    row("put 4 KiB", "limit: sha2-256", 1200.0),
]
READ = [
    row("read 4 KiB", "verified", 900.0),
    row("read 4 KiB", "again", 4000.0),
    row("read 4 KiB", "limit: sha2-256", 1200.0),
]
MOUNT = [
    row("stat, pinned", "ipfs-mfs", 50.0, "/s", row="stat", placement="pinned", server_cpu_us=12.3),
    row("stat, pinned", "ext4", 100.0, "/s", row="stat", placement="pinned", server_cpu_us=None),
    row("stat, unpinned", "ipfs-mfs", 60.0, "/s", row="stat", placement="unpinned"),
    row("stat, unpinned", "ext4", 120.0, "/s", row="stat", placement="unpinned"),
    row("stat, unpinned", "gocryptfs", 30.0, "/s", row="stat", placement="unpinned"),
]


def document(rows):
    return {"machine": machine.describe(results.FOLDER.parent), "rows": rows}


def test_committed_page_is_what_the_results_give():
    assert (report.DOCS / "benchmarks.md").read_text() == report.markdown(report.suites())


def test_rival_without_sync_and_limits_are_not_the_best_rival():
    assert report.best_rival(PUT) == 1500.0
    assert report.own_median(PUT) == 3000.0
    assert report.best_rival(READ) is None


def test_limit_counts_only_in_the_same_unit():
    assert report.lowest_limit(PUT, "/s") is None
    assert report.lowest_limit(READ, "MB/s") == 1200.0


def test_table_has_a_line_per_workload_and_no_empty_column():
    lines = report.tables_of(PUT)
    heads = (
        "workload", "unit", "blkdev", "leveldb", "lmdb",
        "flat files, no sync", "limit: sha2-256", "ours / best rival",
    )  # fmt: skip
    assert lines[0] == f"| {' | '.join(heads)} |"
    assert lines[2] == "| put 4 KiB | /s | 3,000 | 1,500 | 1,000 | 9,000 | 1,200 MB/s | 2.00 |"


def test_workloads_of_other_contestants_get_their_own_table():
    lines = report.tables_of(PUT + READ)
    assert lines.count("") == 1
    assert lines[-1] == "| read 4 KiB | MB/s | 900 | 4,000 | 1,200 | 0.75 |"


def test_cost_of_the_server_is_shown_where_it_was_measured():
    lines = report.tables_of(MOUNT)
    assert lines[2].endswith("| ipfs-mfs 12.3 µs |")


def test_page_shows_every_suite_with_its_machine():
    page = report.markdown({"blocks": document(PUT), "novel": document(READ)})
    assert "## Blocks: the engine against other stores" in page
    assert "## novel" in page
    assert page.count(" GiB, Linux ") == 2


def test_chart_compares_with_ext4_and_with_ourselves(tmp_path):
    panels = report.bars({"mount": document(MOUNT), "blocks": document(PUT)})
    assert panels[0][1] == [("stat", {"ipfs-mfs": 0.5, "gocryptfs": 0.25})]
    ((label, values),) = panels[1][1]
    assert label == "put 4 KiB"
    assert values == {"blkdev": 1, "leveldb": 0.5, "lmdb": 1 / 3, "flat files, no sync": 3}


@pytest.mark.slow
def test_equal_results_give_an_equal_chart(tmp_path):
    panels = report.bars({"mount": document(MOUNT), "blocks": document(PUT)})
    report.chart(panels, tmp_path / "one.svg")
    report.chart(panels, tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_results_are_merged_by_workload(tmp_path):
    first = results.Results("suite", {"taken": 1}, tmp_path)
    first.add("a", "x", "/s", [1.0, 3.0, 2.0])
    first.add("b", "x", "/s", [5.0])
    first.write()
    second = results.Results("suite", {"taken": 2}, tmp_path)
    second.add("b", "y", "/s", [7.123456])
    second.write()
    merged = results.load(tmp_path / "suite.json")
    assert merged["machine"] == {"taken": 2}
    assert [(r["workload"], r["contestant"], r["median"]) for r in merged["rows"]] == [
        ("a", "x", 2.0),
        ("b", "y", 7.123),
    ]


def test_run_that_measured_nothing_leaves_the_results_alone(tmp_path):
    results.Results("suite", {}, tmp_path).write()
    assert not (tmp_path / "suite.json").exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12,300"), (123.4, "123"), (99.94, "99.9"), (0.01234, "0.0123"), (7.0, "7")],
)
def test_figures_have_three_significant_digits(value, text):
    assert report.figure(value) == text


def test_machine_is_described_without_its_name(tmp_path):
    described = machine.describe(tmp_path)
    assert described["cpus"] >= 1
    assert described["memory_gib"] > 0
    assert {"taken", "commit", "cpu", "kernel", "python", "file_system"} <= described.keys()
