"""Every error of the mutable trees.

    MfsError
    ├── RequestError                  your request: ask for something else
    │   ├── TreeError                 one operation on one tree, as in POSIX
    │   │   ├── NoSuchEntry           ENOENT      the directory has no such name
    │   │   ├── EntryExists           EEXIST      the name is taken
    │   │   ├── NotADirectory         ENOTDIR
    │   │   ├── IsADirectory          EISDIR
    │   │   ├── DirectoryNotEmpty     ENOTEMPTY
    │   │   ├── InvalidName           EINVAL      empty, '.', '..', or with '/' or NUL
    │   │   ├── NameTooLong           ENAMETOOLONG
    │   │   ├── InvalidArgument       EINVAL      a value outside its limits, a move into itself
    │   │   ├── NotPermitted          EPERM       a hard link to a directory
    │   │   ├── TooManyLinks          EMLINK
    │   │   ├── FileTooLarge          EFBIG
    │   │   ├── ReadOnlyTree          EROFS       a snapshot or a bare CID
    │   │   ├── StaleInode            ESTALE      deleted, or of a root that was dropped or restored
    │   │   ├── NoSuchAttribute       ENODATA
    │   │   ├── AttributeExists       EEXIST
    │   │   ├── AttributeUnsupported  EOPNOTSUPP  a namespace that is not stored
    │   │   ├── AttributeTooLarge     ERANGE      a name above 255 bytes, a value above 64 KiB
    │   │   ├── NoSpace               ENOSPC      the store is full
    │   │   │   ├── QuotaExceeded     ENOSPC      the root is full
    │   │   │   └── AttributesFull    ENOSPC      all attributes of one inode together
    │   │   └── NotInDag              ENODATA     a fifo, socket or device has no CID
    │   └── RootError                 roots and snapshots by name
    │       ├── InvalidRootName
    │       ├── RootExists
    │       ├── RootNotFound
    │       ├── SnapshotExists
    │       ├── SnapshotNotFound
    │       ├── TooManyRoots
    │       └── NotARoot              a CID that is no UnixFS directory
    └── DataError                     your data or your device
        ├── HeadDamaged               the record of a root cannot be read
        ├── SidecarDamaged            an inode or entry record cannot be read
        │   └── MalformedTable        nor the node of the table that holds it
        ├── JournalDamaged            a complete batch of the journal cannot be read
        └── NewerFormat               written by a later version of this program

Errors of the layers below pass through: `repo.errors.BlockUnavailable`, `BlockDamaged` and
`StoreFailed`, and `ipld.errors.DataError` for a DAG that is intact and yet malformed. Only
`repo.errors.StoreFull` becomes `NoSpace`. Our bugs are not in the tree.
"""

from __future__ import annotations


class MfsError(Exception):
    """Base of all errors that this layer raises itself."""


class RequestError(MfsError):
    """The request cannot be met; the data is fine."""


class DataError(MfsError):
    """What is stored is damaged, or of a format that this program does not know."""


# ------------------------------------------------------------------------- one tree


class TreeError(RequestError):
    """An operation on a tree was refused and changed nothing."""


class NoSuchEntry(TreeError):
    """The directory has no entry of this name."""


class EntryExists(TreeError):
    """The directory has an entry of this name already."""


class NotADirectory(TreeError):
    """Names were asked of an inode that has none."""


class IsADirectory(TreeError):
    """Content was asked of a directory, or `unlink` was used on one."""


class DirectoryNotEmpty(TreeError):
    """Only empty directories are removed or replaced."""


class InvalidName(TreeError):
    """A name that no entry can have."""


class NameTooLong(TreeError):
    """A name above 255 bytes, or a symlink target above 4095."""


class InvalidArgument(TreeError):
    """A value outside its limits, or a directory moved into itself."""


class NotPermitted(TreeError):
    """What POSIX forbids whoever asks."""


class TooManyLinks(TreeError):
    """The inode has as many names as it can have."""


class FileTooLarge(TreeError):
    """An offset or size beyond the largest file."""


class ReadOnlyTree(TreeError):
    """A change of a snapshot or of a tree opened by its CID."""

    def __init__(self) -> None:
        super().__init__("this tree is read-only (clone it into a root to change it)")


class StaleInode(TreeError):
    """An inode number that no longer stands for anything."""

    def __init__(self, ino: int) -> None:
        super().__init__(f"inode {ino}: no longer there (look its name up again)")
        self.ino = ino


class NoSuchAttribute(TreeError):
    """The inode has no extended attribute of this name."""


class AttributeExists(TreeError):
    """An extended attribute of this name exists and must not."""


class AttributeUnsupported(TreeError):
    """Attributes are stored in the namespaces user, trusted and security only: no POSIX ACLs."""


class AttributeTooLarge(TreeError):
    """An attribute's name or value is beyond what the kernel itself accepts."""


class NoSpace(TreeError):
    """No room. What is there stays readable; deleting and a gc make room."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or "the store is full (delete something, sync, and run gc)")


class QuotaExceeded(NoSpace):
    """The root may not become larger."""

    def __init__(self, quota_bytes: int) -> None:
        super().__init__(f"quota of {quota_bytes} bytes reached (delete something or raise it)")


class AttributesFull(NoSpace):
    """The extended attributes of one inode are above 64 KiB together."""

    def __init__(self) -> None:
        super().__init__("extended attributes of one file hold 64 KiB together (remove some)")


class NotInDag(TreeError):
    """A fifo, socket or device: UnixFS has no node for it, so it has no CID."""


# ---------------------------------------------------------------------------- roots


class RootError(RequestError):
    """A request about roots and snapshots was refused and changed nothing."""


class InvalidRootName(RootError):
    """A name that no root or snapshot can have."""


class RootExists(RootError):
    """A root of this name exists."""

    def __init__(self, name: str) -> None:
        super().__init__(f"root {name}: exists already (choose another name, or drop it)")
        self.name = name


class RootNotFound(RootError):
    """No root has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"root {name}: not found (`ipfs-mfs root list` shows what there is)")
        self.name = name


class SnapshotExists(RootError):
    """The root has a snapshot of this name."""

    def __init__(self, name: str, snapshot: str) -> None:
        super().__init__(f"snapshot {name}@{snapshot}: exists already (choose another name)")


class SnapshotNotFound(RootError):
    """The root has no snapshot of this name."""

    def __init__(self, name: str, snapshot: str) -> None:
        super().__init__(
            f"snapshot {name}@{snapshot}: not found (`ipfs-mfs root snapshots {name}` lists them)"
        )


class TooManyRoots(RootError):
    """All root numbers are in use."""


class NotARoot(RootError):
    """A tree can only be made from the CID of a UnixFS directory."""


# --------------------------------------------------------------------- stored state


class HeadDamaged(DataError):
    """The record of a root is not what this program writes."""


class SidecarDamaged(DataError):
    """A record about an inode or an entry is not what this program writes."""


class MalformedTable(SidecarDamaged):
    """An intact block is no node of a table, or contradicts the node that led to it."""


class JournalDamaged(DataError):
    """A complete batch of the journal is not what this program writes."""


class NewerFormat(DataError):
    """A later version of this program wrote it."""
