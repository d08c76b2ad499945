"""Roots and trees made from a CID: read as needed, numbered for good, never changed by reading."""

import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipld import cid as cids
from ipld import dagcbor, dirdag, filedag
from ipld import multihash as multihashes
from ipld.block import Block
from ipld.dirdag import Entry
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from ipld.unixfs import Attributes
from mfs.errors import InvalidArgument, NotARoot, ReadOnlyTree
from mfs.node import ROOT_INO
from repo.errors import BlockUnavailable
from tests.mfs.worlds import TINY, TINY_V0, Model, World, content, make_file, model_cid, read_tree


def import_model(world, model, profile):
    """Store a model's DAG as an import does; returns its link."""
    entries = []
    for name, item in model.items():
        if isinstance(item, dict):
            link = import_model(world, item, profile)
        elif isinstance(item, str):
            link = filedag.symlink(item.encode(), profile, world.repo.put)
        else:
            link = filedag.add_bytes(item, profile, world.repo.put)
        entries.append(Entry(name, link.cid, link.tsize))
    return dirdag.build(entries, profile, world.repo.put)


MODEL: Model = {
    b"file": b"content " * 20,
    b"empty": b"",
    b"link": "dir/inner",
    b"dir": {b"inner": b"x" * 100, b"deep": {b"er": b"y"}, b"none": {}},
    **{b"many-%02d" % index: b"%d" % index for index in range(30)},
}


@pytest.fixture(params=[TINY, TINY_V0, UNIXFS_V1_2025], ids=lambda profile: profile.name)
def imported(request):
    world = World(TINY)
    cid = import_model(world, MODEL, request.param).cid
    world.roots.create("from-cid", TINY, cid=cid, uid=5, gid=6)
    return world, cid, request.param


def test_a_root_from_a_cid_shows_what_the_dag_holds(imported):
    world, cid, _ = imported
    tree = world.roots.tree("from-cid")
    assert read_tree(tree) == MODEL
    assert tree.cid_of(ROOT_INO) == cid
    found = tree.getattr(tree.lookup(ROOT_INO, b"file").ino)
    assert (found.uid, found.gid, found.mode) == (5, 6, stat.S_IFREG | 0o644)


def test_opening_reads_a_constant_number_of_blocks(imported):
    world, cid, _ = imported
    asked = []
    get = world.repo.get
    world.repo.get = lambda cid: asked.append(cid) or get(cid)
    world.roots.create("second", TINY, cid=cid)
    tree = world.roots.tree("second")
    tree.getattr(ROOT_INO)
    assert len(set(asked)) <= 2
    tree.lookup(ROOT_INO, b"file")
    assert len(set(asked)) <= 6


def test_reading_changes_no_cid_and_numbers_stay(imported):
    world, cid, _ = imported
    tree = world.roots.tree("from-cid")
    numbers = {name: ino for name, ino, _ in tree.readdir(ROOT_INO)}
    read_tree(tree)
    assert tree.sync() == cid
    world.reopen()
    tree = world.roots.tree("from-cid")
    assert {name: ino for name, ino, _ in tree.readdir(ROOT_INO)} == numbers
    assert read_tree(tree) == MODEL
    assert tree.sync() == cid


def test_a_lookup_alone_is_remembered(imported):
    world, cid, _ = imported
    tree = world.roots.tree("from-cid")
    directory = tree.lookup(ROOT_INO, b"dir").ino
    inner = tree.lookup(directory, b"inner").ino
    assert tree.sync() == cid
    world.reopen()
    tree = world.roots.tree("from-cid")
    assert (tree.lookup(ROOT_INO, b"dir").ino, tree.lookup(directory, b"inner").ino) == (
        directory,
        inner,
    )
    assert read_tree(tree) == MODEL


def test_a_change_rebuilds_what_it_touches_under_the_profile_of_the_root(imported):
    world, _, profile = imported
    tree = world.roots.tree("from-cid")
    directory = tree.lookup(ROOT_INO, b"dir").ino
    inner = tree.lookup(directory, b"inner").ino
    tree.write(inner, 50, b"changed")
    tree.unlink(ROOT_INO, b"many-07")
    expected = {name: item for name, item in MODEL.items() if name != b"many-07"}
    changed = b"x" * 50 + b"changed" + b"x" * 43
    expected[b"dir"] = {**MODEL[b"dir"], b"inner": changed}
    cid = tree.sync()
    assert read_tree(tree) == expected
    if profile is TINY:
        assert cid == model_cid(expected, TINY)
    world.reopen()
    tree = world.roots.tree("from-cid")
    assert read_tree(tree) == expected
    # What was not touched keeps its CID, of whatever profile it is.
    was = filedag.add_bytes(MODEL[b"file"], profile, world.repo.put).cid
    assert tree.cid_of(tree.lookup(ROOT_INO, b"file").ino) == was


