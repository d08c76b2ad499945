"""Kubo's datastores, in Go: one process each of the program that `make peers` builds of `go/`.

It makes the same blocks from the same seed, times its own work and reports the seconds, so that
neither the transfer of blocks nor Python is part of what is measured.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.race import Timed
from benchmarks.workloads import Blocks

KINDS = {
    "go-ds-flatfs": ("flatfs", True),
    "go-ds-flatfs, no sync": ("flatfs", False),
    "go-ds-leveldb": ("leveldb", True),
    "go-ds-badger4": ("badger4", True),
    "go-ds-pebble": ("pebble", True),
}
"""Contestants: the kind, and whether what is put survives a power cut."""

CLOSE_TIMEOUT_S = 60
_CHECKOUT = Path(__file__).parents[2]


class DatastoreError(Exception):
    """The program refused a request, or ended."""


class GoDatastore:
    """A contestant; see `benchmarks.contest`. Made in an empty folder of its own."""

    def __init__(self, kind: str, folder: Path, *, synced: bool = True) -> None:
        self._process = subprocess.Popen(
            [program()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._opening = {"kind": kind, "folder": str(folder), "sync": synced}
        try:
            self.ask("open", **self._opening)
        except BaseException:
            self._end()
            raise

    def prepare(self, blocks: Blocks) -> None:
        workload = blocks.workload
        self.ask(
            "prepare",
            seed=blocks.seed,
            size=workload.size_bytes,
            batch=workload.batch_count,
            batches=workload.batches,
        )

    def put(self) -> Timed:
        return _timed(self.ask("put"))

    def get(self, order: Sequence[int], *, each: bool = False) -> Timed:
        return _timed(self.ask("get", order=list(order), each=each))

    def has(self, order: Sequence[int], *, absent: bool = False) -> Timed:
        answer = self.ask("has", order=list(order), absent=absent)
        if answer["count"] != (0 if absent else len(order)):
            raise DatastoreError(f"has found {answer['count']} of {len(order)}")
        return Timed(len(order), answer["seconds"])

    def delete(self) -> Timed:
        return _timed(self.ask("delete"))

    def keys(self) -> list[bytes]:
        """Of the prepared blocks."""
        return [bytes.fromhex(key) for key in self.ask("keys")["keys"]]

    def reopen(self) -> None:
        self.ask("close")
        self.ask("open", **self._opening)

    def close(self) -> None:
        try:
            self.ask("close")
        finally:
            self._end()

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """One request and its answer. Raises DatastoreError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise DatastoreError(f"{do}: the program ended") from None
        line = self._process.stdout.readline()
        if not line:
            raise DatastoreError(f"{do}: the program ended")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("error"):
            raise DatastoreError(f"{do}: {answer['error']}")
        return answer

    def _end(self) -> None:
        """End the process, which ends by itself when nobody can ask it any more."""
        try:
            self._process.communicate(timeout=CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def program() -> Path:
    """Where `make peers` puts it, by what it was built from, so that every checkout has its own;
    it need not be there."""
    source = sorted((_CHECKOUT / "benchmarks/rivals/go").glob("*.go"))
    hashed = hashlib.sha256()
    for path in (*source, _CHECKOUT / "tests/peers/versions.sh"):
        hashed.update(path.read_bytes())
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    peers = Path(os.environ.get("IPFS_MFS_PEERS") or Path(cache) / "ipfs-mfs-peers")
    return peers / "bin" / f"datastores-{hashed.hexdigest()[:16]}"


def _timed(answer: dict[str, Any]) -> Timed:
    return Timed(answer["count"], answer["seconds"])
