"""Roots and snapshots by name."""

import pytest

from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from mfs.diff import Difference
from mfs.errors import (
    HeadDamaged,
    InvalidRootName,
    NewerFormat,
    RootExists,
    RootNotFound,
    SnapshotExists,
    SnapshotNotFound,
    StaleInode,
    TooManyRoots,
)
from mfs.node import ROOT_INO
from mfs.roots import Roots
from repo.refs import Ref
from repo.service import Repo
from tests.mfs.worlds import TINY, World, content, make_file, model_cid, read_tree


@pytest.fixture
def world():
    return World(TINY)


def test_roots_have_names_numbers_and_profiles(world):
    world.roots.create("old", UNIXFS_V0_2015, quota=12345)
    world.roots.create("grün", UNIXFS_V1_2025)
    found = world.roots.list()
    assert [root.name for root in found] == ["grün", "main", "old"]
    assert [root.root_id for root in found] == [3, 1, 2]
    old = world.roots.stat("old")
    assert (old.profile, old.quota_bytes) == (UNIXFS_V0_2015, 12345)
    assert old.cid == model_cid({}, UNIXFS_V0_2015)
    assert (old.inode_count, old.used_bytes, old.is_dirty) == (1, 0, False)
    world.reopen()
    assert world.roots.stat("old") == old


def test_the_top_directory_belongs_to_whom_it_was_made_for(world):
    world.roots.create("home", TINY, uid=1000, gid=100, mode=0o700)
    found = world.roots.tree("home").getattr(ROOT_INO)
    assert (found.uid, found.gid, found.mode & 0o7777) == (1000, 100, 0o700)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a@b", "nul\0", "n" * 256, "ü" * 128, "\udcff"]
)
def test_names_that_no_root_can_have(world, name):
    with pytest.raises(InvalidRootName):
        world.roots.create(name)
    with pytest.raises(InvalidRootName):
        world.roots.snapshot("main", name)
    with pytest.raises(InvalidRootName):
        world.roots.rename("main", name)
    with pytest.raises(InvalidRootName):
        world.roots.clone("main", None, name)


def test_roots_that_exist_and_roots_that_do_not(world):
    with pytest.raises(RootExists):
        world.roots.create("main")
    with pytest.raises(RootExists):
        world.roots.clone("main", None, "main")
    roots = world.roots
    for call in (roots.stat, roots.tree, roots.drop, roots.log, roots.snapshots, roots.sync):
        with pytest.raises(RootNotFound):
            call("missing")
    for call in (roots.rename, roots.restore, roots.snapshot):
        with pytest.raises((RootNotFound, SnapshotNotFound)):
            call("missing", "x")
    with pytest.raises(RootNotFound):
        roots.clone("missing", None, "x")
    with pytest.raises(RootNotFound):
        roots.diff("main", "missing")


def test_a_dropped_root_is_gone_and_its_tree_is_stale(world):
    ino = make_file(world.tree, b"file", b"data" * 20)
    tree = world.tree
    tree.open(ino)
    world.roots.drop("main")
    with pytest.raises(RootNotFound):
        world.roots.tree("main")
    for call in (
        lambda: tree.read(ino, 0, 1),
        lambda: tree.write(ino, 0, b"x"),
        lambda: tree.getattr(ROOT_INO),
        lambda: tree.create(ROOT_INO, b"x", 0o644, 0, 0),
        lambda: tree.cid_of(ino),
    ):
        with pytest.raises(StaleInode):
            call()
    tree.release(ino)
    tree.fsync(ino)
    world.repo.gc()
    assert world.repo.blocks.stats().count == 0
    world.backend.crash()
    assert Roots(Repo.in_memory(world.backend), world.clock).list() == []


def test_a_number_is_free_again_after_a_drop(world):
    world.roots.create("second")
    world.roots.drop("main")
    assert world.roots.create("third").root_id == 1


def test_all_numbers_in_use(world, monkeypatch):
    monkeypatch.setattr("mfs.roots.ROOT_ID_MAX", 1)
    with pytest.raises(TooManyRoots):
        world.roots.create("second")


