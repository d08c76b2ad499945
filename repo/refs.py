"""Refs: names for DAGs, and the only thing that keeps a block alive.

Heads, snapshots, clones and pins are all refs: `root/NAME`, `snapshot/NAME/SNAP`, `pin/CID`,
`meta/…`. A ref is a small record; setting several is atomic, and in the log a ref comes after the
blocks it needs. Format: `docs/formats/refs.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ipld import dagcbor
from ipld.errors import IpldError
from repo.errors import InvalidRefName, RefDamaged, RefNotFound, RefTooLarge
from repo.interface import Names
from repo.leases import Leases

FORMAT_VERSION = 1
NAME_SIZE_MAX_BYTES = 1024
RECORD_SIZE_MAX_BYTES = 64 << 10
DATASTORE_MARK: Final = b"datastore"
"""No ref has this name: it says that a store is a datastore's, see `repo/claim.py`."""


@dataclass(frozen=True)
class Ref:
    """What a name stands for."""

    links: tuple[bytes, ...] = ()
    """CIDs kept alive together with everything below them."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Whatever the owner of the ref wants to know; values that dag-cbor can hold."""
    direct: tuple[bytes, ...] = ()
    """CIDs kept alive alone."""

    def encode(self) -> bytes:
        """The record. Raises RefTooLarge."""
        record = dagcbor.encode(
            {
                "version": FORMAT_VERSION,
                "links": [dagcbor.Link(cid) for cid in self.links],
                "direct": [dagcbor.Link(cid) for cid in self.direct],
                "data": dict(self.data),
            }
        )
        if len(record) > RECORD_SIZE_MAX_BYTES:
            raise RefTooLarge(f"a ref of {len(record)} bytes (limit {RECORD_SIZE_MAX_BYTES})")
        return record

    @classmethod
    def decode(cls, name: str, record: bytes) -> Ref:
        """The ref in a stored record; `name` is for the message. Raises RefDamaged."""
        try:
            fields = dagcbor.decode(record)
        except IpldError as error:
            raise RefDamaged(name, str(error)) from error
        if not isinstance(fields, dict) or not isinstance(fields.get("version"), int):
            raise RefDamaged(name, "not a ref record")
        if fields["version"] != FORMAT_VERSION:
            raise RefDamaged(name, f"version {fields['version']} is newer than this program")
        if fields.keys() != {"version", "links", "direct", "data"}:
            raise RefDamaged(name, "not the fields of a ref record")
        if not isinstance(fields["data"], dict):
            raise RefDamaged(name, "data is no map")
        return cls(
            links=_cids(name, fields["links"]),
            data=fields["data"],
            direct=_cids(name, fields["direct"]),
        )


class Refs:
    """All refs of a store. Thread-safe; a reader sees an update as a whole or not at all."""

    def __init__(self, names: Names, leases: Leases) -> None:
        self._names = names
        self._leases = leases

    def get(self, name: str) -> Ref | None:
        """The ref, or None. Raises RefDamaged."""
        record = self._names.name(_encode_name(name))
        return None if record is None else Ref.decode(name, record)

    def require(self, name: str) -> Ref:
        """The ref. Raises RefNotFound, RefDamaged."""
        ref = self.get(name)
        if ref is None:
            raise RefNotFound(name)
        return ref

    def update(self, changes: Mapping[str, Ref | None]) -> None:
        """Set and remove (None) refs, all or none; durable with the next commit.

        Raises InvalidRefName, RefTooLarge.
        """
        records = {
            _encode_name(name): None if ref is None else ref.encode()
            for name, ref in changes.items()
        }
        links = [cid for ref in changes.values() if ref for cid in (*ref.links, *ref.direct)]
        # Together under this lock, so that a gc sees the ref in its list or hears of its links.
        with self._leases.lock:
            self._names.set_names(records)
            self._leases.announce(links)

    def list(self, prefix: str = "") -> list[tuple[str, Ref]]:
        """Refs whose name starts with `prefix`, sorted by name. Raises RefDamaged."""
        found = []
        for raw, record in self._names.names(prefix.encode()):
            name = raw.decode(errors="replace")
            found.append((name, Ref.decode(name, record)))
        return found


def _encode_name(name: str) -> bytes:
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        raise InvalidRefName(f"{name[:80]!r}: a ref name is UTF-8") from None
    if not 0 < len(raw) <= NAME_SIZE_MAX_BYTES or b"\0" in raw:
        raise InvalidRefName(f"{name[:80]!r}: a ref name has 1 to {NAME_SIZE_MAX_BYTES} bytes")
    if raw == DATASTORE_MARK:
        raise InvalidRefName(f"{name!r}: a ref cannot have this name (it marks datastores)")
    return raw


def _cids(name: str, links: Any) -> tuple[bytes, ...]:
    if not isinstance(links, list) or not all(isinstance(item, dagcbor.Link) for item in links):
        raise RefDamaged(name, "links are no links")
    return tuple(link.cid for link in links)
