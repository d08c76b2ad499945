"""Write-back: what it costs, what goes on meanwhile, and what gc may take."""

import random
import threading

import pytest

from ipld.profile import UNIXFS_V1_2025
from mfs.node import ROOT_INO
from tests.mfs.worlds import (
    TINY,
    TINY_PROFILES,
    Clock,
    World,
    content,
    file_cid,
    make_file,
    model_cid,
    read_tree,
)

# --------------------------------------------------------------------------------- cost


def new_blocks(world, change):
    world.tree.sync()
    before = world.repo.blocks.stats().count
    change()
    world.tree.sync()
    return world.repo.blocks.stats().count - before


def big_world(count):
    """A directory with so many files in a HAMT, beside another one."""
    world = World(UNIXFS_V1_2025.with_options(hamt_threshold_bytes=2000))
    folder = world.tree.mkdir(ROOT_INO, b"folder", 0o755, 0, 0).ino
    for index in range(count):
        make_file(world.tree, b"file-%06d" % index, b"%d" % index, folder)
    make_file(world.tree, b"lonely", b"x")
    return world, folder


@pytest.mark.parametrize("count", [300, 3000])
def test_changing_one_file_writes_a_few_blocks_whatever_the_size_of_the_tree(count):
    world, folder = big_world(count)
    ino = world.tree.lookup(folder, b"file-000123").ino
    # One leaf; up to three shards and the top; up to three nodes of the table.
    assert new_blocks(world, lambda: world.tree.write(ino, 0, b"changed")) <= 8


def test_a_change_of_attributes_writes_the_table_only():
    world, folder = big_world(300)
    cid = world.tree.sync()
    ino = world.tree.lookup(folder, b"file-000123").ino
    assert new_blocks(world, lambda: world.tree.setattr(ino, mode=0o600)) <= 3
    assert world.tree.sync() == cid


def test_moving_a_large_directory_writes_nothing_below_it():
    world, _ = big_world(1000)

    def move():
        world.tree.rename(ROOT_INO, b"folder", ROOT_INO, b"moved")

    assert new_blocks(world, move) <= 4


def test_a_flush_of_nothing_writes_nothing():
    world, _ = big_world(10)
    assert new_blocks(world, lambda: None) == 0
    writes = world.backend.log.position()
    world.tree.sync()
    world.roots.flush_due(world.clock.now_ns + 10**12)
    assert world.backend.log.position() == writes


def test_a_file_made_and_deleted_between_two_flushes_leaves_no_trace():
    world = World(TINY)

    def change():
        ino = make_file(world.tree, b"file", b"short")
        world.tree.open(ino)
        world.tree.unlink(ROOT_INO, b"file")
        world.tree.release(ino)

    cid = world.tree.sync()
    # The times of the directory are in the table.
    assert new_blocks(world, change) == 1
    assert world.tree.sync() == cid
    assert world.roots.stat("main").dirty_bytes == 0


def test_what_a_flush_wrote_is_forgotten_in_memory():
    world = World(UNIXFS_V1_2025)
    for index in range(50):
        make_file(world.tree, b"%d" % index, bytes(1000))
    assert world.roots.stat("main").dirty_bytes > 50_000
    world.tree.sync()
    assert world.roots.stat("main").dirty_bytes == 0
    assert not world.roots.stat("main").is_dirty


# ------------------------------------------------------------------------- while it runs


