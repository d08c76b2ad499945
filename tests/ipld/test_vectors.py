"""Known CIDs: each case of cid_vectors.json is built from its description, byte for byte."""

import base64
import json
import re
from pathlib import Path

import pytest

from ipld import cid as cids
from ipld import dagcbor, dagpb, dirdag, filedag, multihash, unixfs
from ipld.block import Block
from ipld.dirdag import Entry
from ipld.filedag import FileLink
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from ipld.unixfs import Kind
from tests.ipld.memory import MemoryDag
from tests.ipld.vectorcase import (
    CASES,
    Tree,
    attributes_of,
    build_tree,
    found,
    parse_tree,
    profile_of,
)
from tests.vectors import streams

ALPHABET = b"abcdefghijklmnopqrstuvwxyz01234567890-_"
GATEWAY_TEXT = b"hello application/vnd.ipld.car\n"
LONG_NAME = (
    "long name to fill out bytes to make the sharded directory test flip over the sharded "
    "directory limit because link names are included in the directory entry "
)


def _file(content: bytes, profile, dag: MemoryDag, attributes=None) -> bytes:
    return filedag.add_bytes(content, profile, dag.put, attributes).cid


# ------------------------------------------------------------------------ files and trees


def _tree(case, dag):
    profile, attributes = profile_of(case["flags"]), attributes_of(case["flags"])
    return build_tree(parse_tree(case["what"]), profile, dag.put, attributes)[0]


def _named_directory(case, dag):
    """`dir {name}: {…}`: the name belongs to the parent, which is not asked for."""
    tree = parse_tree(case["what"].split(":", 1)[1])
    return build_tree(tree, profile_of(case["flags"]), dag.put)[0]


def _unquoted_file(case, dag):
    """Contents that the description gives by a rule."""
    contents = {
        'file "aoeuidhtns" x 200 (2000 B)': b"aoeuidhtns" * 200,
        "1000000 zero bytes": bytes(1_000_000),
        "45900000 zero bytes": bytes(45_900_000),
        "empty file": b"",
        "empty file with UnixFS 1.5 metadata": b"",
    }
    profile, attributes = profile_of(case["flags"]), attributes_of(case["flags"])
    return _file(contents[case["what"]], profile, dag, attributes)


def _shown_as_version_1(case, dag):
    return cids.to_v1(build_tree(parse_tree(case["what"]), UNIXFS_V0_2015, dag.put)[0])


def _stream(case, dag):
    size = int(found(r"(\d+) (?:deterministic|random) bytes", case["what"])[1])
    seed = found(r'seed="?([\w-]+)"?', case["how"])[1]
    make = streams.go_random_data if "random-data" in case["how"] else streams.chacha20
    return _file(make(seed, size), profile_of(case["flags"]), dag)


def _empty_directory(case, dag):
    profile, attributes = profile_of(case["flags"]), attributes_of(case["flags"])
    return dirdag.build((), profile, dag.put, attributes).cid


def _symlink(case, dag):
    target = found(r'-> "?([^" ]+)', case["what"])[1].encode()
    profile = profile_of(case["flags"])
    return filedag.symlink(target, profile, dag.put, attributes_of(case["flags"])).cid


def _tree_with_one_mode(case, dag):
    """The tree of Kubo's mode tests: every node below gets the same mode."""
    tree = parse_tree(
        '{dir1:{}, dir2:{sub1:{link1 -> ../sub2/file3, sub2:{file3:""}}},'
        ' dir3:{file2:""}, file1:""}'
    )
    return build_tree(tree, profile_of(case["flags"]), dag.put, attributes_of(case["flags"]))[0]


# ------------------------------------------------------------------------ directories


def _random_names(case, dag):
    """Names cut out of one stream; the last name may be shorter or longer than the others."""
    count = int(found(r"(\d+) files", case["what"])[1])
    size, last = map(int, found(r"read (\d+) bytes each \(last file (\d+)\)", case["how"]).groups())
    seed = found(r'seed "([^"]+)"', case["how"])[1]
    stream = streams.chacha20(seed, size * (count - 1) + last)
    names = bytes(ALPHABET[byte % len(ALPHABET)] for byte in stream)
    starts = range(0, size * count, size)
    contents = {
        names[at : at + (size if n < count - 1 else last)]: b"x" for n, at in enumerate(starts)
    }
    assert len(contents) == count
    return _directory(contents, profile_of(case["flags"]), dag)


def _directory(contents: dict[bytes, bytes], profile, dag, file_profile=None) -> bytes:
    entries = []
    for name, content in contents.items():
        link = filedag.add_bytes(content, file_profile or profile, dag.put)
        entries.append(Entry(name, link.cid, link.tsize))
    return dirdag.build(entries, profile, dag.put).cid


