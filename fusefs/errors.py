"""Every error of the FUSE adapter.

    FusefsError
    ├── RequestError                 your request: ask for something else
    │   ├── InvalidMountOption       an option that does not exist, or a value it cannot take
    │   ├── MountPointMissing        the folder to mount at does not exist
    │   ├── MountPointNotDirectory   it exists and is no folder
    │   ├── MountPointNotEmpty       it holds files that the mount would hide
    │   ├── AlreadyMounted           this program, or another, has a mount there
    │   ├── NotMounted               nothing of this program is mounted there
    │   ├── MountBusy                programs have files open below it
    │   ├── SessionLimit             pyfuse3 serves one mount per process
    │   └── OperationError           refused by the view itself, not by a tree
    │       ├── OperationNotPermitted  EPERM  roots are made by the program, facts are read-only
    │       ├── ReadOnlyView           EROFS  a snapshot, a CID or a read-only mount
    │       ├── NoSuchName             ENOENT no root or snapshot has this name
    │       ├── NoSuchAttribute        ENODATA no such virtual attribute here
    │       ├── CrossesTrees           EXDEV  a rename or a link from one root to another
    │       ├── InvalidRequest         EINVAL flags that contradict each other
    │       ├── DoesNotFit             ERANGE a value, where the caller has less room for it
    │       ├── NotBegun               EAGAIN an interrupt of what nobody works on: ask again
    │       ├── MalformedRequest       EIO    a message that is none of the kernel's protocol
    │       ├── BadHandle              EBADF  a handle that is not open, or not open for this
    │       └── StaleInode             ESTALE the snapshot or root behind it is gone
    └── MachineError                 your machine: something must be installed or allowed
        ├── FuseMissing              no /dev/fuse
        ├── FusermountMissing        not root, and no fusermount3
        ├── MountNotPermitted        the kernel or fusermount3 refuses
        ├── AllowOtherForbidden      /etc/fuse.conf does not have user_allow_other
        ├── StaleMountStuck          a dead mount that could not be removed
        ├── MountFailed              the kernel said no for another reason
        ├── SyncTimedOut             the last sync of a mount takes too long
        └── HandlerTimedOut          ETIMEDOUT the store did not answer within the deadline

Our bugs are not in the tree: the transport logs them with a traceback and answers EIO.
"""

from __future__ import annotations


class FusefsError(Exception):
    """Base of all errors that this layer raises itself."""


class RequestError(FusefsError):
    """The caller asked for something that cannot be done."""


class InvalidMountOption(RequestError):
    """An unknown mount option, a bad value, or options that exclude each other."""


class MountPointMissing(RequestError):
    """The mount point does not exist."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: mount point does not exist (create it: mkdir -p {path})")


class MountPointNotDirectory(RequestError):
    """The mount point is not a directory."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: mount point is not a directory (name a folder)")


class MountPointNotEmpty(RequestError):
    """The mount point holds entries that the mount would hide."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path}: mount point is not empty, its files would be hidden "
            "(choose another folder, or mount with -o nonempty)"
        )


class AlreadyMounted(RequestError):
    """A living mount is at the mount point."""

    def __init__(self, path: str, fstype: str) -> None:
        super().__init__(f"{path}: already a mount point, of {fstype} (unmount it first)")
        self.fstype = fstype


class NotMounted(RequestError):
    """Nothing to unmount."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: not mounted (nothing to do)")


class MountBusy(RequestError):
    """The kernel refuses to unmount because files are open or a process works below it."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path}: busy: a program has a file open or its working directory there "
            f"(find it with `fuser -vm {path}`, close it, try again)"
        )


class SessionLimit(RequestError):
    """A second mount in one process."""

    def __init__(self, mounted_at: str) -> None:
        super().__init__(
            f"this process already serves {mounted_at}, and pyfuse3 serves one mount per process "
            "(mount all roots at once with -o all)"
        )
        self.mounted_at = mounted_at


class OperationError(RequestError):
    """Refused by the view; carried to the caller as the errno in the tree above."""


class OperationNotPermitted(OperationError):
    """Not a matter of modes: this can never be done through the mount."""


class ReadOnlyView(OperationError):
    """A write below a snapshot, a CID or a read-only mount."""


class NoSuchName(OperationError):
    """A virtual directory has no such entry."""


class NoSuchAttribute(OperationError):
    """A virtual attribute that this file does not have."""


class CrossesTrees(OperationError):
    """A rename or link between two roots: they are file systems of their own."""


class InvalidRequest(OperationError):
    """Arguments that contradict each other."""


class DoesNotFit(OperationError):
    """An attribute is larger than the buffer that it was asked for with."""


class NotBegun(OperationError):
    """The request that is to be interrupted has not been read, or was just answered."""


class MalformedRequest(OperationError):
    """A message of the kernel that is cut short, or lies about its length."""


class BadHandle(OperationError):
    """A handle that is not open, or is not open for this kind of access."""


class StaleInode(OperationError):
    """An inode number whose root or snapshot was dropped or replaced."""


class MachineError(FusefsError):
    """Something of the machine is missing, forbidden or too slow."""


class FuseMissing(MachineError):
    """No /dev/fuse."""

    def __init__(self) -> None:
        super().__init__(
            "/dev/fuse: not there (load the module: `modprobe fuse`; in a container, pass the "
            "device in: `--device /dev/fuse`)"
        )


class FusermountMissing(MachineError):
    """An unprivileged mount needs fusermount3."""

    def __init__(self) -> None:
        super().__init__("fusermount3: not installed (install the package fuse3, or run as root)")


class MountNotPermitted(MachineError):
    """The user, a security module or a container forbids mounting."""


class AllowOtherForbidden(MachineError):
    """allow_other by an unprivileged user."""

    def __init__(self) -> None:
        super().__init__(
            "allow_other: not allowed for users (add a line `user_allow_other` to /etc/fuse.conf, "
            "or mount without it)"
        )


class StaleMountStuck(MachineError):
    """A dead mount is in the way and cannot be detached."""


class MountFailed(MachineError):
    """Everything else that the kernel or libfuse answers to a mount."""


class SyncTimedOut(MachineError):
    """The store did not finish writing in time; it goes on trying."""

    def __init__(self, path: str, deadline_s: float) -> None:
        super().__init__(
            f"{path}: unmounted, but not everything was written within {deadline_s:g} s "
            "(do not kill the daemon; look at the device with `dmesg`)"
        )


class HandlerTimedOut(MachineError):
    """The store did not answer before the handler's deadline."""
