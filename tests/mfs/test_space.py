"""A store that is full, and a root that is: typed errors, nothing lost, and a way out."""

import random

import pytest

from ipld import cid as cids
from ipld import dirdag, filedag
from ipld.block import Block
from ipld.profile import UNIXFS_V1_2025
from mfs.errors import NoSpace, QuotaExceeded
from mfs.node import ROOT_INO
from repo.errors import BlockUnavailable, StoreFull
from tests.mfs.worlds import TINY, World, content, file_cid, make_file, model_cid, read_tree

KIB = 1 << 10
MIB = 1 << 20
PROFILE = UNIXFS_V1_2025.with_options(chunk_size_bytes=64 * KIB)


def fill(world, seed=0):
    """Files of random bytes until the tree says no; what it took."""
    generator = random.Random(seed)
    taken = {}
    while True:
        name = b"%d-%d" % (seed, len(taken))
        ino = make_file(world.tree, name)
        data = generator.randbytes(100 * KIB)
        try:
            world.tree.write(ino, 0, data)
        except NoSpace:
            assert world.tree.getattr(ino).size == 0
            taken[name] = b""
            return taken
        taken[name] = data


def test_a_full_store_refuses_the_write_and_keeps_what_it_took():
    world = World(PROFILE, capacity_bytes=2 * MIB)
    taken = fill(world)
    assert len(taken) > 10
    assert read_tree(world.tree) == taken
    assert world.tree.sync() == model_cid(taken, PROFILE)
    assert read_tree(world.crash()) == taken


def test_deleting_syncing_and_gc_make_room_on_a_full_store():
    world = World(PROFILE, capacity_bytes=2 * MIB)
    taken = fill(world)
    for round_number in range(1, 4):
        for name in [*taken][:5]:
            world.tree.unlink(ROOT_INO, name)
            del taken[name]
        world.tree.sync()
        assert world.repo.gc().freed_count > 0
        more = fill(world, round_number)
        assert len(more) > 3
        taken.update(more)
        assert read_tree(world.tree) == taken


def test_fsync_works_on_a_store_that_took_all_it_could():
    world = World(PROFILE, capacity_bytes=2 * MIB)
    taken = fill(world)
    world.tree.fsync(ROOT_INO)
    assert read_tree(world.crash()) == taken


def full_backend(world):
    """No byte more, whatever the reserve was for."""
    world.backend.log.capacity_bytes = world.backend.log.used_bytes


def test_a_flush_that_finds_no_room_changes_nothing_and_can_be_repeated():
    world = World(TINY, capacity_bytes=100 * KIB)
    tree = world.tree
    ino = make_file(tree, b"file", bytes(range(200)))
    tree.sync()
    tree.write(ino, 50, b"changed")
    tree.setattr(ino, size=150)
    make_file(tree, b"new", b"x" * 50)
    tree.mkdir(ROOT_INO, b"d", 0o755, 0, 0)
    expected = read_tree(tree)
    cid = world.roots.stat("main").cid
    full_backend(world)
    for _ in range(3):
        with pytest.raises(NoSpace):
            tree.sync()
        with pytest.raises(NoSpace):
            tree.fsync(ino)
        with pytest.raises(NoSpace):
            tree.cid_of(ino)
        assert read_tree(tree) == expected
        assert world.roots.stat("main").cid == cid
    world.backend.log.capacity_bytes = None
    assert tree.sync() == model_cid(expected, TINY)
    assert read_tree(world.crash()) == expected


def test_changes_made_while_a_flush_fails_are_kept(monkeypatch):
    world = World(TINY)
    tree = world.tree
    ino = make_file(tree, b"file", b"0123456789" * 10)
    gone = make_file(tree, b"gone", b"x" * 40)
    tree.sync()
    tree.write(ino, 5, b"-first-")
    tree.write(gone, 0, b"y")
    put_many = world.repo.put_many

    def fail(blocks):
        monkeypatch.setattr(world.repo, "put_many", put_many)
        tree.setattr(ino, size=30)
        tree.write(ino, 90, b"-second-and-longer-than-before-")
        tree.setattr(ino, size=100)
        tree.unlink(ROOT_INO, b"gone")
        make_file(tree, b"made", b"z" * 50)
        raise StoreFull

    monkeypatch.setattr(world.repo, "put_many", fail)
    with pytest.raises(NoSpace):
        tree.sync()
    expected = bytearray(b"0123456789" * 3 + bytes(70))
    expected[5:12] = b"-first-"
    expected[90:] = b"-second-an"
    model = {b"file": bytes(expected), b"made": b"z" * 50}
    assert read_tree(tree) == model
    tree.fsync(ino)
    assert read_tree(world.crash()) == model
    assert world.tree.sync() == model_cid(model, TINY)


