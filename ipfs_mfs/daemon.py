"""The node daemon: the process that owns a store while something of it is mounted.

Life: take the ownership, open the store, listen, say "ready" to the command that started it, serve
until the last mount has gone or a signal comes, then: no new requests, unmount, close the store,
remove state and socket, release the ownership. The store is closed before the ownership is free, so
that the next owner never meets a half-closed store.

Threads: the main one ticks (flushes and compaction that are due) and waits; every mount has one of
its own; gRPC has a pool. Signals only write to an eventfd: a handler that took a lock could
interrupt its holder.

Locks: `_mounting` is held during one call of `mount`, so that two callers get one mount.
`_mounts_lock`, inside it, guards `_mount` and `_ending` and is never held while something waits.
"""

import faulthandler
import logging
import logging.handlers
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

from blkdev.errors import StoreError
from fusefs.errors import FusefsError, MountBusy
from fusefs.mount import Mount
from fusefs.options import AUTO, MountOptions
from ipfs_mfs import __version__, api, interrupt, owner
from ipfs_mfs.config import Config, load
from ipfs_mfs.control import ControlServer
from ipfs_mfs.errors import DaemonEnding, NotMounted, SecondMount
from ipfs_mfs.mounting import READY, config_of_daemon, log_path_of
from ipfs_mfs.node import Node, Opened, open_store
from ipld import cid as cids
from mfs.errors import MfsError
from repo.errors import RepoError

LOGGER = logging.getLogger(__name__)
LOG_SIZE_MAX_BYTES = 4 << 20
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# A daemon whose starter died before it could ask for a mount must not stay for ever.
IDLE_MAX_S = 60.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class ActiveMount:
    """A mount together with the thread that serves it."""

    def __init__(self, node: "Daemon", point: str, text: str) -> None:
        self.options = MountOptions.parse(text)
        if self.options.transport == AUTO:
            self.options = replace(self.options, transport=node.config.transport)
        self.text = text
        self.point = point
        node.prepare_view(self.options)
        self.mount = Mount(node.roots, point, self.options, pin_state=node.pin_state)
        self._node = node
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="mount")

    def start(self) -> None:
        """Returns when requests are answered. Raises what is in the way of the mount."""
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def join(self) -> None:
        self._thread.join()

    def _serve(self) -> None:
        try:
            self.mount.run(self._ready.set)
        except Exception as error:  # the thread's edge: reported by start() or the log
            if self._ready.is_set():
                LOGGER.exception("mount %s ended badly", self.point)
            self._error = error
        finally:
            self._ready.set()
            self._node.mount_ended(self)


