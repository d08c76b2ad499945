"""Pins: refs under `pin/` that keep a CID, alone or with everything below it.

A pin is a promise that the whole DAG is here, so `add` walks it before it sets the ref. During the
walk a lease keeps the DAG, so that gc cannot take a block between the look at it and the pin.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import partial
from itertools import count
from threading import Lock
from typing import NamedTuple

from ipld import cid as cids
from ipld import walk
from pinning.errors import NotPinned, PinnedRecursively
from repo.errors import BlockUnavailable
from repo.refs import Ref
from repo.service import Repo

PREFIX = "pin/"
NAME_SIZE_MAX_BYTES = 255
_PROGRESS_EVERY = 256


class Pin(NamedTuple):
    """One pin. A CID has at most one."""

    cid: bytes
    recursive: bool
    name: str


class Pins:
    """The pins of one repository. Thread-safe: a lock joins the look at a pin with its change."""

    def __init__(self, repo: Repo) -> None:
        self._repo = repo
        self._lock = Lock()

    def add(
        self,
        cid: bytes,
        *,
        recursive: bool = True,
        name: str = "",
        progress: Callable[[int], None] | None = None,
        known: Container[bytes] = (),
    ) -> Pin:
        """Pin a CID that is here completely; durable on return. Leaves whose multihash is `known`
        are not asked for: the caller has stored them, and a lease of his keeps them.

        Pinning again changes the name, and a recursive pin replaces a direct one. `progress` is
        called now and then with the number of blocks seen. Raises BlockUnavailable (naming the
        block that is missing), BlockDamaged, PinnedRecursively, ValueError for a long name.
        """
        if len(name.encode()) > NAME_SIZE_MAX_BYTES:
            raise ValueError(f"a pin's name has at most {NAME_SIZE_MAX_BYTES} bytes")
        with self._repo.lease() as lease:
            lease.keep((cid,))
            if recursive:
                self._require_below(cid, progress, known)
                ref = Ref(links=(cid,), data={"name": name})
            else:
                self._require(cid)
                ref = Ref(direct=(cid,), data={"name": name})
            with self._lock:
                existing = self.get(cid)
                if existing is not None and existing.recursive and not recursive:
                    raise PinnedRecursively(cid)
                self._repo.refs.update({_ref_name(cid): ref})
        self._repo.commit()
        return Pin(cid, recursive, name)

    def remove(self, cid: bytes) -> None:
        """Drop a pin; durable on return. Its blocks go with the next gc. Raises NotPinned."""
        with self._lock:
            if self.get(cid) is None:
                raise NotPinned(cid)
            self._repo.refs.update({_ref_name(cid): None})
        self._repo.commit()

    def get(self, cid: bytes) -> Pin | None:
        """The pin of exactly this CID, or None; what lies below other pins does not count."""
        ref = self._repo.refs.get(_ref_name(cid))
        return None if ref is None else _pin(cid, ref)

    def list(self) -> list[Pin]:
        """All pins, by the text of their CIDs."""
        refs = self._repo.refs.list(PREFIX)
        return [_pin((ref.links or ref.direct)[0], ref) for _, ref in refs]

    def _require_below(
        self, root: bytes, progress: Callable[[int], None] | None, known: Container[bytes]
    ) -> None:
        seen = count(1)
        for _ in walk.walk((root,), partial(self._node, known)):
            number = next(seen)
            if progress and number % _PROGRESS_EVERY == 0:
                progress(number)

    def _node(self, known: Container[bytes], cid: bytes) -> bytes:
        """The block where it may have links; a leaf is only looked for."""
        if cids.codec_of(cid) == cids.RAW:
            if cids.multihash_of(cid) not in known:
                self._require(cid)
            return b""
        return self._repo.get(cid)

    def _require(self, cid: bytes) -> None:
        if not self._repo.has(cid):
            raise BlockUnavailable(cid)


def _ref_name(cid: bytes) -> str:
    return PREFIX + cids.to_text(cid)


def _pin(cid: bytes, ref: Ref) -> Pin:
    return Pin(cid, bool(ref.links), str(ref.data.get("name", "")))
