"""Who owns a store on this machine: lock, state file, control socket.

    DIR/ID.lock    flock held by the owning process, daemon or command, for its whole life
    DIR/ID.json    what the owning daemon says about itself (`State`); only the holder writes it
    DIR/ID.sock    the daemon's control socket

DIR is mode 0700 and belongs to this user. ID is derived from the device number of a block device
or the real path of a file, so that every process computes the same one.

Invariants:
- the kernel releases the lock when its holder dies, however it dies. So whoever gets the lock may
  remove a state file, a socket and dead mount points that it finds.
- the lock file is never removed: two processes could then hold locks on different inodes.
"""

import fcntl
import hashlib
import json
import os
import socket
import stat
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ipfs_mfs.config import Config, socket_dir
from ipfs_mfs.errors import RuntimeDirUnsafe

POLL_INTERVAL_S = 0.02


@dataclass(frozen=True, slots=True)
class State:
    """What a daemon tells those who look for it. `mountpoints` are absolute."""

    pid: int
    store: str
    log: str
    mountpoints: tuple[str, ...]


class Lock:
    """The ownership of a store. Held until `release`, or until the process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def none(cls) -> "Lock":
        """Owns nothing; for who keeps the real one elsewhere."""
        return cls(-1)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass(frozen=True, slots=True)
class Place:
    """Where the owner of one store is to be found."""

    store: Path
    directory: Path
    identity: str

    @property
    def lock_path(self) -> Path:
        return self.directory / f"{self.identity}.lock"

    @property
    def start_lock_path(self) -> Path:
        """Held by a command while it starts a daemon, so that two of them start one."""
        return self.directory / f"{self.identity}.start"

    @property
    def state_path(self) -> Path:
        return self.directory / f"{self.identity}.json"

    @property
    def socket_path(self) -> Path:
        return self.directory / f"{self.identity}.sock"

    def try_lock(self) -> Lock | None:
        """The ownership, or None while another process has it."""
        return _try_lock(self.lock_path)

    def wait_for_lock(self, path: Path, deadline_s: float) -> Lock | None:
        """Polls until `deadline_s` of the monotonic clock."""
        while True:
            lock = _try_lock(path)
            if lock is not None or time.monotonic() >= deadline_s:
                return lock
            time.sleep(POLL_INTERVAL_S)

    def owner_pid(self) -> int:
        """The pid that the holder of the lock wrote into it; 0 when it did not yet."""
        try:
            return int(self.lock_path.read_text(encoding="ascii") or 0)
        except (OSError, ValueError):
            return 0

    def read_state(self) -> State | None:
        try:
            values = json.loads(self.state_path.read_text(encoding="utf-8"))
            return State(**(values | {"mountpoints": tuple(values["mountpoints"])}))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write_state(self, state: State) -> None:
        """For the holder of the lock only. Replaced as a whole: readers see all or nothing."""
        temporary = self.state_path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(state)), encoding="utf-8")
        temporary.replace(self.state_path)

    def remove_leavings(self) -> State | None:
        """For the holder of the lock only: removes what a dead owner left and returns its state."""
        state = self.read_state()
        self.state_path.unlink(missing_ok=True)
        self.socket_path.unlink(missing_ok=True)
        return state

    def answers(self) -> bool:
        """Whether somebody listens on the control socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.socket_path))
            except OSError:
                return False
            return True


def place_of(config: Config) -> Place:
    """The place for the configured store. Raises RuntimeDirUnsafe."""
    directory = socket_dir(config)
    _make_private(directory)
    return Place(config.store, directory, _identity(config.store))


def known_places(config: Config) -> list[Place]:
    """Places of all daemons that left a state file, dead or alive."""
    found = []
    for path in sorted(socket_dir(config).glob("*.json")):
        place = Place(Path(), path.parent, path.stem)
        state = place.read_state()
        if state is not None:
            found.append(Place(Path(state.store), path.parent, path.stem))
    return found


def _identity(store: Path) -> str:
    real = os.path.realpath(store)
    try:
        status = Path(real).stat()
    except OSError:
        status = None
    if status is not None and stat.S_ISBLK(status.st_mode):
        name = f"device:{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    else:
        name = f"file:{real}"
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
    except OSError as error:
        raise RuntimeDirUnsafe(
            f"{directory}: {error.strerror}", "set IPFS_MFS_RUNTIME_DIR to a directory of yours"
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise RuntimeDirUnsafe(
            f"{directory} belongs to somebody else",
            "set IPFS_MFS_RUNTIME_DIR to a directory of yours",
        )
    if status.st_mode & 0o077:
        directory.chmod(0o700)


def _try_lock(path: Path) -> Lock | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return Lock(descriptor)
