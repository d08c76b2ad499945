"""The file system without a kernel: what concerns the mount and not the tree."""

import errno
import os
import stat as modes

import pytest

from fusefs.attrs import INO_BITS, TOP_INODE
from fusefs.errno import errno_of
from fusefs.filesystem import RENAME_EXCHANGE, RENAME_NOREPLACE, FileSystem
from fusefs.options import MountOptions
from fusefs.views import FIRST_SNAPSHOT_INDEX, VIRTUAL_INDEX
from ipld import cid as cids
from tests.fusefs.fake_tree import FakeRoots, FakeTree

CID = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


class Notes:
    """A notifier that writes down."""

    def __init__(self):
        self.entries = []
        self.inodes = []

    def entry(self, parent, name):
        self.entries.append((parent, name))

    def inode(self, inode, *, attributes_only):
        self.inodes.append((inode, attributes_only))


@pytest.fixture
def roots():
    return FakeRoots("main", "other")


def mounted(roots, options=""):
    filesystem = FileSystem(roots, MountOptions.parse(options))
    filesystem.notifier = Notes()
    return filesystem


@pytest.fixture
def fs(roots):
    return mounted(roots)


def create(fs, parent, name, *, flags=os.O_RDWR | os.O_CREAT, uid=0, mode=0o644):
    return fs.create(parent, name, modes.S_IFREG | mode, flags, uid, 0)


def fails(code, function, *args):
    with pytest.raises(Exception) as caught:
        function(*args)
    assert errno.errorcode[errno_of(caught.value) or 0] == errno.errorcode[code]


# ------------------------------------------------------------------------------- one root


def test_the_top_of_one_root_is_inode_1_and_numbers_are_the_trees_own(fs, roots):
    assert fs.getattr(TOP_INODE).ino == 1
    _, stat = create(fs, TOP_INODE, b"file")
    assert stat.ino == roots.trees["main"].lookup(1, b"file").ino == fs.lookup(1, b"file").ino


def test_what_is_written_is_read_through_another_handle(fs):
    writer, stat = create(fs, 1, b"file")
    assert fs.write(writer, 5, b"hello") == 5
    reader = fs.open(stat.ino, os.O_RDONLY, 0)
    assert bytes(fs.read(reader, 0, 100)) == b"\0\0\0\0\0hello"
    fs.release(reader)
    fs.release(writer)


def test_a_handle_counts_as_an_opener_until_it_is_released(fs, roots):
    handle, stat = create(fs, 1, b"file")
    node = roots.trees["main"].nodes[stat.ino]
    assert node.opens == 1
    other = fs.open(stat.ino, os.O_RDONLY, 0)
    assert node.opens == 2
    fs.release(other)
    fs.release(handle)
    assert node.opens == 0
    fails(errno.EBADF, fs.release, handle)
    fails(errno.EBADF, fs.read, handle, 0, 1)


def test_handles_of_files_and_directories_are_not_mixed_up(fs):
    handle, _ = create(fs, 1, b"file")
    directory = fs.opendir(1)
    fails(errno.EBADF, fs.readdir, handle, 0, 10)
    fails(errno.EBADF, fs.read, directory, 0, 10)
    fails(errno.EBADF, fs.fsyncdir, handle)


def test_opening_with_truncation_empties_the_file(fs):
    handle, stat = create(fs, 1, b"file")
    fs.write(handle, 0, b"content")
    fs.open(stat.ino, os.O_WRONLY | os.O_TRUNC, 0)
    assert fs.getattr(stat.ino).size == 0


