"""Pins keep what they promise, and promise only what is here."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ipld import cid as cids
from pinning.errors import NotPinned, PinnedRecursively
from pinning.pins import Pin, Pins
from repo.backend_memory import MemoryBackend
from repo.errors import BlockDamaged, BlockUnavailable
from repo.service import Repo
from tests.repo.dags import cbor, leaf, pb, present, tree


@pytest.fixture
def backend():
    return MemoryBackend()


@pytest.fixture
def repo(backend):
    return Repo.in_memory(backend)


@pytest.fixture
def pins(repo):
    return Pins(repo)


def test_recursive_pin_keeps_the_whole_dag(repo, pins):
    root, blocks = tree("pinned")
    repo.put_many([*blocks, leaf("dead")])
    assert pins.add(root.cid, name="backup") == Pin(root.cid, True, "backup")
    assert repo.gc().freed_count == 1
    assert all(present(repo, blocks))


def test_direct_pin_keeps_one_block(repo, pins):
    root, blocks = tree("pinned")
    repo.put_many(blocks)
    pins.add(root.cid, recursive=False)
    repo.gc()
    assert list(repo.blocks.keys()) == [cids.multihash_of(root.cid)]


def test_removed_pin_lets_go(repo, pins):
    root, blocks = tree("pinned")
    repo.put_many(blocks)
    pins.add(root.cid)
    pins.remove(root.cid)
    assert pins.list() == []
    assert repo.gc().freed_count == len(blocks)


def test_removing_what_is_not_pinned_is_refused(repo, pins):
    root, blocks = tree("pinned")
    repo.put_many(blocks)
    pins.add(root.cid)
    with pytest.raises(NotPinned, match=cids.to_text(blocks[0].cid)):
        pins.remove(blocks[0].cid)


@pytest.mark.parametrize("missing", [0, 1, -2, -1])
def test_pin_of_an_incomplete_dag_names_the_missing_block_and_sets_nothing(repo, pins, missing):
    root, blocks = tree("partial")
    lost = blocks[missing]
    repo.put_many(block for block in blocks if block is not lost)
    with pytest.raises(BlockUnavailable) as caught:
        pins.add(root.cid)
    assert caught.value.cid == lost.cid
    assert pins.list() == []


def test_leaves_that_are_known_are_not_asked_for_and_all_others_are(repo, pins, monkeypatch):
    root, blocks = tree("known")
    repo.put_many(blocks)
    asked = []
    really = Repo.has
    monkeypatch.setattr(Repo, "has", lambda self, cid: asked.append(cid) or really(self, cid))
    pins.add(root.cid)
    leaves = list(asked)
    assert len(leaves) > 1
    asked.clear()
    pins.add(root.cid, known={cids.multihash_of(cid) for cid in leaves[1:]})
    assert asked == leaves[:1]


def test_a_known_leaf_does_not_hide_a_missing_one(repo, pins):
    root, blocks = tree("known")
    leaves = [block for block in blocks if cids.codec_of(block.cid) == cids.RAW]
    repo.put_many(block for block in blocks if block is not leaves[-1])
    with pytest.raises(BlockUnavailable) as caught:
        pins.add(root.cid, known={cids.multihash_of(leaf.cid) for leaf in leaves[:-1]})
    assert caught.value.cid == leaves[-1].cid
    assert pins.list() == []


def test_direct_pin_of_an_absent_block_is_refused(pins):
    with pytest.raises(BlockUnavailable):
        pins.add(leaf("absent").cid, recursive=False)
    assert pins.list() == []


def test_pin_of_a_damaged_dag_is_refused(repo, backend, pins):
    root, blocks = tree("damaged")
    repo.put_many(blocks)
    backend.blocks.damage(root.cid, b"rotten")
    with pytest.raises(BlockDamaged):
        pins.add(root.cid)
    assert pins.list() == []


def test_pinning_again_renames(repo, pins):
    repo.put(leaf("x"))
    pins.add(leaf("x").cid, name="old")
    pins.add(leaf("x").cid, name="new")
    assert pins.list() == [Pin(leaf("x").cid, True, "new")]


def test_recursive_pin_replaces_a_direct_one_but_not_the_other_way(repo, pins):
    root, blocks = tree("pinned")
    repo.put_many(blocks)
    pins.add(root.cid, recursive=False)
    pins.add(root.cid, recursive=True)
    with pytest.raises(PinnedRecursively, match="remove that pin first"):
        pins.add(root.cid, recursive=False)
    assert pins.get(root.cid) == Pin(root.cid, True, "")


def test_pins_of_one_block_under_two_cids_are_two_pins(repo, pins):
    block = pb("node")
    version_0 = cids.multihash_of(block.cid)
    repo.put(block)
    pins.add(block.cid)
    pins.add(version_0)
    pins.remove(block.cid)
    repo.gc()
    assert repo.has(version_0)


def test_pin_is_durable_when_add_and_remove_return(repo, backend, pins):
    repo.put_many([leaf("x"), leaf("y")])
    pins.add(leaf("x").cid)
    pins.add(leaf("y").cid)
    pins.remove(leaf("y").cid)
    backend.crash()
    again = Pins(Repo.in_memory(backend))
    assert [pin.cid for pin in again.list()] == [leaf("x").cid]


def test_name_has_a_limit(repo, pins):
    repo.put(leaf("x"))
    pins.add(leaf("x").cid, name="n" * 255)
    with pytest.raises(ValueError, match="255"):
        pins.add(leaf("x").cid, name="ü" * 128)
    assert pins.list()[0].name == "n" * 255


def test_gc_during_the_walk_takes_nothing_of_the_dag(repo, pins):
    """The window between the look at a block and the pin that keeps it."""
    children = [cbor(str(at), [leaf(str(at))]) for at in range(300)]
    root = cbor("root", children)
    leaves = [leaf(str(at)) for at in range(300)]
    repo.put_many([*leaves, *children, root, leaf("dead")])
    collected = []
    pins.add(root.cid, progress=lambda count: collected.append(repo.gc().freed_count))
    assert collected == [1, 0]
    assert all(present(repo, [*leaves, *children, root]))


def test_failed_pin_leaves_no_lease_behind(repo, pins):
    with pytest.raises(BlockUnavailable):
        pins.add(leaf("absent").cid)
    assert not repo.leases.is_any_open()


LEAVES = [leaf(str(at)) for at in range(4)]
NODES = [cbor("a", LEAVES[:2]), pb("b", LEAVES[1:3])]
TOP = cbor("top", NODES)
EVERY = [*LEAVES, *NODES, TOP]
CHILDREN = {TOP: NODES, NODES[0]: LEAVES[:2], NODES[1]: LEAVES[1:3]}


class PinMachine(RuleBasedStateMachine):
    """Pins, gc and new blocks in any order against sets."""

    @initialize()
    def start(self):
        self.backend = MemoryBackend()
        self.repo = Repo.in_memory(self.backend)
        self.pins = Pins(self.repo)
        self.here: set[int] = set()
        self.pinned: dict[int, bool] = {}

    def below(self, at: int) -> set[int]:
        return {at}.union(*(self.below(EVERY.index(b)) for b in CHILDREN.get(EVERY[at], [])))

    @rule(at=st.integers(0, len(EVERY) - 1))
    def put(self, at):
        self.repo.put(EVERY[at])
        self.here.add(at)

    @rule()
    def put_all(self):
        self.repo.put_many(EVERY)
        self.here = set(range(len(EVERY)))

    @rule(at=st.integers(0, len(EVERY) - 1), recursive=st.booleans())
    def add(self, at, recursive):
        needed = self.below(at) if recursive else {at}
        if not needed <= self.here:
            with pytest.raises(BlockUnavailable):
                self.pins.add(EVERY[at].cid, recursive=recursive)
        elif self.pinned.get(at) and not recursive:
            with pytest.raises(PinnedRecursively):
                self.pins.add(EVERY[at].cid, recursive=False)
        else:
            self.pins.add(EVERY[at].cid, recursive=recursive)
            self.pinned[at] = recursive

    @rule(at=st.integers(0, len(EVERY) - 1))
    def remove(self, at):
        if self.pinned.pop(at, None) is None:
            with pytest.raises(NotPinned):
                self.pins.remove(EVERY[at].cid)
        else:
            self.pins.remove(EVERY[at].cid)

    @rule()
    def gc(self):
        self.repo.gc()
        kept = (self.below(at) if recursive else {at} for at, recursive in self.pinned.items())
        self.here &= set().union(*kept)

    @rule()
    def reopen(self):
        self.repo.close()
        self.repo = Repo.in_memory(self.backend)
        self.pins = Pins(self.repo)

    @invariant()
    def store_is_the_model(self):
        assert {at for at, b in enumerate(EVERY) if self.repo.blocks.has(b.cid)} == self.here
        listed = {pin.cid: pin.recursive for pin in self.pins.list()}
        assert listed == {EVERY[at].cid: recursive for at, recursive in self.pinned.items()}


TestPinMachine = PinMachine.TestCase
TestPinMachine.settings = settings(max_examples=60, stateful_step_count=25)
