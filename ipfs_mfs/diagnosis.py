"""What `doctor` looks at. Each check looks and changes nothing, and says what to do about it.

A check never raises: what it cannot find out is a finding too.
"""

import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ipfs_mfs import connect, exits, owner
from ipfs_mfs.config import Config
from ipfs_mfs.sizes import size_text

# Before this program was written, or so far ahead that times on the mount mean nothing.
CLOCK_EARLIEST_S = 1_750_000_000
CLOCK_LATEST_S = 4_100_000_000
FREE_WARN_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`status` is ok, warn or fail; `fix` is '' when there is nothing to do."""

    check: str
    status: str
    message: str
    fix: str = ""


def diagnose(config: Config) -> Iterator[Diagnosis]:
    """All checks in the order in which a mount would meet the trouble."""
    for name, check in _CHECKS.items():
        try:
            yield from check(config)
        except Exception as error:  # noqa: BLE001  # a check that fails is itself a finding
            yield Diagnosis(name, "fail", exits.describe(error))


def _python(_: Config) -> Iterator[Diagnosis]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.platform != "linux":
        yield Diagnosis("system", "fail", f"{sys.platform} is not Linux", "use a Linux machine")
    else:
        kernel = os.uname().release
        yield Diagnosis("system", "ok", f"Linux {kernel}, Python {version}")


def _fuse_device(_: Config) -> Iterator[Diagnosis]:
    device = Path("/dev/fuse")
    if not device.exists():
        fix = "`modprobe fuse`; in a container: `--device /dev/fuse`"
        yield Diagnosis("fuse device", "fail", "/dev/fuse is not there", fix)
    elif not stat.S_ISCHR(device.stat().st_mode):
        fix = "recreate it: `mknod /dev/fuse c 10 229`"
        yield Diagnosis("fuse device", "fail", "/dev/fuse is not a character device", fix)
    elif not os.access(device, os.R_OK | os.W_OK):
        yield Diagnosis("fuse device", "fail", "no access", "`chmod 666 /dev/fuse`")
    else:
        yield Diagnosis("fuse device", "ok", "/dev/fuse can be opened")


def _fusermount(_: Config) -> Iterator[Diagnosis]:
    from fusefs.mountpoint import user_allow_other

    program = shutil.which("fusermount3")
    is_root = os.getuid() == 0
    if program is not None:
        yield Diagnosis("fusermount3", "ok", program)
    else:
        status = "warn" if is_root else "fail"
        fix = "install the package fuse3"
        yield Diagnosis("fusermount3", status, "not installed; only root can mount", fix)
    if is_root or user_allow_other():
        yield Diagnosis("allow_other", "ok", "mounts may be shared with other users")
    else:
        fix = "add a line `user_allow_other` to /etc/fuse.conf"
        yield Diagnosis("allow_other", "warn", "mounts of this user are private to it", fix)


def _store(config: Config) -> Iterator[Diagnosis]:
    path = config.store
    if not path.exists():
        fix = "`ipfs-mfs mount DIR` makes the default one, `ipfs-mfs format PATH` any other"
        yield Diagnosis("store", "warn", f"{path}: there is none", fix)
        return
    connect.require_store(config)
    place = owner.place_of(config)
    lock = place.try_lock()
    if lock is None:
        state = place.read_state()
        who = "a daemon" if state is not None else "a command"
        yield Diagnosis("store", "ok", f"{path}: owned by {who}, process {place.owner_pid()}")
        if not place.answers() and state is not None:
            fix = f"see {state.log}; as a last resort `kill -9 {state.pid}`, nothing is lost by it"
            yield Diagnosis("daemon", "fail", "it does not answer on its socket", fix)
        return
    try:
        if place.read_state() is not None:
            message = "the last daemon was killed; its journal is applied at the next start"
            yield Diagnosis("daemon", "warn", message, "any command cleans up after it")
        yield _superblock(config)
    finally:
        lock.release()


def _superblock(config: Config) -> Diagnosis:
    from ipfs_mfs.node import inspect_device

    return Diagnosis("store", "ok", f"{config.store}: {inspect_device(config)}")


def _mounts(_: Config) -> Iterator[Diagnosis]:
    from fusefs.mountpoint import FSTYPE, is_dead, mount_table

    ours = [entry for entry in mount_table() if entry.fstype == FSTYPE]
    for entry in ours:
        if is_dead(entry.path):
            fix = f"`ipfs-mfs umount {entry.path}`, or mount there again"
            yield Diagnosis("mount", "warn", f"{entry.path}: its daemon is dead", fix)
        else:
            yield Diagnosis("mount", "ok", f"{entry.path}: up")
    if not ours:
        yield Diagnosis("mount", "ok", "no mount is up")


def _space(config: Config) -> Iterator[Diagnosis]:
    path = config.store
    if path.exists() and stat.S_ISBLK(path.stat().st_mode):
        return
    parent = next(each for each in path.parents if each.is_dir())
    free_bytes = shutil.disk_usage(parent).free
    # A sparse store may promise more than its disk has: writes then fail with ENOSPC early.
    if path.exists():
        file = path.stat()
        wanted_bytes = file.st_size - file.st_blocks * 512
    else:
        wanted_bytes = FREE_WARN_BYTES
    message = f"{size_text(free_bytes)} free at {parent}"
    if free_bytes < wanted_bytes:
        message += f", the sparse store may grow by {size_text(wanted_bytes)}"
        yield Diagnosis("disk", "warn", message, "make room, or keep an eye on it")
    else:
        yield Diagnosis("disk", "ok", message)


def _directories(config: Config) -> Iterator[Diagnosis]:
    place = owner.place_of(config)
    yield Diagnosis("runtime directory", "ok", str(place.directory))
    existing = next(each for each in (config.log_dir, *config.log_dir.parents) if each.exists())
    if os.access(existing, os.W_OK):
        yield Diagnosis("log directory", "ok", str(config.log_dir))
    else:
        fix = "set IPFS_MFS_LOG_DIR to a directory of yours"
        yield Diagnosis("log directory", "fail", f"{config.log_dir}: not writable", fix)


def _clock(_: Config) -> Iterator[Diagnosis]:
    now_s = time.time()
    text = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now_s))
    if CLOCK_EARLIEST_S < now_s < CLOCK_LATEST_S:
        yield Diagnosis("clock", "ok", text)
    else:
        fix = "set it: files would get wrong times"
        yield Diagnosis("clock", "warn", f"{text} cannot be right", fix)


_CHECKS: dict[str, Callable[[Config], Iterator[Diagnosis]]] = {
    "system": _python,
    "fuse device": _fuse_device,
    "fusermount3": _fusermount,
    "runtime directory": _directories,
    "store": _store,
    "mount": _mounts,
    "disk": _space,
    "clock": _clock,
}
