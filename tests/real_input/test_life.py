"""A real tree's life in a store: remounted, exported, killed, snapshot, cloned, restored."""

import errno
import os
import shutil
import threading

import pytest

from tests.real_input import trees

pytestmark = [pytest.mark.needs_fuse, pytest.mark.slow]


@pytest.fixture(scope="module")
def kept(shared, library):
    """The library on the mount; no test of this module changes it."""
    target = shared.mountpoint / "library"
    shutil.copytree(library, target)
    return target


def remount(world):
    world.run("umount", world.mountpoint)
    world.run("mount", world.mountpoint)


def cid_of(path):
    return os.getxattr(path, "ipfs.cid").decode()


def test_everything_is_there_after_unmounting_and_mounting(shared, kept, library):
    before = cid_of(kept)
    root = shared.run("sync", "main").out
    remount(shared)
    trees.assert_same(library, kept)
    assert cid_of(kept) == before
    assert shared.run("sync", "main").out == root


def test_what_was_synced_is_there_after_the_daemon_was_killed(shared, kept, library):
    shared.run("sync")
    before = cid_of(kept)
    assert shared.run("stats", "--json").record["daemon_pid"] == shared.kill_daemon()
    shared.run("mount", shared.mountpoint)
    trees.assert_same(library, kept)
    assert cid_of(kept) == before
    assert shared.run("check", "--json").record["findings"] == []


def test_an_export_imported_into_a_second_store_has_the_same_cid(shared, kept, library, tmp_path):
    car, store, back = tmp_path / "library.car", tmp_path / "second.blk", tmp_path / "back"
    shared.run("export", "main/library", "-o", car)
    shared.run("format", store, "--size", "2G")
    shared.run("import", car, "--root", "copy", "--store", store)
    listed = shared.run("root", "stat", "copy", "--json", "--store", store).record
    assert listed["cid"] == cid_of(kept)
    assert shared.run("check", "--json", "--store", store).record["findings"] == []
    shared.run("get", "copy/email", "-o", back, "--store", store)
    assert trees.files_of(back) != []
    for path in trees.files_of(back):
        original = library / "email" / path.relative_to(back)
        assert path.read_bytes() == original.read_bytes()


def test_the_same_tree_twice_takes_its_space_once(shared, kept, library):
    shared.run("sync")
    before = shared.run("stats", "--json").record["blocks"]
    shutil.copytree(library / "test", shared.mountpoint / "again")
    shared.run("sync")
    assert shared.run("stats", "--json").record["blocks"] - before < 100
    assert cid_of(shared.mountpoint / "again") == cid_of(kept / "test")


# ------------------------------------------------------------- snapshots and clones, in use


def read_or_refused(descriptor):
    """What a file gives that was open when its tree was replaced: its own bytes, or an error."""
    try:
        return os.pread(descriptor, 1 << 20, 0)
    except OSError as error:
        assert error.errno in (errno.ESTALE, errno.EIO)
        return None


def close_or_refused(descriptor):
    """The kernel answers EIO to the flush of a file whose inode number names another one now."""
    try:
        os.close(descriptor)
    except OSError as error:
        assert error.errno in (errno.ESTALE, errno.EIO)


@pytest.fixture
def busy(mounted, library):
    """A mount with a small tree, and a program that never stops writing beside it."""
    shutil.copytree(library / "json", mounted.mountpoint / "json")
    shutil.copytree(library / "email", mounted.mountpoint / "email")
    (mounted.mountpoint / "busy").mkdir()
    ended = threading.Event()

    def write():
        number = 0
        while not ended.is_set():
            (mounted.mountpoint / f"busy/{number % 50}").write_bytes(b"%d" % number * 3000)
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    mounted.end_of_work = lambda: (ended.set(), thread.join())
    yield mounted
    mounted.end_of_work()


def test_a_snapshot_taken_while_others_write_stays_as_it_was(busy, library):
    busy.run("root", "snapshot", "main", "before")
    snapshot = busy.mountpoint / ".snapshots/before"
    frozen = {path.name: path.read_bytes() for path in (snapshot / "busy").iterdir()}
    shutil.rmtree(busy.mountpoint / "json")
    (busy.mountpoint / "email/utils.py").write_text("changed\n")
    trees.assert_same_content(library / "json", snapshot / "json")
    trees.assert_same_content(library / "email", snapshot / "email")
    assert {path.name: path.read_bytes() for path in (snapshot / "busy").iterdir()} == frozen
    assert cid_of(snapshot / "json") == busy.run("add", "-nQr", "-H", library / "json").out.strip()
    assert snapshot.parent not in list(busy.mountpoint.iterdir())


def test_diff_names_what_changed_and_nothing_else(busy):
    busy.end_of_work()
    busy.run("root", "snapshot", "main", "before")
    (busy.mountpoint / "email/utils.py").write_text("changed\n")
    (busy.mountpoint / "json/tool.py").unlink()
    (busy.mountpoint / "new").mkdir()
    (busy.mountpoint / "new/file").write_text("new\n")
    lines = busy.run("root", "diff", "main@before", "main").out
    assert {"email/utils.py", "json/tool.py"} < set(lines.split())
    assert "decoder" not in lines
    assert "new" in lines


def test_a_clone_is_the_snapshot_and_lives_its_own_life(busy, library):
    busy.run("root", "snapshot", "main", "before")
    busy.run("root", "clone", "main@before", "work")
    cids = [busy.run("stat", name, "--json").record["cid"] for name in ("main@before", "work")]
    assert cids[0] == cids[1]
    shutil.rmtree(busy.mountpoint / "json")
    busy.end_of_work()
    busy.run("umount", busy.mountpoint)
    busy.run("mount", busy.mountpoint, "-o", "root=work")
    trees.assert_same(library / "json", busy.mountpoint / "json")
    (busy.mountpoint / "json/tool.py").unlink()
    busy.run("umount", busy.mountpoint)
    names = busy.run("ls", "main@before/json").out.split()
    assert "tool.py" in names
    busy.run("ls", "main/json", status=3)


def test_a_restore_in_use_brings_the_old_tree_back(busy, library):
    busy.run("root", "snapshot", "main", "before")
    shutil.rmtree(busy.mountpoint / "json")
    (busy.mountpoint / "email/utils.py").write_text("changed\n")
    busy.end_of_work()
    wanted = busy.run("stat", "main@before", "--json").record["cid"]
    held = os.open(busy.mountpoint / "email/utils.py", os.O_RDONLY)
    try:
        busy.run("root", "restore", "main@before")
        trees.assert_same(library / "json", busy.mountpoint / "json")
        trees.assert_same(library / "email", busy.mountpoint / "email")
        assert read_or_refused(held) in (b"changed\n", None), "never the bytes of another file"
    finally:
        close_or_refused(held)
    assert cid_of(busy.mountpoint) == wanted
    remount(busy)
    trees.assert_same(library / "email", busy.mountpoint / "email")
    assert busy.run("check", "--json").record["findings"] == []
