"""A board has little of everything, and its ratios are compared with those taken elsewhere."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import board, contest, goals, machine, report, slow_disk
from benchmarks.board import MEMORY_BYTES, MemoryGroup
from benchmarks.results import BOARD_SUITE, Results
from benchmarks.slow_disk import Busy, Speed

WORKLOAD = "single durable put"
LIMIT = "limit: 4 KiB + flush"


# ------------------------------------------------------------------------------------ memory


def test_memory_is_limited_by_the_second_version_of_groups_where_it_has_memory(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory pids\n")
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("")
    group = MemoryGroup.find(tmp_path, "ours")
    assert group is not None
    assert group.folder == tmp_path / "ours"
    assert group.limits == {"memory.max": MEMORY_BYTES, "memory.swap.max": 0}


def test_memory_is_limited_by_the_first_version_where_the_second_has_none(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu pids\n")
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("")
    group = MemoryGroup.find(tmp_path, "ours")
    assert group is not None
    assert group.folder == tmp_path / "memory" / "ours"


def test_memory_without_groups_is_not_limited(tmp_path):
    assert MemoryGroup.find(tmp_path, "ours") is None


def test_group_is_made_with_its_limit_and_removed(tmp_path):
    group = MemoryGroup(tmp_path / "ours", {"memory.max": 7, "memory.swap.max": 0})
    group.make()
    assert (group.folder / "memory.max").read_text() == "7"
    assert not (group.folder / "memory.swap.max").exists(), "the kernel has none"
    group.enter()
    assert (group.folder / "cgroup.procs").read_text() == str(os.getpid())
    # Files of a real group go with their folder.
    for file in group.folder.iterdir():
        file.unlink()
    group.remove()
    assert not group.folder.exists()


def test_group_whose_processes_do_not_end_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(board, "_REMOVAL_PAUSE_S", 0)
    group = MemoryGroup(tmp_path / "ours", {"memory.max": 7})
    group.make()
    with pytest.raises(OSError, match="not empty"):
        group.remove()


def test_machine_that_gives_no_group_is_measured_without(tmp_path, monkeypatch, capsys):
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    (tmp_path / f"ipfs-mfs-board-{os.getpid()}").write_text("in the way")
    monkeypatch.setattr(board, "_GROUPS", tmp_path)
    with board.limited_memory() as group:
        assert group is None
    assert "memory is not limited" in capsys.readouterr().err
    assert "memory not limited" in board.in_words(memory_limited=False, speed=Speed())


# ------------------------------------------------------------------------------ CPU and words


@pytest.mark.parametrize(
    ("cpus", "own", "others"),
    [({0}, {0}, {0}), ({0, 1}, {0}, {1}), ({2, 3, 7}, {2}, {3, 7})],
)
def test_disks_have_other_cpus_where_there_are_any(cpus, own, others):
    assert board.split(cpus) == (own, others)


def test_words_say_what_the_board_has():
    assert board.in_words(memory_limited=True, speed=Speed()) == (
        "1 CPU, 512 MiB, no SHA extensions, disks of 20 MB/s with flushes of 20 ms"
    )


def test_tests_of_a_board_exist():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", *board.TESTS],
        cwd=Path(board.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_results_say_that_they_are_of_a_board(tmp_path, monkeypatch):
    assert "board" not in machine.describe(tmp_path)
    assert machine.disks_folder() is None
    monkeypatch.setenv(machine.BOARD, "little")
    monkeypatch.setenv(machine.DISKS, "/disks")
    assert machine.disks_folder() == Path("/disks")
    described = machine.describe(tmp_path)
    assert described["board"] == "little"
    assert report.machine_line(described).startswith("little; made of: ")


def test_board_has_the_contestants_that_goals_name(monkeypatch):
    everybody = set(contest.contestants_here())
    monkeypatch.setenv(machine.BOARD, "little")
    here = contest.contestants_here()
    assert contest.OWN in here
    assert "leveldb" in here
    assert "rocksdb" not in here
    assert set(here) <= everybody


# -------------------------------------------------------------------------------------- disks


def test_requests_of_a_disk_follow_each_other():
    busy = Busy()
    assert busy.until(10.0, 0.5) == 10.5
    assert busy.until(10.1, 0.5) == 11.0, "waits for the first"
    assert busy.until(20.0, 0.5) == 20.5, "comes when nothing is under way"


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=50))
def test_disk_is_never_quicker_than_its_requests_cost(requests):
    busy, now_s, total_s = Busy(), 0.0, 0.0
    for pause_s, cost_s in requests:
        now_s += pause_s
        done_s = busy.until(now_s, cost_s)
        total_s += cost_s
        assert done_s >= now_s + cost_s - 1e-9
        assert done_s >= total_s - 1e-9


@pytest.mark.needs_fuse
@pytest.mark.needs_root
def test_disk_keeps_what_is_written_and_takes_its_time_once_it_is_slow(tmp_path):
    folder = tmp_path / "disks"
    folder.mkdir()
    with slow_disk.served(folder, os.sched_getaffinity(0)):
        path = slow_disk.create(folder, "one", 1 << 20)
        with path.open("r+b", buffering=0) as file:
            file.write(b"quick" * 1000)
            slow_disk.make_slow(path)
            began_s = time.monotonic()
            file.write(bytes(200_000))
            os.fsync(file.fileno())
            # A disk that is at least so slow is no matter of the machine's speed.
            assert time.monotonic() - began_s >= 0.030
            assert os.pread(file.fileno(), 5005, 0) == b"quick" * 1000 + bytes(5)
            assert os.fstat(file.fileno()).st_size == 1 << 20
            with pytest.raises(OSError, match="No space"):
                os.pwrite(file.fileno(), b"x", 1 << 20)
        path.unlink()
        assert not path.exists()
    assert not os.path.ismount(folder)


def test_disks_that_cannot_be_served_are_an_error(tmp_path, capfd):
    with (
        pytest.raises(RuntimeError, match="cannot be served"),
        slow_disk.served(tmp_path / "nowhere", os.sched_getaffinity(0)),
    ):
        pass
    assert capfd.readouterr().err


# ------------------------------------------------------------------------------------- ratios


def rows(own, limit):
    return {
        "rows": [
            {"workload": WORKLOAD, "contestant": "blkdev", "unit": "/s", "median": own},
            {"workload": WORKLOAD, "contestant": LIMIT, "unit": "/s", "median": limit},
        ]
    }


@pytest.mark.parametrize(
    ("own", "reached"), [(40.0, "yes"), (44.0, "yes"), (36.1, "yes"), (35.0, "**no**")]
)
def test_ratio_may_be_a_tenth_worse_on_a_board(own, reached):
    found = {"blocks": rows(400.0, 500.0), BOARD_SUITE: rows(own, 50.0)}
    (line,) = goals.board_table(found, report.figure)[2:]
    assert line.startswith("| single durable put | one 4 KiB write and flush | ")
    assert line.endswith(f"| {reached} |")


def test_share_of_a_ratio_is_above_one_where_the_board_does_better():
    (worse,) = goals.held({"blocks": rows(400.0, 500.0), BOARD_SUITE: rows(20.0, 50.0)})
    assert (worse.board, worse.elsewhere, worse.share) == (2.5, 1.25, 0.5)
    (better,) = goals.held({"blocks": rows(20.0, 50.0), BOARD_SUITE: rows(400.0, 500.0)})
    assert better.share == 2.0


def test_ratio_that_was_measured_in_one_place_only_is_left_out():
    assert goals.board_table({"blocks": rows(4.0, 5.0)}, report.figure) == []
    assert goals.board_table({BOARD_SUITE: rows(4.0, 5.0)}, report.figure) == []


def test_imports_are_compared_with_the_slower_of_hash_and_disk():
    def added(own, sha, disk):
        names = {"ipfs-mfs": own, "limit: sha2-256": sha, "limit: new file": disk}
        return {
            "rows": [
                {"workload": "add 256 MiB", "contestant": name, "unit": "MB/s", "median": value}
                for name, value in names.items()
            ]
        }

    found = {"add": added(600.0, 1000.0, 2000.0), BOARD_SUITE: added(18.0, 350.0, 20.0)}
    (one,) = (each for each in goals.held(found) if each.goal.what == "slower of hash and device")
    assert (one.board, one.elsewhere) == (0.9, 0.6)
    assert one.share == pytest.approx(1.5)


def test_page_has_a_section_of_the_board(tmp_path):
    described = {**report.suites()["blocks"]["machine"], "board": "little"}
    results = Results(BOARD_SUITE, described, tmp_path)
    results.add(WORKLOAD, "blkdev", "/s", [40.0])
    results.add(WORKLOAD, LIMIT, "/s", [50.0])
    results.write()
    found = {
        "blocks": {**rows(400.0, 500.0), "machine": described},
        BOARD_SUITE: report.results.load(tmp_path / f"{BOARD_SUITE}.json"),
    }
    page = report.markdown(found)
    section = page.partition("## On a small board")[2]
    assert "| single durable put | one 4 KiB write and flush | 1.25 x | 1.25 x |" in section
    assert "| single durable put | /s | 40 | 50 |" in section
    assert "little; made of: " in section
