"""Names and attributes: what the conformance suite cannot reach through the calls of `os`."""

import stat

import pytest

from ipld.profile import UNIXFS_V1_2025
from mfs import errors, posix
from mfs.node import ROOT_INO
from mfs.state import State
from tests.mfs.worlds import TINY, World, content, make_file, model_cid, read_tree


@pytest.fixture
def world():
    return World(TINY)


@pytest.fixture
def tree(world):
    return world.tree


BAD_NAMES = [
    (b"", errors.InvalidName),
    (b".", errors.InvalidName),
    (b"..", errors.InvalidName),
    (b"a/b", errors.InvalidName),
    (b"nul\0", errors.InvalidName),
    (b"n" * 256, errors.NameTooLong),
]


@pytest.mark.parametrize(("name", "error"), BAD_NAMES)
def test_names_that_no_entry_can_have(tree, name, error):
    ino = make_file(tree, b"file")
    calls = [
        lambda: tree.lookup(ROOT_INO, name),
        lambda: tree.create(ROOT_INO, name, 0o644, 0, 0),
        lambda: tree.mkdir(ROOT_INO, name, 0o755, 0, 0),
        lambda: tree.symlink(ROOT_INO, name, b"x", 0, 0),
        lambda: tree.mknod(ROOT_INO, name, stat.S_IFIFO, 0, 0, 0),
        lambda: tree.link(ino, ROOT_INO, name),
        lambda: tree.unlink(ROOT_INO, name),
        lambda: tree.rmdir(ROOT_INO, name),
        lambda: tree.rename(ROOT_INO, b"file", ROOT_INO, name),
        lambda: tree.rename(ROOT_INO, name, ROOT_INO, b"x"),
    ]
    for call in calls:
        with pytest.raises(error):
            call()
    assert read_tree(tree) == {b"file": b""}


def test_a_directory_does_not_move_below_itself_at_any_depth(tree):
    top = parent = tree.mkdir(ROOT_INO, b"top", 0o755, 0, 0).ino
    for _ in range(5):
        parent = tree.mkdir(parent, b"d", 0o755, 0, 0).ino
        with pytest.raises(errors.InvalidArgument):
            tree.rename(ROOT_INO, b"top", parent, b"inside")
        make_file(tree, b"file", b"", parent)
        with pytest.raises(errors.InvalidArgument):
            tree.rename(ROOT_INO, b"top", parent, b"file", exchange=True)
        with pytest.raises(errors.InvalidArgument):
            tree.rename(parent, b"file", ROOT_INO, b"top", exchange=True)
    assert tree.parent_of(top) == ROOT_INO
    assert tree.parent_of(ROOT_INO) == ROOT_INO


def test_flags_of_rename_exclude_each_other(tree):
    make_file(tree, b"a")
    with pytest.raises(errors.InvalidArgument):
        tree.rename(ROOT_INO, b"a", ROOT_INO, b"b", no_replace=True, exchange=True)


def test_nothing_is_made_in_a_directory_that_is_deleted(tree):
    gone = tree.mkdir(ROOT_INO, b"gone", 0o755, 0, 0).ino
    ino = make_file(tree, b"file")
    tree.open(gone)
    tree.rmdir(ROOT_INO, b"gone")
    for call in (
        lambda: tree.create(gone, b"x", 0o644, 0, 0),
        lambda: tree.link(ino, gone, b"x"),
        lambda: tree.rename(ROOT_INO, b"file", gone, b"x"),
    ):
        with pytest.raises(errors.NoSuchEntry):
            call()
    assert tree.readdir(gone) == []
    assert tree.getattr(gone).nlink == 0
    tree.release(gone)
    with pytest.raises(errors.StaleInode):
        tree.getattr(gone)
    tree.sync()
    with pytest.raises(errors.StaleInode):
        tree.getattr(gone)


def test_a_deleted_file_gets_no_new_name(tree):
    ino = make_file(tree, b"file")
    tree.open(ino)
    tree.unlink(ROOT_INO, b"file")
    with pytest.raises(errors.NoSuchEntry):
        tree.link(ino, ROOT_INO, b"again")
    tree.release(ino)


