"""Ctrl-C while a real tree is added, exported, imported: nothing half-done, and again it works."""

import hashlib
import random

import pytest

pytestmark = [pytest.mark.needs_fuse, pytest.mark.slow]


def interrupted(world, *arguments, seed):
    """Starts a command, presses Ctrl-C at a random moment; its exit status."""
    return world.interrupted(*arguments, delay_s=random.Random(seed).uniform(0, 1.2))


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_sound(world):
    assert world.run("check", "--json").record["findings"] == []
    assert "Traceback" not in world.log()


@pytest.mark.parametrize("seed", range(3))
def test_an_add_interrupted_under_a_daemon_pins_all_or_nothing(mounted, library, seed):
    status = interrupted(mounted, "add", "-Q", "-r", library, seed=seed)
    pins = [line.split()[0] for line in mounted.run("pin", "ls").out.splitlines()]
    assert len(pins) in ([1] if status == 0 else [0, 1]), "what was not reported may be done"
    if pins:
        assert pins == [mounted.run("add", "-n", "-Q", "-r", library).out.strip()]
    (mounted.mountpoint / "other").write_text("the mount is well")
    assert_sound(mounted)
    cid = mounted.run("add", "-Q", "-r", library / "email").out.strip()
    assert cid == mounted.run("add", "-n", "-Q", "-r", library / "email").out.strip()
    mounted.run("gc")
    assert mounted.run("stat", cid, "--json").record["kind"] == "directory"
    assert_sound(mounted)


def test_an_export_and_an_import_interrupted_leave_all_or_nothing(mounted, library):
    car, second = mounted.base / "library.car", mounted.base / "second.blk"
    cid = mounted.run("add", "-Q", "-r", library).out.strip()
    for seed in range(2):
        status = interrupted(mounted, "export", cid, "-o", car, seed=seed)
        found = [p.name for p in mounted.base.iterdir() if car.name in p.name]
        assert found in ([[car.name]] if status == 0 else [[], [car.name]])
        whole = sha256(car) if found else None
        car.unlink(missing_ok=True)
        mounted.run("export", cid, "-o", car)
        assert whole in (None, sha256(car))
    mounted.run("format", second, "--size", "1G")
    there = ["--store", second]
    for seed in range(2):
        status = interrupted(mounted, "import", car, "--root", f"r{seed}", *there, seed=seed)
        rows = [line.split() for line in mounted.run("root", "list", *there).out.splitlines()]
        found = [row[1] for row in rows if row[0] == f"r{seed}"]
        assert found in ([[cid]] if status == 0 else [[], [cid]]), "a root whole, or no root"
        assert mounted.run("check", "--json", *there).record["findings"] == []
    mounted.run("import", car, "--root", "whole", *there)
    assert mounted.run("root", "stat", "whole", "--json", *there).record["cid"] == cid
    assert_sound(mounted)
