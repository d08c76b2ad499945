"""Reading what a CID names: entries, bytes, whole trees, CAR files.

Plain functions over `get` (CID -> verified block) and `view` (the same without a copy). Lazy: a
block is read when its turn comes, and memory holds one block and the path to it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from ipfs_mfs.api import ContentInfo, EntryInfo, TreeItem
from ipfs_mfs.errors import WrongKind
from ipld import cid as cids
from ipld import dagcbor, dagpb, dirdag, unixfs
from ipld.block import Block
from ipld.car import write_car
from ipld.errors import MalformedUnixfs, TooDeep
from ipld.filenode import describe
from ipld.filereader import FileReader
from ipld.nodes import Get, node_kind
from ipld.path import resolve
from ipld.walk import walk
from repo.errors import BlockNotFound

View = Callable[[bytes], AbstractContextManager[memoryview]]

# Deeper trees cannot be walked by path on Linux (PATH_MAX is 4096 bytes).
TREE_DEPTH_MAX = 2048
CAT_PIECE_BYTES = 1 << 20
CAR_PIECE_BYTES = 1 << 18


def find(root_cid: bytes, segments: tuple[bytes, ...], get: Get) -> bytes:
    """CID of what a path names. Raises PathNotFound, NotADirectory, WrongKind."""
    found = resolve(root_cid, segments, get)
    if found.inside:
        path = b"/".join(found.inside).decode(errors="backslashreplace")
        raise WrongKind(f"{path} is a value inside {cids.to_text(found.cid)}", "name the block")
    return found.cid


def stat(address: str, cid: bytes, get: Get) -> ContentInfo:
    """Kind, sizes and attributes; reads one block."""
    kind = node_kind(cid, get)
    sizes = describe(cid, get)
    links, attributes = 0, None
    if cids.codec_of(cid) == cids.DAG_PB:
        node = dagpb.decode(get(cid))
        links = len(node.links)
        attributes = unixfs.decode(node.data).attributes
    elif cids.codec_of(cid) == cids.DAG_CBOR:
        links = sum(1 for _ in dagcbor.links_of(dagcbor.decode(get(cid))))
    mode, mtime = attributes or unixfs.Attributes()
    return ContentInfo(
        address=address,
        cid=cids.to_text(cid),
        kind=kind,
        size_bytes=sizes.size if kind == "file" else None,
        dag_size_bytes=sizes.tsize,
        links=links,
        mode=mode,
        mtime_ns=_nanoseconds(mtime),
    )


def entries(cid: bytes, get: Get) -> Iterator[EntryInfo]:
    """Entries of a directory with kind and size; an entry whose block is not here is `missing`."""
    for entry in dirdag.entries(cid, get):
        try:
            kind: str = node_kind(entry.cid, get)
            size = describe(entry.cid, get).size if kind == "file" else None
        except BlockNotFound:
            kind, size = "missing", None
        yield EntryInfo(entry.name, cids.to_text(entry.cid), kind, size)


def pieces(cid: bytes, get: Get, view: View, offset: int, length: int | None) -> Iterator[bytes]:
    """Content of a file in pieces of at most CAT_PIECE_BYTES. Raises NotAFile, MalformedUnixfs."""
    reader = FileReader(cid, get)
    wanted = reader.size - offset if length is None else min(length, reader.size - offset)
    if wanted <= 0:
        return
    for block_cid, start, take in reader.slices(offset, wanted):
        with view(block_cid) as block:
            if len(block) < start + take:
                raise MalformedUnixfs(f"{cids.to_text(block_cid)} is shorter than its parent says")
            end = start + take
            # Copied before they are given away: a slow reader must not hold on to the mapping.
            copies = [
                bytes(block[at : min(at + CAT_PIECE_BYTES, end)])
                for at in range(start, end, CAT_PIECE_BYTES)
            ]
        yield from copies


def tree(cid: bytes, get: Get, view: View) -> Iterator[TreeItem]:
    """Everything below `cid`, parents first, each file followed by its content."""
    yield from _entry(b"", cid, get, view)
    if node_kind(cid, get) != "directory":
        return
    open_directories = [(b"", dirdag.entries(cid, get))]
    while open_directories:
        path, remaining = open_directories[-1]
        entry = next(remaining, None)
        if entry is None:
            open_directories.pop()
            continue
        below = path + b"/" + entry.name if path else entry.name
        yield from _entry(below, entry.cid, get, view)
        if node_kind(entry.cid, get) == "directory":
            if len(open_directories) >= TREE_DEPTH_MAX:
                raise TooDeep(f"tree is more than {TREE_DEPTH_MAX} directories deep (fetch a part)")
            open_directories.append((below, dirdag.entries(entry.cid, get)))


def is_below(cid: bytes, tops: list[bytes], get: Get) -> bool:
    """Whether the DAGs of `tops` hold this block; reads their inner nodes until it is found."""
    wanted = cids.multihash_of(cid)
    blocks = walk(tops, lambda each: _inner_only(each, get))
    return any(cids.multihash_of(each) == wanted for each, _ in blocks)


def car(cid: bytes, get: Get, since: bytes | None) -> Iterator[bytes]:
    """A CARv1 file of the DAG, without the blocks of the DAG `since`."""
    seen: set[bytes] = set()
    if since is not None:
        for _ in walk([since], lambda each: _inner_only(each, get), seen=seen):
            pass
    yield _car_bytes([cid], [])
    headless = len(_car_bytes([], []))
    batch: list[Block] = []
    size_bytes = 0
    for block_cid, data in walk([cid], get, seen=seen):
        batch.append(Block(block_cid, data))
        size_bytes += len(data)
        if size_bytes >= CAR_PIECE_BYTES:
            yield _car_bytes([], batch)[headless:]
            batch, size_bytes = [], 0
    yield _car_bytes([], batch)[headless:]


def _car_bytes(roots: list[bytes], blocks: list[Block]) -> bytes:
    written = bytearray()
    write_car(roots, blocks, written.extend)
    return bytes(written)


def _inner_only(cid: bytes, get: Get) -> bytes:
    """For a walk that only collects CIDs: a raw block has no links, so it need not be read."""
    return b"" if cids.codec_of(cid) == cids.RAW else bytes(get(cid))


def _entry(path: bytes, cid: bytes, get: Get, view: View) -> Iterator[TreeItem]:
    info = stat("", cid, get)
    if info.kind == "other":
        shown = path.decode(errors="backslashreplace") or info.cid
        raise WrongKind(f"{shown} is neither a file, directory nor symlink", "use export")
    target = dirdag.symlink_target(cid, get) if info.kind == "symlink" else b""
    size = info.size_bytes or 0
    yield TreeItem(path, info.kind, size, info.mode, info.mtime_ns, target, None)
    if info.kind == "file":
        for data in pieces(cid, get, view, 0, None):
            yield TreeItem(path, info.kind, size, None, None, b"", data)


def _nanoseconds(mtime: tuple[int, int] | None) -> int | None:
    return None if mtime is None else mtime[0] * 10**9 + mtime[1]
