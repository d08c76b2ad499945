"""One file: whatever is done to it, it reads as a plain array of bytes, and its CID is that of the
bytes alone."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipld import cid as cids
from ipld.profile import UNIXFS_V1_2025
from tests.mfs.worlds import (
    TINY,
    TINY_PROFILES,
    TINY_TRICKLE,
    TINY_V0,
    World,
    content,
    file_cid,
    make_file,
)

MIB = 1 << 20


class Fsx:
    """A file and the bytes that it must have, with steps drawn at random."""

    def __init__(self, profile, seed: int, size_max: int) -> None:
        self.profile = profile
        self.world = World(profile)
        self.tree = self.world.tree
        self.ino = make_file(self.tree, b"file")
        self.model = bytearray()
        self.random = random.Random(seed)
        self.size_max = size_max
        self.durable = b""

    def step(self) -> None:
        steps = [self.write] * 8 + [self.read] * 6 + [self.truncate] * 2
        steps += [self.flush, self.fsync, self.check_cid]
        if self.random.random() < 0.02:
            steps = [self.reopen, self.crash_after_fsync]
        self.random.choice(steps)()

    def write(self) -> None:
        offset = self.random.randrange(self.size_max)
        if self.random.random() < 0.3:
            offset = len(self.model)
        data = self.random.randbytes(self.random.choice([1, 3, 16, 33, self.size_max // 4]))
        data = data[: max(0, self.size_max - offset)]
        assert self.tree.write(self.ino, offset, data) == len(data)
        if data:
            self.model.extend(bytes(max(0, offset + len(data) - len(self.model))))
            self.model[offset : offset + len(data)] = data

    def read(self) -> None:
        offset = self.random.randrange(self.size_max)
        length = self.random.randrange(self.size_max)
        assert self.tree.read(self.ino, offset, length) == self.model[offset : offset + length]

    def truncate(self) -> None:
        size = self.random.randrange(self.size_max)
        self.tree.setattr(self.ino, size=size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def flush(self) -> None:
        self.world.roots.flush_due(self.world.clock.now_ns + 10**12)

    def fsync(self) -> None:
        self.tree.fsync(self.ino)

    def check_cid(self) -> None:
        assert self.tree.cid_of(self.ino) == file_cid(bytes(self.model), self.profile)

    def reopen(self) -> None:
        self.tree = self.world.reopen()

    def crash_after_fsync(self) -> None:
        self.tree.fsync(self.ino)
        self.tree = self.world.crash()

    def check(self) -> None:
        assert self.tree.getattr(self.ino).size == len(self.model)
        assert content(self.tree, self.ino) == self.model
        self.check_cid()


@pytest.mark.slow
@pytest.mark.parametrize("profile", TINY_PROFILES, ids=lambda profile: profile.name)
@pytest.mark.parametrize("seed", range(2))
def test_random_steps_leave_the_bytes_and_the_cid_of_a_plain_file(profile, seed):
    fsx = Fsx(profile, seed, size_max=300)
    for _ in range(2500):
        fsx.step()
    fsx.check()


def test_random_steps_with_real_chunks():
    profile = UNIXFS_V1_2025.with_options(chunk_size_bytes=4096, max_file_links=4)
    fsx = Fsx(profile, 7, size_max=100_000)
    for _ in range(400):
        fsx.step()
    fsx.check()


# -------------------------------------------------------------------------- the CID law

changes = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 120), st.binary(min_size=1, max_size=60)),
        st.tuples(st.just("truncate"), st.integers(0, 150), st.just(b"")),
        st.tuples(st.just("flush"), st.just(0), st.just(b"")),
    ),
    max_size=12,
)


@given(st.sampled_from(TINY_PROFILES), changes)
@settings(max_examples=150)
def test_the_cid_depends_on_the_bytes_and_not_on_the_history(profile, history):
    world = World(profile)
    tree = world.tree
    ino = make_file(tree, b"file")
    model = bytearray()
    for step, at, data in history:
        if step == "write":
            tree.write(ino, at, data)
            model.extend(bytes(max(0, at + len(data) - len(model))))
            model[at : at + len(data)] = data
        elif step == "truncate":
            tree.setattr(ino, size=at)
            del model[at:]
            model.extend(bytes(at - len(model)))
        else:
            tree.sync()
    assert content(tree, ino) == model
    assert tree.cid_of(ino) == file_cid(bytes(model), profile)
    assert content(tree, ino) == model


@pytest.mark.parametrize("profile", TINY_PROFILES, ids=lambda profile: profile.name)
def test_writing_the_same_bytes_again_keeps_the_cid(profile):
    tree = World(profile).tree
    data = bytes(range(100))
    ino = make_file(tree, b"file", data)
    first = tree.cid_of(ino)
    for size in (1, 7, 16, 50, 100):
        for at in range(0, 100, size):
            tree.write(ino, at, data[at : at + size])
        assert tree.cid_of(ino) == first


@pytest.mark.parametrize("piece", [1, 5, 16, 17, 64])
def test_the_size_of_the_writes_does_not_show_in_the_cid(piece):
    tree = World(TINY).tree
    data = random.Random(piece).randbytes(333)
    ino = make_file(tree, b"file")
    for at in range(0, len(data), piece):
        tree.write(ino, at, data[at : at + piece])
    assert tree.cid_of(ino) == file_cid(data, TINY)


# -------------------------------------------------------------------------------- holes


def test_a_hole_reads_as_zeros_and_has_the_cid_of_zeros():
    tree = World(TINY).tree
    ino = make_file(tree, b"file")
    tree.write(ino, 1000, b"end")
    assert content(tree, ino) == bytes(1000) + b"end"
    assert tree.cid_of(ino) == file_cid(bytes(1000) + b"end", TINY)


def test_what_was_cut_off_does_not_come_back_when_the_file_grows():
    world = World(TINY)
    tree = world.tree
    ino = make_file(tree, b"file", b"x" * 100)
    tree.sync()
    tree.setattr(ino, size=20)
    tree.setattr(ino, size=90)
    assert content(tree, ino) == b"x" * 20 + bytes(70)
    assert tree.cid_of(ino) == file_cid(b"x" * 20 + bytes(70), TINY)


def test_a_terabyte_of_hole_is_made_at_once_and_flushed_from_one_block_of_zeros():
    world = World(UNIXFS_V1_2025)
    tree = world.tree
    ino = make_file(tree, b"sparse")
    tree.setattr(ino, size=64 << 30)
    assert tree.read(ino, 40 << 30, 10) == bytes(10)
    before = world.repo.blocks.stats().count
    tree.sync()
    # One leaf of zeros, one node over 1024 of them, the root of 64 such nodes; directory and table.
    assert world.repo.blocks.stats().count - before <= 8
    assert tree.read(ino, (64 << 30) - 5, 100) == bytes(5)


@pytest.mark.parametrize("profile", (TINY, TINY_V0, TINY_TRICKLE), ids=lambda p: p.name)
def test_a_long_hole_is_built_in_steps_with_the_cid_of_zeros(profile, monkeypatch):
    monkeypatch.setattr("mfs.filebuild._LEAVES_PER_STEP", 10)
    tree = World(profile).tree
    ino = make_file(tree, b"file", b"begin")
    tree.sync()
    tree.setattr(ino, size=2000)
    tree.write(ino, 1990, b"end")
    expected = b"begin" + bytes(1985) + b"end" + bytes(7)
    assert tree.cid_of(ino) == file_cid(expected, profile)
    tree.setattr(ino, size=3)
    tree.setattr(ino, size=1000)
    assert tree.cid_of(ino) == file_cid(b"beg" + bytes(997), profile)


# ------------------------------------------------------------------------ cost of writing


def written_bytes(world):
    stored = iter(world.repo.blocks.keys())
    return sum(world.repo.blocks.size_of(cids.make(1, cids.RAW, key)) for key in stored)


def test_large_writes_go_to_the_store_at_once_and_only_once():
    world = World(UNIXFS_V1_2025)
    tree = world.tree
    ino = make_file(tree, b"file")
    data = random.Random(1).randbytes(4 * MIB)
    tree.write(ino, 0, data)
    assert world.roots.stat("main").dirty_bytes < MIB
    assert written_bytes(world) < 4 * MIB + 10_000
    tree.fsync(ino)
    tree.sync()
    assert written_bytes(world) < 4 * MIB + 20_000
    assert content(tree, ino) == data


def test_small_sequential_writes_become_blocks_as_leaves_fill():
    world = World(UNIXFS_V1_2025)
    tree = world.tree
    ino = make_file(tree, b"file")
    data = random.Random(2).randbytes(3 * MIB + 5)
    for at in range(0, len(data), 4096):
        tree.write(ino, at, data[at : at + 4096])
    assert world.roots.stat("main").dirty_bytes < 100_000
    assert content(tree, ino) == data
    assert tree.cid_of(ino) == file_cid(data, UNIXFS_V1_2025)


def test_a_small_change_of_a_large_file_writes_one_leaf_and_its_path():
    world = World(TINY)
    tree = world.tree
    ino = make_file(tree, b"file", random.Random(3).randbytes(16 * 3**6))
    tree.sync()
    before = world.repo.blocks.stats().count
    tree.write(ino, 5000, b"!")
    tree.sync()
    # One leaf, six inner nodes, one directory, one node of the table.
    assert world.repo.blocks.stats().count - before <= 9


def test_reading_4_kib_does_not_copy_the_leaf(monkeypatch):
    world = World(UNIXFS_V1_2025)
    tree = world.tree
    ino = make_file(tree, b"file", random.Random(4).randbytes(2 * MIB))
    tree.sync()
    tree.read(ino, 0, 1)
    copied = []
    get = world.repo.get
    monkeypatch.setattr(world.repo, "get", lambda cid: copied.append(cid) or get(cid))
    for at in range(0, 2 * MIB, 100_000):
        tree.read(ino, at, 4096)
    assert copied == []