class Pause:
    """Stops the flush when it stores its first blocks, until told to go on."""

    def __init__(self, world, monkeypatch):
        self.reached, self.go_on = threading.Event(), threading.Event()
        put_many = world.repo.put_many

        def paused(blocks):
            if threading.current_thread() is self.thread:
                self.reached.set()
                assert self.go_on.wait(20)
            return put_many(blocks)

        monkeypatch.setattr(world.repo, "put_many", paused)
        self.thread = threading.Thread(target=world.tree.sync)

    def __enter__(self):
        self.thread.start()
        assert self.reached.wait(20)
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.mark.parametrize("profile", TINY_PROFILES, ids=lambda profile: profile.name)
def test_reads_and_all_changes_go_on_while_a_flush_runs(profile, monkeypatch):
    world = World(profile)
    tree = world.tree
    ino = make_file(tree, b"file", b"0123456789" * 10)
    gone = make_file(tree, b"gone", b"x" * 50)
    folder = tree.mkdir(ROOT_INO, b"folder", 0o755, 0, 0).ino
    make_file(tree, b"inner", b"i" * 30, folder)
    with Pause(world, monkeypatch):
        assert content(tree, ino) == b"0123456789" * 10
        tree.write(ino, 5, b"abc")
        tree.setattr(ino, size=50)
        tree.setattr(ino, size=70)
        tree.write(ino, 90, b"tail")
        tree.unlink(ROOT_INO, b"gone")
        late = make_file(tree, b"late", b"l" * 40)
        tree.rename(folder, b"inner", ROOT_INO, b"outer")
        tree.rmdir(ROOT_INO, b"folder")
        tree.rename(ROOT_INO, b"late", ROOT_INO, b"later")
        expected = bytearray(b"0123456789" * 5 + bytes(40) + b"tail")
        expected[5:8] = b"abc"
        model = {b"file": bytes(expected), b"later": b"l" * 40, b"outer": b"i" * 30}
        assert read_tree(tree) == model
    assert gone and late
    assert read_tree(tree) == model
    assert tree.sync() == model_cid(model, profile)
    assert read_tree(world.crash()) == model


def test_an_fsync_during_a_flush_covers_what_came_after_the_flush_began(monkeypatch):
    world = World(TINY)
    tree = world.tree
    ino = make_file(tree, b"file", b"first")
    done = threading.Event()

    def late_fsync():
        tree.fsync(ino)
        done.set()

    with Pause(world, monkeypatch):
        tree.write(ino, 5, b" second")
        syncing = threading.Thread(target=late_fsync)
        syncing.start()
        assert not done.wait(0.05)
    syncing.join(20)
    assert read_tree(world.crash()) == {b"file": b"first second"}


def test_many_threads_write_flush_and_fsync_one_tree():
    world = World(TINY)
    tree = world.tree
    models = [bytearray(400) for _ in range(4)]
    inos = [make_file(tree, b"%d" % number, bytes(400)) for number in range(4)]
    failures = []

    def work(number):
        generator = random.Random(number)
        try:
            for step in range(150):
                at = generator.randrange(380)
                data = generator.randbytes(20)
                tree.write(inos[number], at, data)
                models[number][at : at + 20] = data
                if step % 10 == number:
                    tree.fsync(inos[number])
                if step % 25 == number:
                    tree.sync()
                assert tree.read(inos[number], at, 20) == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    model = {b"%d" % number: bytes(models[number]) for number in range(4)}
    assert read_tree(tree) == model
    assert tree.sync() == model_cid(model, TINY)


# ----------------------------------------------------------------------------------- gc


def test_gc_spares_leaves_that_no_head_has_yet():
    world = World(TINY)
    ino = make_file(world.tree, b"file", bytes(range(160)))
    world.repo.gc()
    assert content(world.tree, ino) == bytes(range(160))
    assert world.tree.cid_of(ino) == file_cid(bytes(range(160)), TINY)


def test_gc_during_a_flush_spares_what_it_wrote(monkeypatch):
    world = World(TINY)
    ino = make_file(world.tree, b"file", bytes(range(250)))
    save = world.tree._core.save_head
    assert save is not None

    def collect_first(head):
        world.repo.gc()
        save(head)

    world.tree._core.save_head = collect_first
    world.tree.sync()
    assert content(world.tree, ino) == bytes(range(250))
    assert world.repo.gc().missing_count == 0


