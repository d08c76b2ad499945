"""`bench`: what it measures, what it leaves behind (nothing), and when it refuses."""

import json
import os
import subprocess

import pytest

from blkdev.device import RamDevice, open_device
from blkdev.store import Store
from ipfs_mfs import main as program
from ipfs_mfs import measuring
from ipfs_mfs.config import Config
from ipfs_mfs.errors import NoRoom
from ipfs_mfs.formatting import format_store
from ipfs_mfs.measuring import Measuring, Pace, pace
from ipfs_mfs.owner import place_of

pytestmark = pytest.mark.slow

SHORT = ("--seconds", "0.01")
SIZE_BYTES = 256 << 20


@pytest.fixture
def store(tmp_path, monkeypatch):
    path = tmp_path / "store.blk"
    monkeypatch.setenv("IPFS_MFS_STORE", str(path))
    monkeypatch.setenv("IPFS_MFS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("IPFS_MFS_BUSY_WAIT", "0.2")
    config = Config(store=path, runtime_dir=tmp_path / "run")
    format_store(config, size_bytes=SIZE_BYTES, force=False)
    return path


@pytest.fixture
def run(capfd):
    """Runs a command line in this process; its status, standard output and standard error."""

    def call(*arguments):
        capfd.readouterr()
        status = program.run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out, captured.err

    return call


@pytest.fixture
def ram():
    device = RamDevice(SIZE_BYTES)
    Store.format(device)
    opened = Store.open(device)
    opened.put_many([(b"mine", b"value")])
    opened.commit()
    yield opened
    opened.close()


def refused(result, status, *words):
    found, out, error = result
    assert (found, out) == (status, "")
    assert len(error.splitlines()) == 1
    assert error.startswith("ipfs-mfs: bench: ")
    for word in words:
        assert word in error


def keys_of(path):
    with Store.open(open_device(path, read_only=True), read_only=True) as opened:
        return sorted(opened.keys())


# ----------------------------------------------------------------------------- what it says


def test_every_row_and_limit_is_measured_and_compared(store, run):
    status, out, error = run("bench", "--json", *SHORT)
    assert (status, error) == (0, "")
    measured = json.loads(out)
    assert measured["store"] == str(store)
    assert measured["device_bytes"] == SIZE_BYTES
    assert measured["cores"] == os.cpu_count()
    assert measured["blocks"] > 32
    limits = {limit["name"]: limit for limit in measured["limits"]}
    rows = {row["name"]: row for row in measured["rows"]}
    assert len(limits) == 7
    assert len(rows) == 13
    for one in (*limits.values(), *rows.values()):
        assert one["value"] > 0, one
        assert one["unit"] in {"MB/s", "/s"}
    for row in rows.values():
        assert (row["ratio"] is None) == (row["limit"] == "")
        if row["limit"]:
            assert limits[row["limit"]]["unit"] == row["unit"]
            expected = row["value"] / limits[row["limit"]]["value"]
            assert row["ratio"] == pytest.approx(expected, rel=0.01, abs=0.001)
        assert (row["p50_ms"] is None) == ("put" not in row["name"])
        if row["p50_ms"] is not None:
            assert 0 < row["p50_ms"] <= row["p99_ms"]


def test_table_is_readable(store, run):
    status, out, error = run("bench", *SHORT)
    assert (status, error) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"{store}: 256.0 MiB, ")
    assert "stored and deleted again" in lines[1]
    assert any(line.startswith("device write ") and line.endswith(" MB/s") for line in lines)
    (single,) = (line for line in lines if line.startswith("put 4 KiB, one by one"))
    assert single.endswith("4 KiB write and flush")
    assert single.count(" ms") == 2
    assert all(len(line) <= 120 for line in lines[1:])


# ------------------------------------------------------------------------ what it leaves behind


def test_nothing_is_left_and_nothing_else_is_touched(store, run, tmp_path):
    source = tmp_path / "file"
    source.write_bytes(b"content" * 1000)
    cid = run("add", "-Q", source)[1].strip()
    before = keys_of(store)
    free = json.loads(run("stats", "--json")[1])["free_bytes"]
    assert run("bench", *SHORT)[0] == 0
    assert keys_of(store) == before
    assert run("cat", cid)[1] == "content" * 1000
    assert json.loads(run("stats", "--json")[1])["free_bytes"] >= free - (32 << 20)
    assert run("check")[0] == 0


def test_device_holds_in_free_segments_what_it_held_before(ram, monkeypatch):
    offset, length = ram.spare_range()
    leftover = os.urandom(length)
    ram.device.write(offset, [leftover])
    run = Measuring(ram, 0.01, lambda done, total: None)
    monkeypatch.setattr(run, "_budget_s", 0.0, raising=False)
    run._device()
    assert ram.device.read(offset, length) == leftover
    assert ram.get(b"mine") == b"value"


def test_failure_in_the_middle_deletes_what_was_stored(ram, monkeypatch):
    run = Measuring(ram, 0.01, lambda done, total: None)

    def fail():
        assert ram.stats().keys > 32
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_reads", fail)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert list(ram.keys()) == [b"mine"]
    assert ram.stats().dead_bytes < ram.stats().segment_size_bytes


