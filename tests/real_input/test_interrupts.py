"""Ctrl-C while a real tree is added, exported, imported: nothing half-done, and again it works."""

import random
import signal
import time

import pytest

pytestmark = [pytest.mark.needs_fuse, pytest.mark.slow]


def interrupted(world, *arguments, seed):
    """Starts a command, presses Ctrl-C at a random moment once it is at work; its exit status."""
    process = world.start(*arguments)
    time.sleep(random.Random(seed).uniform(0.4, 1.5))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    text = err.decode()
    assert process.returncode in (0, 1), text
    assert "Traceback" not in text
    return process.returncode


def assert_sound(world):
    assert world.run("check", "--json").record["findings"] == []
    assert "Traceback" not in world.log()


@pytest.mark.parametrize("seed", range(3))
def test_an_add_interrupted_under_a_daemon_pins_nothing_and_can_be_repeated(mounted, library, seed):
    if interrupted(mounted, "add", "-Q", "-r", library, seed=seed) == 1:
        assert mounted.run("pin", "ls").out == ""
    (mounted.mountpoint / "other").write_text("the mount is well")
    assert_sound(mounted)
    cid = mounted.run("add", "-Q", "-r", library / "email").out.strip()
    assert cid == mounted.run("add", "-n", "-Q", "-r", library / "email").out.strip()
    mounted.run("gc")
    assert mounted.run("stat", cid, "--json").record["kind"] == "directory"
    assert_sound(mounted)


def test_an_export_and_an_import_interrupted_leave_nothing_and_can_be_repeated(mounted, library):
    car, second = mounted.base / "library.car", mounted.base / "second.blk"
    cid = mounted.run("add", "-Q", "-r", library).out.strip()
    for seed in range(2):
        status = interrupted(mounted, "export", cid, "-o", car, seed=seed)
        assert car.exists() == (status == 0)
        assert [p.name for p in mounted.base.iterdir() if car.name in p.name] == (
            [] if status else [car.name]
        )
        car.unlink(missing_ok=True)
    mounted.run("export", cid, "-o", car)
    mounted.run("format", second, "--size", "1G")
    there = ["--store", second]
    for seed in range(2):
        status = interrupted(mounted, "import", car, "--root", f"r{seed}", *there, seed=seed)
        names = mounted.run("root", "list", *there).out
        assert (f"r{seed}" in names) == (status == 0), "a root whole, or no root"
        assert mounted.run("check", "--json", *there).record["findings"] == []
    mounted.run("import", car, "--root", "whole", *there)
    assert mounted.run("root", "stat", "whole", "--json", *there).record["cid"] == cid
    assert_sound(mounted)