def test_an_inode_that_never_was_is_stale(tree):
    for call in (
        lambda: tree.getattr(999),
        lambda: tree.read(999, 0, 1),
        lambda: tree.write(999, 0, b"x"),
        lambda: tree.open(999),
        lambda: tree.lookup(999, b"x"),
        lambda: tree.readdir(999),
        lambda: tree.cid_of(999),
        lambda: tree.setattr(999, mode=0),
        lambda: tree.getxattr(999, b"user.x"),
    ):
        with pytest.raises(errors.StaleInode):
            call()


def test_a_file_has_so_many_names_and_no_more(tree, monkeypatch):
    monkeypatch.setattr(posix, "LINK_COUNT_MAX", 3)
    ino = make_file(tree, b"0", b"data")
    tree.link(ino, ROOT_INO, b"1")
    tree.link(ino, ROOT_INO, b"2")
    with pytest.raises(errors.TooManyLinks):
        tree.link(ino, ROOT_INO, b"3")
    assert tree.getattr(ino).nlink == 3


def test_every_name_of_a_file_follows_its_content_into_the_dag(world):
    tree = world.tree
    ino = make_file(tree, b"a", b"first")
    folder = tree.mkdir(ROOT_INO, b"folder", 0o755, 0, 0).ino
    tree.link(ino, folder, b"b")
    tree.link(ino, folder, b"c")
    tree.sync()
    tree = world.reopen()
    tree.write(ino, 0, b"FIRST")
    model = {b"a": b"FIRST", b"folder": {b"b": b"FIRST", b"c": b"FIRST"}}
    assert tree.sync() == model_cid(model, TINY)
    tree.unlink(ROOT_INO, b"a")
    tree.sync()
    tree = world.reopen()
    tree.rename(folder, b"b", ROOT_INO, b"z")
    tree.write(ino, 0, b"again")
    model = {b"z": b"again", b"folder": {b"c": b"again"}}
    assert tree.sync() == model_cid(model, TINY)
    assert tree.getattr(ino).nlink == 2


def test_content_of_what_is_no_file(tree):
    fifo = tree.mknod(ROOT_INO, b"fifo", stat.S_IFIFO | 0o600, 5, 0, 0)
    link = tree.symlink(ROOT_INO, b"link", b"target", 0, 0)
    assert fifo.rdev == 0
    for ino in (fifo.ino, link.ino):
        with pytest.raises(errors.InvalidArgument):
            tree.read(ino, 0, 1)
        with pytest.raises(errors.InvalidArgument):
            tree.write(ino, 0, b"x")
        with pytest.raises(errors.InvalidArgument):
            tree.setattr(ino, size=0)
    for call in (
        lambda: tree.read(ROOT_INO, 0, 1),
        lambda: tree.write(ROOT_INO, 0, b"x"),
        lambda: tree.setattr(ROOT_INO, size=0),
    ):
        with pytest.raises(errors.IsADirectory):
            call()
    with pytest.raises(errors.NotInDag):
        tree.cid_of(fifo.ino)
    with pytest.raises(errors.NotInDag):
        tree.dagsize_of(fifo.ino)


def test_mknod_makes_plain_files_too_and_no_directories(tree):
    assert stat.S_ISREG(tree.mknod(ROOT_INO, b"f", 0o644, 0, 0, 0).mode)
    for mode in (stat.S_IFDIR, stat.S_IFLNK, 0o030000):
        with pytest.raises(errors.InvalidArgument):
            tree.mknod(ROOT_INO, b"x", mode | 0o644, 0, 0, 0)


def test_a_refused_setattr_changes_nothing(tree):
    ino = make_file(tree, b"file", b"data")
    before = tree.getattr(ino)
    for wrong in (
        {"uid": 2**32 - 1},
        {"gid": -1},
        {"mtime_ns": 2**63},
        {"size": -1},
        {"size": 1 << 60},
    ):
        with pytest.raises(errors.TreeError):
            tree.setattr(ino, mode=0o600, **wrong)
        assert tree.getattr(ino) == before


