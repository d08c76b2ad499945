"""Trees on the real engine: power is cut after every event of the device, in every way it can be.

Each image that a cut may leave is opened, and must show the tree as it was at one moment: not
before the last acknowledged fsync or sync, and not after the operation that was going on.
"""

import random

import pytest

from blkdev.device import RamDevice
from blkdev.errors import StoreFull
from blkdev.store import Store
from ipld.profile import UNIXFS_V1_2025
from mfs.errors import NoSpace
from mfs.node import ROOT_INO
from mfs.roots import Roots
from repo.service import Repo
from tests.crash.enumeration import cuts
from tests.mfs.test_durability import story
from tests.mfs.worlds import TINY, Clock, content, make_file, model_cid, read_tree

SIZE_BYTES = 64 << 20
SEGMENT_SIZE_BYTES = 4 << 20


class EngineWorld:
    """As `worlds.World`, on a device in memory."""

    def __init__(self, device, clock=None):
        self.device = device
        self.clock = clock or Clock()
        self.store = Store.open(device)
        self.repo = Repo.open_blkdev(self.store)
        self.roots = Roots(self.repo, self.clock)

    @property
    def tree(self):
        return self.roots.tree("main")

    def close(self):
        self.roots.close()
        self.repo.close()


@pytest.fixture
def formatted():
    """Pages of a store with an empty root."""
    device = RamDevice(SIZE_BYTES)
    Store.format(device, segment_size_bytes=SEGMENT_SIZE_BYTES)
    world = EngineWorld(device)
    world.roots.create("main", TINY, uid=0, gid=0)
    world.close()
    return device.pages


def test_after_a_cut_at_any_event_of_the_device_the_tree_is_as_at_one_moment(formatted):
    device = RamDevice(SIZE_BYTES, pages=dict(formatted), record=True)
    world = EngineWorld(device)
    states = [{}]
    marks = [(len(device.events), 0)]
    acknowledged_last = 0

    def note(durable=False):
        nonlocal acknowledged_last
        states.append(read_tree(world.tree))
        if durable:
            acknowledged_last = len(states) - 1
        marks.append((len(device.events), acknowledged_last))

    story(world, note)
    generator = random.Random(1)
    judged = 0
    for event_count in range(len(device.events) + 1):
        # Marks are noted after an operation: the one that the cut fell into is the next of them.
        done = [at for at, (events, _) in enumerate(marks) if events <= event_count]
        acknowledged = marks[done[-1]][1] if done else 0
        begun = min(len(states) - 1, (done[-1] if done else 0) + 1)
        for pages in cuts(formatted, device.events, event_count, generator, torn=1):
            cut = EngineWorld(RamDevice(SIZE_BYTES, pages=pages), Clock())
            seen = read_tree(cut.tree)
            assert seen in states[acknowledged : begun + 1], event_count
            assert cut.tree.sync() == model_cid(seen, TINY)
            judged += 1
    assert judged > 50


def test_a_tree_on_the_engine_survives_restarts(formatted):
    device = RamDevice(SIZE_BYTES, pages=dict(formatted))
    world = EngineWorld(device)
    world.roots.create("real", UNIXFS_V1_2025)
    tree = world.roots.tree("real")
    data = random.Random(3).randbytes(3_500_000)
    ino = make_file(tree, b"file", data)
    tree.write(ino, 1_000_000, b"across" * 20_000)
    changed = bytearray(data)
    changed[1_000_000:1_120_000] = b"across" * 20_000
    world.roots.snapshot("real", "s")
    tree.setattr(ino, size=2_000_000)
    tree.fsync(ino)
    # Killed: nothing is closed.
    world = EngineWorld(RamDevice(SIZE_BYTES, pages=dict(device.pages)))
    tree = world.roots.tree("real")
    assert content(tree, ino) == changed[:2_000_000]
    assert content(world.roots.snapshot_tree("real", "s"), ino) == changed
    assert tree.sync() == model_cid({b"file": bytes(changed[:2_000_000])}, UNIXFS_V1_2025)
    assert world.repo.gc().missing_count == 0
    world.close()
    world = EngineWorld(RamDevice(SIZE_BYTES, pages=dict(world.device.pages)))
    assert content(world.roots.tree("real"), ino) == changed[:2_000_000]
    assert not world.store.check().findings


def test_a_device_that_is_full_says_so_and_deleting_helps(formatted):
    world = EngineWorld(RamDevice(SIZE_BYTES, pages=dict(formatted)))
    world.roots.create("real", UNIXFS_V1_2025)
    tree = world.roots.tree("real")
    generator = random.Random(4)
    kept = {}
    for round_number in range(3):
        count = len(kept)
        while True:
            name = b"%d-%d" % (round_number, len(kept))
            ino = make_file(tree, name)
            data = generator.randbytes(200_000)
            try:
                tree.write(ino, 0, data)
            except NoSpace:
                tree.unlink(ROOT_INO, name)
                break
            kept[name] = data
        assert len(kept) - count >= 5
        tree.sync()
        for name in [*kept][: len(kept) // 2]:
            tree.unlink(ROOT_INO, name)
            del kept[name]
        tree.sync()
        world.repo.gc()
        assert read_tree(tree) == kept


@pytest.mark.allow_logs("batch .* of its journal is lost")
@pytest.mark.parametrize("hit", range(4))
def test_damaged_batch_costs_what_was_synced_since_and_never_leaves_a_mix(formatted, hit):
    """After a repair the root opens as it was at the fsync before the damaged batch."""
    device = RamDevice(SIZE_BYTES, pages=dict(formatted))
    world = EngineWorld(device)
    states = [read_tree(world.tree)]
    for number in range(4):
        folder = world.tree.mkdir(ROOT_INO, b"folder %d" % number, 0o755, 0, 0).ino
        ino = make_file(world.tree, b"file", b"content %d" % number, folder)
        world.tree.fsync(ino)
        states.append(read_tree(world.tree))
    world.store.put_many([(b"k" * 34, b"so that the last batch is known to be durable")])
    world.store.commit()
    store = Store.open(device)
    ((stream, state),) = store._catalog.streams.items()
    location = sorted(state.records.items())[hit][1]
    offset = store._volume.device_offset(location) + 24 + 8 + 30
    page = bytearray(device.pages[offset // 4096])
    page[offset % 4096] ^= 1
    device.pages[offset // 4096] = bytes(page)
    store = Store.open(device)
    report = store.repair()
    assert [(f.lost, int.from_bytes(f.key, "little")) for f in report.lost] == [
        ("journal record", stream)
    ]
    store.close()
    again = EngineWorld(device)
    assert read_tree(again.tree) == states[hit]
    make_file(again.tree, b"new", b"life")
    again.close()
    again = EngineWorld(device)
    assert read_tree(again.tree).keys() == states[hit].keys() | {b"new"}


def test_batch_after_one_that_failed_is_not_taken_for_one_after_a_lost_one(formatted, monkeypatch):
    device = RamDevice(SIZE_BYTES, pages=dict(formatted))
    world = EngineWorld(device)
    first = make_file(world.tree, b"first", b"1")
    world.tree.fsync(first)
    second = make_file(world.tree, b"second", b"2")
    with monkeypatch.context() as patched:
        patched.setattr("blkdev.ledger.JournalStream.append", full)
        with pytest.raises(NoSpace):
            world.tree.fsync(second)
    third = make_file(world.tree, b"third", b"3")
    world.tree.fsync(third)
    state = read_tree(world.tree)
    assert read_tree(EngineWorld(RamDevice(SIZE_BYTES, pages=dict(device.pages))).tree) == state


def full(self, record):
    raise StoreFull("memory")
