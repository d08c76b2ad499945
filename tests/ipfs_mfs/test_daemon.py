"""The daemon's life on real mounts: start, join, refuse, end, die, come back."""

import os
import random
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusefs.mountpoint import find_mount
from tests.ipfs_mfs.program import PROGRAM, is_running, wait_until

pytestmark = [pytest.mark.needs_fuse, pytest.mark.slow]


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_the_first_mount_makes_the_default_store_and_says_so(world):
    done = world.run("mount", world.mountpoint)
    assert "made a store of 256.0 MiB" in done.err
    assert str(world.store) in done.err
    assert "Three things to try" in done.err
    root = world.run("sync", "main").out.split()[1]
    assert done.out == f"{world.mountpoint}: mounted, main, CID {root}\n"
    assert world.store.stat().st_blocks * 512 < 64 << 20, "sparse"
    assert world.store.stat().st_mode & 0o077 == 0, "private"


def test_a_second_mount_of_the_same_place_says_it_is_up_and_changes_nothing(world):
    world.run("mount", world.mountpoint)
    pid = world.daemon_pid()
    (world.mountpoint / "x").write_text("kept")
    done = world.run("mount", world.mountpoint, "--json")
    assert done.record["created"] is False
    assert "is up already" in world.run("mount", world.mountpoint).out
    assert world.daemon_pid() == pid
    assert (world.mountpoint / "x").read_text() == "kept"


def test_a_second_mount_elsewhere_is_refused_with_what_to_do(world):
    world.run("mount", world.mountpoint)
    other = world.base / "other"
    other.mkdir()
    done = world.run("mount", other, status=4)
    assert f"mounted at {world.mountpoint} already" in done.err
    assert "-o all" in done.err
    assert find_mount(str(other)) is None
    world.run("ls", "main")


def test_two_mounts_at_the_same_moment_start_one_daemon(world):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: world.run("mount", world.mountpoint), range(4)))
    assert len(world.states()) == 1
    assert world.log().count("serving") == 1


def test_umount_writes_everything_and_closes_the_store(world):
    world.run("mount", world.mountpoint)
    pid = world.daemon_pid()
    (world.mountpoint / "d").mkdir()
    (world.mountpoint / "d/x").write_bytes(b"x" * 100_000)
    done = world.run("umount", world.mountpoint)
    assert "store closed" in done.out
    assert find_mount(str(world.mountpoint)) is None
    assert not is_running(pid)
    assert world.states() == []
    assert list(world.runtime.glob("*.sock")) == []
    assert "closed in order" in world.run("doctor").out
    assert world.run("cat", "main/d/x").out == "x" * 100_000
    assert world.run("check", "--json").record["findings"] == []


def test_what_was_there_before_is_there_after_a_new_mount(world):
    world.run("mount", world.mountpoint)
    (world.mountpoint / "x").write_text("1")
    inode = (world.mountpoint / "x").stat().st_ino
    world.run("umount", world.mountpoint)
    assert list(world.mountpoint.iterdir()) == []
    world.run("mount", world.mountpoint)
    assert (world.mountpoint / "x").read_text() == "1"
    assert (world.mountpoint / "x").stat().st_ino == inode


def test_umount_with_open_files_is_refused_and_loses_nothing(world):
    world.run("mount", world.mountpoint)
    with (world.mountpoint / "x").open("w") as file:
        file.write("half")
        file.flush()
        done = world.run("umount", world.mountpoint, status=4)
        assert "busy" in done.err
        file.write(" and half")
    assert (world.mountpoint / "x").read_text() == "half and half"
    world.run("umount", world.mountpoint)
    assert world.run("cat", "main/x").out == "half and half"


def test_umount_of_nothing_is_not_found(world):
    done = world.run("umount", world.mountpoint, status=3)
    assert "nothing of this program is mounted there" in done.err
    world.run("umount", "/proc", status=3)


def test_an_external_unmount_ends_the_daemon_and_closes_the_store(world):
    world.run("mount", world.mountpoint)
    pid = world.daemon_pid()
    (world.mountpoint / "x").write_text("kept")
    subprocess.run(["fusermount3", "-u", world.mountpoint], check=True)
    wait_until(lambda: not is_running(pid))
    assert world.run("cat", "main/x").out == "kept"
    assert world.states() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_daemon_in_order(world, number):
    world.run("mount", world.mountpoint)
    pid = world.daemon_pid()
    (world.mountpoint / "x").write_text("kept")
    os.kill(pid, number)
    wait_until(lambda: not is_running(pid))
    assert find_mount(str(world.mountpoint)) is None
    assert "closed in order" in world.run("doctor").out
    assert world.run("cat", "main/x").out == "kept"


