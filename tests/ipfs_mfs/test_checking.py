"""`check` finds every kind of damage and says whose it is."""

import random

import pytest

from blkdev.device import RamDevice
from blkdev.store import Store
from ipfs_mfs import checking
from ipld import cid as cids
from ipld import dirdag
from ipld.filedag import add_bytes
from ipld.nodes import Entry
from ipld.profile import UNIXFS_V1_2025
from mfs.roots import Roots
from pinning.pins import Pins
from repo.service import Repo

PROFILE = UNIXFS_V1_2025.with_options(
    chunk_size_bytes=512, max_file_links=4, hamt_threshold_bytes=400, hamt_fanout=8
)


def ignore(_):
    pass


class Shop:
    """A store in memory with one tree, held by a root, a snapshot and a pin."""

    def __init__(self):
        self.device = RamDevice(64 << 20)
        Store.format(self.device)
        self.open()
        rng = random.Random(4)
        files = {f"f{n:02}".encode(): rng.randbytes(5000) for n in range(40)}
        self.files = files
        entries = [Entry(name, *self.file(data)) for name, data in files.items()]
        big = dirdag.build(entries, PROFILE, self.repo.put)
        small = dirdag.build([Entry(b"x", *self.file(b"x" * 3000))], PROFILE, self.repo.put)
        top = dirdag.build(
            [Entry(b"big", big.cid, big.tsize), Entry(b"small", small.cid, small.tsize)],
            PROFILE,
            self.repo.put,
        )
        self.top, self.big, self.small = top.cid, big.cid, small.cid
        self.roots.create("album", UNIXFS_V1_2025, top.cid)
        self.roots.snapshot("album", "s")
        Pins(self.repo).add(small.cid)

    def open(self):
        self.store = Store.open(self.device, verify_reads=False)
        self.repo = Repo.open_blkdev(self.store)
        self.roots = Roots(self.repo)

    def file(self, data):
        link = add_bytes(data, PROFILE, self.repo.put)
        return link.cid, link.tsize

    def leaf_of(self, name):
        """CID of one leaf of a file of the big directory."""
        file = dirdag.lookup(self.big, name, self.repo.get)
        return next(
            cid for cid, _ in checking_walk(file.cid, self.repo) if cids.codec_of(cid) == cids.RAW
        )

    def lose(self, cid):
        self.repo.blocks.delete_many([cids.multihash_of(cid)])

    def damage(self, cid):
        """Flips a byte of the block on the device."""
        data = self.repo.get(cid)
        self.roots.close()
        self.repo.close()
        for page, content in self.device.pages.items():
            at = content.find(data[:64])
            if at >= 0:
                changed = bytearray(content)
                changed[at + 20] ^= 1
                self.device.pages[page] = bytes(changed)
        self.open()

    def check(self):
        return checking.check(self.store, self.repo, ignore)

    def damaged(self):
        """(name or path, CID) of what is damaged, without what the engine says itself."""
        return {
            (finding.where, finding.cid)
            for finding in self.check().findings
            if finding.severity == "damaged" and not finding.where.startswith("device")
        }


def checking_walk(cid, repo):
    from ipld.walk import walk

    return walk([cid], repo.get)


@pytest.fixture
def shop():
    return Shop()


def test_a_good_store_has_no_findings(shop):
    summary = shop.check()
    assert summary.findings == ()
    assert not summary.damaged
    assert summary.blocks == shop.store.stats().keys
    assert summary.roots == 3


def test_a_lost_leaf_is_named_with_every_path_that_needs_it(shop):
    leaf = shop.leaf_of(b"f07")
    shop.lose(leaf)
    text = cids.to_text(leaf)
    assert shop.damaged() == {("root album: big/f07", text), ("snapshot album@s: big/f07", text)}


def test_a_damaged_leaf_is_named_and_the_engine_names_its_place(shop):
    leaf = shop.leaf_of(b"f11")
    shop.damage(leaf)
    assert shop.damaged() == {
        ("root album: big/f11", cids.to_text(leaf)),
        ("snapshot album@s: big/f11", cids.to_text(leaf)),
    }
    assert any(finding.where.startswith("device offset") for finding in shop.check().findings)


def test_a_lost_shard_is_named_with_its_directory(shop):
    links = [cid for cid, _ in checking_walk(shop.big, shop.repo) if cid != shop.big]
    shard = next(
        cid
        for cid in links
        if cids.codec_of(cid) == cids.DAG_PB and dirdag.node_kind(cid, shop.repo.get) == "directory"
    )
    shop.lose(shard)
    wheres = {where for where, _ in shop.damaged()}
    assert wheres == {"root album: big", "snapshot album@s: big"}


def test_a_pin_that_needs_a_lost_block_is_named(shop):
    file = dirdag.lookup(shop.small, b"x", shop.repo.get)
    shop.lose(file.cid)
    wheres = {where for where, _ in shop.damaged()}
    assert wheres == {
        "root album: small/x",
        "snapshot album@s: small/x",
        f"pin {cids.to_text(shop.small)}: x",
    }


def test_a_lost_top_is_named_by_the_names_alone(shop):
    shop.lose(shop.top)
    assert {where for where, _ in shop.damaged()} == {"root album", "snapshot album@s"}


def test_lost_records_of_a_root_are_told_from_its_content(shop):
    records = shop.repo.refs.get("snapshot/album/s").links[1]
    shop.lose(records)
    wheres = {where for where, _ in shop.damaged()}
    assert wheres == {
        "root album (records of modes, times and names)",
        "snapshot album@s (records of modes, times and names)",
    }


def test_damage_that_nothing_refers_to_is_garbage_and_no_damage(shop):
    cid, _ = shop.file(random.Random(9).randbytes(400))
    shop.damage(cid)
    summary = shop.check()
    garbage = [finding for finding in summary.findings if finding.severity == "garbage"]
    assert [finding.cid for finding in garbage] == [cids.to_text(cid)]


def test_a_flood_of_damage_is_cut_short_and_says_so(shop, monkeypatch):
    monkeypatch.setattr(checking, "FINDINGS_PER_NAME_MAX", 5)
    for name in shop.files:
        shop.lose(shop.leaf_of(name))
    findings = shop.check().findings
    assert sum(finding.where.startswith("root album: ") for finding in findings) == 5
    assert any(finding.problem == "more is damaged below this name" for finding in findings)


def test_a_malformed_block_under_its_right_hash_is_damage_too(shop):
    from ipld.block import Block

    block = Block.build(b"\xff not dag-pb", cids.DAG_PB, UNIXFS_V1_2025)
    shop.repo.put(block)
    link = dirdag.build([Entry(b"odd", block.cid, 1)], PROFILE, shop.repo.put)
    shop.roots.create("odd", UNIXFS_V1_2025, link.cid)
    assert ("root odd: odd", cids.to_text(block.cid)) in shop.damaged()


@pytest.mark.parametrize("seed", range(15))
def test_any_lost_block_is_found_and_only_that(shop, seed):
    needed = [cid for cid, _ in checking_walk(shop.top, shop.repo)]
    lost = random.Random(seed).choice(needed)
    shop.lose(lost)
    found = shop.damaged()
    assert found
    assert {cid for _, cid in found} == {cids.to_text(lost)}
