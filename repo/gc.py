"""Free the blocks that no ref reaches.

Mark: follow the links of every ref, and of what open leases keep, through dag-pb and dag-cbor;
leaves are never read. Sweep: delete every other block that is older than the mark and than every
open lease, and was not touched under one (`repo.leases`). Writers go on meanwhile: a ref set during
the mark or the sweep is followed before anything more is deleted.

A block that is missing below a ref does not stop gc: a DAG may be here in part. What lies below
the missing block is unknown, so parts of it that are here count as garbage unless another ref
reaches them. A block that is *damaged*, or whose links are of an unknown kind, stops gc before it
deletes anything: repairing it would bring back links to blocks that gc would have freed.

Memory: about 110 bytes for each live block, for its 16-byte fingerprint in a set, and 130 more for
each that is not a leaf.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from ipld import cid as cids
from ipld import walk
from ipld.errors import IpldError, MalformedNode
from repo.errors import BlockNotFound, LinksUnreadable
from repo.interface import BlockStore, Progress
from repo.leases import Leases, fingerprint
from repo.refs import Refs

MISSING_LISTED_MAX = 100
SWEEP_BATCH_COUNT = 256
"""Blocks deleted under the leases' lock at a time: a writer waits for a few ms at most."""
_PROGRESS_EVERY = 1024
_LINKED_CODECS = frozenset((cids.DAG_PB, cids.DAG_CBOR))


class GcReport(NamedTuple):
    """What a run did or, with `dry_run`, would have done."""

    dry_run: bool
    freed_count: int
    freed_bytes: int
    kept_count: int
    missing_count: int
    """Blocks that a ref needs and that are not here."""
    missing: tuple[bytes, ...]
    """The first `MISSING_LISTED_MAX` of them, as CIDs."""
    reclaimed_bytes: int = 0
    """Bytes that the store can use again already; the rest follows when it compacts."""


class Mark:
    """The set of live blocks, grown root by root."""

    def __init__(self, blocks: BlockStore, progress: Progress | None = None) -> None:
        self.missing: list[bytes] = []
        self.missing_count = 0
        self._blocks = blocks
        self._progress = progress
        self._live: set[bytes] = set()
        # Whole CIDs: the same block has other links under another codec, and two nodes with the
        # same fingerprint must both be followed.
        self._followed: set[bytes] = set()

    def __contains__(self, multihash: bytes) -> bool:
        return fingerprint(multihash) in self._live

    def keep(self, cid: bytes) -> None:
        """This block alone is alive."""
        if cids.is_identity(cid):
            return
        mark = fingerprint(cids.multihash_of(cid))
        if mark not in self._live:
            self._live.add(mark)
            if not self._blocks.has(cid):
                self._report_missing(cid)
            if self._progress and len(self._live) % _PROGRESS_EVERY == 0:
                self._progress("mark", len(self._live), None)

    def follow(self, roots: Iterable[bytes]) -> None:
        """These blocks and all that is below them are alive.

        Raises BlockDamaged, LinksUnreadable.
        """
        pending = list(roots)
        while pending:
            cid = pending.pop()
            self.keep(cid)
            if cids.codec_of(cid) in _LINKED_CODECS and cid not in self._followed:
                self._followed.add(cid)
                pending.extend(self._links_of(cid))

    def _links_of(self, cid: bytes) -> list[bytes]:
        try:
            with self._blocks.view(cid) as data:
                return walk.links_of(cid, data)
        except BlockNotFound:
            return []
        except MalformedNode:
            # Intact bytes that are no node of their codec: nobody can find a link in them.
            return []
        except IpldError as error:
            raise LinksUnreadable(cid) from error

    def _report_missing(self, cid: bytes) -> None:
        self.missing_count += 1
        if len(self.missing) < MISSING_LISTED_MAX:
            self.missing.append(cid)


class _Sweep:
    """Deletes, batch by batch, what the mark did not reach."""

    def __init__(self, blocks: BlockStore, leases: Leases, mark: Mark, before: int) -> None:
        self.freed_count = 0
        self.freed_bytes = 0
        self._blocks = blocks
        self._leases = leases
        self._mark = mark
        self._before = before

    def run(self, keys: Iterator[bytes], *, dry_run: bool, progress: Progress | None) -> None:
        total = self._blocks.stats().count
        done = 0
        while batch := list(islice(keys, SWEEP_BATCH_COUNT)):
            self._sweep(batch, dry_run)
            done += len(batch)
            if progress:
                progress("sweep", min(done, total), total)

    def _sweep(self, batch: list[bytes], dry_run: bool) -> None:
        while True:
            with self._leases.lock:
                announced = self._leases.take_announced()
                if not announced:
                    self._delete(batch, dry_run)
                    return
            # Outside the lock: a new ref may have a large DAG, and writers must not wait for it.
            self._mark.follow(announced)

    def _delete(self, batch: list[bytes], dry_run: bool) -> None:
        garbage: dict[bytes, int] = {}
        for multihash in batch:
            if multihash in self._mark or self._leases.is_touched(fingerprint(multihash)):
                continue
            try:
                garbage[multihash] = self._blocks.size_of(_raw(multihash))
            except BlockNotFound:
                continue
        if garbage and not dry_run:
            deleted = self._blocks.delete_many(garbage, before=self._before)
            if deleted < len(garbage):
                gone = [each for each in garbage if not self._blocks.has(_raw(each))]
                garbage = {each: garbage[each] for each in gone}
        self.freed_count += len(garbage)
        self.freed_bytes += sum(garbage.values())


def _raw(multihash: bytes) -> bytes:
    """A CID for a block whose codec does not matter."""
    return cids.make(1, cids.RAW, multihash)


def collect(
    blocks: BlockStore,
    refs: Refs,
    leases: Leases,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> GcReport:
    """Mark and sweep; the caller runs one at a time and commits.

    Raises BlockDamaged and LinksUnreadable; nothing that a ref reaches is ever deleted before that.
    """
    with leases.open() as lease:
        try:
            with leases.lock:
                leases.listen(True)
                roots = refs.list()
                kept = leases.kept()
                before = leases.oldest_position()
            mark = Mark(blocks, progress)
            for _, ref in roots:
                mark.follow(ref.links)
                for cid in ref.direct:
                    mark.keep(cid)
            mark.follow(kept)
            sweep = _Sweep(blocks, leases, mark, min(before, lease.position))
            sweep.run(blocks.keys(), dry_run=dry_run, progress=progress)
        finally:
            leases.listen(False)
    freed = sweep.freed_count
    kept_count = blocks.stats().count - (freed if dry_run else 0)
    return GcReport(
        dry_run, freed, sweep.freed_bytes, kept_count, mark.missing_count, tuple(mark.missing)
    )