def test_ctime_can_be_set_for_a_transport_that_keeps_it(tree):
    ino = make_file(tree, b"file")
    assert tree.setattr(ino, mode=0o600, ctime_ns=42).ctime_ns == 42


def test_extended_attribute_names_and_sizes(tree):
    for name in (b"user.x", b"trusted.x", b"security.x"):
        tree.setxattr(ROOT_INO, name, b"v")
    assert len(tree.listxattr(ROOT_INO)) == 3
    for name in (b"system.posix_acl_access", b"system.posix_acl_default", b"other.x"):
        with pytest.raises(errors.AttributeUnsupported):
            tree.setxattr(ROOT_INO, name, b"v")
    for name in (b"system.x", b"user", b"user.", b"", b"user.\0"):
        with pytest.raises(errors.AttributeUnsupported):
            tree.setxattr(ROOT_INO, name, b"v")
    for name, value in ((b"user." + b"n" * 251, b""), (b"user.y", b"v" * 65537)):
        with pytest.raises(errors.AttributeTooLarge):
            tree.setxattr(ROOT_INO, name, value)
    tree.setxattr(ROOT_INO, b"user." + b"n" * 250, b"v")
    with pytest.raises(errors.AttributesFull):
        tree.setxattr(ROOT_INO, b"user.big", b"v" * 65400)


def test_what_open_counts_release_undoes(world, tree):
    ino = make_file(tree, b"file", b"data")
    for _ in range(3):
        tree.open(ino)
    tree.unlink(ROOT_INO, b"file")
    for _ in range(2):
        tree.release(ino)
        assert content(tree, ino) == b"data"
    tree.release(ino)
    with pytest.raises(errors.StaleInode):
        tree.read(ino, 0, 1)
    assert world.roots.stat("main").dirty_bytes == 0


def test_replacing_an_open_file_keeps_it_for_those_who_have_it(world, tree):
    old = make_file(tree, b"file", b"old" * 30)
    tree.sync()
    tree.open(old)
    make_file(tree, b"new", b"new")
    tree.rename(ROOT_INO, b"new", ROOT_INO, b"file")
    tree.sync()
    world.repo.gc()
    assert content(tree, old) == b"old" * 30
    assert tree.getattr(old).nlink == 0
    tree.release(old)


def test_listing_is_sorted_and_tells_kinds(tree):
    tree.mkdir(ROOT_INO, b"d", 0o755, 0, 0)
    make_file(tree, b"b")
    tree.symlink(ROOT_INO, b"c", b"x", 0, 0)
    tree.mknod(ROOT_INO, b"a", stat.S_IFSOCK, 0, 0, 0)
    listed = tree.readdir(ROOT_INO)
    kinds = [stat.S_IFSOCK, stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR]
    assert [(name, kind) for name, _, kind in listed] == [*zip(b_names("abcd"), kinds, strict=True)]
    assert [tree.lookup(ROOT_INO, name).ino for name, _, _ in listed] == [e[1] for e in listed]


def b_names(letters):
    return [letter.encode() for letter in letters]


def test_the_cache_of_inodes_is_bounded_and_forgets_only_what_is_clean(monkeypatch):
    monkeypatch.setattr("mfs.state.INODE_CACHE_COUNT", 20)
    monkeypatch.setattr("mfs.state._SWEEP_STEP_COUNT", 5)
    world = World(UNIXFS_V1_2025)
    tree = world.tree
    state: State = tree._core.state
    inos = [make_file(tree, b"%03d" % index, b"%d" % index) for index in range(100)]
    assert len(state._inodes) > 100
    tree.open(inos[7])
    tree.sync()
    assert len(state._inodes) < 30
    tree.atime = False
    for _ in range(3):
        for index, ino in enumerate(inos):
            assert content(tree, ino) == b"%d" % index
            assert len(state._inodes) < 40
    assert world.roots.stat("main").dirty_bytes == 0
    assert state.cached(inos[7]) is not None
    tree.release(inos[7])
