"""Programs that import files: each call is one process, as a user would start it.

When `add` returns, the blocks survive a power cut, with every contestant whose name does not say
otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

STORE_SIZE = "16G"


class Importer(Protocol):
    """One contestant; made in an empty folder of its own."""

    def __init__(self, folder: Path) -> None: ...

    def add(self, path: Path) -> str:
        """Import a file, or a folder with all that is in it; returns the root's CID."""

    def only_hash(self, path: Path) -> str:
        """The CID that `add` would give; stores nothing."""


class IpfsMfs:
    """Our program on a sparse file, no daemon."""

    def __init__(self, folder: Path) -> None:
        self._program = str(Path(sys.executable).with_name("ipfs-mfs"))
        self._store = str(folder / "store.blk")
        _run([self._program, "format", self._store, "--size", STORE_SIZE], os.environ)

    def add(self, path: Path) -> str:
        command = [self._program, "add", "--store", self._store, "-Q", "-r", str(path)]
        return _run(command, os.environ)

    def only_hash(self, path: Path) -> str:
        return _run([self._program, "add", "-n", "-Q", str(path)], os.environ)


class Kubo:
    """Kubo with its default datastore and the same UnixFS profile, offline, unpinned."""

    synced = True

    def __init__(self, folder: Path) -> None:
        self._program = str(kubo_program())
        self._environment = {**os.environ, "IPFS_PATH": str(folder / "kubo")}
        self._call("init", "--profile=unixfs-v1-2025")
        path = folder / "kubo" / "config"
        config = json.loads(path.read_text())
        for mount in config["Datastore"]["Spec"]["mounts"]:
            child = mount.get("child", mount)
            if child.get("type") == "flatfs":
                child["sync"] = self.synced
        path.write_text(json.dumps(config))

    def add(self, path: Path) -> str:
        return self._call("add", "-Q", "-r", "--pin=false", "--offline", str(path))

    def only_hash(self, path: Path) -> str:
        return self._call("add", "-n", "-Q", "--offline", str(path))

    def _call(self, *arguments: str) -> str:
        return _run([self._program, *arguments], self._environment)


class KuboUnsynced(Kubo):
    """The same without flushes, which is Kubo's default."""

    synced = False


def kubo_program() -> Path:
    """Where `make peers` puts Kubo; it need not be there."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("IPFS_MFS_PEERS") or Path(cache) / "ipfs-mfs-peers") / "bin" / "ipfs"


def importers() -> dict[str, type[Importer]]:
    """Those that are installed."""
    found: dict[str, type[Importer]] = {"ipfs-mfs": IpfsMfs}
    if kubo_program().exists():
        found["kubo, sync"] = Kubo
        found["kubo, no sync"] = KuboUnsynced
    return found


def _run(command: list[str], environment: os._Environ[str] | dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout.strip()
