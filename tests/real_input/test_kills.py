"""The daemon is killed again and again while a program writes: what `fsync` promised is there."""

import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.real_input import writer as writer_module
from tests.real_input.writer import LINE_SIZE_BYTES, LOG, log_line

pytestmark = [pytest.mark.needs_fuse, pytest.mark.slow]

KILLS = 10
LONGEST_S = 0.8


class Promises:
    """What the writer was told, over all its lives."""

    def __init__(self) -> None:
        self.files: dict[str, set[str]] = {}
        """By name: the digest that is there, or two of them while one replaces the other."""
        self.lines_count = 0

    def hear(self, said: str) -> None:
        """A last line that was cut short said nothing."""
        begun: dict[str, str] = {}
        for line in said.splitlines(keepends=True):
            if not line.endswith("\n"):
                break
            facts = json.loads(line)
            if "begin" in facts:
                begun = {facts["begin"]: facts["sha256"]}
            elif "done" in facts:
                self.files[facts["done"]] = {facts["sha256"]}
                begun = {}
            else:
                self.lines_count = facts["logged"]
        for name, digest in begun.items():
            if name in self.files:
                self.files[name].add(digest)

    def assert_kept(self, folder: Path) -> None:
        for name, digests in self.files.items():
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            assert digest in digests, f"{name} is not what was acknowledged"
            self.files[name] = {digest}
        log = (folder / LOG).read_bytes()
        count = len(log) // LINE_SIZE_BYTES
        assert count >= self.lines_count
        assert log[: self.lines_count * LINE_SIZE_BYTES] == b"".join(
            map(log_line, range(self.lines_count))
        )


def write_until_killed(world, folder, seed):
    """Runs the writer, kills the daemon at a random moment; what the writer said until then."""
    command = [sys.executable, writer_module.__file__, str(folder), str(seed)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        said = process.stdout.readline()
        time.sleep(random.Random(seed).uniform(0.05, LONGEST_S))
        world.kill_daemon()
        # The writer ends of its own: its next call on the mount fails.
        said += process.stdout.read()
    return said


def test_what_fsync_acknowledged_survives_ten_kills(mounted):
    folder = mounted.mountpoint / "written"
    folder.mkdir()
    (folder / LOG).touch()
    mounted.run("sync")
    promises = Promises()
    for seed in range(KILLS):
        promises.hear(write_until_killed(mounted, folder, seed))
        mounted.run("mount", mounted.mountpoint)
        promises.assert_kept(folder)
        assert mounted.run("check", "--json").record["findings"] == []
        # An append that was cut short may have left half a line or none; the next one starts clean.
        with (folder / LOG).open("r+b") as file:
            file.truncate(promises.lines_count * LINE_SIZE_BYTES)
    assert len(promises.files) > KILLS
    assert promises.lines_count > KILLS
    mounted.run("umount", mounted.mountpoint)
    assert mounted.run("check", "--json").record["findings"] == []
    mounted.run("mount", mounted.mountpoint)
    promises.assert_kept(folder)


@pytest.mark.parametrize("lost", ["file", "line", "bit"])
def test_the_judge_of_this_test_notices_a_loss(tmp_path, lost):
    content = b"content"
    digest = hashlib.sha256(content).hexdigest()
    promises = Promises()
    said = [
        {"begin": "a", "sha256": digest},
        {"done": "a", "sha256": digest},
        {"logged": 1},
        {"begin": "b", "sha256": digest},
    ]
    promises.hear("".join(json.dumps(facts) + "\n" for facts in said) + '{"done": "b')
    (tmp_path / "a").write_bytes(content)
    (tmp_path / LOG).write_bytes(log_line(0))
    promises.assert_kept(tmp_path)
    if lost == "file":
        (tmp_path / "a").unlink()
    elif lost == "line":
        (tmp_path / LOG).write_bytes(b"")
    else:
        (tmp_path / "a").write_bytes(b"bontent")
    with pytest.raises((AssertionError, FileNotFoundError)):
        promises.assert_kept(tmp_path)