steps = st.lists(
    st.tuples(
        st.sampled_from(["lookup", "remove", "make", "list", "sync", "crash", "write"]),
        st.sampled_from([*[*MODEL][:8], b"new-1", b"new-2"]),
    ),
    max_size=14,
)


@pytest.mark.slow
@given(steps)
@settings(max_examples=100)
def test_lazy_directories_behave_as_complete_ones(history):
    world = World(TINY)
    flat = {name: item for name, item in MODEL.items() if isinstance(item, bytes)}
    cid = import_model(world, flat, TINY).cid
    world.roots.create("lazy", TINY, cid=cid)
    tree, model, durable = world.roots.tree("lazy"), dict(flat), dict(flat)
    for step, name in history:
        if step == "lookup" and name in model:
            tree.lookup(ROOT_INO, name)
        elif step == "remove" and name in model:
            tree.unlink(ROOT_INO, name)
            del model[name]
        elif step == "make" and name not in model:
            make_file(tree, name, b"made")
            model[name] = b"made"
        elif step == "write" and name in model:
            tree.write(tree.lookup(ROOT_INO, name).ino, 0, b"W" * 20)
            model[name] = b"W" * 20 + model[name][20:]
        elif step == "list":
            assert [entry[0] for entry in tree.readdir(ROOT_INO)] == sorted(model)
        elif step == "sync":
            assert tree.sync() == model_cid(model, TINY)
            durable = dict(model)
        elif step == "crash":
            tree.fsync(ROOT_INO)
            durable = dict(model)
            world.crash()
            tree = world.roots.tree("lazy")
    assert read_tree(tree) == model
    assert tree.sync() == model_cid(model, TINY)
    assert durable is not None


def test_unixfs_modes_and_times_are_shown():
    world = World(TINY)
    attributes = Attributes(0o751, (1_600_000_000, 123))
    link = filedag.add_bytes(b"data", UNIXFS_V1_2025, world.repo.put, attributes)
    top = dirdag.build(
        [Entry(b"f", link.cid, link.tsize)], UNIXFS_V1_2025, world.repo.put, attributes
    )
    tree = world.roots.cid_tree(top.cid)
    found = tree.lookup(ROOT_INO, b"f")
    assert found.mode == stat.S_IFREG | 0o751
    assert found.mtime_ns == 1_600_000_000_000_000_123
    world.roots.create("copy", UNIXFS_V1_2025, cid=top.cid)
    tree = world.roots.tree("copy")
    assert content(tree, tree.lookup(ROOT_INO, b"f").ino) == b"data"
    assert tree.sync() == top.cid
    tree.write(tree.lookup(ROOT_INO, b"f").ino, 0, b"DATA")
    assert tree.sync() == model_cid({b"f": b"DATA"}, UNIXFS_V1_2025)


def test_a_codec_without_files_is_shown_as_its_bytes():
    world = World(TINY)
    data = dagcbor.encode({"some": "record"})
    block = Block(cids.make(1, cids.DAG_CBOR, multihashes.digest_multihash(0x12, data)), data)
    world.repo.put(block)
    top = dirdag.build([Entry(b"record", block.cid, len(data))], TINY, world.repo.put)
    world.roots.create("copy", TINY, cid=top.cid)
    tree = world.roots.tree("copy")
    ino = tree.lookup(ROOT_INO, b"record").ino
    assert tree.getattr(ino).size == len(data)
    assert content(tree, ino) == data
    assert tree.sync() == top.cid
    tree.write(ino, 0, b"!")
    assert tree.cid_of(ino) == model_link_cid(b"!" + data[1:])


def model_link_cid(data):
    return filedag.add_bytes(data, TINY, lambda _block: None).cid


def test_names_that_no_file_system_can_show_are_hidden_and_kept():
    world = World(TINY)
    link = filedag.add_bytes(b"data", TINY, world.repo.put)
    names = [b"good", b"..", b"with/slash", b"n" * 300, b"nul\0"]
    top = dirdag.build([Entry(name, link.cid, link.tsize) for name in names], TINY, world.repo.put)
    world.roots.create("copy", TINY, cid=top.cid)
    tree = world.roots.tree("copy")
    assert [name for name, _, _ in tree.readdir(ROOT_INO)] == [b"good"]
    make_file(tree, b"more", b"data")
    kept = {entry.name for entry in dirdag.entries(tree.sync(), world.repo.get)}
    assert kept == {*names, b"more"}


