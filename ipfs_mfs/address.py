"""ADDR, the one way to name content on the command line. The only parser of it.

    CID[/path]   /ipfs/CID[/path]   ipfs://CID[/path]   ROOT[/path]   ROOT@SNAP[/path]

A first segment that parses as a CID is a CID: a root cannot hide one. Path segments are bytes, as
file names are. Parsing touches no store.
"""

import os
from dataclasses import dataclass

from ipfs_mfs.errors import BadAddress
from ipfs_mfs.names import check_root_name, check_segment


@dataclass(frozen=True, slots=True)
class Address:
    """Exactly one of `cid` (binary) and `root` is set; `snapshot` only with `root`."""

    text: str
    cid: bytes | None
    root: str | None
    snapshot: str | None
    segments: tuple[bytes, ...]

    @property
    def last_name(self) -> str:
        """The name a copy of it gets: last path segment, else snapshot, root or CID."""
        if self.segments:
            return os.fsdecode(self.segments[-1])
        return self.snapshot or self.root or self.text.rstrip("/").rsplit("/", 1)[-1]


def parse(text: str) -> Address:
    """Raises BadAddress or BadName."""
    rest = text.removeprefix("/ipfs/").removeprefix("ipfs://")
    must_be_cid = rest != text
    if text.startswith("/") and not must_be_cid:
        raise BadAddress(
            f"{text!r} is neither a CID, /ipfs/CID/path, ROOT nor ROOT@SNAP",
            "a path on this machine is added with `ipfs-mfs add`",
        )
    head, _, path = rest.partition("/")
    segments = tuple(check_segment(part) for part in os.fsencode(path).split(b"/") if part)
    cid = _cid_or_none(head)
    if cid is not None:
        return Address(text, cid, None, None, segments)
    if must_be_cid or not head:
        raise BadAddress(f"{head!r} is not a CID", "check it for missing characters")
    root, separator, snapshot = head.partition("@")
    check_root_name(root)
    if separator:
        check_root_name(snapshot, "snapshot")
    return Address(text, None, root, snapshot if separator else None, segments)


def _cid_or_none(text: str) -> bytes | None:
    if len(text) < 8 or "@" in text:
        return None
    from ipld import cid
    from ipld.errors import IpldError

    try:
        return cid.parse(text)
    except IpldError:
        return None