def test_sigterm_ends_the_daemon_even_while_files_are_open(world):
    world.run("mount", world.mountpoint)
    pid = world.daemon_pid()
    descriptor = os.open(world.mountpoint / "x", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"acknowledged")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_running(pid))
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.close(descriptor)
    assert world.run("cat", "main/x").out == "acknowledged"


def test_a_killed_daemon_s_leavings_are_cleaned_by_the_next_mount(world):
    world.run("mount", world.mountpoint)
    (world.mountpoint / "x").write_text("synced")
    world.run("sync")
    world.kill_daemon()
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        list(world.mountpoint.iterdir())
    world.run("mount", world.mountpoint)
    assert (world.mountpoint / "x").read_text() == "synced"
    assert "cleaned up the dead mount" in world.log()
    assert world.run("check", "--json").record["findings"] == []


def test_a_killed_daemon_s_leavings_are_cleaned_by_any_command(world):
    world.run("mount", world.mountpoint)
    (world.mountpoint / "x").write_text("synced")
    world.run("sync")
    world.kill_daemon()
    assert "the last daemon was killed" in world.run("doctor").out
    assert world.run("cat", "main/x").out == "synced"
    assert find_mount(str(world.mountpoint)) is None
    assert world.states() == []


def test_umount_after_a_kill_cleans_the_dead_mount(world):
    world.run("mount", world.mountpoint)
    world.kill_daemon()
    done = world.run("umount", world.mountpoint)
    assert "its daemon was dead; cleaned up" in done.out
    assert list(world.mountpoint.iterdir()) == []


def test_what_fsync_acknowledged_survives_a_kill(world):
    world.run("mount", world.mountpoint)
    for number in range(20):
        with (world.mountpoint / f"f{number}").open("wb") as file:
            file.write(bytes([number]) * 5000)
            file.flush()
            os.fsync(file.fileno())
    world.kill_daemon()
    world.run("mount", world.mountpoint)
    for number in range(20):
        assert (world.mountpoint / f"f{number}").read_bytes() == bytes([number]) * 5000
    assert world.run("check", "--json").record["findings"] == []


def test_a_daemon_of_another_runtime_directory_is_named_by_its_pid(world):
    world.run("mount", world.mountpoint)
    elsewhere = world.base / "run2"
    done = world.run(
        "ls", "main", "--store", world.store, status=4, IPFS_MFS_RUNTIME_DIR=str(elsewhere)
    )
    assert str(world.daemon_pid()) in done.err


def test_commands_run_beside_a_mount_and_see_its_latest_state(world):
    world.run("mount", world.mountpoint)
    (world.mountpoint / "d").mkdir()
    (world.mountpoint / "d/x").write_bytes(b"fresh")
    assert world.run("cat", "main/d/x").out == "fresh"
    assert [entry["name"] for entry in world.run("ls", "main", "--json").records] == ["d"]
    stats = world.run("stats", "--json").record
    assert stats["daemon_pid"] == world.daemon_pid()
    assert [mount["mountpoint"] for mount in stats["mounts"]] == [str(world.mountpoint)]
    cid = os.getxattr(world.mountpoint / "d", "ipfs.cid").decode()
    assert world.run("add", "-n", "-Q", "-r", world.mountpoint / "d").out.strip() == cid


def test_root_commands_show_on_the_mount_at_once(world):
    world.run("mount", world.mountpoint)
    (world.mountpoint / "x").write_text("1")
    world.run("root", "snapshot", "main", "one")
    (world.mountpoint / "x").write_text("2")
    assert (world.mountpoint / ".snapshots/one/x").read_text() == "1"
    world.run("root", "restore", "main@one")
    assert (world.mountpoint / "x").read_text() == "1"
    world.run("root", "drop", "main@one")
    assert not (world.mountpoint / ".snapshots/one").exists()


def test_all_roots_are_directories_of_one_mount(world):
    world.run("mount", world.mountpoint, "-o", "all")
    world.run("root", "create", "photos")
    (world.mountpoint / "photos/x").write_text("1")
    assert names(world.mountpoint) == ["main", "photos"]
    world.run("root", "rename", "photos", "pictures")
    assert (world.mountpoint / "pictures/x").read_text() == "1"
    world.run("root", "drop", "pictures")
    assert names(world.mountpoint) == ["main"]
    with pytest.raises(PermissionError):
        (world.mountpoint / "new").mkdir()


def test_a_cid_is_mounted_read_only(world):
    (world.base / "d").mkdir()
    (world.base / "d/x").write_text("1")
    world.run("format", world.store.parent / "s.blk", "--size", "64M", status=3)
    world.store.parent.mkdir(parents=True)
    world.run("format", world.store)
    cid = world.run("add", "-Q", "-r", world.base / "d").out.strip()
    done = world.run("mount", world.mountpoint, "-o", f"cid={cid}", "--json")
    assert done.record["cid"] == cid
    assert (world.mountpoint / "x").read_text() == "1"
    with pytest.raises(OSError, match="Read-only"):
        (world.mountpoint / "y").write_text("2")


