"""The contract of `docs/durability.md`, with power cuts at every write."""

import pytest

from ipld.profile import UNIXFS_V1_2025
from mfs import pressure
from mfs.errors import JournalDamaged, NoSuchEntry, StaleInode
from mfs.node import ROOT_INO
from mfs.roots import Roots
from repo.service import Repo
from tests.mfs.worlds import TINY, World, content, file_cid, make_file, model_cid, read_tree

# --------------------------------------------------------------- cuts at every boundary


def story(world, note):
    """Many kinds of changes; `note(durable)` is called after each of them."""
    tree = world.tree
    a = make_file(tree, b"a", b"first" * 10)
    note()
    tree.fsync(a)
    note(durable=True)
    tree.write(a, 16, b"-second leaf at once-" * 3)
    note()
    folder = tree.mkdir(ROOT_INO, b"folder", 0o755, 0, 0).ino
    note()
    b = make_file(tree, b"b", b"draft", folder)
    note()
    tree.fsync(b)
    note(durable=True)
    tree.setattr(a, size=7)
    note()
    tree.rename(folder, b"b", ROOT_INO, b"a")
    note()
    tree.fsync(ROOT_INO)
    note(durable=True)
    tree.write(b, 3, b"!")
    note()
    world.roots.flush_due(world.clock.now_ns + 10**12)
    note()
    tree.write(b, 40, b"after the flush")
    note()
    tree.fsync(b)
    note(durable=True)
    tree.symlink(folder, b"link", b"../a", 0, 0)
    note()
    tree.sync()
    note(durable=True)
    tree.unlink(folder, b"link")
    note()
    tree.rmdir(ROOT_INO, b"folder")
    note()
    tree.fsync(ROOT_INO)
    note(durable=True)
    world.roots.flush_due(world.clock.now_ns + 10**12)
    note()


class PowerCut(Exception):
    pass


def run_until_cut(commit_number, kept_count):
    """Run the story; power goes `kept_count` writes after that commit.

    Returns the world, and the states between which the tree must be; None when the story was over
    before, or that many writes did not happen before the next commit.
    """
    world = World(TINY)
    commits_before = world.backend.log.commit_count
    states = [{}]

    def note(durable=False):
        # What is noted after the n-th commit may be seen after a cut that comes later.
        if durable:
            states.clear()
        states.append(read_tree(world.tree))

    log = world.backend.log
    commit = log.commit

    def commit_or_die():
        if log.commit_count - commits_before == commit_number:
            raise PowerCut
        commit()

    log.commit = commit_or_die
    try:
        story(world, note)
    except PowerCut:
        # The cut may come after the last note and before it is durable: both are allowed.
        states.append(read_tree(world.tree))
    log.commit = commit
    if kept_count > log.uncommitted_count():
        return None, []
    world.crash(kept_count)
    return world, states


@pytest.mark.parametrize("commit_number", range(7))
def test_after_a_cut_at_any_write_the_tree_is_as_it_was_at_some_moment_since_the_last_commit(
    commit_number,
):
    kept_count = 0
    while True:
        world, states = run_until_cut(commit_number, kept_count)
        if world is None:
            break
        seen = read_tree(world.tree)
        assert seen in states, (commit_number, kept_count)
        assert world.tree.sync() == model_cid(seen, TINY)
        assert world.repo.gc().missing_count == 0
        assert read_tree(world.tree) == seen
        kept_count += 1
    assert kept_count > 0


def test_a_batch_that_the_head_already_has_is_not_applied_again():
    """The cut lies between the new head and the trimming of the journal."""
    world = World(TINY)
    tree = world.tree
    ino = make_file(tree, b"file", b"old old old old old old")
    tree.setattr(ino, size=5)
    tree.fsync(ino)
    tree.write(ino, 5, b" and what came later, in the DAG only")
    trims = []
    journal = world.repo.journal(world.roots.stat("main").root_id)
    journal.trim = trims.append  # type: ignore[assignment]  # notes the calls
    tree.sync()
    assert trims
    tree = world.crash()
    assert content(tree, ino) == b"old o and what came later, in the DAG only"


# ------------------------------------------------------------------------------- fsync


def test_fsync_of_one_file_makes_all_earlier_changes_durable():
    world = World(TINY)
    tree = world.tree
    make_file(tree, b"other", b"data")
    ino = make_file(tree, b"file", b"x")
    tree.fsync(ino)
    assert read_tree(world.crash()) == {b"other": b"data", b"file": b"x"}


def test_fsync_writes_no_dag_and_commits_once():
    world = World(UNIXFS_V1_2025)
    tree = world.tree
    ino = make_file(tree, b"file", b"x" * 100_000)
    blocks, commits = world.repo.blocks.stats().count, world.backend.log.commit_count
    tree.fsync(ino)
    assert world.repo.blocks.stats().count == blocks
    assert world.backend.log.commit_count == commits + 1


def test_fsync_of_an_unchanged_tree_still_waits_for_what_was_flushed():
    world = World(TINY)
    ino = make_file(world.tree, b"file", b"x")
    world.roots.flush_due(world.clock.now_ns + 10**12)
    world.tree.fsync(ino)
    assert read_tree(world.crash()) == {b"file": b"x"}


