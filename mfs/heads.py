"""The record of a root: what its ref holds. Format: `docs/formats/head.md`.

A head is a value. A root, a snapshot of it and a clone are three refs with such a record, so each
of them is made in constant time and keeps its blocks alive by the two links of the ref.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ipld.errors import IpldError
from ipld.profile import Profile
from mfs.errors import HeadDamaged, NewerFormat
from mfs.state import Totals
from repo.refs import Ref

FORMAT_VERSION = 1
HISTORY_COUNT_MAX = 64
"""CIDs that a head remembers having had; a ref has 64 KiB, and every flush writes it anew."""


@dataclass(frozen=True)
class Head:
    """A root at one moment."""

    root_id: int
    """1 … 65535, unique among the roots of a store: journal stream, and part of st_ino."""
    origin: bytes
    """16 random bytes that a clone shares with what it was made from: in trees of one origin, equal
    inode numbers below the clone's `next_ino` mean the same file."""
    generation: int
    """Grows when a restore gives inode numbers another meaning."""
    profile: Profile
    cid: bytes
    """The UnixFS directory: what `ipfs add` would give."""
    dag_size_bytes: int
    table: bytes | None
    """Root of the table with everything that UnixFS has no place for."""
    totals: Totals
    journal_seq: int
    """Batches up to this number are in this head."""
    created_ns: int
    changed_ns: int
    quota_bytes: int | None
    history: tuple[tuple[int, bytes], ...]
    """Time and CID of the last changes of the CID, oldest first; their blocks may be gone."""

    def advanced(self, cid: bytes, now_ns: int, **changes: Any) -> Head:
        """The next head, its CID remembered."""
        history = self.history
        if cid != self.cid:
            history = (*history, (now_ns, cid))[-HISTORY_COUNT_MAX:]
        return replace(self, cid=cid, changed_ns=now_ns, history=history, **changes)

    def to_ref(self) -> Ref:
        """The ref's content."""
        links = (self.cid,) if self.table is None else (self.cid, self.table)
        data = {
            "type": "root",
            "version": FORMAT_VERSION,
            "root_id": self.root_id,
            "origin": self.origin,
            "generation": self.generation,
            "profile": self.profile.to_record(),
            "dag_size_bytes": self.dag_size_bytes,
            "next_ino": self.totals.next_ino,
            "inode_count": self.totals.inode_count,
            "used_bytes": self.totals.used_bytes,
            "journal_seq": self.journal_seq,
            "created_ns": self.created_ns,
            "changed_ns": self.changed_ns,
            "quota_bytes": self.quota_bytes,
            "history": [[time_ns, cid] for time_ns, cid in self.history],
        }
        return Ref(links=links, data=data)


def from_ref(name: str, ref: Ref) -> Head:
    """The head in a ref; `name` is for the message. Raises HeadDamaged, NewerFormat."""
    data = ref.data
    version = data.get("version")
    if data.get("type") != "root" or type(version) is not int:
        raise HeadDamaged(f"{name}: not the record of a root (restore it from a snapshot)")
    if version > FORMAT_VERSION:
        raise NewerFormat(f"{name}: record of version {version} (update this program)")
    try:
        return _parse(ref, data)
    except (KeyError, TypeError, ValueError, IpldError) as error:
        raise HeadDamaged(f"{name}: {error} (restore it from a snapshot)") from error


def _parse(ref: Ref, data: Mapping[str, Any]) -> Head:
    if not 1 <= len(ref.links) <= 2:
        raise ValueError(f"{len(ref.links)} links")
    origin = data["origin"]
    if not isinstance(origin, bytes):
        raise TypeError("origin is no byte string")
    quota = data["quota_bytes"]
    return Head(
        root_id=_number(data, "root_id"),
        origin=origin,
        generation=_number(data, "generation"),
        profile=Profile.from_record(data["profile"]),
        cid=ref.links[0],
        dag_size_bytes=_number(data, "dag_size_bytes"),
        table=ref.links[1] if len(ref.links) == 2 else None,
        totals=Totals(
            _number(data, "next_ino"), _number(data, "inode_count"), _number(data, "used_bytes")
        ),
        journal_seq=_number(data, "journal_seq"),
        created_ns=_number(data, "created_ns"),
        changed_ns=_number(data, "changed_ns"),
        quota_bytes=None if quota is None else _number(data, "quota_bytes"),
        history=tuple((int(time_ns), bytes(cid)) for time_ns, cid in data["history"]),
    )


def _number(data: Mapping[str, Any], name: str) -> int:
    value = data[name]
    if type(value) is not int:
        raise TypeError(f"{name} is no number")
    return value
