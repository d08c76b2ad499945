"""What the repository needs of a store, as protocols. One conformance suite runs on every one.

A store is one log: blocks, names and journal records that were written in some order become
durable in that order, so that a crash leaves a prefix of what was written. `commit()` makes
everything written before it durable. What was written is visible at once, durable or not.

Blocks are keyed by multihash: a version 0 and a version 1 CID of the same bytes, and two codecs
of the same bytes, are one block. An identity CID is its own block: always here, never stored.

Everything is thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ipld.block import Block


@dataclass(frozen=True)
class BlockStats:
    """How much a store holds; exact."""

    count: int
    live_bytes: int
    """What all that is alive takes in the store: blocks, names and journals, with headers."""
    capacity_bytes: int | None
    """None where only memory is the limit."""
    free_bytes: int | None


class BlockStore(Protocol):
    """Blocks by CID.

    Reads are verified: the bytes are hashed unless the same multihash was verified recently.
    Bytes that do not match raise BlockDamaged and are never handed out.
    """

    def get(self, cid: bytes) -> bytes:
        """The block's bytes. Raises BlockNotFound, BlockDamaged, StoreFailed."""

    def get_part(self, cid: bytes, start: int, length: int) -> bytes:
        """Bytes of the block from `start` on, fewer only at its end. Raises what `get` raises.

        The whole block is verified first, unless it was recently: then no more is read than asked.
        """

    def view(self, cid: bytes) -> AbstractContextManager[memoryview]:
        """The block's bytes without a copy: read-only, valid inside the `with` and not after it.

        Raises, on entering, what `get` raises.
        """

    def has(self, cid: bytes) -> bool:
        """Whether the block is here; its bytes are not looked at."""

    def size_of(self, cid: bytes) -> int:
        """Bytes of the block. Raises BlockNotFound."""

    def put_many(self, blocks: Iterable[Block]) -> int:
        """Store blocks and return how many were new; a block that is here writes nothing.

        The iterable may be lazy. Raises StoreFull; blocks before the one that did not fit stay.
        """

    def delete_many(self, multihashes: Iterable[bytes], *, before: int | None = None) -> int:
        """Forget blocks and return how many were here; unknown ones are no error.

        With `before`, only blocks that were written when the log was at that `position` or
        earlier. Works on a full store.
        """

    def keys(self) -> Iterator[bytes]:
        """The multihashes of all blocks there are when the iteration begins.

        Blocks written meanwhile do not show, blocks deleted meanwhile may be left out.
        """

    def position(self) -> int:
        """Where the log is: `delete_many(before=…)` spares everything written after the call."""

    def commit(self) -> None:
        """Make everything written before durable. Raises StoreFailed."""

    def stats(self) -> BlockStats:
        """Exact, in constant time."""


class Names(Protocol):
    """Small records by name: at most 1 KiB of name and 64 KiB of value."""

    def name(self, name: bytes) -> bytes | None:
        """The value, or None where there is no such name."""

    def set_names(self, values: Mapping[bytes, bytes | None]) -> None:
        """Set and remove (None) names: all of them or, after a crash, none."""

    def names(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Names that start with `prefix`, sorted, with their values."""


class Journal(Protocol):
    """A queue of records of at most 4 MiB that a reopened store hands out again in order."""

    def append(self, record: bytes) -> int:
        """Add a record and return its position; positions of a stream ascend."""

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """Position and bytes of the records not yet trimmed, oldest first."""

    def trim(self, position: int) -> None:
        """Drop the records up to and including this position; durable with the next commit."""


class Backend(Protocol):
    """One store: its blocks, names and journals share one log and one `commit`."""

    @property
    def blocks(self) -> BlockStore: ...

    @property
    def names(self) -> Names: ...

    def journal(self, stream: int) -> Journal:
        """The journal with this number, 0 … 65535; made by its first record."""

    def commit(self) -> None:
        """Make everything written before durable."""

    def reclaim(self) -> int:
        """Turn the space of deleted blocks into free space; returns bytes that came back."""

    def close(self) -> None:
        """Commit and let go of the device. Idempotent."""


Progress = Callable[[str, int, int | None], None]
"""Called now and then with a phase ("mark", "sweep"), how much is done, and of how much."""