def journal_bytes(world):
    root_id = world.roots.stat("main").root_id
    return sum(len(record) for _, record in world.repo.journal(root_id).replay())


def test_each_byte_is_journaled_once():
    world = World(UNIXFS_V1_2025)
    tree = world.tree
    ino = make_file(tree, b"file", b"x" * 200_000)
    tree.fsync(ino)
    first = journal_bytes(world)
    for index in range(10):
        tree.write(ino, index * 100, b"y" * 100)
        tree.fsync(ino)
    assert 200_000 < first < 201_000
    assert journal_bytes(world) - first < 10 * 600


def test_a_streamed_leaf_is_in_the_journal_by_its_cid():
    world = World(UNIXFS_V1_2025)
    tree = world.tree
    ino = make_file(tree, b"file", bytes(3 << 20))
    tree.fsync(ino)
    assert journal_bytes(world) < 2000
    assert content(world.crash(), ino) == bytes(3 << 20)


def test_much_fresh_data_is_flushed_instead_of_journaled(monkeypatch):
    monkeypatch.setattr("mfs.journal.BATCH_SIZE_MAX_BYTES", 1000)
    world = World(UNIXFS_V1_2025)
    tree = world.tree
    ino = make_file(tree, b"file", b"x" * 2000)
    tree.fsync(ino)
    assert journal_bytes(world) == 0
    assert not world.roots.stat("main").is_dirty
    assert content(world.crash(), ino) == b"x" * 2000


def test_a_batch_of_several_records_counts_as_a_whole_or_not_at_all(monkeypatch):
    monkeypatch.setattr("mfs.journal.RECORD_SIZE_BYTES", 300)
    world = World(UNIXFS_V1_2025)
    tree = world.tree
    tree.sync()
    for index in range(10):
        make_file(tree, b"%d" % index, b"data" * 30)
    whole = read_tree(tree)
    world.backend.log.commit = lambda: None
    tree.fsync(ROOT_INO)
    del world.backend.log.commit
    writes = world.backend.log.uncommitted_count()
    assert writes > 5
    assert read_tree(world.crash(writes)) == whole
    for kept_count in range(writes):
        world = World(UNIXFS_V1_2025)
        world.tree.sync()
        for index in range(10):
            make_file(world.tree, b"%d" % index, b"data" * 30)
        world.backend.log.commit = lambda: None
        world.tree.fsync(ROOT_INO)
        del world.backend.log.commit
        assert read_tree(world.crash(kept_count)) == {}


def test_the_journal_is_empty_after_a_flush():
    world = World(TINY)
    ino = make_file(world.tree, b"file", b"data")
    world.tree.fsync(ino)
    assert journal_bytes(world) > 0
    world.tree.sync()
    assert journal_bytes(world) == 0


def test_rename_over_a_file_never_leaves_it_empty():
    """The way of editors: write a new file, rename it over the old one, without fsync."""
    world = World(TINY)
    tree = world.tree
    make_file(tree, b"config", b"old content")
    tree.sync()
    new = make_file(tree, b"config.new", b"new content")
    tree.rename(ROOT_INO, b"config.new", ROOT_INO, b"config")
    assert read_tree(world.crash())[b"config"] == b"old content"
    tree = world.tree
    new = make_file(tree, b"config.new", b"new content")
    tree.rename(ROOT_INO, b"config.new", ROOT_INO, b"config")
    other = make_file(tree, b"other")
    tree.fsync(other)
    tree = world.crash()
    assert read_tree(tree) == {b"config": b"new content", b"other": b""}
    assert tree.lookup(ROOT_INO, b"config").ino == new


# ----------------------------------------------------------------------------- recovery


def test_inode_numbers_and_attributes_survive_a_crash():
    world = World(TINY)
    tree = world.tree
    ino = make_file(tree, b"file", b"data")
    tree.setattr(ino, mode=0o640, uid=7, gid=8, mtime_ns=-5, atime_ns=123)
    tree.setxattr(ino, b"user.k", b"v")
    before = tree.getattr(ino)
    tree.fsync(ino)
    tree = world.crash()
    assert tree.getattr(ino) == before
    assert tree.getxattr(ino, b"user.k") == b"v"
    assert tree.create(ROOT_INO, b"next", 0o644, 0, 0).ino > ino


def test_a_deleted_open_file_is_gone_after_a_restart():
    world = World(TINY)
    tree = world.tree
    ino = make_file(tree, b"file", b"data")
    tree.open(ino)
    tree.unlink(ROOT_INO, b"file")
    tree.write(ino, 0, b"more")
    tree.setattr(ino, mode=0o600)
    tree.fsync(ino)
    tree.sync()
    tree = world.crash()
    assert read_tree(tree) == {}
    with pytest.raises(StaleInode):
        tree.getattr(ino)
    assert world.roots.stat("main").inode_count == 1
    assert world.roots.stat("main").used_bytes == 0


