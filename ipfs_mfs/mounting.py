"""Mounting and unmounting as a command sees it: start or join the daemon, ask it, wait for it.

Order at the start: the start lock (so that two commands start one daemon), then the daemon takes
the ownership lock, opens the store, listens, and says so through a pipe. Whatever fails before that
comes back through the pipe as a typed error and is reported by the command that started it.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ipfs_mfs import connect, owner
from ipfs_mfs.api import MountInfo
from ipfs_mfs.config import Config, with_flags
from ipfs_mfs.errors import DaemonEnding, DaemonFailed, DaemonGone, NotMounted, StoreInUse

if TYPE_CHECKING:
    from ipfs_mfs.control import RemoteNode

READY = b"ready"
# A store that was not closed in order is recovered before the daemon is ready, which reads it.
START_DEADLINE_S = 600.0
END_DEADLINE_S = 600.0
ATTEMPTS_MAX = 3


@dataclass(frozen=True, slots=True)
class Unmounted:
    """`what` is how it ended: unmounted, or a dead mount that was cleaned up."""

    mountpoint: str
    what: str


def ensure_store(config: Config) -> bool:
    """Makes the default store when there is none and none was named; True when it did.

    A store that was named and is missing is an error and never made here: its disk may just not be
    plugged in, and a new empty store in its place would hide that.
    """
    if config.store.exists() or not config.store_is_default:
        connect.require_store(config)
        return False
    from ipfs_mfs.formatting import format_store

    lock = connect.lock_store(config, owner.place_of(config))
    try:
        if config.store.exists():
            return False  # another command was quicker
        config.store.parent.mkdir(parents=True, exist_ok=True)
        # Under another name until it is whole: a half-made store would never be made again.
        unfinished = config.store.with_name(config.store.name + ".new")
        unfinished.unlink(missing_ok=True)
        format_store(with_flags(config, store=unfinished), size_bytes=None, force=False)
        unfinished.rename(config.store)
        return True
    finally:
        lock.release()


def mount(config: Config, mountpoint: str, options: str) -> MountInfo:
    """Mounts through the daemon, which is started when none runs. Idempotent."""
    from fusefs.mountpoint import real_path

    point = real_path(mountpoint)
    for _ in range(ATTEMPTS_MAX):
        remote = _daemon(config)
        try:
            return remote.mount(point, options)
        except (DaemonEnding, DaemonGone):
            # Its last mount has just gone; the next daemon can start when it has closed the store.
            _wait_for_end(owner.place_of(config))
        finally:
            remote.close()
    log_path = log_path_of(config, owner.place_of(config))
    raise DaemonFailed(f"the daemon ended {ATTEMPTS_MAX} times while mounting", f"see {log_path}")


def mount_in_foreground(
    config: Config, mountpoint: str, options: str, ready: Callable[[MountInfo], None]
) -> None:
    """Mounts in this process and returns after Ctrl-C, SIGTERM or an unmount."""
    from fusefs.mountpoint import real_path
    from ipfs_mfs.daemon import Daemon, log_to_terminal

    log_to_terminal(config)
    place = owner.place_of(config)
    daemon = Daemon.start(config, place, connect.lock_store(config, place))
    daemon.run(lambda: ready(daemon.mount(real_path(mountpoint), options)))


def unmount(config: Config, mountpoint: str) -> Unmounted:
    """Unmounts what is at that path, of whatever store. Raises NotMounted, MountBusy."""
    from fusefs.mountpoint import FSTYPE, find_mount, real_path, remove_dead_mounts
    from fusefs.mountpoint import unmount as unmount_foreign

    point = real_path(mountpoint)
    for place in owner.known_places(config):
        state = place.read_state()
        if state is None or point not in state.mountpoints:
            continue
        lock = place.try_lock()
        if lock is None:
            _ask_to_unmount(place, point)
            return Unmounted(point, "unmounted, store closed")
        connect.clean_up(place)
        lock.release()
        return Unmounted(point, "its daemon was dead; cleaned up")
    if remove_dead_mounts(point):
        return Unmounted(point, "its daemon was dead; cleaned up")
    entry = find_mount(point)
    if entry is None or entry.fstype != FSTYPE:
        raise NotMounted(f"{point}: nothing of this program is mounted there", "see `mount`")
    # A daemon of another user or runtime directory: unmounting makes it end by itself.
    unmount_foreign(point)
    return Unmounted(point, "unmounted")


def _ask_to_unmount(place: owner.Place, point: str) -> None:
    from ipfs_mfs.control import RemoteNode

    remote = RemoteNode(place.socket_path)
    try:
        remote.umount(point)
    finally:
        remote.close()
    _wait_for_end(place)


def _wait_for_end(place: owner.Place) -> None:
    """Returns when the owner has closed the store, or serves on because it has other mounts."""
    deadline_s = time.monotonic() + END_DEADLINE_S
    while time.monotonic() < deadline_s:
        lock = place.try_lock()
        if lock is not None:
            lock.release()
            return
        state = place.read_state()
        if state is not None and state.mountpoints:
            return
        time.sleep(owner.POLL_INTERVAL_S)
    raise connect.in_use(place)


def _daemon(config: Config) -> "RemoteNode":
    """A daemon for the store, running or new."""
    place = owner.place_of(config)
    deadline_s = time.monotonic() + START_DEADLINE_S
    starting = place.wait_for_lock(place.start_lock_path, deadline_s)
    if starting is None:
        raise connect.in_use(place)
    try:
        _start_if_none(config, place)
    finally:
        starting.release()
    from ipfs_mfs.control import RemoteNode

    return RemoteNode(place.socket_path)


def _start_if_none(config: Config, place: owner.Place) -> None:
    """Another command may hold the store for a moment: that is waited for."""
    deadline_s = time.monotonic() + config.busy_wait_s
    while True:
        lock = place.try_lock()
        if lock is not None:
            lock.release()
            try:
                _spawn(config, place)
            except StoreInUse:
                if time.monotonic() > deadline_s:
                    raise
                continue
            return
        if place.answers():
            return
        if time.monotonic() > deadline_s:
            raise connect.in_use(place)
        time.sleep(owner.POLL_INTERVAL_S)


def _spawn(config: Config, place: owner.Place) -> None:
    """Starts the daemon as a process of its own session and waits until it is ready."""
    import ipfs_mfs

    read_end, write_end = os.pipe()
    # The daemon must run the code that starts it, from wherever that was imported, and never
    # modules of the directory in which the user happens to be (-P).
    environment = os.environ | {"PYTHONPATH": str(Path(ipfs_mfs.__file__).parent.parent)}
    arguments = [str(config.store), config.transport, str(write_end)]
    config.log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_path = log_path_of(config, place)
    os.set_inheritable(write_end, True)
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-P", "-m", "ipfs_mfs.daemon", *arguments],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
    )
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read()
    if answer == READY:
        return
    if not answer:
        raise DaemonFailed("the daemon ended before it was ready", f"see {log_path}")
    from ipfs_mfs.wire import error_from_bytes

    raise error_from_bytes(answer)


def log_path_of(config: Config, place: owner.Place) -> Path:
    return config.log_dir / f"daemon-{place.identity}.log"


def config_of_daemon(arguments: list[str], config: Config) -> tuple[Config, int]:
    """The daemon's side of `_spawn`: its configuration and the pipe to answer on."""
    store, transport, descriptor = arguments
    return with_flags(config, store=Path(store), transport=transport), int(descriptor)
