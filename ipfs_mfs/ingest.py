"""Blocks on their way into a store of this process, for `add` and `import`.

Order, as everywhere: blocks, then the names that keep them alive, then one commit. A lease protects
the blocks from gc in between, those included that were here before and are counted on.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

from ipfs_mfs.api import IngestReport, NewRoot
from ipld import cid as cids
from ipld.block import Block
from pinning.pins import Pins
from repo.service import Repo

_KNOWN_COUNT_MAX = 1 << 17
"""Multihashes of what was stored, about 14 MB. A pin asks the device for those beyond: a look for
each, which for a stream that went past the page cache is a read."""


class LocalIngest:
    """See `api.Ingest`. For one thread."""

    def __init__(self, repo: Repo, pins: Pins, make_root: Callable[[NewRoot], object]) -> None:
        self._repo = repo
        self._pins = pins
        self._make_root = make_root
        self._blocks_new = 0
        self._known: set[bytes] = set()
        self._open = ExitStack()

    def __enter__(self) -> "LocalIngest":
        self._open.enter_context(self._repo.lease())
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def put_many(self, blocks: Iterable[Block]) -> int:
        stored = list(blocks)
        count = self._repo.put_many(stored)
        self._blocks_new += count
        if len(self._known) < _KNOWN_COUNT_MAX:
            self._known.update(cids.multihash_of(block.cid) for block in stored)
        return count

    def finish(self, pins: Sequence[str], root: NewRoot | None = None) -> IngestReport:
        for text in pins:
            self._pins.add(cids.parse(text), known=self._known)
        if root is not None:
            self._create_root(root)
        self._repo.commit()
        return IngestReport(self._blocks_new)

    def _create_root(self, root: NewRoot) -> None:
        """A pin for the moment proves that the DAG is complete, which a root alone does not ask."""
        cid = cids.parse(root.cid)
        was_pinned = self._pins.get(cid) is not None
        if not was_pinned:
            self._pins.add(cid, known=self._known)
        try:
            self._make_root(root)
        finally:
            if not was_pinned:
                self._pins.remove(cid)