def test_every_root_is_recovered_when_the_store_is_opened():
    """Before a gc could take the leaves that only a journal knows."""
    world = World(TINY)
    world.roots.create("other", TINY)
    other = world.roots.tree("other")
    ino = make_file(other, b"file", bytes(range(64)))
    other.fsync(ino)
    world.backend.crash()
    repo = Repo.in_memory(world.backend)
    roots = Roots(repo, world.clock)
    repo.gc()
    assert content(roots.tree("other"), ino) == bytes(range(64))


@pytest.mark.allow_logs("wait for room")
def test_recovery_on_a_full_store_keeps_the_changes_until_there_is_room():
    world = World(TINY, capacity_bytes=200_000)
    tree = world.tree
    ino = make_file(tree, b"file", bytes(range(64)))
    tree.fsync(ino)
    world.backend.crash()
    world.backend.log.capacity_bytes = world.backend.log.used_bytes
    repo = Repo.in_memory(world.backend)
    roots = Roots(repo, world.clock)
    repo.gc()
    assert content(roots.tree("main"), ino) == bytes(range(64))
    world.backend.log.capacity_bytes = None
    assert roots.tree("main").cid_of(ino) == file_cid(bytes(range(64)), TINY)


@pytest.mark.allow_logs("cannot be opened")
def test_a_damaged_journal_closes_its_root_and_no_other():
    world = World(TINY)
    world.roots.create("other", TINY)
    world.roots.close()
    repo = Repo.in_memory(world.backend)
    repo.journal(1).append(b"\xff\xff")
    roots = Roots(repo, world.clock)
    with pytest.raises(JournalDamaged):
        roots.tree("main")
    assert read_tree(roots.tree("other")) == {}
    roots.drop("main")
    roots.create("main", TINY)
    assert read_tree(roots.tree("main")) == {}


def test_batches_of_a_dropped_root_are_not_replayed_into_a_new_one():
    world = World(TINY)
    make_file(world.tree, b"secret", b"data")
    world.tree.fsync(ROOT_INO)
    trim = world.backend.journal(1).trim
    world.backend.journal(1).trim = lambda position: None
    world.roots.drop("main")
    world.backend.journal(1).trim = trim
    world.backend.crash()
    roots = Roots(Repo.in_memory(world.backend), world.clock)
    roots.create("new", TINY)
    world.backend.crash()
    roots = Roots(Repo.in_memory(world.backend), world.clock)
    assert read_tree(roots.tree("new")) == {}


def test_batches_from_before_a_restore_are_not_replayed_after_it():
    world = World(TINY)
    world.roots.snapshot("main", "s")
    make_file(world.tree, b"given up", b"data")
    world.tree.fsync(ROOT_INO)
    trim = world.backend.journal(1).trim
    world.backend.journal(1).trim = lambda position: None
    world.roots.restore("main", "s")
    world.backend.journal(1).trim = trim
    assert read_tree(world.crash()) == {}


# -------------------------------------------------------------------------- write-back


def test_a_root_is_flushed_when_it_was_idle_for_5_seconds_or_dirty_for_30():
    world = World(TINY)
    ino = make_file(world.tree, b"file", b"0")
    start = world.clock.now_ns
    for second in range(1, 29):
        world.tree.write(ino, 0, b"%d" % second)
        world.clock.sleep(1)
        world.roots.flush_due(world.clock.now_ns)
        assert world.roots.stat("main").is_dirty, second
    world.clock.now_ns = start + 31 * 10**9
    world.roots.flush_due(world.clock.now_ns)
    assert not world.roots.stat("main").is_dirty
    world.tree.write(ino, 0, b"again")
    world.clock.sleep(5.1)
    world.roots.flush_due(world.clock.now_ns)
    assert not world.roots.stat("main").is_dirty


def test_who_writes_beyond_the_limit_of_unflushed_bytes_flushes(monkeypatch):
    monkeypatch.setattr(pressure, "UNFLUSHED_MAX_BYTES", 100_000)
    world = World(UNIXFS_V1_2025)
    ino = make_file(world.tree, b"file")
    for index in range(300):
        world.tree.write(ino, index * 5000, b"x" * 1000)
        assert world.roots.stat("main").dirty_bytes < 110_000
    assert len(content(world.tree, ino)) == 299 * 5000 + 1000


def test_who_creates_beyond_the_limit_of_unflushed_inodes_flushes(monkeypatch):
    monkeypatch.setattr(pressure, "UNFLUSHED_INODES_MAX", 50)
    world = World(TINY)
    for index in range(200):
        world.tree.create(ROOT_INO, b"%d" % index, 0o644, 0, 0)
        assert len(world.tree._core.state.changed) <= 52
    assert len(world.tree.readdir(ROOT_INO)) == 200


def test_closing_makes_everything_durable():
    world = World(TINY)
    make_file(world.tree, b"file", b"data")
    tree = world.tree
    world.roots.close()
    assert read_tree(world.crash()) == {b"file": b"data"}
    with pytest.raises(Exception, match="no longer there"):
        tree.lookup(ROOT_INO, b"file")


def test_names_of_another_tree_are_not_found():
    world = World(TINY)
    with pytest.raises(NoSuchEntry):
        world.tree.lookup(ROOT_INO, b"missing")
