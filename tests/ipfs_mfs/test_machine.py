"""A machine that lacks something: no /dev/fuse, no privilege, another user's store."""

import os
import shutil
import stat
import subprocess

import pytest

from fusefs.mountpoint import find_mount
from tests.ipfs_mfs.program import PROGRAM, TIMEOUT_S, wait_until

pytestmark = [pytest.mark.needs_root, pytest.mark.slow]
NOBODY = 65534
# A mount namespace of its own whose /dev has what programs need, and no fuse.
WITHOUT_FUSE = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs none /dev && cd /dev && mknod null c 1 3 && mknod urandom c 1 9 && exec "$@"',
    "sh",
]
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def run(world, prefix, *arguments, **environment):
    done = subprocess.run(
        [*prefix, *PROGRAM, *map(str, arguments)],
        cwd=world.base,
        env=world.environment | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert "Traceback" not in done.stderr
    return done


def test_without_dev_fuse_the_mount_says_what_to_load_and_commands_work(world):
    done = run(world, WITHOUT_FUSE, "mount", world.mountpoint)
    assert done.returncode == 6
    assert "/dev/fuse: not there (load the module" in done.stderr.splitlines()[-1]
    wait_until(lambda: world.states() == [])
    assert run(world, WITHOUT_FUSE, "root", "list").returncode == 0
    diagnosis = run(world, WITHOUT_FUSE, "doctor")
    assert diagnosis.returncode == 1
    assert "fail  fuse device: /dev/fuse is not there (`modprobe fuse`" in diagnosis.stdout


def test_a_store_of_another_user_is_refused_with_what_is_needed(world, tmp_path_factory):
    world.run("mount", world.mountpoint)
    world.run("umount", world.mountpoint)
    theirs = {"IPFS_MFS_RUNTIME_DIR": f"/tmp/ipfs-mfs-test-{os.getpid()}", "HOME": "/nonexistent"}
    for parent in (world.base, *world.base.parents):
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o001)
    try:
        done = run(world, AS_NOBODY, "root", "list", "--store", world.store, **theirs)
        assert done.returncode == 6, done.stderr
        assert "ermission denied" in done.stderr
        done = run(world, AS_NOBODY, "root", "list", "--store", world.store)
        assert done.returncode == 6, done.stderr
        assert "IPFS_MFS_RUNTIME_DIR" in done.stderr
    finally:
        shutil.rmtree(theirs["IPFS_MFS_RUNTIME_DIR"], ignore_errors=True)


@pytest.mark.needs_fuse
def test_a_user_without_root_mounts_with_fusermount_if_the_machine_allows_it(world):
    """Whatever the machine allows, the outcome is a mount or one line with the reason."""
    home = world.base / "home"
    for path in (home, home / "mnt"):
        path.mkdir()
        os.chown(path, NOBODY, NOBODY)
    for parent in (world.base, *world.base.parents):
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o001)
    theirs = {
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "IPFS_MFS_RUNTIME_DIR": str(home / "run"),
    }
    done = run(world, AS_NOBODY, "mount", home / "mnt", **theirs)
    if done.returncode != 0:
        assert done.returncode == 6, done.stderr
        assert done.stderr.splitlines()[-1].startswith("ipfs-mfs: mount: ")
        assert find_mount(str(home / "mnt")) is None
        return
    try:
        write = ["sh", "-c", f"echo hello > {home}/mnt/x && cat {home}/mnt/x"]
        written = subprocess.run([*AS_NOBODY, *write], capture_output=True, text=True)
        assert written.stdout == "hello\n", written.stderr
    finally:
        done = run(world, AS_NOBODY, "umount", home / "mnt", **theirs)
    assert done.returncode == 0, done.stderr
    assert run(world, AS_NOBODY, "cat", "main/x", **theirs).stdout == "hello\n"


def test_a_device_node_that_cannot_be_read_is_refused(world):
    device = world.base / "node"
    os.mknod(device, stat.S_IFBLK | 0o600, os.makedev(120, 1))
    done = run(world, [], "root", "list", "--store", device)
    assert done.returncode in (3, 6)
    assert len(done.stderr.splitlines()) == 1


def test_a_store_on_a_loop_device_works_like_a_file(world):
    image = world.base / "image"
    with image.open("wb") as file:
        file.truncate(128 << 20)
    attached = subprocess.run(
        ["losetup", "--find", "--show", image], capture_output=True, text=True, check=True
    )
    device = attached.stdout.strip()
    try:
        world.run("format", device)
        (world.base / "x").write_bytes(os.urandom(3 << 20))
        cid = world.run("add", "-Q", world.base / "x", "--store", device).out.strip()
        world.run("get", cid, "-o", world.base / "y", "--store", device)
        assert (world.base / "y").read_bytes() == (world.base / "x").read_bytes()
        assert "already is a store" in world.run("format", device, status=1).err
        assert world.run("check", "--store", device, "--json").record["findings"] == []
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
