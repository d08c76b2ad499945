"""The commands of docs/guide/care.md, run in order, as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ipfs_mfs.program import World

GUIDE = Path(__file__).parent.parent / "docs/guide/care.md"

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path):
    made = World.make(tmp_path)
    commands = tmp_path / "bin"
    commands.mkdir()
    launcher = commands / "ipfs-mfs"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ipfs_mfs.main "$@"\n')
    launcher.chmod(0o755)
    made.environment |= {"PATH": f"{commands}:{os.environ['PATH']}"}
    yield made
    made.clean_up()


def test_every_command_of_the_guide_does_what_it_says(world):
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    done = subprocess.run(
        ["bash", "-c", "set -euo pipefail\n" + "\n".join(blocks)],
        cwd=world.base,
        env=world.environment,
        capture_output=True,
        text=True,
    )
    story = done.stdout + done.stderr
    assert done.returncode == 0, story
    assert "Traceback" not in story
    lines = done.stdout.splitlines()
    assert lines[1].startswith("clean: ")
    assert any(re.match(r"damaged: device offset \d+ bafk\w+: a value fails", line) or
               re.match(r"damaged: device offset \d+ bafk\w+: its value fails", line)
               for line in lines)  # fmt: skip
    assert sum(line.startswith("damaged: pin ") for line in lines) == 2, "before and after"
    assert any(line.startswith("repaired: device offset ") for line in lines)
    assert "repair: 1 records dropped" in done.stdout
    assert lines[-1].startswith("clean: ")
