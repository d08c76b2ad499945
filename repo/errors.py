"""Every error of the repository.

    RepoError
    ├── RequestError              your request: ask for something else
    │   ├── BlockNotFound         this store does not hold the block
    │   │   └── BlockUnavailable  nobody who was asked has it
    │   ├── RefNotFound           no ref has this name
    │   ├── InvalidRefName        empty, too long, reserved, or with a NUL
    │   ├── RefTooLarge           the record is larger than a ref may be
    │   └── StoreFull             no room: delete something and run gc
    └── DataError                 your data or your device
        ├── BlockDamaged          the stored bytes are not the block that the CID names
        ├── LinksUnreadable       what lies below a block cannot be told
        ├── RefDamaged            a ref's record cannot be read
        ├── NotARepository        the store holds a datastore
        └── StoreFailed           the device failed or refuses to be written

Our bugs are not in the tree. Errors of `ipld` for blocks that are intact and yet malformed pass
through untouched.
"""

from __future__ import annotations

from ipld import cid as cids


class RepoError(Exception):
    """Base of all errors that this layer raises."""


class RequestError(RepoError):
    """The request cannot be met; the data is fine."""


class DataError(RepoError):
    """What is stored is damaged, or the store cannot be used."""


class _AboutBlock(RepoError):
    """Carries the CID, so that a caller can fetch, report or repair that block."""

    what = ""

    def __init__(self, cid: bytes) -> None:
        super().__init__(f"{cids.to_text(cid)}: {self.what}")
        self.cid = cid


class BlockNotFound(_AboutBlock, RequestError):
    """This store does not hold the block."""

    what = "block is not in this store"


class BlockUnavailable(BlockNotFound):
    """The block is not here and could not be had elsewhere."""

    what = "block is not here and cannot be fetched (import it, or connect to a peer that has it)"


class BlockDamaged(_AboutBlock, DataError):
    """The bytes of the block do not hash to its CID; none of them were returned."""

    what = "stored bytes do not match the CID (run `ipfs-mfs check`, then import the block again)"


class LinksUnreadable(_AboutBlock, DataError):
    """An intact block has links of a kind that this program does not know."""

    what = "links of this block cannot be followed (drop the pin or root that needs it)"


class RefNotFound(RequestError):
    """No ref has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: no such ref")
        self.name = name


class InvalidRefName(RequestError):
    """A name that no ref can have."""


class RefTooLarge(RequestError):
    """The encoded record of a ref is above `refs.RECORD_SIZE_MAX_BYTES`."""


class StoreFull(RequestError):
    """Nothing was written; everything stored stays readable."""

    def __init__(self) -> None:
        super().__init__("store is full: your data is safe; delete something and run gc")


class RefDamaged(DataError):
    """The record of a ref is not what this program writes."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"ref {name}: {why} (restore it from a snapshot)")
        self.name = name


class NotARepository(DataError):
    """The store holds a datastore, whose values gc would free."""


class StoreFailed(DataError):
    """The engine below gave up; the message is the engine's."""