class Daemon(Node):
    """A node with mounts and a control socket. Made by `start`, lives in `run`."""

    def __init__(self, opened: Opened, place: owner.Place) -> None:
        # The ownership ends with the process and not before, so that whoever waits for it meets
        # neither an open store nor a process that still runs.
        super().__init__(replace(opened, lock=owner.Lock.none()))
        self._ownership = opened.lock
        self._place = place
        self._mounting = threading.Lock()
        self._mounts_lock = threading.Lock()
        self._mount: ActiveMount | None = None
        self._ending = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)

    @classmethod
    def start(cls, config: Config, place: owner.Place, lock: owner.Lock) -> "Daemon":
        """Opens the store. Raises what opening a store raises."""
        from ipfs_mfs.connect import clean_up, require_store

        try:
            for point in clean_up(place):
                LOGGER.warning("cleaned up the dead mount %s", point)
            require_store(config)
            return cls(open_store(config, lock), place)
        except BaseException:
            lock.release()
            raise

    # ------------------------------------------------------------------------------- life

    def run(self, ready: Callable[[], object]) -> None:
        """Serves until the last mount is gone or a signal comes. Call it in the main thread."""
        server = ControlServer(self, self._place.socket_path)
        with _signals_to(self._wake):
            try:
                self._write_state()
                server.start()
                ready()
                self._serve()
            finally:
                with self._mounts_lock:
                    self._ending = True
                server.stop()
                self._unmount_at_end()
                LOGGER.info("closing the store")
                self.close()

    def close(self) -> None:
        """Closes the store; the ownership goes with the process."""
        self._place.state_path.unlink(missing_ok=True)
        super().close()

    def _serve(self) -> None:
        LOGGER.info("serving %s, version %s, pid %d", self.config.store, __version__, os.getpid())
        idle_until_s = time.monotonic() + IDLE_MAX_S
        while not self._should_end(idle_until_s):
            readable, _, _ = select.select([self._wake], [], [], self.config.flush_tick_s)
            if readable:
                return
            try:
                self.flush_due()
            except Exception:  # the loop's edge: a bug in a flush must not take the mounts down
                LOGGER.exception("a flush failed unexpectedly; it is tried again")
            self._compact()

    def _compact(self) -> None:
        try:
            self.compact_due(time.monotonic())
        except StoreError as error:
            # Flushes and commits say the same, and louder.
            LOGGER.info("no compaction in the background: %s", error)
        except Exception:  # the loop's edge, as above
            LOGGER.exception("a compaction failed unexpectedly")

    def _should_end(self, idle_until_s: float) -> bool:
        with self._mounts_lock:
            return self._mount is None and time.monotonic() > idle_until_s

    def _stop(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _unmount_at_end(self) -> None:
        """Programs may have files open, but a daemon that was told to end ends: what they wrote is
        synced, then the mount goes from under them."""
        active = self._mount
        if active is None:
            return
        try:
            active.mount.unmount()
        except MountBusy:
            LOGGER.warning("%s: files are open; unmounting lazily", active.point)
            active.mount.unmount(lazy=True)
        except FusefsError:
            LOGGER.exception("%s: unmounting at the end", active.point)
        active.join()

    # ----------------------------------------------------------------------------- mounts

    def mount(self, mountpoint: str, options: str) -> api.MountInfo:
        with self._mounting:
            active = self._active()
            if active is None:
                active = self._start_mount(mountpoint, options)
                return self._info_of(active, created=True)
        if active.point != mountpoint:
            raise SecondMount(
                f"this store is mounted at {active.point} already, and its daemon serves one mount",
                f"`ipfs-mfs umount {active.point}`, then mount with -o all to see every root",
            )
        return self._info_of(active, created=False)

    def _active(self) -> ActiveMount | None:
        with self._mounts_lock:
            if self._ending:
                raise DaemonEnding("the daemon is closing the store", "try again")
            return self._mount

    def _start_mount(self, mountpoint: str, options: str) -> ActiveMount:
        """A daemon without any mount has nothing to stay for, so it ends when the first fails."""
        try:
            active = ActiveMount(self, mountpoint, options)
            with self._mounts_lock:
                self._mount = active
            active.start()
        except BaseException:
            with self._mounts_lock:
                self._mount, self._ending = None, True
            self._stop()
            raise
        self._write_state()
        LOGGER.info("mounted %s with %r", mountpoint, options)
        return active

    def umount(self, mountpoint: str) -> None:
        with self._mounts_lock:
            active = self._mount
        if active is None or active.point != mountpoint:
            raise NotMounted(f"{mountpoint}: not mounted by this daemon", "see `ipfs-mfs stats`")
        active.mount.unmount()
        active.join()

    def mount_ended(self, ended: ActiveMount) -> None:
        """Called by the mount's thread, however the mount ended."""
        with self._mounts_lock:
            if self._mount is ended:
                self._mount = None
                self._ending = True
        LOGGER.info("mount %s has ended", ended.point)
        self._write_state()
        self._stop()

    def prepare_view(self, options: MountOptions) -> None:
        """With `profile=`, a root that is not there is made; else the mount says it is missing."""
        name = options.root_name
        if name is not None and options.profile is not None and not self.has_root(name):
            self.root_create(name, options.profile, None, None)

    def info(self) -> api.NodeInfo:
        log = str(log_path_of(self.config, self._place))
        return api.NodeInfo(
            version=__version__,
            pid=os.getpid(),
            store=str(self.config.store),
            daemon=True,
            log=log,
            mounts=self.mounts(),
        )

    def mounts(self) -> tuple[api.MountInfo, ...]:
        with self._mounts_lock:
            active = self._mount
        return () if active is None else (self._info_of(active, created=False),)

    def changing(self, *names: str) -> AbstractContextManager[None]:
        """Around a change of roots beside the kernel: the mount drops what it remembers of them."""
        with self._mounts_lock:
            active = self._mount
        return nullcontext() if active is None else active.mount.changing(*names)

    def snapshot_dropped(self, name: str, snapshot: str) -> None:
        with self._mounts_lock:
            active = self._mount
        if active is not None:
            active.mount.snapshot_dropped(name, snapshot)

    def _info_of(self, active: ActiveMount, created: bool) -> api.MountInfo:
        name = active.options.root_name
        if active.options.cid is not None:
            cid = active.options.cid
        else:
            cid = cids.to_text(self._latest_cid(name)) if name is not None else ""
        return api.MountInfo(
            mountpoint=active.point,
            options=active.text,
            root=name or active.options.describe(),
            cid=cid,
            created=created,
        )

    def _latest_cid(self, name: str) -> bytes:
        """As of now, or as of the last flush when the store is too full for another one: a mount
        that is up must be able to say so."""
        try:
            return self.root_cid(name)
        except (MfsError, RepoError):
            return self.roots.stat(name).cid

    def _write_state(self) -> None:
        with self._mounts_lock:
            points = () if self._mount is None else (self._mount.point,)
        log = str(log_path_of(self.config, self._place))
        self._place.write_state(owner.State(os.getpid(), str(self.config.store), log, points))


@contextmanager
def _signals_to(descriptor: int) -> Iterator[None]:
    before = {
        number: signal.signal(number, lambda *_: os.eventfd_write(descriptor, 1))
        for number in _SIGNALS
    }
    try:
        # With --foreground one may have come just before; it must not be raised in the midst of
        # serving.
        interrupt.check()
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def log_to_terminal(config: Config) -> None:
    """For --foreground."""
    logging.basicConfig(level=config.log_level.upper(), format=LOG_FORMAT, stream=sys.stderr)


def _log_to_file(config: Config, place: owner.Place) -> None:
    config.log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        log_path_of(config, place), maxBytes=LOG_SIZE_MAX_BYTES, backupCount=2, encoding="utf-8"
    )
    logging.basicConfig(level=config.log_level.upper(), format=LOG_FORMAT, handlers=[handler])


def main(arguments: list[str]) -> int:
    """The process that `mounting` starts: everything goes to the log, the outcome to the pipe."""
    config, pipe = config_of_daemon(arguments, load())
    os.set_inheritable(pipe, False)
    os.chdir("/")
    place = owner.place_of(config)
    _log_to_file(config, place)
    faulthandler.enable()

    def ready() -> None:
        os.write(pipe, READY)
        os.close(pipe)

    try:
        from ipfs_mfs.connect import lock_store

        daemon = Daemon.start(config, place, lock_store(config, place))
    except Exception as error:  # the process's edge: the starter raises it again
        from ipfs_mfs.wire import error_to_bytes

        LOGGER.exception("did not start")
        os.write(pipe, error_to_bytes(error))
        return 1
    daemon.run(ready)
    LOGGER.info("ended")
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    logging.shutdown()
    # Everything is closed. A thread of a cancelled request must not keep the process, and with it
    # the ownership of the store.
    os._exit(status)
