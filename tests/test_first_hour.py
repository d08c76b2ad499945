"""The commands of docs/guide/first-hour.md, run in order, with real input, as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ipfs_mfs.program import World

REPOSITORY = Path(__file__).parent.parent
GUIDE = REPOSITORY / "docs/guide/first-hour.md"

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.slow]


@pytest.fixture
def world(tmp_path):
    made = World.make(tmp_path)
    (tmp_path / "mnt").rmdir()
    commands = tmp_path / "bin"
    commands.mkdir()
    launcher = commands / "ipfs-mfs"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ipfs_mfs.main "$@"\n')
    launcher.chmod(0o755)
    made.environment |= {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "IPFS_MFS_STORE_SIZE": "2G",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    yield made
    made.clean_up()


def script() -> str:
    """All fenced `sh` blocks as one program that stops at the first failure."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    return "set -euo pipefail\n" + "\n".join(
        f"echo '--- block {n}' >&2\n{b}" for n, b in enumerate(blocks)
    )


@pytest.mark.timeout(600)
def test_every_command_of_the_guide_does_what_it_says(world):
    done = subprocess.run(
        ["bash", "-c", script()],
        cwd=world.base,
        env=world.environment,
        capture_output=True,
        text=True,
        errors="replace",
    )
    story = done.stdout + done.stderr
    assert done.returncode == 0, story[-4000:]
    assert "Traceback" not in story
    assert "made a store of 2.0 GiB" in done.stderr
    assert "is up already" in done.stdout
    assert done.stdout.count("clean: ") == 2
    assert "synced\n" in done.stdout
    assert "ok\n" in done.stdout, "the integrity check of SQLite"
    log = world.log()
    assert "ERROR" not in log, log
    assert "Traceback" not in log, log
