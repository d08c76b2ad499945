"""From an exception of any layer to the errno that a program sees: one total table.

Looked up along the exception's classes, the most special first. The bases of the layers are not in
it: every error has a row of its own or that of a named group, so nobody gets EIO for an error that
nobody thought about. A test walks all classes of all layers.
"""

from __future__ import annotations

import errno

import blkdev.errors as engine
import fusefs.errors as adapter
import ipld.errors as formats
import mfs.errors as trees
import repo.errors as blocks

_TABLE: dict[type[BaseException], int] = {
    # What a program asked of the file system.
    trees.NoSuchEntry: errno.ENOENT,
    trees.EntryExists: errno.EEXIST,
    trees.NotADirectory: errno.ENOTDIR,
    trees.IsADirectory: errno.EISDIR,
    trees.DirectoryNotEmpty: errno.ENOTEMPTY,
    trees.InvalidName: errno.EINVAL,
    trees.NameTooLong: errno.ENAMETOOLONG,
    trees.InvalidArgument: errno.EINVAL,
    trees.NotPermitted: errno.EPERM,
    trees.TooManyLinks: errno.EMLINK,
    trees.FileTooLarge: errno.EFBIG,
    trees.ReadOnlyTree: errno.EROFS,
    trees.StaleInode: errno.ESTALE,
    trees.NoSuchAttribute: errno.ENODATA,
    trees.AttributeExists: errno.EEXIST,
    trees.AttributeUnsupported: errno.EOPNOTSUPP,
    trees.AttributeTooLarge: errno.ERANGE,
    trees.NoSpace: errno.ENOSPC,
    trees.QuotaExceeded: errno.ENOSPC,
    trees.NotInDag: errno.ENODATA,
    adapter.OperationNotPermitted: errno.EPERM,
    adapter.ReadOnlyView: errno.EROFS,
    adapter.NoSuchName: errno.ENOENT,
    adapter.NoSuchAttribute: errno.ENODATA,
    adapter.CrossesTrees: errno.EXDEV,
    adapter.InvalidRequest: errno.EINVAL,
    adapter.DoesNotFit: errno.ERANGE,
    adapter.NotBegun: errno.EAGAIN,
    adapter.MalformedRequest: errno.EIO,
    adapter.BadHandle: errno.EBADF,
    adapter.StaleInode: errno.ESTALE,
    # Roots and snapshots, met through the virtual directories.
    trees.InvalidRootName: errno.EINVAL,
    trees.RootExists: errno.EEXIST,
    trees.SnapshotExists: errno.EEXIST,
    trees.RootNotFound: errno.ENOENT,
    trees.SnapshotNotFound: errno.ENOENT,
    trees.TooManyRoots: errno.ENOSPC,
    trees.NotARoot: errno.ENOTDIR,
    # A block that is missing is a hole in the data, not a missing file.
    blocks.BlockNotFound: errno.EIO,
    blocks.RefNotFound: errno.ESTALE,
    blocks.InvalidRefName: errno.EINVAL,
    blocks.RefTooLarge: errno.EFBIG,
    blocks.StoreFull: errno.ENOSPC,
    engine.KeyNotFound: errno.EIO,
    engine.NoSuchPlace: errno.EINVAL,
    engine.SizeTooSmall: errno.EINVAL,
    engine.StoreBusy: errno.EBUSY,
    engine.KeyTooLarge: errno.EINVAL,
    engine.ValueTooLarge: errno.EFBIG,
    engine.StoreFull: errno.ENOSPC,
    engine.StoreReadOnly: errno.EROFS,
    engine.StoreClosed: errno.EIO,
    engine.DeviceReadOnly: errno.EROFS,
    engine.DeviceBusy: errno.EBUSY,
    engine.DeviceError: errno.EIO,
    # Damage, anywhere: never wrong bytes, always an error.
    trees.DataError: errno.EIO,
    blocks.DataError: errno.EIO,
    engine.StoreDamaged: errno.EIO,
    formats.DataError: errno.EIO,
    formats.InvalidParameter: errno.EINVAL,
    formats.UnsupportedHash: errno.EIO,
    formats.UnsupportedCodec: errno.EIO,
    formats.PathNotFound: errno.ENOENT,
    formats.NotADirectory: errno.ENOTDIR,
    formats.NotAFile: errno.EISDIR,
    # The mount itself.
    adapter.InvalidMountOption: errno.EINVAL,
    adapter.MountPointMissing: errno.ENOENT,
    adapter.MountPointNotDirectory: errno.ENOTDIR,
    adapter.MountPointNotEmpty: errno.ENOTEMPTY,
    adapter.AlreadyMounted: errno.EBUSY,
    adapter.NotMounted: errno.EINVAL,
    adapter.MountBusy: errno.EBUSY,
    adapter.SessionLimit: errno.EBUSY,
    adapter.HandlerTimedOut: errno.ETIMEDOUT,
    adapter.FuseMissing: errno.ENODEV,
    adapter.FusermountMissing: errno.ENOENT,
    adapter.MountNotPermitted: errno.EPERM,
    adapter.AllowOtherForbidden: errno.EPERM,
    adapter.StaleMountStuck: errno.EBUSY,
    adapter.MountFailed: errno.EIO,
    adapter.SyncTimedOut: errno.ETIMEDOUT,
    # From the interpreter. An OSError is the device's: its number would be taken for the file's.
    MemoryError: errno.ENOMEM,
    OSError: errno.EIO,
}


def errno_of(error: BaseException) -> int | None:
    """The errno of an error, or None for one that no layer announced: a bug of ours."""
    for kind in type(error).__mro__:
        code = _TABLE.get(kind)
        if code is not None:
            return code
    return None