def test_creating_what_another_made_meanwhile_opens_it_unless_exclusive(fs):
    handle, stat = create(fs, 1, b"file")
    fs.write(handle, 0, b"content")
    _, again = create(fs, 1, b"file")
    assert (again.ino, again.size) == (stat.ino, 7)
    _, emptied = create(fs, 1, b"file", flags=os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    assert (emptied.ino, emptied.size) == (stat.ino, 0)


def test_exclusive_creation_refuses_what_is_there(fs):
    create(fs, 1, b"file")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    fails(errno.EEXIST, lambda: create(fs, 1, b"file", flags=flags))


def test_an_open_that_fails_half_way_leaves_no_opener(fs, roots):
    _, stat = create(fs, 1, b"file")
    tree = roots.trees["main"]
    tree.setattr = lambda ino, **changes: (_ for _ in ()).throw(RuntimeError("disk on fire"))
    before = tree.nodes[stat.ino].opens
    with pytest.raises(RuntimeError):
        fs.open(stat.ino, os.O_RDWR | os.O_TRUNC, 0)
    assert tree.nodes[stat.ino].opens == before


def test_rename_flags_reach_the_tree(fs, roots):
    create(fs, 1, b"a")
    fs.rename(1, b"a", 1, b"b", RENAME_NOREPLACE)
    fs.rename(1, b"b", 1, b"c", RENAME_EXCHANGE)
    fs.rename(1, b"c", 1, b"d", 0)
    calls = [call for call in roots.trees["main"].calls if call[0] == "rename"]
    assert [call[1:] for call in calls] == [
        (b"a", b"b", True, False),
        (b"b", b"c", False, True),
        (b"c", b"d", False, False),
    ]
    fails(errno.EINVAL, fs.rename, 1, b"d", 1, b"e", RENAME_NOREPLACE | RENAME_EXCHANGE)
    fails(errno.EINVAL, fs.rename, 1, b"d", 1, b"e", 4)


def test_an_unknown_branch_is_stale(fs):
    fails(errno.ESTALE, fs.getattr, 77 << INO_BITS | 1)


# ---------------------------------------------------------------------------- durability


def synced(roots, ino):
    return roots.trees["main"].calls.count(("fsync", ino))


def test_by_default_only_fsync_makes_durable(fs, roots):
    handle, stat = create(fs, 1, b"file")
    fs.write(handle, 0, b"x")
    fs.flush(handle)
    assert synced(roots, stat.ino) == 0
    fs.fsync(handle)
    assert synced(roots, stat.ino) == 1
    assert not fs.close_waits and not fs.write_waits


def test_under_sync_close_every_close_of_a_writer_makes_durable(roots):
    fs = mounted(roots, "sync=close")
    handle, stat = create(fs, 1, b"file")
    reader = fs.open(stat.ino, os.O_RDONLY, 0)
    fs.flush(reader)
    assert synced(roots, stat.ino) == 0
    fs.flush(handle)
    assert synced(roots, stat.ino) == 1
    assert fs.close_waits


@pytest.mark.parametrize("flag", [os.O_SYNC, os.O_DSYNC])
def test_a_synchronous_handle_makes_every_write_durable(fs, roots, flag):
    handle, stat = create(fs, 1, b"file", flags=os.O_WRONLY | os.O_CREAT | flag)
    fs.write(handle, 0, b"x")
    fs.write(handle, 1, b"x")
    assert synced(roots, stat.ino) == 2


def test_under_sync_always_every_write_is_durable(roots):
    fs = mounted(roots, "sync=always")
    handle, stat = create(fs, 1, b"file")
    fs.write(handle, 0, b"x")
    assert synced(roots, stat.ino) == 1
    assert fs.write_waits


def test_fsync_of_a_directory_reaches_the_tree(fs, roots):
    fs.fsyncdir(fs.opendir(1))
    assert synced(roots, 1) == 1


def test_the_end_of_a_mount_releases_what_is_open_and_syncs(fs, roots):
    _, stat = create(fs, 1, b"file")
    fs.opendir(1)
    fs.close()
    tree = roots.trees["main"]
    assert tree.nodes[stat.ino].opens == tree.nodes[1].opens == 0
    assert roots.synced == ["main"]


def test_a_read_only_mount_syncs_nothing(roots):
    mounted(roots, "ro").close()
    assert roots.synced == []


# --------------------------------------------------------------------- set-user-ID and owners


def with_mode(fs, mode):
    handle, stat = create(fs, 1, b"program", mode=0o755)
    fs.setattr(stat.ino, {"mode": mode}, 0)
    return handle, stat.ino


@pytest.mark.parametrize(
    ("mode", "after"), [(0o6755, 0o755), (0o2745, 0o2745), (0o4744, 0o744), (0o755, 0o755)]
)
def test_a_users_write_takes_set_id_bits_away(fs, mode, after):
    _, ino = with_mode(fs, mode)
    handle = fs.open(ino, os.O_WRONLY, 1000)
    fs.write(handle, 0, b"x")
    assert modes.S_IMODE(fs.getattr(ino).mode) == after
    assert fs.notifier.inodes == ([(ino, True)] if mode & 0o6000 else [])


def test_roots_write_leaves_set_id_bits(fs):
    handle, ino = with_mode(fs, 0o6755)
    fs.write(handle, 0, b"x")
    assert modes.S_IMODE(fs.getattr(ino).mode) == 0o6755


def test_a_users_truncation_takes_set_id_bits_away(fs):
    _, ino = with_mode(fs, 0o6755)
    assert modes.S_IMODE(fs.setattr(ino, {"size": 0}, 1000).mode) == 0o755
    fs.setattr(ino, {"mode": 0o6755}, 0)
    fs.open(ino, os.O_WRONLY | os.O_TRUNC, 1000)
    assert modes.S_IMODE(fs.getattr(ino).mode) == 0o755
    fs.setattr(ino, {"mode": 0o6755}, 0)
    assert modes.S_IMODE(fs.setattr(ino, {"size": 0}, 0).mode) == 0o6755


def test_a_new_owner_gets_no_set_id_bits_even_from_root(fs):
    _, ino = with_mode(fs, 0o6755)
    assert modes.S_IMODE(fs.setattr(ino, {"uid": 5}, 0).mode) == 0o755


def test_a_directory_keeps_its_set_group_id(fs):
    stat = fs.mkdir(1, b"d", modes.S_IFDIR | 0o2775, 0, 0)
    assert modes.S_IMODE(fs.setattr(stat.ino, {"gid": 7}, 0).mode) == 0o2775


def test_shown_owner_and_mask_override_what_is_stored(roots):
    fs = mounted(roots, "uid=1000,gid=100,umask=027")
    _, stat = create(fs, 1, b"file", mode=0o666)
    assert (stat.uid, stat.gid, modes.S_IMODE(stat.mode)) == (1000, 100, 0o640)
    assert modes.S_ISREG(stat.mode)
    assert fs.getattr(stat.ino) == fs.lookup(1, b"file") == stat
    fails(errno.EPERM, fs.setattr, stat.ino, {"uid": 5}, 0)
    fails(errno.EPERM, fs.setattr, stat.ino, {"gid": 5}, 0)
    assert roots.trees["main"].getattr(stat.ino).uid == 0


# ----------------------------------------------------------------------------- attributes


def test_user_attributes_go_to_the_tree(fs):
    _, stat = create(fs, 1, b"file")
    fs.setxattr(stat.ino, b"user.a", b"1")
    assert fs.getxattr(stat.ino, b"user.a") == b"1"
    assert list(fs.listxattr(stat.ino)) == [b"user.a"]
    fs.removexattr(stat.ino, b"user.a")
    fails(errno.ENODATA, fs.getxattr, stat.ino, b"user.a")


def test_facts_are_answered_and_never_listed(fs, roots):
    handle, stat = create(fs, 1, b"file")
    fs.write(handle, 0, b"hello")
    cid = cids.to_text(roots.trees["main"].cid_of(stat.ino)).encode()
    assert fs.getxattr(stat.ino, b"ipfs.cid") == cid
    assert fs.getxattr(stat.ino, b"ipfs.root") == b"main"
    assert fs.getxattr(stat.ino, b"ipfs.dagsize") == b"5"
    assert fs.getxattr(stat.ino, b"ipfs.pinned") == b"no"
    assert list(fs.listxattr(stat.ino)) == []
    fails(errno.ENODATA, fs.getxattr, stat.ino, b"ipfs.unheard-of")


def test_facts_cannot_be_set_or_removed(fs):
    fails(errno.EPERM, fs.setxattr, 1, b"ipfs.cid", b"x")
    fails(errno.EPERM, fs.setxattr, 1, b"ipfs.anything", b"x")
    fails(errno.EPERM, fs.removexattr, 1, b"ipfs.cid")


def test_pins_are_asked_about_the_present_cid(roots):
    asked = []
    fs = FileSystem(roots, MountOptions(), pin_state=lambda cid: asked.append(cid) or "recursive")
    _, stat = create(fs, 1, b"file")
    assert fs.getxattr(stat.ino, b"ipfs.pinned") == b"recursive"
    assert asked == [roots.trees["main"].cid_of(stat.ino)]


# ---------------------------------------------------------------------------- directories


def listing(fs, inode, batch=3):
    handle = fs.opendir(inode)
    entries, position = [], 0
    while True:
        part = fs.readdir(handle, position, batch)
        entries += part
        fs.listed(part)
        if len(part) < batch:
            break
        position = part[-1][2]
    fs.releasedir(handle)
    return entries


def names(fs, inode):
    return [name for name, _, _ in listing(fs, inode)]


def test_a_listing_shows_every_entry_once_in_batches_of_any_size(fs):
    expected = {b"f%d" % number for number in range(10)}
    for name in expected:
        create(fs, 1, name)
    for batch in (1, 2, 5, 12, 100):
        listed = [name for name, _, _ in listing(fs, 1, batch)]
        assert listed[:2] == [b".", b".."]
        assert sorted(listed[2:]) == sorted(expected)


def test_a_listing_has_the_facts_of_its_entries(fs):
    handle, made = create(fs, 1, b"file")
    fs.write(handle, 0, b"12345")
    entry = {name: stat for name, stat, _ in listing(fs, 1)}
    assert entry[b"file"].ino == made.ino
    assert entry[b"file"].size == 5
    assert entry[b"."].ino == 1


def test_what_is_made_or_removed_while_listing_disturbs_no_other_entry(fs):
    for number in range(6):
        create(fs, 1, b"f%d" % number)
    handle = fs.opendir(1)
    first = fs.readdir(handle, 0, 4)
    fs.unlink(1, b"f0")
    fs.unlink(1, b"f4")
    create(fs, 1, b"new")
    del fs._views.branches[0].tree.nodes[first[2][1].ino]
    rest = fs.readdir(handle, first[-1][2], 10)
    assert {name for name, _, _ in rest} >= {b"f2", b"f3", b"f5"}
    assert {name for name, _, _ in first} & {name for name, _, _ in rest} == set()
    rewound = {name for name, _, _ in fs.readdir(handle, 0, 20)}
    assert b"new" in rewound and b"f0" not in rewound


def test_an_entry_that_died_meanwhile_is_left_out(fs, roots):
    _, stat = create(fs, 1, b"dead")
    create(fs, 1, b"alive")
    handle = fs.opendir(1)
    fs.readdir(handle, 0, 2)
    del roots.trees["main"].nodes[stat.ino]
    assert [name for name, _, _ in fs.readdir(handle, 2, 10)] == [b"alive"]


# ------------------------------------------------------------------------------ all roots


@pytest.fixture
def all_fs(roots):
    return mounted(roots, "all")


def test_every_root_is_a_directory_at_the_top(all_fs):
    assert sorted(names(all_fs, TOP_INODE)) == [b".", b"..", b"main", b"other"]
    main = all_fs.lookup(TOP_INODE, b"main")
    other = all_fs.lookup(TOP_INODE, b"other")
    assert main.ino == 1 << INO_BITS | 1
    assert other.ino == 2 << INO_BITS | 1
    assert modes.S_ISDIR(all_fs.getattr(main.ino).mode)


def test_numbers_of_a_root_are_the_same_in_every_mount_of_all(roots):
    first = mounted(roots, "all")
    top = first.lookup(1, b"other").ino
    _, stat = create(first, top, b"file")
    second = mounted(roots, "all")
    second.lookup(1, b"other")
    assert second.getattr(stat.ino) == first.getattr(stat.ino)


def test_files_live_below_their_root(all_fs, roots):
    top = all_fs.lookup(1, b"other").ino
    handle, stat = create(all_fs, top, b"file")
    all_fs.write(handle, 0, b"x")
    assert stat.ino >> INO_BITS == 2
    assert roots.trees["other"].lookup(1, b"file").size == 1
    assert all_fs.getxattr(stat.ino, b"ipfs.root") == b"other"
    assert names(all_fs, top) == [b".", b"..", b"file"]


@pytest.mark.parametrize(
    "call",
    [
        lambda fs: fs.mkdir(1, b"new", modes.S_IFDIR | 0o755, 0, 0),
        lambda fs: fs.rmdir(1, b"main"),
        lambda fs: fs.unlink(1, b"main"),
        lambda fs: fs.symlink(1, b"new", b"main", 0, 0),
        lambda fs: fs.mknod(1, b"new", modes.S_IFIFO | 0o644, 0, 0, 0),
        lambda fs: fs.rename(1, b"main", 1, b"other", 0),
        lambda fs: create(fs, 1, b"new"),
        lambda fs: fs.setattr(1, {"mode": 0o777}, 0),
        lambda fs: fs.setxattr(1, b"user.a", b"1"),
        lambda fs: fs.removexattr(1, b"user.a"),
    ],
)
def test_the_list_of_roots_is_not_changed_through_the_mount(all_fs, call):
    fails(errno.EPERM, call, all_fs)


def test_the_list_of_roots_can_be_looked_at_like_any_directory(all_fs):
    assert list(all_fs.listxattr(1)) == []
    fails(errno.ENODATA, all_fs.getxattr, 1, b"user.a")
    fails(errno.ENODATA, all_fs.getxattr, 1, b"ipfs.cid")
    all_fs.fsyncdir(all_fs.opendir(1))
    assert all_fs.statfs(1).total_bytes > 0


def test_a_root_that_does_not_exist_is_no_entry(all_fs):
    fails(errno.ENOENT, all_fs.lookup, 1, b"missing")
    fails(errno.ENOENT, all_fs.lookup, 1, b"\xff\xfe")


def test_nothing_moves_from_one_root_to_another(all_fs):
    main, other = (all_fs.lookup(1, name).ino for name in (b"main", b"other"))
    _, stat = create(all_fs, main, b"file")
    fails(errno.EXDEV, all_fs.rename, main, b"file", other, b"file", 0)
    fails(errno.EXDEV, all_fs.link, stat.ino, other, b"file")


def test_sync_covers_the_roots_in_use(all_fs, roots):
    all_fs.lookup(1, b"main")
    all_fs.lookup(1, b"other")
    all_fs.close()
    assert sorted(roots.synced) == ["main", "other"]


# ------------------------------------------------------------------------------- snapshots


@pytest.fixture
def snapshot(roots):
    tree = FakeTree(read_only=False)
    tree.create(1, b"old", 0o644, 0, 0)
    tree.read_only = True
    roots.snapshot_trees[("main", "monday")] = tree
    return tree


def test_snapshots_are_found_by_name_and_not_listed(fs, snapshot):
    assert b".snapshots" not in names(fs, 1)
    directory = fs.lookup(1, b".snapshots")
    assert directory.ino >> INO_BITS == VIRTUAL_INDEX
    assert names(fs, directory.ino) == [b".", b"..", b"monday"]
    top = fs.lookup(directory.ino, b"monday")
    assert top.ino >> INO_BITS >= FIRST_SNAPSHOT_INDEX
    assert names(fs, top.ino) == [b".", b"..", b"old"]
    assert fs.getxattr(top.ino, b"ipfs.root") == b"main@monday"


def test_a_missing_snapshot_is_no_entry(fs):
    directory = fs.lookup(1, b".snapshots")
    fails(errno.ENOENT, fs.lookup, directory.ino, b"tuesday")
    fails(errno.EPERM, fs.mkdir, directory.ino, b"tuesday", modes.S_IFDIR | 0o755, 0, 0)


def test_a_snapshot_is_read_only(fs, snapshot):
    top = fs.lookup(fs.lookup(1, b".snapshots").ino, b"monday").ino
    old = fs.lookup(top, b"old").ino
    for call in (
        lambda: create(fs, top, b"new"),
        lambda: fs.mkdir(top, b"new", modes.S_IFDIR | 0o755, 0, 0),
        lambda: fs.unlink(top, b"old"),
        lambda: fs.rmdir(top, b"old"),
        lambda: fs.rename(top, b"old", top, b"new", 0),
        lambda: fs.link(old, top, b"new"),
        lambda: fs.symlink(top, b"new", b"old", 0, 0),
        lambda: fs.setattr(old, {"size": 0}, 0),
        lambda: fs.setxattr(old, b"user.a", b"1"),
        lambda: fs.removexattr(old, b"user.a"),
        lambda: fs.open(old, os.O_WRONLY, 0),
        lambda: fs.open(old, os.O_RDONLY | os.O_TRUNC, 0),
    ):
        fails(errno.EROFS, call)
    assert fs.read(fs.open(old, os.O_RDONLY, 0), 0, 10) == b""


def test_the_reserved_name_cannot_be_made_at_the_top_but_anywhere_else(fs):
    fails(errno.EPERM, create, fs, 1, b".snapshots")
    fails(errno.EPERM, fs.mkdir, 1, b".snapshots", modes.S_IFDIR | 0o755, 0, 0)
    create(fs, 1, b"file")
    fails(errno.EPERM, fs.rename, 1, b"file", 1, b".snapshots", 0)
    directory = fs.mkdir(1, b"d", modes.S_IFDIR | 0o755, 0, 0)
    create(fs, directory.ino, b".snapshots")


def test_a_real_entry_of_that_name_wins(fs, roots):
    tree = roots.trees["main"]
    tree.mkdir(1, b".snapshots", 0o755, 0, 0)
    assert fs.lookup(1, b".snapshots").ino == tree.lookup(1, b".snapshots").ino


def test_a_snapshot_nobody_looks_at_any_more_is_closed_and_comes_back_with_its_number(fs, snapshot):
    directory = fs.lookup(1, b".snapshots").ino
    top = fs.lookup(directory, b"monday").ino
    old = fs.lookup(top, b"old").ino
    fs.forget([(old, 1)])
    assert fs.getattr(top).ino == top
    fs.forget([(top, 1)])
    fails(errno.ESTALE, fs.getattr, top)
    assert fs.lookup(directory, b"monday").ino == top


def test_listing_counts_as_looking_up(fs, snapshot):
    directory = fs.lookup(1, b".snapshots").ino
    top = fs.lookup(directory, b"monday").ino
    listing(fs, top)
    fs.forget([(top, 1)])
    old = snapshot.lookup(1, b"old").ino
    assert fs.getattr(top & ~1 | old).size == 0
    fs.forget([(top & ~1 | old, 1)])
    fails(errno.ESTALE, fs.getattr, top)


def test_forgetting_never_closes_a_root(fs):
    fs.forget([(1, 1000), (5, 7), (3 << INO_BITS, 1)])
    assert fs.getattr(1).ino == 1


# ------------------------------------------------------------------------------ one CID


def test_a_cid_is_a_read_only_view(roots):
    tree = FakeTree()
    tree.create(1, b"file", 0o644, 0, 0)
    tree.read_only = True
    roots.cid_trees[cids.parse(CID)] = tree
    fs = mounted(roots, f"cid={CID}")
    assert fs.lookup(1, b"file").ino == tree.lookup(1, b"file").ino
    fails(errno.EROFS, create, fs, 1, b"new")
    fails(errno.ENOENT, fs.lookup, 1, b".snapshots")
    assert fs.getxattr(1, b"ipfs.root").startswith(b"/ipfs/")
    fs.close()
    assert roots.synced == []


# ------------------------------------------------------- changes beside the kernel


def test_missing_names_are_remembered_only_where_no_command_makes_names(roots, fs, all_fs):
    assert not fs.remembers_missing(1)
    assert fs.remembers_missing(fs.mkdir(1, b"d", modes.S_IFDIR | 0o755, 0, 0).ino)
    assert not fs.remembers_missing(fs.lookup(1, b".snapshots").ino)
    assert not all_fs.remembers_missing(1)
    assert all_fs.remembers_missing(all_fs.lookup(1, b"main").ino)


def test_a_restored_root_is_shown_anew_and_the_kernel_forgets_the_old(fs, roots):
    handle, before = create(fs, 1, b"file")
    directory = fs.opendir(1)
    fresh = FakeTree()
    fresh.create(1, b"other", 0o644, 0, 0)
    with fs.changing("main"):
        roots.trees["main"] = fresh
    after = fs.lookup(1, b"other")
    assert after.ino == before.ino  # the numbers coincide, so the generation must not
    assert after.generation > before.generation
    assert {(1, b"file"), (1, b"other"), (1, b".snapshots")} <= set(fs.notifier.entries)
    assert (1, False) in fs.notifier.inodes
    fails(errno.ESTALE, fs.write, handle, 0, b"x")
    fails(errno.ESTALE, fs.readdir, directory, 0, 10)
    fs.release(handle)
    fs.releasedir(directory)


def test_the_kernel_forgets_even_when_the_command_fails(fs, roots):
    create(fs, 1, b"file")
    with pytest.raises(RuntimeError), fs.changing("main"):
        raise RuntimeError("half way")
    assert (1, b"file") in fs.notifier.entries
    assert fs.lookup(1, b"file").size == 0


def test_another_roots_change_disturbs_no_open_file(fs):
    handle, _ = create(fs, 1, b"file")
    with fs.changing("other"):
        pass
    assert fs.write(handle, 0, b"x") == 1
    assert fs.notifier.entries == []


def test_a_dropped_root_is_gone_from_the_view_of_all(all_fs, roots):
    top = all_fs.lookup(1, b"other").ino
    with all_fs.changing("other"):
        del roots.trees["other"]
    fails(errno.ESTALE, all_fs.getattr, top)
    fails(errno.ENOENT, all_fs.lookup, 1, b"other")
    assert (1, b"other") in all_fs.notifier.entries
    assert names(all_fs, 1) == [b".", b"..", b"main"]


def test_a_dropped_snapshot_is_gone(fs, roots, snapshot):
    directory = fs.lookup(1, b".snapshots").ino
    top = fs.lookup(directory, b"monday").ino
    del roots.snapshot_trees[("main", "monday")]
    fs.snapshot_dropped("main", "monday")
    fails(errno.ESTALE, fs.getattr, top)
    fails(errno.ENOENT, fs.lookup, directory, b"monday")
    assert (directory, b"monday") in fs.notifier.entries


def test_a_snapshot_made_anew_under_its_name_is_not_taken_for_the_old_one(fs, roots, snapshot):
    directory = fs.lookup(1, b".snapshots").ino
    before = fs.lookup(directory, b"monday")
    del roots.snapshot_trees[("main", "monday")]
    fs.snapshot_dropped("main", "monday")
    roots.snapshot_trees[("main", "monday")] = FakeTree(read_only=True)
    assert fs.lookup(directory, b"monday").generation > before.generation


def test_noatime_reaches_the_trees(roots):
    mounted(roots, "noatime")
    assert roots.trees["main"].atime is False
    mounted(roots)
    assert roots.trees["main"].atime is True


def test_the_end_of_a_mount_lets_go_of_its_trees_even_if_the_sync_fails(fs, roots):
    roots.sync = lambda name=None: 1 / 0
    with pytest.raises(ZeroDivisionError):
        fs.close()
    assert ("close",) in roots.trees["main"].calls


def test_a_root_whose_number_is_beyond_the_mounts_is_not_mixed_up_with_a_snapshot(roots, all_fs):
    roots.ids["other"] = FIRST_SNAPSHOT_INDEX
    fails(errno.ENOENT, all_fs.lookup, 1, b"other")


def test_a_removed_directory_answers_until_the_kernel_forgets_it(fs, roots):
    directory = fs.mkdir(1, b"d", modes.S_IFDIR | 0o755, 0, 0).ino
    node = roots.trees["main"].nodes[directory]
    fs.rmdir(1, b"d")
    assert node.opens == 1
    assert modes.S_ISDIR(fs.getattr(directory).mode)
    fs.forget([(directory, 2)])
    assert node.opens == 0


def test_a_directory_that_could_not_be_removed_is_not_held(fs, roots):
    directory = fs.mkdir(1, b"d", modes.S_IFDIR | 0o755, 0, 0).ino
    create(fs, directory, b"file")
    fails(errno.ENOTEMPTY, fs.rmdir, 1, b"d")
    assert roots.trees["main"].nodes[directory].opens == 0


def test_a_call_is_known_to_wait_when_its_tree_is(fs, roots):
    handle, stat = create(fs, 1, b"file")
    assert not fs.inode_waits(stat.ino) and not fs.handle_waits(handle)
    roots.trees["main"].would_wait = True
    assert fs.inode_waits(stat.ino) and fs.handle_waits(handle)
    assert not fs.inode_waits(99 << INO_BITS) and not fs.handle_waits(12345)