def test_a_rename_takes_snapshots_along_and_leaves_the_tree_open(world):
    tree = world.tree
    ino = make_file(tree, b"file", b"one")
    world.roots.snapshot("main", "monday")
    tree.write(ino, 0, b"two")
    world.roots.rename("main", "renamed")
    assert world.roots.tree("renamed") is tree
    tree.sync()
    assert world.roots.snapshots("renamed") == ["monday"]
    with pytest.raises(RootNotFound):
        world.roots.snapshots("main")
    world.backend.crash()
    roots = Roots(Repo.in_memory(world.backend), world.clock)
    assert read_tree(roots.tree("renamed")) == {b"file": b"two"}
    assert read_tree(roots.snapshot_tree("renamed", "monday")) == {b"file": b"one"}


def test_a_rename_of_a_root_that_is_not_open(world):
    world.roots.create("other")
    world.reopen()
    world.roots.rename("other", "another")
    assert [root.name for root in world.roots.list()] == ["another", "main"]
    with pytest.raises(RootExists):
        world.roots.rename("another", "main")
    world.roots.snapshot("another", "s")
    world.roots.drop("another")
    with pytest.raises(SnapshotExists):
        world.roots.rename("main", "another")


# ---------------------------------------------------------------------------- snapshots


def test_a_snapshot_keeps_what_was_acknowledged_before_it(world):
    tree = world.tree
    ino = make_file(tree, b"file", b"before")
    kept = world.roots.snapshot("main", "s")
    assert kept.cid == model_cid({b"file": b"before"}, TINY)
    tree.write(ino, 0, b"after!")
    tree.unlink(ROOT_INO, b"file")
    tree.sync()
    world.repo.gc()
    world.crash()
    snapshot = world.roots.snapshot_tree("main", "s")
    assert read_tree(snapshot) == {b"file": b"before"}
    assert snapshot.getattr(ino).size == 6
    assert snapshot.read_only
    assert read_tree(world.tree) == {}
    assert world.roots.snapshot_stat("main", "s") == kept


def test_snapshots_by_name(world):
    for name in ("b", "a", "c"):
        world.roots.snapshot("main", name)
    assert world.roots.snapshots("main") == ["a", "b", "c"]
    with pytest.raises(SnapshotExists):
        world.roots.snapshot("main", "a")
    world.roots.drop_snapshot("main", "b")
    assert world.roots.snapshots("main") == ["a", "c"]
    for call in (world.roots.drop_snapshot, world.roots.snapshot_tree, world.roots.restore):
        with pytest.raises(SnapshotNotFound):
            call("main", "b")


def test_snapshots_outlive_their_root(world):
    make_file(world.tree, b"file", b"data")
    world.roots.snapshot("main", "s")
    world.roots.drop("main")
    world.repo.gc()
    assert world.roots.snapshots("main") == ["s"]
    world.roots.clone("main", "s", "again")
    assert read_tree(world.roots.tree("again")) == {b"file": b"data"}
    world.roots.drop_snapshot("main", "s")
    with pytest.raises(RootNotFound):
        world.roots.snapshots("main")


def test_snapshot_clone_and_restore_write_no_blocks_of_content(world):
    for index in range(200):
        make_file(world.tree, b"file-%d" % index, b"data %d" % index * 10)
    world.tree.sync()
    count = world.repo.blocks.stats().count
    world.roots.snapshot("main", "s")
    world.roots.clone("main", "s", "clone")
    world.roots.restore("main", "s")
    assert world.repo.blocks.stats().count == count


def test_clones_are_independent(world):
    ino = make_file(world.tree, b"file", b"shared")
    world.tree.setattr(ino, mode=0o600)
    made = world.roots.clone("main", None, "clone", quota=1000)
    assert made.quota_bytes == 1000
    clone = world.roots.tree("clone")
    assert clone.getattr(ino).mode & 0o777 == 0o600
    clone.write(ino, 0, b"CLONED")
    world.tree.unlink(ROOT_INO, b"file")
    world.roots.sync()
    world.repo.gc()
    world.reopen()
    assert read_tree(world.roots.tree("clone")) == {b"file": b"CLONED"}
    assert read_tree(world.tree) == {}


def test_restore_gives_a_new_tree_and_the_old_one_is_stale(world):
    old = world.tree
    ino = make_file(old, b"file", b"kept")
    world.roots.snapshot("main", "s")
    old.write(ino, 0, b"lost")
    late = make_file(old, b"late", b"lost too")
    old.fsync(late)
    before = world.roots.stat("main")
    world.roots.restore("main", "s")
    with pytest.raises(StaleInode):
        old.read(ino, 0, 4)
    fresh = world.tree
    assert fresh is not old
    assert fresh.generation == old.generation + 1
    assert content(fresh, ino) == b"kept"
    assert make_file(fresh, b"new") > ino
    assert world.roots.stat("main").root_id == before.root_id
    fresh.unlink(ROOT_INO, b"new")
    fresh.sync()
    world.crash()
    assert read_tree(world.tree) == {b"file": b"kept"}


