"""The documents of the formats and the code say the same."""

from pathlib import Path

from ipld.filedag import make_leaf
from ipld.profile import UNIXFS_V1_2025
from mfs import errors, journal, node, records
from mfs.node import InodeRecord
from tests.suites.documents import hex_examples

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def hello_record():
    link = make_leaf(b"hello", UNIXFS_V1_2025)[1]
    time_ns = 1_700_000_000 * 10**9
    return InodeRecord(
        mode=0o100644,
        uid=1000,
        gid=1000,
        nlink=1,
        rdev=0,
        size=5,
        atime_ns=time_ns,
        mtime_ns=time_ns,
        ctime_ns=time_ns,
        parent=1,
        name=b"hello.txt",
        target=b"",
        xattrs=((b"user.k", b"v"),),
        link=link,
        flags=node.CANONICAL,
    )


def test_the_example_of_a_head_is_what_the_code_writes():
    inode, entry = hex_examples(DOCS / "formats" / "head.md")
    assert inode == records.encode_inode(hello_record())
    assert records.decode_inode(inode) == hello_record()
    assert entry == records.encode_entry(2, 8)


def test_the_example_of_a_batch_is_what_the_code_writes():
    (batch,) = hex_examples(DOCS / "formats" / "journal.md")
    items: list[journal.Item] = [
        [journal.TOTALS, 3, 2, 5],
        [journal.ROW, records.ENTRIES + records.number(1) + b"hello.txt", bytes(7) + b"\x02\x08"],
        [journal.CUT, 2, 0],
        [journal.BYTES, 2, 0, b"hello"],
    ]
    assert list(journal.encode_batch(7, items)) == [batch]
    assert list(journal.decode_batches(iter([batch]))) == [(7, items)]


def test_flags_in_the_document_are_those_of_the_code():
    text = (DOCS / "formats" / "head.md").read_text()
    table = text.split("| flag | meaning |", 1)[1].split("\n\n", 1)[0]
    listed = {int(line.split("|")[1]) for line in table.splitlines()[2:]}
    assert listed == {node.LAZY, node.UNRESOLVED, node.CANONICAL, node.UNCOUNTED}


def test_every_test_that_the_promises_name_is_there():
    text = (DOCS / "durability.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    named = [word for word in text.replace("`", " ").split() if word.startswith("test_")]
    assert len(named) >= 3
    for name in named:
        assert f"def {name}(" in sources, name
    for path in [word.strip("`,.:;") for word in text.split() if word.startswith("`tests/")]:
        assert (ROOT / path).exists(), path


def test_the_tree_of_errors_is_drawn_completely():
    drawn = errors.__doc__ or ""
    for name, item in vars(errors).items():
        if isinstance(item, type) and issubclass(item, errors.MfsError):
            assert name in drawn.split(), name