def _numbered_files(case, dag):
    first, last = found(r"(file\d+)\.\.(file\d+)", case["what"]).groups()
    width = len(first) - 4 if first.startswith("file0") else 0
    numbers = range(1, int(last[4:]) + 1)
    contents = {b"file%b" % str(n).zfill(width).encode(): b"%d\n" % n for n in numbers}
    threshold = {"off": 1 << 30, "forced": 1}
    setting = re.search(r"sharding (off|forced)", case["how"])
    profile = profile_of(case["flags"])
    if setting:
        profile = profile.with_options(hamt_threshold_bytes=threshold[setting[1]])
    return _directory(contents, profile, dag)


def _long_names(case, dag):
    names = [f"{LONG_NAME}{number}".encode() for number in range(1343)]
    return _directory({name: name for name in names}, profile_of(case["flags"]), dag)


def _files_with_odd_names(case, dag):
    text = "I am a txt file in confusing /{} dir\n"
    tree: dict[str, Tree] = {
        name: {"file.txt": text.format(name)} for name in ("ipfs", "ipns", "api")
    }
    tree["ą"] = {"ę": {"file-źł.txt": "I am a txt file on path with utf8\n"}}
    return build_tree(tree, profile_of(case["flags"]), dag.put)[0]


def _gateway_directory(case, dag):
    """A directory of the gateway conformance tests: a text in chunks of 256 bytes among others."""
    profile = profile_of(case["flags"])
    in_small_chunks = profile.with_options(chunk_size_bytes=256)
    text = (Path(__file__).parents[1] / "vectors/multiblock.txt").read_bytes()
    links = {
        b"ascii-copy.txt": filedag.add_bytes(GATEWAY_TEXT, profile, dag.put),
        b"ascii.txt": filedag.add_bytes(GATEWAY_TEXT, profile, dag.put),
        b"hello.txt": filedag.add_bytes(b"hello world\n", profile, dag.put),
        b"multiblock.txt": filedag.add_bytes(text, in_small_chunks, dag.put),
    }
    entries = [Entry(name, link.cid, link.tsize) for name, link in links.items()]
    return dirdag.build(entries, profile, dag.put).cid


# ------------------------------------------------------------- histories of `files write`


def _written_leaf(content: bytes, profile, dag) -> FileLink:
    """A leaf as Kubo's DagModifier writes it: of type Raw when it is dag-pb."""
    block, link = filedag.make_leaf(content, profile.with_options(layout="trickle"))
    dag.put(block)
    return link


def _written_file(leaves: list[FileLink], profile, dag) -> FileLink:
    """The root above written leaves; checked by reading it back."""
    record = unixfs.file(b"", [leaf.size for leaf in leaves])
    block = Block.build(
        dagpb.encode([(leaf.cid, b"", leaf.tsize) for leaf in leaves], unixfs.encode(record)),
        cids.DAG_PB,
        profile,
    )
    dag.put(block)
    tsize = len(block.data) + sum(leaf.tsize for leaf in leaves)
    return FileLink(block.cid, tsize, sum(leaf.size for leaf in leaves))


def _overwritten_file(profile, dag) -> FileLink:
    pieces = (b"ipfs is sup", b"er cool\n")
    root = _written_file([_written_leaf(piece, profile, dag) for piece in pieces], profile, dag)
    assert filedag.FileReader(root.cid, dag.get).read(0, 100) == b"ipfs is super cool\n"
    return root


def _truncated_file(profile, dag) -> FileLink:
    """Truncating to nothing leaves an empty first leaf, with an empty Data field when dag-pb."""
    if profile.raw_leaves:
        empty = _written_leaf(b"", profile, dag)
    else:
        data = dagpb.encode((), unixfs.encode(unixfs.Data(Kind.RAW, b"", 0)))
        empty = FileLink(dag.add(data, cids.DAG_PB, profile), len(data), 0)
    root = _written_file([empty, _written_leaf(b"fish\n", profile, dag)], profile, dag)
    assert filedag.FileReader(root.cid, dag.get).read(0, 100) == b"fish\n"
    return root


def _overwrite_history(case, dag):
    return _overwritten_file(_history_profile(case), dag).cid


def _truncate_history(case, dag):
    return _truncated_file(_history_profile(case), dag).cid


def _history_profile(case):
    flags = case["flags"].replace("--raw-leaves or ", "")
    return profile_of(flags)


def _cats_directory(profile, dag) -> Entry:
    """/cats after Kubo's file API test: a copied file, two written ones, empty directories."""
    below = dirdag.empty(profile, dag.put)
    for name in (b"a", b"is"):
        below = dirdag.build([Entry(name, *below)], profile, dag.put)
    copied = filedag.add_bytes(b"foo\n", profile, dag.put)
    walrus = _written_leaf(b"testing\n", profile, dag)
    if not profile.raw_leaves:
        walrus = _written_file([walrus], profile, dag)
    entries = [
        Entry(b"file1", *copied[:2]),
        Entry(b"ipfs", *_overwritten_file(profile, dag)[:2]),
        Entry(b"this", *below),
        Entry(b"walrus", *walrus[:2]),
    ]
    return Entry(b"cats", *dirdag.build(entries, profile, dag.put))


