"""Every error of pinning.

    PinError
    ├── NotPinned           your request: no pin of this CID, or not of the kind asked for
    └── PinnedRecursively   your request: a direct pin would weaken the recursive one that is there

What the blocks themselves do wrong comes through from below: `repo.errors.BlockUnavailable` names
the first block that is missing, `BlockDamaged` one that is broken.
"""

from __future__ import annotations

from ipld import cid as cids


class PinError(Exception):
    """Base of all errors of this layer; each is about one CID."""

    what = ""

    def __init__(self, cid: bytes) -> None:
        super().__init__(f"{cids.to_text(cid)}: {self.what}")
        self.cid = cid


class NotPinned(PinError):
    """There is no such pin."""

    what = "not pinned"


class PinnedRecursively(PinError):
    """The CID has a recursive pin already."""

    what = "already pinned recursively (remove that pin first)"
