"""Ctrl-C and kill at random moments of long work: a clean end, a clean store, nothing half-done."""

import random
import signal
import time

import pytest

pytestmark = pytest.mark.slow
SIZE_BYTES = 24 << 20


@pytest.fixture
def filled(world):
    """A world with a store, a big file and a CAR file of it."""
    world.store.parent.mkdir(parents=True)
    world.run("format", world.store, "--size", "256M")
    (world.base / "big").write_bytes(random.Random(11).randbytes(SIZE_BYTES))
    return world


def interrupted(world, arguments, seed, number=signal.SIGINT, longest_s=1.0):
    """Starts a command, ends it after a random time; its exit status."""
    delay_s = random.Random(seed).uniform(0, longest_s)
    return world.interrupted(*arguments, delay_s=delay_s, number=number)


def assert_clean(world):
    assert world.run("check", "--json").record["findings"] == []
    assert list(world.runtime.glob("*.sock")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seed", range(3))
def test_add_interrupted_leaves_a_clean_store_and_no_half_pin(filled, seed, number):
    status = interrupted(filled, ["add", "-Q", filled.base / "big"], seed, number)
    assert_clean(filled)
    pins = filled.run("pin", "ls").out.splitlines()
    assert len(pins) == 1 if status == 0 else len(pins) <= 1
    filled.run("gc")
    cid = filled.run("add", "-Q", filled.base / "big").out.strip()
    assert cid == filled.run("add", "-n", "-Q", filled.base / "big").out.strip()
    assert_clean(filled)


@pytest.mark.parametrize("seed", range(3))
def test_export_interrupted_leaves_no_file(filled, seed):
    cid = filled.run("add", "-Q", filled.base / "big").out.strip()
    target = filled.base / "out.car"
    status = interrupted(filled, ["export", cid, "-o", target], seed)
    assert target.exists() == (status == 0)
    assert [path.name for path in filled.base.iterdir() if "out.car" in path.name] in (
        [[]] if status else [["out.car"]]
    )
    assert_clean(filled)


@pytest.mark.parametrize("seed", range(3))
def test_get_interrupted_leaves_no_file(filled, seed):
    cid = filled.run("add", "-Q", filled.base / "big").out.strip()
    target = filled.base / "copy"
    status = interrupted(filled, ["get", cid, "-o", target], seed)
    assert target.exists() == (status == 0)
    leftovers = [path.name for path in filled.base.iterdir() if ".copy." in path.name]
    assert leftovers == []


@pytest.mark.parametrize("seed", range(3))
def test_import_interrupted_leaves_a_clean_store(filled, seed):
    car = filled.base / "big.car"
    cid = filled.run("add", "-Q", filled.base / "big").out.strip()
    filled.run("export", cid, "-o", car)
    filled.run("format", filled.store, "--force")
    interrupted(filled, ["import", car], seed)
    assert_clean(filled)
    filled.run("import", car)
    assert filled.run("stat", cid, "--json").record["size_bytes"] == SIZE_BYTES


@pytest.mark.parametrize("seed", range(2))
def test_add_killed_leaves_a_clean_store(filled, seed):
    process = filled.start("add", "-Q", filled.base / "big")
    time.sleep(random.Random(seed).uniform(0.3, 1.2))
    process.kill()
    process.communicate()
    assert_clean(filled)
    filled.run("add", "-Q", filled.base / "big")
    assert_clean(filled)


@pytest.mark.needs_fuse
@pytest.mark.parametrize("seed", range(2))
def test_add_to_a_daemon_interrupted_leaves_daemon_and_store_well(filled, seed):
    filled.run("mount", filled.mountpoint)
    interrupted(filled, ["add", "-Q", filled.base / "big"], seed)
    (filled.mountpoint / "x").write_text("still up")
    assert filled.run("check", "--json").record["findings"] == []
    filled.run("add", "-Q", filled.base / "big")
    filled.run("umount", filled.mountpoint)
    assert_clean(filled)
    assert filled.run("cat", "main/x").out == "still up"


@pytest.mark.needs_fuse
def test_an_export_goes_on_to_its_end_while_the_daemon_is_killed_or_fails_in_one_line(filled):
    filled.run("mount", filled.mountpoint)
    cid = filled.run("add", "-Q", filled.base / "big").out.strip()
    process = filled.start("export", cid, "-o", filled.base / "out.car")
    time.sleep(0.6)
    filled.kill_daemon()
    _, err = process.communicate(timeout=60)
    assert process.returncode in (0, 1)
    assert b"Traceback" not in err
    assert (filled.base / "out.car").exists() == (process.returncode == 0)
    assert_clean(filled)


@pytest.mark.needs_fuse
def test_forty_interrupts_of_a_command_at_the_daemon_all_end_it(filled):
    """A call that is torn apart while it begins, or a lock of the library that stays taken, would
    leave the command waiting for ever at its end."""
    filled.run("mount", filled.mountpoint)
    delays_s = random.Random(4)
    statuses = [
        filled.interrupted("add", "-Q", filled.base / "big", delay_s=delays_s.uniform(0, 0.35))
        for _ in range(40)
    ]
    assert 1 in statuses
    assert filled.run("check", "--json").record["findings"] == []
    filled.run("umount", filled.mountpoint)
