"""What is told about roots and snapshots, and what they may be called."""

from __future__ import annotations

from dataclasses import dataclass

from ipld.profile import Profile
from mfs.errors import InvalidRootName
from mfs.heads import Head
from mfs.state import Totals

NAME_SIZE_MAX_BYTES = 255


@dataclass(frozen=True)
class RootStat:
    """A root as of now. Counts of a root made from a CID are estimates until it is read."""

    name: str
    root_id: int
    cid: bytes
    """As of the last flush."""
    profile: Profile
    used_bytes: int
    """Content of all files."""
    dag_size_bytes: int
    inode_count: int
    """Files, directories, links and special files, the top included."""
    quota_bytes: int | None
    created_ns: int
    changed_ns: int
    is_dirty: bool
    dirty_bytes: int
    """What the next flush has to write, roughly."""


@dataclass(frozen=True)
class SnapshotStat:
    """A snapshot of a root."""

    root: str
    name: str
    cid: bytes
    created_ns: int
    used_bytes: int
    dag_size_bytes: int


def check_name(name: str) -> str:
    """A name that a root or snapshot can have. Raises InvalidRootName."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidRootName(f"{name!r}: names are UTF-8") from None
    if not 1 <= size <= NAME_SIZE_MAX_BYTES:
        raise InvalidRootName(f"name of {size} bytes (use 1 to {NAME_SIZE_MAX_BYTES})")
    if name.startswith(".") or any(character in "/@\0" for character in name):
        raise InvalidRootName(f"{name!r}: names have no '/', '@' or NUL and no leading '.'")
    return name


def root_stat(
    name: str, head: Head, totals: Totals, *, is_dirty: bool, dirty_bytes: int
) -> RootStat:
    return RootStat(
        name=name,
        root_id=head.root_id,
        cid=head.cid,
        profile=head.profile,
        used_bytes=totals.used_bytes,
        dag_size_bytes=head.dag_size_bytes,
        inode_count=totals.inode_count,
        quota_bytes=head.quota_bytes,
        created_ns=head.created_ns,
        changed_ns=head.changed_ns,
        is_dirty=is_dirty,
        dirty_bytes=dirty_bytes,
    )


def snapshot_stat(root: str, name: str, head: Head) -> SnapshotStat:
    return SnapshotStat(
        root, name, head.cid, head.created_ns, head.totals.used_bytes, head.dag_size_bytes
    )