def test_a_journal_that_finds_no_room_is_followed_by_a_flush(monkeypatch):
    """Part of a batch may be in the log; what it had is not lost by the next fsync."""
    monkeypatch.setattr("mfs.journal.RECORD_SIZE_BYTES", 100)
    monkeypatch.setattr("mfs.journal.has_room_twice", lambda core, size: True)
    world = World(TINY, capacity_bytes=MIB)
    tree = world.tree
    for index in range(20):
        make_file(tree, b"%d" % index, b"data")
    expected = read_tree(tree)
    world.backend.log.capacity_bytes = world.backend.log.used_bytes + 700
    with pytest.raises(NoSpace):
        tree.fsync(ROOT_INO)
    world.backend.log.capacity_bytes = MIB
    tree.fsync(ROOT_INO)
    assert read_tree(world.crash()) == expected


def test_deletes_go_on_when_memory_is_full_and_nothing_can_be_flushed(monkeypatch):
    world = World(TINY, capacity_bytes=MIB)
    tree = world.tree
    for index in range(40):
        make_file(tree, b"%d" % index, b"data")
    monkeypatch.setattr("mfs.pressure.UNFLUSHED_INODES_MAX", 10)
    full_backend(world)
    with pytest.raises(NoSpace):
        tree.create(ROOT_INO, b"more", 0o644, 0, 0)
    with pytest.raises(NoSpace):
        tree.write(tree.lookup(ROOT_INO, b"1").ino, 0, b"more")
    for index in range(40):
        tree.unlink(ROOT_INO, b"%d" % index)
    assert read_tree(tree) == {}


def test_a_leaf_that_finds_no_room_stays_in_memory():
    world = World(TINY, capacity_bytes=100 * KIB)
    tree = world.tree
    ino = make_file(tree, b"file")
    tree.write(ino, 0, b"12345678")
    full_backend(world)
    tree._core.room_bytes = 1000
    tree.write(ino, 8, b"12345678")
    assert content(tree, ino) == b"1234567812345678"
    assert world.roots.stat("main").dirty_bytes >= 16
    with pytest.raises(NoSpace):
        tree.write(ino, 16, bytes(16))
    world.backend.log.capacity_bytes = None
    assert tree.cid_of(ino) == file_cid(b"1234567812345678", TINY)
    assert world.roots.stat("main").dirty_bytes == 0


@pytest.mark.allow_logs("cannot be written back")
def test_write_back_of_a_full_store_complains_once(caplog):
    world = World(TINY, capacity_bytes=100 * KIB)
    make_file(world.tree, b"file", b"x" * 100)
    full_backend(world)
    for _ in range(3):
        world.clock.sleep(60)
        world.roots.flush_due(world.clock.now_ns)
    assert len([r for r in caplog.records if "cannot be written back" in r.message]) == 1


# -------------------------------------------------------------------------------- quota


def test_a_write_beyond_the_quota_is_refused_and_growth_is_seen_at_once():
    world = World(TINY)
    world.roots.create("small", TINY, quota=100)
    tree = world.roots.tree("small")
    ino = make_file(tree, b"file", b"x" * 60)
    with pytest.raises(QuotaExceeded):
        tree.write(ino, 60, b"x" * 41)
    with pytest.raises(QuotaExceeded):
        tree.setattr(ino, size=101)
    assert content(tree, ino) == b"x" * 60
    tree.write(ino, 0, b"y" * 100)
    assert tree.statfs()[:2] == (100, 0)
    world.roots.set_quota("small", 200)
    tree.write(ino, 100, b"z" * 100)
    assert tree.statfs()[:2] == (200, 0)
    tree.unlink(ROOT_INO, b"file")
    assert tree.statfs()[:2] == (200, 200)


