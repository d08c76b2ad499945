"""Mounts for tests, each served by a process of its own and always cleaned up."""

from __future__ import annotations

import ast
import hashlib
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from blkdev.device import open_device
from blkdev.store import Store
from fusefs.options import KERNEL, PYFUSE3
from tests.users import let_others_through

REPOSITORY = Path(__file__).resolve().parents[2]
ANSWER_DEADLINE_S = 40.0


class Server:
    """A serving process."""

    def __init__(self, point: Path, options: str, store: str) -> None:
        self.point = point
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fusefs.serve", str(point), options, store],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_answers, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_answers(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)

    def line(self) -> str:
        line = self.lines.get(timeout=ANSWER_DEADLINE_S)
        assert line is not None, f"server died: {self.errors()}"
        return line

    def wait_ready(self) -> Server:
        line = self.line()
        assert line == "ready", f"{line}: {self.errors()}"
        return self

    def errors(self) -> str:
        self.process.poll()
        return "".join(self.log)

    def ask(self, expression: str) -> Any:
        """Evaluate in the server; raises AssertionError with its exception's text."""
        answer = self.ask_raw(expression)
        assert answer.startswith("= "), answer
        try:
            return ast.literal_eval(answer[2:])
        except (ValueError, SyntaxError):
            return answer[2:]

    def ask_raw(self, expression: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.line()

    def wait_ended(self) -> str:
        """What the serving process said last."""
        last = ""
        while (line := self.lines.get(timeout=ANSWER_DEADLINE_S)) is not None:
            last = line
        self.process.wait(ANSWER_DEADLINE_S)
        for reader in self._readers:
            reader.join(ANSWER_DEADLINE_S)
        return last

    def terminate(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        return self.wait_ended()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(ANSWER_DEADLINE_S)
        for reader in self._readers:
            reader.join(ANSWER_DEADLINE_S)


class Mounts:
    """Starts servers; `finish` ends them and removes whatever mount is left."""

    def __init__(self, folder: Path, transport: str) -> None:
        self.folder = folder
        self._transport = transport
        self.point = folder / "mnt"
        self.point.mkdir()
        self.store = folder / "store.blk"
        self._servers: list[Server] = []

    def start(self, options: str = "", *, store: str | Path | None = None) -> Server:
        told = ",".join(filter(None, [options, f"transport={self._transport}"]))
        server = Server(self.point, told, str(store or self.store))
        self._servers.append(server)
        return server

    def mount(self, options: str = "", *, store: str | Path | None = None) -> Server:
        return self.start(options, store=store).wait_ready()

    def finish(self) -> None:
        for server in self._servers:
            if server.process.poll() is None:
                server.process.kill()
            server.process.wait(ANSWER_DEADLINE_S)
            for stream in (server.process.stdin, server.process.stdout, server.process.stderr):
                if stream is not None:
                    stream.close()
        while str(self.point) in Path("/proc/self/mountinfo").read_text():
            tool = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
            subprocess.run([*tool, str(self.point)], check=True)
        if self.store.exists():
            self.check()

    def check(self) -> None:
        """What the tests left on the device is sound, to the last byte."""
        store = Store.open(open_device(self.store))
        try:
            report = store.check()
            assert report.ok, report.findings
        finally:
            store.close()


@pytest.fixture(scope="module", params=[PYFUSE3, KERNEL])
def transport(request: pytest.FixtureRequest) -> str:
    """Everything that is mounted is mounted in both ways."""
    return request.param


@pytest.fixture
def mounts(tmp_path: Path, transport: str):
    """Nothing is mounted yet."""
    mounts = Mounts(tmp_path, transport)
    yield mounts
    mounts.finish()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, transport: str):
    """One root, mounted once for all tests of a module that need nothing of their own."""
    folder = tmp_path_factory.mktemp("shared")
    mounts = Mounts(folder, transport)
    options = ""
    if os.geteuid() == 0:
        options = "allow_other,suid"
        let_others_through(folder)
    server = mounts.mount(options)
    yield server
    try:
        assert server.ask("counters.unexpected_errors") == 0, server.errors()
        assert server.terminate() == "ended"
    finally:
        mounts.finish()


@pytest.fixture
def mnt(server: Server, request: pytest.FixtureRequest) -> Path:
    """A folder on the shared mount for this test alone."""
    digest = hashlib.sha256(request.node.nodeid.encode()).hexdigest()
    folder = server.point / digest[:16]
    folder.mkdir()
    return folder


@pytest.fixture
def fake(mounts: Mounts) -> Server:
    """Trees in RAM that misbehave on request, mounted."""
    return mounts.mount(store="fake")