def _cats(case, dag):
    return _cats_directory(_history_profile(case), dag).cid


def _root_with_cats(case, dag):
    profile = _history_profile(case)
    return dirdag.build([_cats_directory(profile, dag)], profile, dag.put).cid


def _written_files_in_shards(case, dag):
    """100 files written one by one: version 0 files with a root above their only leaf."""
    profile = profile_of(case["flags"]).with_options(hamt_threshold_bytes=1)
    entries = []
    for number in range(1, 101):
        leaf = _written_leaf(b"%d\n" % number, UNIXFS_V0_2015, dag)
        link = _written_file([leaf], UNIXFS_V0_2015, dag)
        entries.append(Entry(b"file%d" % number, link.cid, link.tsize))
    return dirdag.build(entries, profile, dag.put).cid


# ------------------------------------------------------------------------------- blocks


def _identity(case, dag):
    return cids.make(1, cids.RAW, multihash.digest_multihash("identity", b"B" * 128))


def _truncated_digest(case, dag):
    function, size = found(r"--mhtype=(\w+) --mhlen=(\d+)", case["flags"]).groups()
    content = found(r'"(\w+)\\n"', case["what"])[1].encode() + b"\n"
    return cids.make(1, cids.RAW, multihash.digest_multihash(function, content, int(size)))


def _hex_block(case, dag):
    data = bytes.fromhex(found(r"hex ((?:[0-9a-f]{2,} ?)+)", case["what"])[1])
    codec = re.search(r"--cid-codec=(\S+)", case["flags"])
    codes = {"dag-pb": cids.DAG_PB, "dag-cbor": cids.DAG_CBOR}
    return dag.add(data, codes[codec[1]] if codec else cids.RAW, UNIXFS_V1_2025)


def _cbor_block(case, dag):
    data = base64.b64decode(case["what"].split()[-1])
    assert dagcbor.encode(dagcbor.decode(data)) == data
    return dag.add(data, cids.DAG_CBOR, UNIXFS_V1_2025)


def _json_block(case, dag):
    value = json.loads(case["what"].removeprefix("dag-json "))
    data = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    return dag.add(data, cids.DAG_JSON, UNIXFS_V1_2025)


def _cbor_object(case, dag):
    def link(text: bytes) -> dagcbor.Link:
        return dagcbor.Link(_file(text, UNIXFS_V0_2015, dag))

    value = {
        "hello": "world",
        "cats": [link(b"foo\n"), {"water": link(b"bar\n")}],
        "magic": link(b"baz\n"),
        "sub": {"dict": "ionary", "beep": [0, "bop"]},
    }
    return dag.add(dagcbor.encode(value), cids.DAG_CBOR, UNIXFS_V1_2025)


def _empty_block(case, dag):
    profile = UNIXFS_V1_2025 if "CIDv1" in case["flags"] else UNIXFS_V0_2015
    assert dagpb.decode(b"") == ([], None)
    return dag.add(dagpb.encode((), None), cids.DAG_PB, profile)


# ------------------------------------------------------------------------------ dispatch

BUILDERS = [
    (r"file \"base32 test", _shown_as_version_1),
    (r"file \"aoeuid|\d+ zero bytes|empty file", _unquoted_file),
    (r"file of \d+ deterministic|\d+ random bytes", _stream),
    (r"identity CID", _identity),
    (r"file \"", _tree),
    (r"dir \{saturn\}", _named_directory),
    (r"empty dir", _empty_directory),
    (r"symlink ->", _symlink),
    (r"same tree, names only", _tree_with_one_mode),
    (r"basic dir exactly|HAMT dir, threshold", _random_names),
    (r"dir of \d+ files file", _numbered_files),
    (r"dir of 1343 files", _long_names),
    (r"dir rootDir \{ipfs", _files_with_odd_names),
    (r"dir \{ascii-copy", _gateway_directory),
    (r"dir |same dir with symlinks", _tree),
    (r"ipfs files write \"ipfs rocks", _overwrite_history),
    (r"ipfs files write \"some content", _truncate_history),
    (r"MFS root", _root_with_cats),
    (r"MFS /cats", _cats),
    (r"MFS dir of 100|same, dir made by mkdir", _written_files_in_shards),
    (r"block \"", _truncated_digest),
    (r"block hex", _hex_block),
    (r"dag-cbor block", _cbor_block),
    (r"dag-json", _json_block),
    (r"object \{", _cbor_object),
    (r"empty dag-pb block", _empty_block),
]


def test_the_vector_file_is_complete():
    assert len(CASES) == 109


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['what'][:50]} {case['flags'][:30]}"
)
def test_building_the_input_gives_the_known_cid(case):
    build = next(build for pattern, build in BUILDERS if re.match(pattern, case["what"]))
    assert cids.to_text(build(case, MemoryDag())) == case["cid"]
