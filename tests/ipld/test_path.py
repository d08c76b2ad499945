"""Paths through every kind of node that has names, and how far they led when they fail."""

import pytest

from ipld import cid as cids
from ipld import dagcbor, dirdag, filedag, path
from ipld.dirdag import Entry
from ipld.errors import NotADirectory, PathNotFound
from ipld.profile import UNIXFS_V1_2025
from tests.ipld.memory import MemoryDag

SHARDED = UNIXFS_V1_2025.with_options(hamt_threshold_bytes=1, hamt_fanout=8)


@pytest.fixture
def tree():
    """/docs (HAMT, 40 files) · /link -> docs · /data (dag-cbor over a directory) · /raw"""
    dag = MemoryDag()

    def entry(name, link):
        return Entry(name, link.cid, link.tsize)

    files = [filedag.add_bytes(b"%d" % index, UNIXFS_V1_2025, dag.put) for index in range(40)]
    docs = dirdag.build(
        [entry(b"file%d" % index, link) for index, link in enumerate(files)], SHARDED, dag.put
    )
    value = {
        "docs": dagcbor.Link(docs.cid),
        "list": [1, {"deep": dagcbor.Link(docs.cid), "n": 7}, dagcbor.Link(files[0].cid)],
        "name": "text",
        "é": None,
    }
    data = dag.add(dagcbor.encode(value), cids.DAG_CBOR, UNIXFS_V1_2025)
    root = dirdag.build(
        [
            entry(b"docs", docs),
            entry(b"link", filedag.symlink(b"docs", UNIXFS_V1_2025, dag.put)),
            Entry(b"data", data, 1),
            entry(b"raw", files[0]),
            entry(b"\xff not utf-8", files[1]),
        ],
        UNIXFS_V1_2025,
        dag.put,
    )
    return dag, root.cid, files, data, value


def resolve(tree, text: bytes):
    segments = [part for part in text.split(b"/") if part]
    return path.resolve(tree[1], segments, tree[0].get)


def test_empty_path_is_the_root_and_reads_nothing(tree):
    tree[0].reset_counts()
    assert resolve(tree, b"") == (tree[1], None, (), None)
    assert not tree[0].gets


@pytest.mark.parametrize("index", range(0, 40, 7))
def test_names_resolve_through_plain_directory_and_shards(tree, index):
    found = resolve(tree, b"docs/file%d" % index)
    assert found.cid == tree[2][index].cid
    assert found.entry == Entry(b"file%d" % index, found.cid, tree[2][index].tsize)


def test_names_are_bytes(tree):
    assert resolve(tree, b"\xff not utf-8").cid == tree[2][1].cid


def test_values_inside_a_map_or_list_resolve_to_their_block_and_place(tree):
    data, value = tree[3], tree[4]
    assert resolve(tree, b"data").value is None
    assert resolve(tree, b"data/name") == (data, None, (b"name",), "text")
    assert resolve(tree, b"data/list/1/n") == (data, None, (b"list", b"1", b"n"), 7)
    assert resolve(tree, b"data/list").value == value["list"]
    assert resolve(tree, "data/é".encode()).inside == ("é".encode(),)


def test_links_lead_from_data_into_directories(tree):
    assert resolve(tree, b"data/docs/file3").cid == tree[2][3].cid
    assert resolve(tree, b"data/list/1/deep/file4").cid == tree[2][4].cid
    assert resolve(tree, b"data/list/2") == (tree[2][0].cid, None, (), None)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (b"absent", PathNotFound, "no absent in the root"),
        (b"docs/absent", PathNotFound, "no absent in docs"),
        (b"data/absent", PathNotFound, "no absent in data"),
        (b"data/list/3", PathNotFound, "no item 3 in data/list"),
        (b"data/list/-1", PathNotFound, "no index"),
        (b"data/list/01", PathNotFound, "no index"),
        (b"data/list/1_0", PathNotFound, "no index"),
        ("data/list/²".encode(), PathNotFound, "no index"),
        ("data/list/\N{ARABIC-INDIC DIGIT ONE}".encode(), PathNotFound, "no index"),
        (b"data/list/" + b"9" * 5000, PathNotFound, "no index"),
        (b"data/\xff", PathNotFound, r"no \\xff in data"),
        (b"raw/x", NotADirectory, "raw has no names"),
        (b"link/x", NotADirectory, "link is not a directory"),
        (b"data/name/x", NotADirectory, "data/name has no names"),
        (b"data/list/0/x", NotADirectory, "data/list/0 has no names"),
    ],
)
def test_paths_that_lead_nowhere_say_where_they_ended(tree, text, error, message):
    with pytest.raises(error, match=message):
        resolve(tree, text)


def test_root_without_names_is_named_as_such(tree):
    with pytest.raises(NotADirectory, match="the root"):
        path.resolve(tree[2][0].cid, [b"x"], tree[0].get)


def test_only_blocks_of_the_path_are_read(tree):
    tree[0].reset_counts()
    resolve(tree, b"docs/file3")
    assert tree[0].gets[0] == tree[1]
    assert len(tree[0].gets) <= 5
