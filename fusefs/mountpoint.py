"""Mount points: what is mounted where, is it alive, and how it goes away.

Invariants:
- Nothing here touches a path through a mount before the mount table has said what it is: a dead
  or hanging FUSE mount blocks or fails every call on it.
- Only mounts of this program are ever detached, and only dead ones without being asked.

Source of the table's format: proc_pid_mountinfo(5). Source of the calls: umount(2), fusermount3(1).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fusefs.errors import (
    AllowOtherForbidden,
    AlreadyMounted,
    FuseMissing,
    FusermountMissing,
    MountBusy,
    MountNotPermitted,
    MountPointMissing,
    MountPointNotDirectory,
    MountPointNotEmpty,
    NotMounted,
    StaleMountStuck,
)
from fusefs.options import MountOptions

SUBTYPE = "ipfs-mfs"
FSTYPE = f"fuse.{SUBTYPE}"
DEVICE = "/dev/fuse"
MNT_DETACH = 2
ANSWER_DEADLINE_S = 5.0
_OCTAL_ESCAPE = re.compile(rb"\\([0-7]{3})")


class MountEntry(NamedTuple):
    """One line of the mount table."""

    device: str
    """`major:minor`, which also names the kernel's read-ahead settings."""
    path: str
    fstype: str
    source: str


def mount_table(text: bytes | None = None) -> list[MountEntry]:
    """Mounts of this process's namespace in mount order; a later one covers an earlier one."""
    if text is None:
        text = Path("/proc/self/mountinfo").read_bytes()
    entries = []
    for line in text.splitlines():
        before, separator, after = line.partition(b" - ")
        fixed, typed = before.split(b" "), after.split(b" ")
        if not separator or len(fixed) < 5 or len(typed) < 2:
            continue  # a line this kernel writes and this program does not know
        entries.append(
            MountEntry(
                device=fixed[2].decode(),
                path=os.fsdecode(_unescape(fixed[4])),
                fstype=os.fsdecode(_unescape(typed[0])),
                source=os.fsdecode(_unescape(typed[1])),
            )
        )
    return entries


def _unescape(field: bytes) -> bytes:
    return _OCTAL_ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field)


def find_mount(path: str) -> MountEntry | None:
    """The topmost mount whose mount point is exactly `path`, without touching it."""
    wanted = real_path(path)
    found = None
    for entry in mount_table():
        if entry.path == wanted:
            found = entry
    return found


def real_path(path: str) -> str:
    """Absolute, with symlinks resolved in the parent only: the last part may be a dead mount."""
    absolute = os.path.abspath(path)  # noqa: PTH100  # Path.absolute keeps `..`
    parent, name = os.path.split(absolute)
    resolved = os.path.realpath(parent)
    candidate = os.path.join(resolved, name) if name else resolved  # noqa: PTH118  # str in and out
    try:
        if stat.S_ISLNK(Path(candidate).lstat().st_mode):
            return os.path.realpath(candidate)
    except OSError:
        pass  # missing, or a dead mount: the name itself is the answer
    return candidate


def is_dead(path: str) -> bool:
    """Does the mount at `path` have no process behind it? Waits at most ANSWER_DEADLINE_S.

    statvfs and not stat, which the kernel answers from its cache long after the process died.
    """
    return _call_with_deadline(lambda: os.statvfs(path)) in (errno.ENOTCONN, errno.ECONNABORTED)


def _call_with_deadline(call: Callable[[], object]) -> int | None:
    """errno of `call`, 0 when it succeeds, None when there was no answer in time.

    A thread, because a call into a hanging FUSE daemon can be neither interrupted nor timed.
    """
    outcome: list[int] = []

    def run() -> None:
        try:
            call()
            outcome.append(0)
        except OSError as error:
            outcome.append(error.errno or errno.EIO)

    thread = threading.Thread(target=run, name="mount-point-probe", daemon=True)
    thread.start()
    thread.join(ANSWER_DEADLINE_S)
    return outcome[0] if outcome else None


