"""Kubo imports our CAR files and serves what is in them; what it exports is what we would write."""

import hashlib
import io

import pytest

from ipld import cid as cids
from ipld import dirdag, filedag, walk
from ipld.block import Block
from ipld.car import CarReader, write_car, write_car_v2
from ipld.dirdag import Entry
from ipld.profile import UNIXFS_V1_2025
from tests.interop.test_kubo_add import Kubo
from tests.ipld.memory import MemoryDag

pytestmark = pytest.mark.needs_peers

PROFILE = UNIXFS_V1_2025.with_options(
    chunk_size_bytes=1000, max_file_links=4, hamt_threshold_bytes=2000, hamt_fanout=8, inline=True
)
CONTENT = hashlib.shake_128(b"content").digest(50_001)


@pytest.fixture(scope="module")
def kubo(tmp_path_factory) -> Kubo:
    return Kubo(tmp_path_factory.mktemp("repo"), "unixfs-v1-2025")


def make_tree(dag: MemoryDag) -> bytes:
    """A HAMT of 300 files, some inline, beside a file of three levels and a symlink."""
    files = {b"%d" % index: b"content of %d" % index * (index % 5) for index in range(300)}
    entries = [
        Entry(name, *filedag.add_bytes(content, PROFILE, dag.put)[:2])
        for name, content in files.items()
    ]
    many = dirdag.build(entries, PROFILE, dag.put)
    top = [
        Entry(b"many", *many),
        Entry(b"large", *filedag.add_bytes(CONTENT, PROFILE, dag.put)[:2]),
        Entry(b"link", *filedag.symlink(b"large", PROFILE, dag.put)[:2]),
    ]
    return dirdag.build(top, PROFILE, dag.put).cid


@pytest.mark.parametrize("version", [1, 2])
def test_kubo_reads_the_tree_of_our_car(kubo, tmp_path, version):
    dag = MemoryDag()
    root = make_tree(dag)
    blocks = [Block.verify(cid, data) for cid, data in walk.walk([root], dag.get)]
    path = tmp_path / "tree.car"
    with path.open("wb") as target:
        if version == 1:
            write_car([root], blocks, target.write)
        else:
            write_car_v2([root], blocks, target)
    text = cids.to_text(root)
    assert text.encode() in kubo.run("dag", "import", str(path))
    assert kubo.run("cat", f"{text}/large") == CONTENT
    assert kubo.run("cat", f"{text}/many/3") == b"content of 3" * 3
    listed = kubo.run("ls", "--size=false", "--resolve-type=false", f"{text}/many")
    assert len(listed.splitlines()) == 300


def test_kubo_exports_the_blocks_in_the_order_of_our_walk(kubo, tmp_path):
    dag = MemoryDag()
    root = make_tree(dag)
    path = tmp_path / "tree.car"
    with path.open("wb") as target:
        write_car(
            [root], (Block(cid, data) for cid, data in walk.walk([root], dag.get)), target.write
        )
    kubo.run("dag", "import", str(path))
    exported = kubo.run("dag", "export", "--progress=false", cids.to_text(root))
    reader = CarReader(io.BytesIO(exported).read)
    assert reader.roots == (root,)
    stored = [block.cid for block in reader if not cids.is_identity(block.cid)]
    assert stored == [cid for cid, _ in walk.walk([root], dag.get)]
