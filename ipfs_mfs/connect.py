"""The way from a command to the store: ask the daemon that owns it, or own it for a moment.

    lock free             take it, clean up after a dead owner, open the store here
    lock held, socket     ask the daemon
    lock held, no socket  a short command, or a daemon that starts or ends: wait, look again

A command never waits longer than `busy_wait_s` and then names the owner's pid.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ipfs_mfs.config import Config
from ipfs_mfs.errors import StoreInUse, StoreMissing, WrongKind
from ipfs_mfs.owner import POLL_INTERVAL_S, Lock, Place, place_of

if TYPE_CHECKING:
    from ipfs_mfs.api import CareApi, NodeApi
    from ipfs_mfs.control import RemoteNode
    from ipfs_mfs.node import Node

T = TypeVar("T")


def connect(config: Config) -> "NodeApi":
    """Raises StoreMissing, StoreInUse, and what opening a store raises."""
    return _connect(config, lambda place, lock: open_here(config, place, lock))


def connect_for_care(config: Config) -> "CareApi":
    """As `connect`, but what is opened here may be too damaged for anything else."""

    def here(place: Place, lock: Lock) -> "CareApi":
        try:
            clean_up(place)
            require_store(config)
            from ipfs_mfs.care import Patient

            return Patient(config, lock)
        except BaseException:
            lock.release()
            raise

    return _connect(config, here)


def _connect(config: Config, here: "Callable[[Place, Lock], T]") -> "T | RemoteNode":
    place = place_of(config)
    deadline_s = time.monotonic() + config.busy_wait_s
    while True:
        lock = place.try_lock()
        if lock is not None:
            return here(place, lock)
        if place.answers():
            from ipfs_mfs.control import RemoteNode

            return RemoteNode(place.socket_path)
        if time.monotonic() > deadline_s:
            raise in_use(place)
        time.sleep(POLL_INTERVAL_S)


def lock_store(config: Config, place: Place) -> Lock:
    """The ownership, for work that needs the store alone. Raises StoreInUse."""
    lock = place.wait_for_lock(place.lock_path, time.monotonic() + config.busy_wait_s)
    if lock is None:
        raise in_use(place)
    return lock


def open_here(config: Config, place: Place, lock: Lock) -> "Node":
    """A node of this process, which owns `lock` from now on and releases it when closed."""
    try:
        clean_up(place)
        require_store(config)
        from ipfs_mfs.node import Node

        return Node.open(config, lock)
    except BaseException:
        lock.release()
        raise


def require_store(config: Config) -> None:
    """Raises StoreMissing when nothing is at the configured path, WrongKind for a directory, fifo
    and the like: merely opening one of these could wait for ever."""
    if config.store.exists() and not (config.store.is_file() or config.store.is_block_device()):
        raise WrongKind(f"{config.store} is neither a file nor a block device", "name another one")
    if not config.store.exists():
        raise StoreMissing(
            f"{config.store}: there is no store",
            "`ipfs-mfs mount DIR` makes the default one, `ipfs-mfs format PATH` any other",
        )


def clean_up(place: Place) -> list[str]:
    """For the holder of the lock: removes socket, state and dead mounts of an owner that was
    killed. Returns the mount points that were freed."""
    state = place.remove_leavings()
    if state is None or not state.mountpoints:
        return []
    from fusefs.mountpoint import remove_dead_mounts

    return [path for path in state.mountpoints if remove_dead_mounts(path)]


def in_use(place: Place) -> StoreInUse:
    pid = place.owner_pid()
    return StoreInUse(
        f"{place.store} is in use by process {pid}",
        f"wait for it, or end it with `kill {pid}`",
    )
