"""Errors of the program itself: wrong requests, no store, a busy daemon, a missing privilege.

    ProgramError
    ├── UsageError             your request: exit 2
    │   ├── BadAddress         not a CID, /ipfs/… path, ROOT or ROOT@SNAP
    │   ├── BadName            a name with '/', NUL, '..' or more than 255 bytes
    │   ├── BadOption          an unknown or contradictory mount option or flag
    │   ├── BadSetting         a key or value of the configuration file or the environment
    │   └── BadRequest         bytes on the control socket that are no message of the protocol
    ├── NotFoundError          nothing there: exit 3
    │   ├── StoreMissing       no store at that path
    │   ├── NotMounted         no mount of ours at that path
    │   └── WrongKind          a directory where a file is needed, or the other way round
    ├── BusyError              somebody else has it: exit 4
    │   ├── StoreInUse         another process owns the store (names its pid)
    │   ├── MountInUse         files on the mount are open
    │   ├── SecondMount        this daemon already serves another mount point
    │   └── DaemonEnding       the daemon is just closing the store; asking again helps
    ├── DamagedError           your data: exit 5
    │   └── DamageFound        `check` found damaged or missing blocks
    ├── MeansError             a privilege or a device is missing: exit 6
    │   └── RuntimeDirUnsafe   the directory of the control socket belongs to somebody else
    └── FailedError            it did not work: exit 1
        ├── OutputExists       the target of `get`, `export` or `man` is there already
        ├── UnsafeName         a DAG holds a name that would leave the target directory
        ├── NoRoom             too little is free in the store for what was asked
        ├── ImportIncomplete   a CAR file names roots that it does not hold
        ├── DaemonFailed       the daemon ended before it was ready (names the log)
        ├── DaemonGone         the daemon went away in the middle of a request
        ├── Interrupted        Ctrl-C
        └── RemoteError        an error class that this version does not know came over the socket

Every message says why; `fix`, when given, says what to do and is printed in brackets.
"""


class ProgramError(Exception):
    """Root of the program's errors. `message` is one line; `fix` is an instruction or ''."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(f"{message} ({fix})" if fix else message)
        self.fix = fix


class UsageError(ProgramError):
    """Your request: exit 2."""


class BadAddress(UsageError):
    """Not a CID, /ipfs/… path, ROOT or ROOT@SNAP."""


class BadName(UsageError):
    """A name with '/', NUL, '..' or more than 255 bytes."""


class BadOption(UsageError):
    """An unknown or contradictory mount option or flag."""


class BadSetting(UsageError):
    """A key or value of the configuration file or the environment."""


class BadRequest(UsageError):
    """Bytes on the control socket that are no message of the protocol."""


class NotFoundError(ProgramError):
    """Nothing there: exit 3."""


class StoreMissing(NotFoundError):
    """No store at that path."""


class NotMounted(NotFoundError):
    """No mount of ours at that path."""


class WrongKind(NotFoundError):
    """A directory where a file is needed, or the other way round."""


class BusyError(ProgramError):
    """Somebody else has it: exit 4."""


class StoreInUse(BusyError):
    """Another process owns the store (names its pid)."""


class MountInUse(BusyError):
    """Files on the mount are open."""


class SecondMount(BusyError):
    """This daemon already serves another mount point."""


class DaemonEnding(BusyError):
    """The daemon is just closing the store; asking again helps."""


class DamagedError(ProgramError):
    """Your data: exit 5."""


class DamageFound(DamagedError):
    """`check` found damaged or missing blocks."""


class MeansError(ProgramError):
    """A privilege or a device is missing: exit 6."""


class RuntimeDirUnsafe(MeansError):
    """The directory of the control socket belongs to somebody else."""


class FailedError(ProgramError):
    """It did not work: exit 1."""


class OutputExists(FailedError):
    """The target of `get`, `export` or `man` is there already."""


class UnsafeName(FailedError):
    """A DAG holds a name that would leave the target directory."""


class NoRoom(FailedError):
    """Too little is free in the store for what was asked."""


class ImportIncomplete(FailedError):
    """A CAR file names roots that it does not hold."""


class DaemonFailed(FailedError):
    """The daemon ended before it was ready (names the log)."""


class DaemonGone(FailedError):
    """The daemon went away in the middle of a request."""


class Interrupted(FailedError):
    """Ctrl-C."""


class RemoteError(FailedError):
    """An error class that this version does not know came over the socket."""
