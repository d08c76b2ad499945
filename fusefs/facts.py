"""The facts `ipfs.*`: read-only virtual attributes of every file, directory and top.

    ipfs.cid      the CID that `ipfs add` with the root's profile gives; asking brings the path
                  into the DAG first, so the answer is of the present content
    ipfs.root     name of the root; `ROOT@SNAP` below a snapshot, `/ipfs/CID` in a view of a CID
    ipfs.dagsize  bytes of all blocks of its DAG
    ipfs.pinned   how a pin holds that CID: `recursive`, `direct`, `indirect` or `no`

They are answered when asked for by name and never listed. Values are text without a newline.
"""

from __future__ import annotations

from collections.abc import Callable

from fusefs.errors import NoSuchAttribute
from fusefs.views import Branch
from ipld import cid as cids

FACTS_PREFIX = b"ipfs."
PinState = Callable[[bytes], str]
"""From a CID to one of the words above."""


def no_pins(_cid: bytes) -> str:
    """For a store without pins."""
    return "no"


class Facts:
    """Answers by name."""

    def __init__(self, pin_state: PinState) -> None:
        self._pin_state = pin_state

    def value(self, branch: Branch, ino: int, name: bytes) -> bytes:
        """Raises NoSuchAttribute for an unknown name and on directories that have no DAG."""
        if branch.virtual:
            raise NoSuchAttribute("a directory that exists in the mount only")
        if name == b"ipfs.cid":
            return cids.to_text(branch.tree.cid_of(ino)).encode()
        if name == b"ipfs.dagsize":
            return str(branch.tree.dagsize_of(ino)).encode()
        if name == b"ipfs.pinned":
            return self._pin_state(branch.tree.cid_of(ino)).encode()
        if name == b"ipfs.root":
            return self._root(branch).encode()
        raise NoSuchAttribute(name.decode(errors="replace"))

    def _root(self, branch: Branch) -> str:
        if branch.root is None:
            return f"/ipfs/{cids.to_text(branch.tree.cid_of(1))}"
        return branch.root if branch.snapshot is None else f"{branch.root}@{branch.snapshot}"
