"""Mounting without libfuse: mount(2) as root, fusermount3 as anybody else. Both give /dev/fuse.

Sources: mount(2); fuse(4); fusermount3's way to hand over the descriptor (_FUSE_COMMFD, one byte
with SCM_RIGHTS on a socket).
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import os
import shutil
import socket
import stat
import subprocess

from fusefs import mountpoint
from fusefs.errors import FusefsError, FusermountMissing, MountFailed, MountNotPermitted
from fusefs.options import MountOptions

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_NOATIME = 1, 2, 4, 8, 1024


def mount(point: str, options: MountOptions) -> int:
    """The descriptor whose requests are those of the new mount. Raises MountNotPermitted,
    FusermountMissing, MountFailed."""
    return _as_root(point, options) if os.geteuid() == 0 else _as_user(point, options)


def leave(point: str) -> None:
    """Take the mount away, unless that has been done. Its descriptor must be closed before."""
    with contextlib.suppress(FusefsError):
        entry = mountpoint.find_mount(point)
        if entry is not None and entry.fstype == mountpoint.FSTYPE:
            mountpoint.detach(point)


def source(options: MountOptions) -> str:
    """What /proc/mounts calls the mount: printable, and without what separates options."""
    label = f"{mountpoint.SUBTYPE}:{options.describe()}"
    return label.encode("ascii", "backslashreplace").decode()


def told(options: MountOptions) -> set[str]:
    """What fusermount3 and libfuse are told; the rest of the options is done in this layer."""
    fsname = source(options).replace("\\", "\\\\").replace(",", "\\,")
    words = {f"fsname={fsname}", f"subtype={mountpoint.SUBTYPE}"}
    same = ("allow_other", "default_permissions", "suid", "dev")
    words |= {name for name in same if getattr(options, name)}
    if options.read_only or options.cid is not None:
        words.add("ro")
    if not options.update_atime:
        words.add("noatime")
    if not options.execute:
        words.add("noexec")
    return words


def refusal(point: str, reason: str) -> FusefsError:
    """The error for a mount that was refused for this reason, in words of the system."""
    if "not permitted" in reason.lower() or "permission denied" in reason.lower():
        return MountNotPermitted(
            f"{point}: {reason} (mount as root; in a container, allow /dev/fuse and SYS_ADMIN)"
        )
    return MountFailed(f"{point}: {reason} (`ipfs-mfs doctor` checks what a mount needs)")


def _as_root(point: str, options: MountOptions) -> int:
    try:
        mode = stat.S_IFMT(os.stat(point).st_mode)  # noqa: PTH116  # str in and out
        descriptor = os.open(mountpoint.DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise refusal(str(error.filename), str(error.strerror)) from error
    data = [f"fd={descriptor}", f"rootmode={mode:o}", "user_id=0", "group_id=0"]
    data += [name for name in ("default_permissions", "allow_other") if getattr(options, name)]
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (
        source(options).encode(), os.fsencode(point), mountpoint.FSTYPE.encode(),
        ctypes.c_ulong(_flags(options)), ",".join(data).encode(),
    )  # fmt: skip
    if libc.mount(*arguments) == 0:
        return descriptor
    code = ctypes.get_errno()
    os.close(descriptor)
    raise refusal(point, os.strerror(code))


def _flags(options: MountOptions) -> int:
    wanted = {
        _MS_RDONLY: options.read_only or options.cid is not None,
        _MS_NOSUID: not options.suid,
        _MS_NODEV: not options.dev,
        _MS_NOEXEC: not options.execute,
        _MS_NOATIME: not options.update_atime,
    }
    return sum(flag for flag, is_wanted in wanted.items() if is_wanted)


def _as_user(point: str, options: MountOptions) -> int:
    program = shutil.which("fusermount3")
    if program is None:
        raise FusermountMissing
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        done = subprocess.run(
            [program, "-o", ",".join(sorted(told(options))), "--", point],
            env=os.environ | {"_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        theirs.close()
        descriptor = _received(ours) if done.returncode == 0 else None
    if descriptor is not None:
        return descriptor
    reason = done.stderr.decode(errors="replace").strip() or "fusermount3 gave no descriptor"
    raise refusal(point, reason)


def _received(channel: socket.socket) -> int | None:
    """The descriptor that came with a byte; None when none did."""
    room = socket.CMSG_SPACE(array.array("i").itemsize)
    _, controls, _, _ = channel.recvmsg(1, room)
    for level, kind, data in controls:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            (descriptor,) = array.array("i", data[: array.array("i").itemsize])
            os.set_inheritable(descriptor, False)
            return descriptor
    return None
