"""Reading what a CID names: entries, bytes, trees, CAR files."""

import io

import pytest

from ipfs_mfs import content
from ipfs_mfs.errors import WrongKind
from ipld import cid as cids
from ipld import dagcbor, dirdag
from ipld.block import Block
from ipld.car import CarReader
from ipld.errors import NotADirectory, NotAFile, PathNotFound
from ipld.filedag import add_bytes, symlink
from ipld.nodes import Entry
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from ipld.unixfs import Attributes
from repo.errors import BlockNotFound
from repo.service import Repo

SMALL = UNIXFS_V1_2025.with_options(chunk_size_bytes=16, max_file_links=3)
TEXT = bytes(range(256)) * 3


class Builder:
    """A repository in memory and short ways to put things into it."""

    def __init__(self, profile=SMALL):
        self.repo = Repo.in_memory()
        self.profile = profile

    def file(self, data, attributes=None):
        link = add_bytes(data, self.profile, self.repo.put, attributes)
        return link.cid, link.tsize

    def symlink(self, target):
        link = symlink(target, self.profile, self.repo.put)
        return link.cid, link.tsize

    def directory(self, **entries):
        made = [Entry(name.encode(), *entry) for name, entry in entries.items()]
        link = dirdag.build(made, self.profile, self.repo.put)
        return link.cid, link.tsize

    def tree(self, cid):
        return list(content.tree(cid, self.repo.get, self.repo.view))

    def read(self, cid, offset=0, length=None):
        found = content.pieces(cid, self.repo.get, self.repo.view, offset, length)
        return b"".join(found)


@pytest.fixture(params=[SMALL, UNIXFS_V0_2015.with_options(chunk_size_bytes=16)], ids=["v1", "v0"])
def builder(request):
    return Builder(request.param)


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, None), (0, 0), (5, 1), (15, 2), (100, 600), (767, 9), (768, 1), (9999, 5)],
)
def test_any_range_of_a_file_is_read(builder, offset, length):
    cid, _ = builder.file(TEXT)
    end = None if length is None else offset + length
    assert builder.read(cid, offset, length) == TEXT[offset:end]


def test_large_pieces_are_split():
    builder = Builder(UNIXFS_V1_2025)
    cid, _ = builder.file(bytes(3 << 20))
    sizes = [
        len(piece) for piece in content.pieces(cid, builder.repo.get, builder.repo.view, 1, None)
    ]
    assert sum(sizes) == (3 << 20) - 1
    assert max(sizes) <= content.CAT_PIECE_BYTES


def test_the_content_of_a_directory_is_refused(builder):
    cid, _ = builder.directory()
    with pytest.raises(NotAFile):
        builder.read(cid)


def test_stat_says_kind_sizes_and_attributes(builder):
    cid, tsize = builder.file(TEXT, Attributes(0o640, (12, 5)))
    info = content.stat("x", cid, builder.repo.get)
    assert (info.kind, info.size_bytes, info.dag_size_bytes) == ("file", len(TEXT), tsize)
    assert (info.mode, info.mtime_ns) == (0o640, 12 * 10**9 + 5)
    directory, tsize = builder.directory(a=(cid, tsize))
    info = content.stat("x", directory, builder.repo.get)
    assert (info.kind, info.size_bytes, info.links) == ("directory", None, 1)
    assert (info.mode, info.mtime_ns) == (None, None)
    assert info.cid == cids.to_text(directory)


def test_entries_have_kinds_and_sizes_and_missing_blocks_are_named(builder):
    gone = cids.make(1, cids.DAG_PB, cids.multihash_of(builder.file(b"elsewhere" * 9)[0]))
    builder.repo.blocks.delete_many([cids.multihash_of(gone)])
    cid, _ = builder.directory(
        f=builder.file(TEXT), d=builder.directory(), s=builder.symlink(b"f"), gone=(gone, 1)
    )
    found = {
        entry.name: (entry.kind, entry.size_bytes)
        for entry in content.entries(cid, builder.repo.get)
    }
    assert found == {
        b"f": ("file", len(TEXT)),
        b"d": ("directory", None),
        b"s": ("symlink", None),
        b"gone": ("missing", None),
    }