def test_run_in_memory_leaves_out_what_needs_a_device(ram):
    measured = Measuring(ram, 0.01, lambda done, total: None).run()
    assert "device read, 256 KiB" not in {limit.name for limit in measured.limits}
    assert "get 256 KiB, cold" not in {row.name for row in measured.rows}
    assert list(ram.keys()) == [b"mine"]


def test_puts_stop_at_their_share_of_the_space(ram, monkeypatch):
    monkeypatch.setattr(measuring, "PUT_MAX_BYTES", 12 << 20)
    measured = Measuring(ram, 60, lambda done, total: None)
    monkeypatch.setattr(measured, "_put_max_bytes", 12 << 20, raising=False)
    monkeypatch.setattr(measured, "_budget_s", 60.0, raising=False)
    batches = measured._fresh_items(1 << 20, 4)
    measured._puts("put", lambda items: measured._put(items) or 1, batches, 4 << 20, (), "/s")
    assert ram.stats().keys == 1 + 3 * 4
    measured._clean_up()


def test_no_two_values_are_the_same():
    run = Measuring.__new__(Measuring)
    run._source, run._count = bytes(1 << 20), 0
    batches = run._fresh_values(300, 50)
    values = [*next(batches), *next(batches)]
    assert len(set(values)) == 100
    assert {len(value) for value in values} == {300}


# ------------------------------------------------------------------------------ when it refuses


@pytest.mark.needs_fuse
def test_store_that_a_daemon_has_is_refused_by_its_pid(world):
    world.run("mount", world.mountpoint)
    refusal = world.run("bench", *SHORT, status=4).err
    assert f"daemon {world.daemon_pid()}" in refusal
    assert len(refusal.splitlines()) == 1
    world.run("umount", world.mountpoint)
    assert world.run("bench", "--json", *SHORT).record["blocks"] > 0


def test_store_that_a_command_has_is_refused(store, run, tmp_path):
    lock = place_of(Config(store=store, runtime_dir=tmp_path / "run")).try_lock()
    assert lock is not None
    refused(run("bench", *SHORT), 4, "in use by process", str(os.getpid()))
    lock.release()
    assert run("bench", *SHORT)[0] == 0


def test_store_that_is_not_there_is_refused(store, run, tmp_path):
    refused(run("bench", "--store", tmp_path / "none.blk", *SHORT), 3, "there is no store")


def test_directory_and_other_files_are_refused(store, run, tmp_path):
    refused(run("bench", "--store", tmp_path, *SHORT), 3, "neither a file nor a block device")
    other = tmp_path / "other"
    other.write_bytes(b"x" * (1 << 20))
    status, _, error = run("bench", "--store", other, *SHORT)
    assert status in {1, 5}
    assert len(error.splitlines()) == 1
    assert other.read_bytes() == b"x" * (1 << 20)


def test_store_that_is_too_small_or_too_full_is_refused(store, run, tmp_path):
    small = tmp_path / "small.blk"
    run("format", small, "--size", "64M")
    before = keys_of(small)
    refused(run("bench", "--store", small, *SHORT), 1, "128.0 MiB", "make room")
    assert keys_of(small) == before


def test_little_room_is_an_error_of_its_own():
    device = RamDevice(64 << 20)
    Store.format(device)
    with Store.open(device) as opened, pytest.raises(NoRoom):
        Measuring(opened, 1, lambda done, total: None).run()


@pytest.mark.needs_root
def test_store_that_cannot_be_written_is_refused(store, run, tmp_path):
    image = subprocess.run(
        ["losetup", "--find", "--show", "--read-only", store],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    try:
        refused(run("bench", "--store", image, *SHORT), 6, "read-only")
    finally:
        subprocess.run(["losetup", "--detach", image], check=True)


@pytest.mark.needs_root
def test_fresh_store_on_a_block_device_is_measured(run, store, tmp_path):
    disk = tmp_path / "disk.img"
    with disk.open("wb") as file:
        file.truncate(SIZE_BYTES)
    command = ["losetup", "--find", "--show", disk]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        assert run("format", path)[0] == 0
        status, out, error = run("bench", "--store", path, "--json", *SHORT)
        assert (status, error) == (0, "")
        assert json.loads(out)["device_bytes"] == SIZE_BYTES
        assert run("check", "--store", path)[0] == 0
    finally:
        subprocess.run(["losetup", "--detach", path], check=True)


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "1e9"])
def test_time_that_makes_no_sense_is_wrong_usage(store, run, seconds):
    refused(run("bench", "--seconds", seconds), 2, "--seconds")


# -------------------------------------------------------------------------------------- pace


def test_pace_counts_what_the_steps_did():
    steps = iter([3.0, 2.0, 0.0])
    done = pace(lambda: next(steps), 60)
    assert len(done.seconds) == 3
    assert done.rate == pytest.approx(5 / sum(done.seconds))


def test_pace_does_one_step_even_without_time():
    prepared: list[int] = []
    assert len(pace(lambda: 1, 0, lambda: prepared.append(1)).seconds) == 1
    assert prepared == [1]


def test_percentiles_are_of_the_steps():
    timed = Pace(1.0, [number / 1000 for number in range(100, 0, -1)])
    assert timed.percentile_ms(50) == 50
    assert timed.percentile_ms(99) == 99
    assert Pace(1.0, [0.002]).percentile_ms(99) == 2