def test_used_bytes_follow_all_changes_and_survive_a_restart():
    world = World(TINY)
    tree = world.tree
    a = make_file(tree, b"a", b"x" * 30)
    make_file(tree, b"b", b"x" * 5)
    tree.link(a, ROOT_INO, b"c")
    tree.setattr(a, size=20)
    tree.rename(ROOT_INO, b"b", ROOT_INO, b"c")
    assert world.roots.stat("main").used_bytes == 25
    assert world.roots.stat("main").inode_count == 3
    world.reopen()
    assert world.roots.stat("main").used_bytes == 25
    assert world.roots.stat("main").inode_count == 3
    world.tree.unlink(ROOT_INO, b"a")
    world.tree.unlink(ROOT_INO, b"c")
    assert world.roots.stat("main").used_bytes == 0
    assert world.roots.stat("main").inode_count == 1


def test_statfs_of_a_bounded_store_is_its_room():
    world = World(TINY, capacity_bytes=MIB)
    facts = world.tree.statfs()
    assert facts.total_bytes == MIB
    assert 0 < facts.free_bytes < MIB
    assert facts.name_size_max_bytes == 255
    assert world.roots.statfs().total_bytes == MIB


# ------------------------------------------------- when a flush is not possible at all


@pytest.fixture
def unflushable():
    """A root in which a file has to be built from a leaf that is not here."""
    world = World(TINY)
    link = filedag.add_bytes(bytes(range(100)), TINY, world.repo.put)
    top = dirdag.build([dirdag.Entry(b"far", link.cid, link.tsize)], TINY, world.repo.put)
    world.roots.create("part", TINY, cid=top.cid)
    tree = world.roots.tree("part")
    ino = tree.lookup(ROOT_INO, b"far").ino
    leaf = filedag.leaf_links(link, 1, 1, TINY, world.repo.get)[0]
    block = Block(leaf.cid, world.repo.get(leaf.cid))
    world.repo.blocks.delete_many([cids.multihash_of(leaf.cid)])
    tree.write(ino, 20, b"!")
    return world, tree, block


def test_fsync_is_possible_when_a_flush_is_not(unflushable):
    world, tree, block = unflushable
    for index in range(4):
        ino = make_file(tree, b"%d" % index, b"data %d" % index * 9)
        if index % 2:
            with pytest.raises(BlockUnavailable):
                tree.sync()
            tree.setattr(ino, size=20)
        tree.fsync(ino)
    tree.unlink(ROOT_INO, b"0")
    tree.fsync(ROOT_INO)
    world.backend.crash()
    world.repo.put(block)
    world.crash(kept_count=1)
    tree = world.roots.tree("part")
    expected = {b"%d" % n: (b"data %d" % n * 9)[: 20 if n % 2 else None] for n in (1, 2, 3)}
    expected[b"far"] = bytes(range(20)) + b"!" + bytes(range(21, 100))
    assert read_tree(tree) == expected
    assert tree.sync() == model_cid(expected, TINY)


@pytest.mark.allow_logs("wait for room")
def test_closing_saves_to_the_journal_what_cannot_be_flushed(unflushable):
    world, tree, block = unflushable
    ino = make_file(tree, b"new", b"x" * 50)
    with pytest.raises(BlockUnavailable):
        world.roots.close()
    world.crash()
    tree = world.roots.tree("part")
    assert content(tree, ino) == b"x" * 50
    world.repo.put(block)
    assert read_tree(tree).keys() == {b"far", b"new"}
    assert tree.sync() == model_cid(read_tree(tree), TINY)


def test_a_cut_that_a_failed_batch_had_is_not_forgotten(monkeypatch):
    world = World(TINY)
    tree = world.tree
    ino = make_file(tree, b"file", b"x" * 12)
    tree.fsync(ino)
    tree.setattr(ino, size=4)
    journal = world.backend.journal(1)
    append = journal.append

    def fail(record):
        monkeypatch.setattr(journal, "append", append)
        raise StoreFull

    monkeypatch.setattr(journal, "append", fail)
    with pytest.raises(NoSpace):
        tree.fsync(ino)
    tree.setattr(ino, size=12)
    tree.fsync(ino)
    assert content(world.crash(), ino) == b"x" * 4 + bytes(8)
