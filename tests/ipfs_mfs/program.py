"""Runs the real program in a world of its own: own home, own store, own runtime directory.

Everything that is started is ended by its pid, and every mount is taken away at the end, whatever
the test did.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from fusefs.mountpoint import FSTYPE, detach, mount_table

REPOSITORY = Path(__file__).parent.parent.parent
PROGRAM = [sys.executable, "-m", "ipfs_mfs.main"]
TIMEOUT_S = 90


@dataclass
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def records(self):
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def record(self):
        (only,) = self.records
        return only


@dataclass
class World:
    """The environment of one test."""

    base: Path
    runtime: Path
    environment: dict[str, str]
    started: list[subprocess.Popen] = field(default_factory=list)

    @classmethod
    def make(cls, base: Path) -> "World":
        # The socket's path must be short, and pytest's directories are long.
        runtime = Path(tempfile.mkdtemp(prefix="ipfs-mfs-run-"))
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("IPFS_MFS")
        }
        environment |= {
            "HOME": str(base),
            "XDG_DATA_HOME": str(base / "data"),
            "XDG_CONFIG_HOME": str(base / "config"),
            "XDG_STATE_HOME": str(base / "state"),
            "IPFS_MFS_RUNTIME_DIR": str(runtime),
            "IPFS_MFS_STORE_SIZE": "256M",
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "error",
        }
        (base / "mnt").mkdir()
        return cls(base, runtime, environment)

    @property
    def store(self) -> Path:
        """The default store."""
        return self.base / "data/ipfs-mfs/store.blk"

    @property
    def mountpoint(self) -> Path:
        return self.base / "mnt"

    def run(self, *arguments, status=0, stdin=None, timeout_s=TIMEOUT_S, **environment) -> Done:
        """Runs a command to its end. Fails on another exit status and on any traceback."""
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            cwd=self.base,
            env=self.environment | environment,
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
        )
        out, err = (os.fsdecode(stream) for stream in (done.stdout, done.stderr))
        assert "Traceback" not in err, err
        assert done.returncode == status, (done.returncode, out, err)
        if status:
            assert err.splitlines()[-1].startswith("ipfs-mfs: "), err
        return Done(done.returncode, out, err)

    def start(self, *arguments, **options) -> subprocess.Popen:
        """Starts a command and leaves it running."""
        process = subprocess.Popen(
            [*PROGRAM, *map(str, arguments)],
            cwd=self.base,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        self.started.append(process)
        return process

    def interrupted(self, *arguments, delay_s, number=signal.SIGINT) -> int:
        """Starts a command and ends it `delay_s` after it is ready for signals; its exit status."""
        process = self.start(*arguments)
        wait_until(lambda: process.poll() is not None or catches(process.pid, signal.SIGTERM))
        time.sleep(delay_s)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        text = os.fsdecode(err)
        assert process.returncode in (0, 1), (process.returncode, text)
        assert "Traceback" not in text, text
        assert process.returncode == 0 or text.splitlines()[-1].startswith("ipfs-mfs: "), text
        return process.returncode

    def states(self) -> list[dict]:
        return [json.loads(path.read_text()) for path in self.runtime.glob("*.json")]

    def daemon_pid(self) -> int:
        (state,) = self.states()
        return state["pid"]

    def kill_daemon(self) -> int:
        """kill -9, and wait until it is really gone."""
        pid = self.daemon_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_running(pid))
        return pid

    def log(self) -> str:
        return "".join(path.read_text() for path in (self.base / "state").rglob("*.log"))

    def clean_up(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for state in self.states():
            if is_running(state["pid"]):
                os.kill(state["pid"], signal.SIGKILL)
                wait_until(lambda pid=state["pid"]: not is_running(pid))
        for entry in mount_table():
            if entry.fstype == FSTYPE and entry.path.startswith(str(self.base)):
                detach(entry.path)
        for path in self.runtime.iterdir():
            path.unlink()
        self.runtime.rmdir()


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler of its own for a signal (proc(5), SigCgt)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def is_running(pid: int) -> bool:
    """False for a zombie too: it has given everything back."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition, timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.02)