def test_opening_roots_that_are_clean_writes_nothing(world):
    world.roots.snapshot("main", "s")
    world.roots.close()
    before = world.backend.log.position()
    roots = Roots(Repo.in_memory(world.backend), world.clock)
    roots.tree("main").getattr(ROOT_INO)
    roots.list()
    assert world.backend.log.position() == before


def test_the_log_has_the_last_states_newest_first(world, monkeypatch):
    monkeypatch.setattr("mfs.heads.HISTORY_COUNT_MAX", 5)
    expected = [model_cid({}, TINY)]
    for index in range(8):
        make_file(world.tree, b"%d" % index)
        expected.append(world.tree.sync())
        world.tree.sync()
    assert [cid for _, cid in world.roots.log("main")] == expected[:-6:-1]
    times = [time_ns for time_ns, _ in world.roots.log("main")]
    assert times == sorted(times, reverse=True)


# --------------------------------------------------------------------------------- diff


def test_a_diff_names_added_removed_and_changed_paths(world):
    tree = world.tree
    make_file(tree, b"same", b"1")
    changed = make_file(tree, b"changed", b"1")
    moded = make_file(tree, b"moded", b"1")
    folder = tree.mkdir(ROOT_INO, b"folder", 0o755, 0, 0).ino
    make_file(tree, b"removed", b"1", folder)
    gone = tree.mkdir(ROOT_INO, b"gone", 0o755, 0, 0).ino
    make_file(tree, b"with", b"1", gone)
    world.roots.snapshot("main", "before")
    tree.write(changed, 0, b"2")
    tree.setattr(moded, mode=0o600)
    tree.unlink(folder, b"removed")
    deep = tree.mkdir(folder, b"new", 0o755, 0, 0).ino
    make_file(tree, b"file", b"1", deep)
    tree.unlink(gone, b"with")
    tree.rmdir(ROOT_INO, b"gone")
    found = set(world.roots.diff("main@before", "main"))
    assert found == {
        Difference("changed", b"changed"),
        Difference("changed", b"moded"),
        Difference("removed", b"folder/removed"),
        Difference("added", b"folder/new"),
        Difference("added", b"folder/new/file"),
        Difference("removed", b"gone"),
        Difference("removed", b"gone/with"),
    }
    assert list(world.roots.diff("main", "main")) == []


def test_a_diff_of_strangers_is_about_content_only(world):
    world.roots.create("other", TINY)
    for name in ("main", "other"):
        make_file(world.roots.tree(name), b"file", b"equal")
    ino = world.tree.lookup(ROOT_INO, b"file").ino
    world.tree.setattr(ino, mode=0o600)
    assert list(world.roots.diff("main", "other")) == []


def test_a_file_that_becomes_a_directory_is_changed(world):
    make_file(world.tree, b"x", b"1")
    world.roots.snapshot("main", "s")
    world.tree.unlink(ROOT_INO, b"x")
    world.tree.mkdir(ROOT_INO, b"x", 0o755, 0, 0)
    assert list(world.roots.diff("main@s", "main")) == [Difference("changed", b"x")]


# --------------------------------------------------------------------------------- heads


@pytest.mark.allow_logs("broken cannot be opened")
def test_a_damaged_head_is_told_and_touches_no_other_root(world):
    ref = world.repo.refs.require("root/main")
    world.roots.close()
    for data, error in (
        ({**ref.data, "root_id": "one"}, HeadDamaged),
        ({**ref.data, "profile": {"cid_version": 7}}, HeadDamaged),
        ({**ref.data, "history": [1]}, HeadDamaged),
        ({**ref.data, "version": 2}, NewerFormat),
        ({"something": "else"}, HeadDamaged),
    ):
        world.repo.refs.update({"root/broken": Ref(ref.links, data)})
        roots = Roots(world.repo, world.clock)
        with pytest.raises(error):
            roots.tree("broken")
        assert read_tree(roots.tree("main")) == {}
        assert [root.name for root in roots.list()] == ["main"]
        roots.sync()
        roots.create("fresh")
        roots.drop("fresh")
        roots.drop("broken")
        roots.close()
