"""A store that is full says so, keeps what it has, and goes on after a delete and a gc."""

import errno
import os

import pytest

from tests.ipfs_mfs.program import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def small(world):
    """A world with a store of 64 MiB."""
    world.store.parent.mkdir(parents=True)
    world.run("format", world.store, "--size", "64M")
    return world


def fill(directory, size=1 << 20):
    """Writes files until there is no room; the names of those that were written whole."""
    whole = []
    for number in range(1000):
        path = directory / f"f{number:04}"
        try:
            with path.open("wb") as file:
                file.write(os.urandom(size))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            return whole
        whole.append(path.name)
    raise AssertionError("64 MiB took a thousand times 1 MiB")


@pytest.mark.needs_fuse
@pytest.mark.timeout(300)
def test_a_full_mount_refuses_and_goes_on_after_delete_and_gc(small):
    small.run("mount", small.mountpoint)
    whole = fill(small.mountpoint)
    assert len(whole) >= 20
    keep, rest = whole[:5], whole[5:]
    content = {name: (small.mountpoint / name).read_bytes() for name in keep}
    for path in small.mountpoint.iterdir():
        if path.name not in keep:
            path.unlink()
    small.run("sync")
    small.run("gc")
    small.run("compact")
    again = fill(small.mountpoint)
    assert len(again) >= len(rest) // 2
    for name in keep:
        if name not in again:
            assert (small.mountpoint / name).read_bytes() == content[name]
    for path in small.mountpoint.iterdir():
        path.unlink()
    small.run("gc")
    small.run("umount", small.mountpoint)
    assert small.run("check", "--json").record["findings"] == []


@pytest.mark.needs_fuse
def test_a_full_store_can_be_unmounted_and_mounted_again(small):
    small.run("mount", small.mountpoint)
    whole = fill(small.mountpoint)
    content = {name: (small.mountpoint / name).read_bytes() for name in whole[:10]}
    small.run("umount", small.mountpoint)
    small.run("mount", small.mountpoint)
    for name, data in content.items():
        assert (small.mountpoint / name).read_bytes() == data
    small.kill_daemon()
    assert small.run("check", "--json").record["findings"] == []


def test_add_to_a_full_store_is_one_line_and_loses_nothing(small):
    big = small.base / "big"
    big.write_bytes(os.urandom(100 << 20))
    little = small.base / "little"
    little.write_bytes(os.urandom(1 << 20))
    cid = small.run("add", "-Q", little).out.strip()
    done = small.run("add", "-Q", big, status=1)
    assert "full" in done.err
    assert "gc" in done.err
    assert small.run("pin", "ls").out.split()[0] == cid
    small.run("get", cid, "-o", small.base / "copy")
    assert (small.base / "copy").read_bytes() == little.read_bytes()
    small.run("gc")
    small.run("compact")
    small.run("add", "-Q", little)
    big.write_bytes(os.urandom(20 << 20))
    small.run("add", "-Q", big)
    assert small.run("check", "--json").record["findings"] == []


@pytest.mark.needs_fuse
def test_add_to_a_daemon_with_a_full_store_is_the_same_line(small):
    small.run("mount", small.mountpoint)
    big = small.base / "big"
    big.write_bytes(os.urandom(100 << 20))
    done = small.run("add", "-Q", big, status=1)
    assert "full" in done.err
    with pytest.raises(OSError, match="No space left"):
        (small.mountpoint / "x").write_bytes(os.urandom(8 << 20))
    small.run("gc")
    (small.mountpoint / "x").write_text("up")
    small.run("umount", small.mountpoint)
    wait_until(lambda: small.states() == [])
    assert small.run("cat", "main/x").out == "up"