def test_a_root_is_made_by_the_mount_when_a_profile_is_given(world):
    world.run("mount", world.mountpoint, "-o", "root=old,profile=unixfs-v0-2015")
    assert world.run("root", "stat", "old", "--json").record["profile"] == "unixfs-v0-2015"


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ("root=nothing", 3, "nothing"),
        ("nonsense", 2, "unknown mount option"),
        ("root=a,all", 2, "exclude each other"),
        ("cid=nonsense", 2, ""),
        ("umask=9", 2, "umask"),
        ("root=../x", 3, ""),
    ],
)
def test_a_wrong_option_leaves_neither_mount_nor_daemon(world, options, status, message):
    done = world.run("mount", world.mountpoint, "-o", options, status=status)
    assert message in done.err.splitlines()[-1]
    assert find_mount(str(world.mountpoint)) is None
    wait_until(lambda: world.states() == [])
    world.run("mount", world.mountpoint)


def test_a_mount_point_that_is_not_fit_is_named(world):
    missing = world.base / "missing"
    assert "does not exist" in world.run("mount", missing, status=3).err
    file = world.base / "file"
    file.write_text("")
    assert "not a directory" in world.run("mount", file, status=2).err
    (world.mountpoint / "mine").write_text("mine")
    assert "not empty" in world.run("mount", world.mountpoint, status=2).err
    assert (world.mountpoint / "mine").read_text() == "mine"
    world.run("mount", world.mountpoint, "-o", "nonempty")


def test_foreground_serves_until_ctrl_c_and_closes_in_order(world):
    process = world.start("mount", world.mountpoint, "--foreground")
    wait_until(lambda: find_mount(str(world.mountpoint)) is not None and world.states())
    wait_until(lambda: world.states()[0]["mountpoints"])
    (world.mountpoint / "x").write_text("kept")
    assert world.daemon_pid() == process.pid
    assert "is up already" in world.run("mount", world.mountpoint).out
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert b"mounted, main" in out
    assert b"Traceback" not in err
    assert world.run("cat", "main/x").out == "kept"


def test_foreground_ends_when_it_is_unmounted(world):
    process = world.start("mount", world.mountpoint, "--foreground")
    wait_until(lambda: any(state["mountpoints"] for state in world.states()))
    world.run("umount", world.mountpoint)
    process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.parametrize("seed", range(4))
def test_foreground_interrupted_at_any_moment_leaves_a_clean_store(world, seed):
    world.run("mount", world.mountpoint)
    world.run("umount", world.mountpoint)
    delay_s = random.Random(seed).uniform(0.0, 1.2)
    world.interrupted("mount", world.mountpoint, "--foreground", delay_s=delay_s)
    assert find_mount(str(world.mountpoint)) is None
    assert world.run("check", "--json").record["findings"] == []


def test_a_daemon_whose_starter_died_goes_away_by_itself(world):
    world.run("mount", world.mountpoint)
    world.run("umount", world.mountpoint)
    read_end, write_end = os.pipe()
    environment = world.environment | {"IPFS_MFS_FLUSH_TICK": "0.05"}
    code = (
        "import sys; from ipfs_mfs import daemon; daemon.IDLE_MAX_S = 0.3;"
        "sys.exit(daemon.main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [PROGRAM[0], "-c", code, world.store, "auto", str(write_end)],
        env=environment,
        pass_fds=[write_end],
    )
    os.close(write_end)
    assert os.read(read_end, 10) == b"ready"
    os.close(read_end)
    assert process.wait(30) == 0
    assert world.states() == []


def test_work_on_the_mount_goes_on_while_commands_run(world):
    world.run("mount", world.mountpoint)
    stop = threading.Event()
    failures: list[BaseException] = []

    def write():
        number = 0
        try:
            while not stop.is_set():
                number += 1
                path = world.mountpoint / f"f{number % 50}"
                path.write_bytes(os.urandom(3000))
                assert len(path.read_bytes()) == 3000
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for command in (
            ["gc"],
            ["check"],
            ["root", "snapshot", "main", "s"],
            ["sync"],
            ["compact"],
            ["resize", "320M"],
            ["resize", "200M"],
        ):
            world.run(*command)
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert world.run("check", "--json").record["findings"] == []


def test_the_log_has_no_error_after_a_normal_life(world):
    world.run("mount", world.mountpoint)
    (world.mountpoint / "x").write_text("1")
    world.run("umount", world.mountpoint)
    assert "ERROR" not in world.log()
    assert "WARNING" not in world.log()
    assert Path(world.base / "state").exists()