def test_what_is_not_a_directory_is_no_root():
    world = World(TINY)
    link = filedag.add_bytes(b"data", TINY, world.repo.put)
    with pytest.raises(NotARoot):
        world.roots.create("x", TINY, cid=link.cid)
    with pytest.raises(NotARoot):
        world.roots.cid_tree(link.cid)
    assert [root.name for root in world.roots.list()] == ["main"]


def test_a_block_that_is_missing_is_an_error_for_those_who_need_it():
    world = World(TINY)
    held = filedag.add_bytes(b"here", TINY, world.repo.put)
    far = filedag.add_bytes(b"far away" * 10, TINY_V0, lambda _block: None)
    top = dirdag.build(
        [Entry(b"here", held.cid, held.tsize), Entry(b"far", far.cid, far.tsize)],
        TINY,
        world.repo.put,
    )
    world.roots.create("part", TINY, cid=top.cid)
    tree = world.roots.tree("part")
    with pytest.raises(BlockUnavailable):
        tree.lookup(ROOT_INO, b"far")
    assert [name for name, _, _ in tree.readdir(ROOT_INO)] == [b"far", b"here"]
    assert content(tree, tree.lookup(ROOT_INO, b"here").ino) == b"here"
    make_file(tree, b"new", b"data")
    assert tree.sync()
    filedag.add_bytes(b"far away" * 10, TINY_V0, world.repo.put)
    assert content(tree, tree.lookup(ROOT_INO, b"far").ino) == b"far away" * 10


def test_a_raw_leaf_that_is_missing_can_be_listed_and_its_size_seen():
    world = World(UNIXFS_V1_2025)
    far = filedag.add_bytes(b"far away", UNIXFS_V1_2025, lambda _block: None)
    top = dirdag.build([Entry(b"far", far.cid, far.tsize)], UNIXFS_V1_2025, world.repo.put)
    tree = world.roots.cid_tree(top.cid)
    ino = tree.lookup(ROOT_INO, b"far").ino
    assert tree.getattr(ino).size == 8
    with pytest.raises(BlockUnavailable):
        tree.read(ino, 0, 8)


# ----------------------------------------------------------------------- read-only trees


@pytest.mark.parametrize("profile", [UNIXFS_V0_2015, UNIXFS_V1_2025, TINY], ids=str)
def test_a_tree_of_a_cid_can_be_read_and_not_changed(profile):
    world = World(TINY)
    cid = import_model(world, MODEL, profile).cid
    tree = world.roots.cid_tree(cid)
    assert tree.read_only
    assert read_tree(tree) == MODEL
    assert tree.cid_of(ROOT_INO) == cid
    assert tree.sync() == cid
    ino = tree.lookup(ROOT_INO, b"file").ino
    tree.open(ino)
    changes = [
        lambda: tree.create(ROOT_INO, b"x", 0o644, 0, 0),
        lambda: tree.mkdir(ROOT_INO, b"x", 0o755, 0, 0),
        lambda: tree.symlink(ROOT_INO, b"x", b"y", 0, 0),
        lambda: tree.mknod(ROOT_INO, b"x", stat.S_IFIFO, 0, 0, 0),
        lambda: tree.link(ino, ROOT_INO, b"x"),
        lambda: tree.unlink(ROOT_INO, b"file"),
        lambda: tree.rmdir(ROOT_INO, b"dir"),
        lambda: tree.rename(ROOT_INO, b"file", ROOT_INO, b"x"),
        lambda: tree.write(ino, 0, b"x"),
        lambda: tree.write(ino, 0, bytes(3 << 20)),
        lambda: tree.setattr(ino, size=0),
        lambda: tree.setattr(ino, mode=0),
        lambda: tree.setxattr(ino, b"user.x", b"y"),
        lambda: tree.removexattr(ino, b"user.x"),
    ]
    for change in changes:
        with pytest.raises(ReadOnlyTree):
            change()
    tree.fsync(ino)
    tree.release(ino)
    with pytest.raises(InvalidArgument):
        tree.readlink(ino)
    assert read_tree(tree) == MODEL


def test_gc_spares_a_tree_of_a_cid_until_it_is_closed():
    world = World(TINY)
    cid = import_model(world, MODEL, TINY).cid
    tree = world.roots.cid_tree(cid)
    assert world.repo.gc().freed_count == 0
    assert read_tree(tree) == MODEL
    tree.close()
    tree.close()
    assert world.repo.gc().freed_count > 10


def test_what_a_crashed_process_had_open_is_garbage_after_a_restart():
    world = World(TINY)
    world.roots.cid_tree(import_model(world, MODEL, TINY).cid)
    world.repo.commit()
    world.crash()
    assert world.repo.gc().freed_count > 10
