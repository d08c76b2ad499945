"""Error -> exit status, for every layer, in one total table looked up along the MRO.

The keys are dotted names and not classes, so that printing an error imports no layer that is not
loaded anyway. `tests/ipfs_mfs/test_exits.py` walks every class of every `errors.py` and fails when
one is not covered by an entry of its own package, or when an entry names no class.
"""

import errno

DONE = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
BUSY = 4
DAMAGED = 5
MEANS = 6

TABLE = {
    "ipfs_mfs.errors.ProgramError": FAILED,
    "ipfs_mfs.errors.UsageError": USAGE,
    "ipfs_mfs.errors.NotFoundError": NOT_FOUND,
    "ipfs_mfs.errors.BusyError": BUSY,
    "ipfs_mfs.errors.DamagedError": DAMAGED,
    "ipfs_mfs.errors.MeansError": MEANS,
    "fusefs.errors.FusefsError": FAILED,
    "fusefs.errors.InvalidMountOption": USAGE,
    "fusefs.errors.MountPointMissing": NOT_FOUND,
    "fusefs.errors.MountPointNotDirectory": USAGE,
    "fusefs.errors.MountPointNotEmpty": USAGE,
    "fusefs.errors.AlreadyMounted": BUSY,
    "fusefs.errors.NotMounted": NOT_FOUND,
    "fusefs.errors.MountBusy": BUSY,
    "fusefs.errors.SessionLimit": BUSY,
    "fusefs.errors.NoSuchName": NOT_FOUND,
    "fusefs.errors.MachineError": MEANS,
    "fusefs.errors.HandlerTimedOut": FAILED,
    "fusefs.errors.SyncTimedOut": FAILED,
    "pinning.errors.PinError": FAILED,
    "pinning.errors.NotPinned": NOT_FOUND,
    "mfs.errors.MfsError": FAILED,
    "mfs.errors.NoSuchEntry": NOT_FOUND,
    "mfs.errors.NotADirectory": NOT_FOUND,
    "mfs.errors.IsADirectory": NOT_FOUND,
    "mfs.errors.InvalidName": USAGE,
    "mfs.errors.NameTooLong": USAGE,
    "mfs.errors.InvalidArgument": USAGE,
    "mfs.errors.InvalidRootName": USAGE,
    "mfs.errors.RootNotFound": NOT_FOUND,
    "mfs.errors.SnapshotNotFound": NOT_FOUND,
    "mfs.errors.DataError": DAMAGED,
    "mfs.errors.NewerFormat": FAILED,
    "repo.errors.RepoError": FAILED,
    "repo.errors.BlockNotFound": NOT_FOUND,
    "repo.errors.RefNotFound": NOT_FOUND,
    "repo.errors.InvalidRefName": USAGE,
    "repo.errors.DataError": DAMAGED,
    "repo.errors.NotARepository": FAILED,
    "repo.errors.StoreFailed": FAILED,
    "blkdev.errors.StoreError": FAILED,
    "blkdev.errors.KeyNotFound": NOT_FOUND,
    "blkdev.errors.NoSuchPlace": NOT_FOUND,
    "blkdev.errors.StoreBusy": BUSY,
    "blkdev.errors.DeviceBusy": BUSY,
    "blkdev.errors.DeviceReadOnly": MEANS,
    "blkdev.errors.DeviceTooSmall": MEANS,
    "blkdev.errors.InvalidGeometry": USAGE,
    "blkdev.errors.StoreDamaged": DAMAGED,
    "ipld.errors.IpldError": FAILED,
    "ipld.errors.InvalidParameter": USAGE,
    "ipld.errors.UnsupportedHash": USAGE,
    "ipld.errors.PathNotFound": NOT_FOUND,
    "ipld.errors.NotADirectory": NOT_FOUND,
    "ipld.errors.NotAFile": NOT_FOUND,
    "ipld.errors.DataError": DAMAGED,
    "ipld.errors.InvalidCid": USAGE,
    "builtins.FileNotFoundError": NOT_FOUND,
    "builtins.NotADirectoryError": NOT_FOUND,
    "builtins.IsADirectoryError": NOT_FOUND,
    "builtins.PermissionError": MEANS,
    "builtins.Exception": FAILED,
    "builtins.KeyboardInterrupt": FAILED,
}
_ERRNO_STATUS = {errno.EBUSY: BUSY, errno.ETXTBSY: BUSY, errno.ENODEV: MEANS, errno.ENXIO: MEANS}


def exit_code(error: BaseException) -> int:
    """Exit status of the process that ends with this error."""
    if isinstance(error, OSError) and error.errno in _ERRNO_STATUS:
        return _ERRNO_STATUS[error.errno]
    for kind in type(error).__mro__:
        status = TABLE.get(f"{kind.__module__}.{kind.__qualname__}")
        if status is not None:
            return status
    return FAILED


def describe(error: BaseException) -> str:
    """`why (what to do)`, without the names of exception classes where the error is a typed one."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror or error}{_advice(error)}"
    package = type(error).__module__.partition(".")[0]
    if package != "builtins" and str(error):
        return str(error)
    detail = f": {error}" if str(error) else ""
    return f"unexpected {type(error).__name__}{detail} (run it with -v for the whole story)"


def _advice(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return " (run it as a user who may, for example with sudo)"
    if error.errno == errno.ENOSPC:
        return " (make room there)"
    return ""