def prepare(path: str, options: MountOptions) -> str:
    """Check that `path` can be mounted on, remove a dead mount of ours, and give its real path.

    Raises the typed error of whatever is in the way; changes nothing else.
    """
    check_machine(options)
    point = real_path(path)
    remove_dead_mounts(point)
    covering = find_mount(point)
    if covering is not None and covering.fstype.startswith("fuse"):
        raise AlreadyMounted(point, covering.fstype)
    check_directory(point, nonempty=options.nonempty)
    return point


def check_machine(options: MountOptions) -> None:
    """Is there what any mount needs?"""
    if not Path(DEVICE).exists():
        raise FuseMissing
    if os.geteuid() == 0:
        return
    if shutil.which("fusermount3") is None:
        raise FusermountMissing
    if options.allow_other and not user_allow_other():
        raise AllowOtherForbidden


def user_allow_other(config: Path = Path("/etc/fuse.conf")) -> bool:
    """Does the machine's administrator let users use allow_other?"""
    try:
        lines = config.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.split("#", 1)[0].strip() == "user_allow_other" for line in lines)


def check_directory(point: str, *, nonempty: bool) -> None:
    """The rules for the folder below a mount."""
    try:
        mode = Path(point).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise MountPointMissing(point) from None
    except PermissionError:
        raise MountNotPermitted(f"{point}: cannot be reached (check its parents' modes)") from None
    if not stat.S_ISDIR(mode):
        raise MountPointNotDirectory(point)
    if nonempty:
        return
    with os.scandir(point) as entries:
        if next(entries, None) is not None:
            raise MountPointNotEmpty(point)


def remove_dead_mounts(point: str) -> bool:
    """Detach mounts of ours at `point` whose process is gone. True when there was one.

    A daemon killed with -9 leaves such a mount: every call on it fails with ENOTCONN.
    """
    removed = False
    while (entry := find_mount(point)) is not None and entry.fstype == FSTYPE and is_dead(point):
        detach(point)
        if find_mount(point) == entry:
            raise StaleMountStuck(
                f"{point}: dead mount cannot be removed (as root: umount -l {point})"
            )
        removed = True
    return removed


def detach(point: str) -> None:
    """Take a mount out of the tree now; what is still open below it fails or ends by itself."""
    if os.geteuid() == 0:
        _umount2(point, MNT_DETACH)
    else:
        _fusermount(["-u", "-z", "--", point])


def unmount(point: str) -> None:
    """Unmount in order: the kernel writes back first. Raises MountBusy or NotMounted."""
    if os.geteuid() != 0:
        _fusermount(["-u", "--", point])
        return
    _umount2(point, 0)


def _umount2(point: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(point), flags) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EBUSY:
        raise MountBusy(point)
    if code in (errno.EINVAL, errno.ENOENT):
        raise NotMounted(point)
    raise MountNotPermitted(f"{point}: {os.strerror(code)} (unmount it as root)")


def _fusermount(arguments: list[str]) -> None:
    program = shutil.which("fusermount3")
    if program is None:
        raise FusermountMissing
    done = subprocess.run(
        [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode == 0:
        return
    point, message = arguments[-1], done.stderr.decode(errors="replace").strip()
    if "busy" in message.lower():
        raise MountBusy(point)
    if "not found" in message or "not mounted" in message:
        raise NotMounted(point)
    raise MountNotPermitted(f"{point}: {message} (unmount it as the user who mounted it)")


def set_read_ahead(point: str, read_ahead_bytes: int) -> bool:
    """Let the kernel read ahead this far on the mount at `point`; False where it may not be set.

    The protocol's own limit, 128 KiB, is fixed by libfuse; the backing device's setting goes
    above it, and turns 128 KiB requests into requests of up to 1 MiB.
    """
    entry = find_mount(point)
    if entry is None:
        return False
    with contextlib.suppress(OSError):
        setting = Path(f"/sys/class/bdi/{entry.device}/read_ahead_kb")
        setting.write_text(f"{read_ahead_bytes >> 10}\n")
        return True
    return False
