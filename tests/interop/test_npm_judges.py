"""The JavaScript implementation reads what we write, and we read what it writes."""

import base64
import hashlib
import json
from pathlib import Path

import pytest

from ipld import cid as cids
from ipld import dirdag, filedag, walk
from ipld.block import Block
from ipld.car import CarReader, write_car, write_car_v2
from ipld.dirdag import Entry
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from tests.interop.judges import run_node
from tests.ipld.memory import MemoryDag

pytestmark = pytest.mark.needs_node

HERE = Path(__file__).parent
PROFILES = {"unixfs-v0-2015": UNIXFS_V0_2015, "unixfs-v1-2025": UNIXFS_V1_2025}


def pattern(size: int) -> bytes:
    """Bytes without a period that a chunk size could hide."""
    return hashlib.shake_128(b"pattern").digest(size)


def add_tree(files: dict[str, bytes], profile, dag: MemoryDag) -> dirdag.DirLink:
    """One directory of these files; a "/" in a name makes sub-directories."""
    below: dict[str, dict[str, bytes]] = {}
    entries = []
    for name, content in files.items():
        first, slash, rest = name.partition("/")
        if slash:
            below.setdefault(first, {})[rest] = content
        else:
            file = filedag.add_bytes(content, profile, dag.put)
            entries.append(Entry(name.encode(), file.cid, file.tsize))
    for name, content_below in below.items():
        link = add_tree(content_below, profile, dag)
        entries.append(Entry(name.encode(), link.cid, link.tsize))
    return dirdag.build(entries, profile, dag.put)


def blocks_of(root: bytes, dag: MemoryDag):
    return (Block.verify(cid, data) for cid, data in walk.walk([root], dag.get))


@pytest.mark.parametrize("version", [1, 2])
def test_exporter_reads_our_car_with_a_large_hamt_and_a_trickle_file(tmp_path, version):
    dag = MemoryDag()
    sharded = UNIXFS_V0_2015.with_options(hamt_threshold_bytes=1)
    trickle = UNIXFS_V1_2025.with_options(
        layout="trickle", chunk_size_bytes=1 << 10, max_file_links=16
    )
    files = {f"file{index}": b"%d\n" % index for index in range(2000)}
    many = add_tree(files, sharded, dag)
    content = pattern(3_000_001)
    large = filedag.add_bytes(content, trickle, dag.put)
    entries = [Entry(b"large", large.cid, large.tsize), Entry(b"many", many.cid, many.tsize)]
    root = dirdag.build(entries, UNIXFS_V1_2025, dag.put)

    path = tmp_path / "tree.car"
    with path.open("wb") as target:
        if version == 1:
            write_car([root.cid], blocks_of(root.cid, dag), target.write)
        else:
            write_car_v2([root.cid], blocks_of(root.cid, dag), target)
    seen = json.loads(run_node(HERE / "read_car.mjs", path))

    text = cids.to_text(root.cid)
    expected = {f"{text}/many/{name}": content for name, content in files.items()}
    expected[f"{text}/large"] = content
    assert seen["roots"] == [text]
    assert seen["bad"] == 0
    assert seen["blocks"] == len(list(walk.walk([root.cid], dag.get)))
    assert seen["files"] == {
        name: hashlib.sha256(content).hexdigest() for name, content in expected.items()
    }


@pytest.mark.parametrize("profile_name", PROFILES)
def test_importer_gives_our_cid_and_its_car_our_blocks(tmp_path, profile_name):
    """Chunk borders, an inner file node, a nested directory and a HAMT by size."""
    chunk = PROFILES[profile_name].chunk_size_bytes
    files = {f"many/{index:040d}": b"%d" % index for index in range(4000)}
    files |= {
        "empty": b"",
        "one chunk": pattern(chunk),
        "one chunk and a byte": pattern(chunk + 1),
        "deep/er/ü.txt": b"text",
    }
    path = tmp_path / "tree.car"
    encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
    printed = run_node(
        HERE / "import_tree.mjs", profile_name, path, stdin=json.dumps(encoded).encode()
    )

    dag = MemoryDag()
    root = add_tree(files, PROFILES[profile_name], dag)
    assert printed.decode().strip() == cids.to_text(root.cid)
    with path.open("rb") as source:
        reader = CarReader(source.read)
        assert reader.roots == (root.cid,)
        read = {block.cid: bytes(block.data) for block in reader}
    # It keeps blocks of stages that it threw away, such as a HAMT before its last entry.
    assert dict(walk.walk([root.cid], read.__getitem__)).keys() <= read.keys()
    assert {cid: read[cid] for cid in dag.blocks} == dag.blocks