def test_gc_spares_leaves_of_a_write_that_a_flush_came_between(monkeypatch):
    """The leaves are older than the lease of the layer that they end up in."""
    world = World(TINY)
    tree = world.tree
    ino = make_file(tree, b"file", b"first")
    make_leaves = tree._io._make_leaves

    def make_and_flush(offset, data):
        made = make_leaves(offset, data)
        tree.sync()
        return made

    monkeypatch.setattr(tree._io, "_make_leaves", make_and_flush)
    tree.write(ino, 0, bytes(range(160)))
    world.repo.gc()
    assert content(tree, ino) == bytes(range(160))


def test_gc_spares_a_deleted_file_while_it_is_open():
    world = World(TINY)
    tree = world.tree
    ino = make_file(tree, b"file", bytes(range(200)))
    tree.sync()
    tree.open(ino)
    tree.unlink(ROOT_INO, b"file")
    tree.sync()
    world.repo.gc()
    assert content(tree, ino) == bytes(range(200))
    tree.write(ino, 100, b"changed while it has no name")
    changed = bytearray(range(200))
    changed[100:128] = b"changed while it has no name"
    tree.sync()
    world.repo.gc()
    assert content(tree, ino) == changed
    tree.release(ino)
    tree.sync()
    world.repo.gc()
    # The empty directory and one node of the table.
    assert world.repo.blocks.stats().count == 2


def test_no_lease_stays_open_on_a_clean_tree():
    """A lease that stays keeps gc from ever freeing anything younger."""
    world = World(TINY)
    tree = world.tree
    ino = make_file(tree, b"file", bytes(range(100)))
    tree.open(ino)
    tree.unlink(ROOT_INO, b"file")
    assert world.repo.leases.is_any_open()
    tree.sync()
    tree.write(ino, 0, b"x" * 50)
    tree.sync()
    world.roots.cid_tree(tree.sync())
    assert not world.repo.leases.is_any_open()


# --------------------------------------------------------------------------------- times


def test_reads_are_noted_as_relatime_does():
    world = World(TINY)
    tree, clock = world.tree, world.clock
    ino = make_file(tree, b"file", b"data")
    first = tree.getattr(ino).atime_ns
    clock.sleep(1)
    tree.read(ino, 0, 1)
    second = tree.getattr(ino).atime_ns
    assert second > first
    clock.sleep(3600)
    tree.read(ino, 0, 1)
    assert tree.getattr(ino).atime_ns == second
    clock.sleep(24 * 3600)
    tree.read(ino, 0, 1)
    third = tree.getattr(ino).atime_ns
    assert third > second
    tree.write(ino, 0, b"x")
    clock.sleep(1)
    tree.read(ino, 0, 1)
    assert tree.getattr(ino).atime_ns > third
    tree.atime = False
    clock.sleep(48 * 3600)
    fourth = tree.getattr(ino).atime_ns
    tree.read(ino, 0, 1)
    assert tree.getattr(ino).atime_ns == fourth


def test_a_write_takes_setuid_and_setgid_away_unless_told_otherwise():
    world = World(TINY)
    tree = world.tree
    ino = make_file(tree, b"file", b"data")
    tree.setattr(ino, mode=0o6755)
    tree.write(ino, 0, b"x", clear_privileges=False)
    assert tree.getattr(ino).mode & 0o7777 == 0o6755
    tree.write(ino, 0, b"x")
    assert tree.getattr(ino).mode & 0o7777 == 0o755
    tree.setattr(ino, mode=0o6744)
    tree.setattr(ino, size=1)
    assert tree.getattr(ino).mode & 0o7777 == 0o2744


def test_the_clock_is_the_only_source_of_time():
    clock = Clock(start_ns=123 * 10**9)
    world = World(TINY)
    world.clock.now_ns = clock.now_ns
    ino = make_file(world.tree, b"file", b"x")
    found = world.tree.getattr(ino)
    assert all(time_ns // 10**9 == 123 for time_ns in found[8:11])