def test_a_tree_comes_parents_first_with_content_behind_its_file(builder):
    inner = builder.directory(x=builder.file(b"12345" * 7), e=builder.file(b""))
    cid, _ = builder.directory(d=inner, s=builder.symlink(b"d/x"))
    items = builder.tree(cid)
    heads = [(item.path, item.kind) for item in items if item.data is None]
    assert heads[0] == (b"", "directory")
    assert set(heads[1:]) == {
        (b"d", "directory"),
        (b"d/x", "file"),
        (b"d/e", "file"),
        (b"s", "symlink"),
    }
    assert heads.index((b"d", "directory")) < heads.index((b"d/x", "file"))
    data = b"".join(item.data for item in items if item.path == b"d/x" and item.data)
    assert data == b"12345" * 7
    assert next(item.target for item in items if item.path == b"s") == b"d/x"


def test_a_tree_of_one_file_is_that_file(builder):
    cid, _ = builder.file(b"abc")
    assert [(item.path, item.kind, item.data) for item in builder.tree(cid)] == [
        (b"", "file", None),
        (b"", "file", b"abc"),
    ]


def test_a_very_deep_tree_is_walked_without_recursion(builder):
    link = builder.directory()
    for _ in range(1500):
        link = builder.directory(d=link)
    assert len(builder.tree(link[0])) == 1501


def test_a_path_is_followed_and_its_errors_are_typed(builder):
    file = builder.file(b"abc")
    cid, _ = builder.directory(d=builder.directory(x=file))
    assert content.find(cid, (b"d", b"x"), builder.repo.get) == file[0]
    with pytest.raises(PathNotFound):
        content.find(cid, (b"d", b"y"), builder.repo.get)
    with pytest.raises(NotADirectory):
        content.find(cid, (b"d", b"x", b"z"), builder.repo.get)


def test_a_value_inside_a_block_is_not_content(builder):
    block = Block.build(dagcbor.encode({"a": [1, 2]}), cids.DAG_CBOR, UNIXFS_V1_2025)
    builder.repo.put(block)
    with pytest.raises(WrongKind, match="a/1 is a value inside"):
        content.find(block.cid, (b"a", b"1"), builder.repo.get)
    with pytest.raises(WrongKind):
        builder.tree(block.cid)
    assert content.stat("x", block.cid, builder.repo.get).kind == "other"


def car_of(builder, cid, since=None):
    data = b"".join(content.car(cid, builder.repo.get, since))
    reader = CarReader(io.BytesIO(data).read)
    return reader.roots, {block.cid for block in reader}


def test_a_car_file_has_the_root_and_every_block_once(builder):
    same = builder.file(TEXT)
    cid, _ = builder.directory(a=same, b=same, c=builder.directory())
    roots, blocks = car_of(builder, cid)
    assert roots == (cid,)
    keys = {cids.multihash_of(each) for each in blocks}
    assert keys == set(builder.repo.blocks.keys())


def test_a_delta_has_only_the_blocks_that_the_other_dag_lacks(builder):
    old_file, kept = builder.file(TEXT), builder.file(b"kept" * 50)
    old, _ = builder.directory(a=old_file, k=kept)
    before = set(builder.repo.blocks.keys())
    new, _ = builder.directory(a=builder.file(TEXT + b"!"), k=kept)
    _, blocks = car_of(builder, new, since=old)
    assert blocks
    assert {cids.multihash_of(each) for each in blocks}.isdisjoint(before)
    assert kept[0] not in blocks


def test_a_dag_that_is_not_complete_is_named(builder):
    cid, _ = builder.directory(a=builder.file(TEXT))
    leaf = next(key for key in set(builder.repo.blocks.keys()) if key != cids.multihash_of(cid))
    builder.repo.blocks.delete_many([leaf])
    with pytest.raises(BlockNotFound):
        car_of(builder, cid)


def test_a_block_is_found_below_others(builder):
    inner = builder.file(TEXT)
    cid, _ = builder.directory(a=inner)
    other, _ = builder.directory()
    assert content.is_below(inner[0], [other, cid], builder.repo.get)
    assert not content.is_below(other, [cid], builder.repo.get)
