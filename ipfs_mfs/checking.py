"""`check`: is everything that was stored still there and still what it was?

    1. the engine's own check of its structures and checksums
    2. every block is hashed and compared with its key
    3. every root, snapshot and pin is walked: is each block that it needs here and readable?
    4. only when something is wrong: which paths are hit

Writes nothing. Safe beside readers and writers. Memory: about 150 bytes for each reachable block,
for the set of CIDs that were walked.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from blkdev.store import Store
from ipfs_mfs.api import CheckSummary, Finding, Progress, ProgressCallback, RepairSummary
from ipfs_mfs.care import bytes_progress, finding_of
from ipld import cid as cids
from ipld import dirdag
from ipld.errors import IpldError
from ipld.nodes import node_kind
from ipld.walk import links_of
from repo.blocks_blkdev import BlkdevBlocks
from repo.errors import BlockNotFound, RepoError
from repo.interface import BlockStore
from repo.refs import Ref
from repo.service import Repo

FINDINGS_PER_NAME_MAX = 100
_REPORT_EVERY_BYTES = 8 << 20


@dataclass(slots=True)
class _State:
    """What is known so far. `bad` maps multihashes to what is wrong with their blocks."""

    repo: Repo
    bad: dict[bytes, str] = field(default_factory=dict)
    located: set[bytes] = field(default_factory=set)


def check(store: Store, repo: Repo, progress: ProgressCallback) -> CheckSummary:
    """Everything, in the order above."""
    state = _State(repo)
    findings = [finding_of(found) for found in store.check(bytes_progress(progress)).findings]
    # New blocks over the same store have not verified anything yet, so every read is hashed.
    blocks, bytes_read = _hash_everything(BlkdevBlocks(store), state, progress)
    names = [(name, ref) for name, ref in repo.refs.list("") if ref.links or ref.direct]
    seen: set[bytes] = set()
    for _, ref in names:
        _walk([*ref.links, *ref.direct], state, seen)
    if state.bad:
        for name, ref in names:
            findings += _locate(name, ref, state)
        findings += _unnamed(state)
    return CheckSummary(blocks, bytes_read, len(names), tuple(findings), RepairSummary())


def _hash_everything(
    blocks: BlockStore, state: _State, progress: ProgressCallback
) -> tuple[int, int]:
    total = blocks.stats().live_bytes
    count = size_bytes = reported_bytes = 0
    for key in blocks.keys():  # noqa: SIM118  # a BlockStore is no dict
        try:
            data = blocks.get(cids.make(1, cids.RAW, key))
        except BlockNotFound:
            continue  # deleted since the list was made
        except RepoError as error:
            state.bad[key] = str(error)
            continue
        count += 1
        size_bytes += len(data)
        if size_bytes - reported_bytes >= _REPORT_EVERY_BYTES:
            reported_bytes = size_bytes
            progress(Progress(min(size_bytes, total), total))
    return count, size_bytes


def _walk(roots: list[bytes], state: _State, seen: set[bytes]) -> None:
    """Adds what is missing or malformed below these to `state.bad`."""
    waiting = [cid for cid in roots if cid not in seen]
    while waiting:
        cid = waiting.pop()
        seen.add(cid)
        waiting += [link for link in _links(cid, state) if link not in seen]


def _links(cid: bytes, state: _State) -> list[bytes]:
    """What a block links to; nothing when it is bad. A leaf that is here was hashed before."""
    key = cids.multihash_of(cid)
    if key in state.bad:
        return []
    try:
        if cids.codec_of(cid) == cids.RAW:
            if not state.repo.has(cid):
                state.bad[key] = "the block is not here"
            return []
        return links_of(cid, state.repo.get(cid))
    except (RepoError, IpldError) as error:
        state.bad[key] = str(error)
        return []


def _locate(name: str, ref: Ref, state: _State) -> Iterator[Finding]:
    """Findings for the paths below one root, snapshot or pin, at most FINDINGS_PER_NAME_MAX."""
    found = 0
    for top in (*ref.links, *ref.direct):
        for where, cid, problem in _bad_below(_title(name, top), top, state):
            state.located.add(cids.multihash_of(cid))
            yield Finding("damaged", where, cids.to_text(cid), problem)
            found += 1
            if found >= FINDINGS_PER_NAME_MAX:
                yield Finding("note", name, "", "more is damaged below this name")
                return


def _title(name: str, cid: bytes) -> str:
    """`root/main` as `root main`, with a word for a root's own records, which have no paths."""
    kind, _, rest = name.partition("/")
    title = f"{kind} {rest.replace('/', '@')}"
    return f"{title} (records of modes, times and names)" if _is_records(cid) else title


def _is_records(cid: bytes) -> bool:
    return cids.codec_of(cid) == cids.DAG_CBOR


def _bad_below(where: str, top: bytes, state: _State) -> Iterator[tuple[str, bytes, str]]:
    """Every path whose own blocks include a bad one, with that block and what is wrong with it."""
    waiting = [(where, top)]
    while waiting:
        path, cid = waiting.pop()
        own, entries = _open(path, cid, state)
        for bad in own:
            yield path, bad, state.bad[cids.multihash_of(bad)]
        waiting += entries


def _open(path: str, cid: bytes, state: _State) -> tuple[list[bytes], list[tuple[str, bytes]]]:
    """The bad blocks of one path itself, and the entries below it when it is a directory."""
    try:
        if cids.multihash_of(cid) in state.bad:
            return [cid], []
        if node_kind(cid, state.repo.get) == "directory":
            separator = "/" if "/" in path or ": " in path else ": "
            children = [
                (f"{path}{separator}{entry.name.decode(errors='backslashreplace')}", entry.cid)
                for entry in dirdag.entries(cid, state.repo.get)
            ]
            return [], children
    except (RepoError, IpldError):
        # A bad shard of a big directory: its entries cannot be listed, so they have no paths.
        pass
    return _bad_blocks(cid, state), []


def _bad_blocks(cid: bytes, state: _State) -> list[bytes]:
    found = []
    seen = {cid}
    waiting = [cid]
    while waiting:
        current = waiting.pop()
        if cids.multihash_of(current) in state.bad:
            found.append(current)
            continue
        fresh = [link for link in _links(current, state) if link not in seen]
        seen.update(fresh)
        waiting += fresh
    return found


def _unnamed(state: _State) -> Iterator[Finding]:
    """Bad blocks that no name needs: they go with the next gc."""
    for key, problem in state.bad.items():
        if key not in state.located:
            cid = cids.to_text(cids.make(1, cids.RAW, key))
            yield Finding("garbage", "no root, snapshot or pin", cid, problem)
