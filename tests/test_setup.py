"""tools/setup.sh and the Makefile: what a person meets who has only just cloned the project."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parent.parent


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH with every program of the machine, from which a test takes some away.

    Its apt-get fails: no test may install anything.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in ("/usr/bin", "/bin"):
        for program in Path(place).iterdir():
            if not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    pretend(folder, "apt-get", "exit 100")
    return folder


def take_away(tools: Path, *names: str) -> None:
    for name in names:
        (tools / name).unlink(missing_ok=True)


def pretend(tools: Path, name: str, script: str) -> None:
    take_away(tools, name)
    (tools / name).write_text(f"#!/bin/sh\n{script}\n")
    (tools / name).chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What set-up reads of a checkout, without a .venv."""
    folder = tmp_path / "checkout"
    for part in ("tools", "requirements", "blkdev/native"):
        shutil.copytree(PROJECT / part, folder / part)
    shutil.copy(PROJECT / "pyproject.toml", folder)
    return folder


def set_up(checkout: Path, path: Path, purpose: str = "run") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shutil.which("bash") or "bash", checkout / "tools/setup.sh", purpose],
        env=os.environ | {"PATH": str(path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_user_without_sudo_is_told_what_root_must_run(checkout, tools):
    pretend(tools, "id", "echo 1000")
    take_away(tools, "fusermount3", "sudo")
    answer = set_up(checkout, tools)
    assert answer.returncode == 1
    assert "setup: needs fuse3: fusermount3" in answer.stdout
    assert "as root run: apt-get install --no-install-recommends fuse3" in answer.stderr
    assert not (checkout / ".venv").exists()


def test_system_without_apt_is_told_what_is_missing(checkout, tools):
    take_away(tools, "fusermount3", "getfattr", "apt-get")
    answer = set_up(checkout, tools)
    assert answer.returncode == 1
    assert "needs fuse3" in answer.stdout
    assert "needs attr" in answer.stdout
    assert "this is no Debian" in answer.stderr


def test_apt_that_fails_is_reported_with_the_command(checkout, tools):
    pretend(tools, "id", "echo 0")
    take_away(tools, "fusermount3", "getfattr")
    answer = set_up(checkout, tools)
    assert answer.returncode == 1
    assert "apt-get update failed" in answer.stderr
    assert "apt-get install --no-install-recommends fuse3 attr" in answer.stderr


def test_user_with_sudo_installs_by_it(checkout, tools):
    pretend(tools, "id", "echo 1000")
    pretend(tools, "sudo", f'echo "$@" >>{checkout}/sudo-calls')
    take_away(tools, "getfattr")
    pretend_python(checkout)
    assert set_up(checkout, tools).returncode == 0
    calls = (checkout / "sudo-calls").read_text().splitlines()
    assert calls[0].startswith("apt-get update")
    assert calls[1].startswith("env DEBIAN_FRONTEND=noninteractive apt-get install")
    assert calls[1].endswith(" attr")


def test_unknown_purpose_is_wrong_usage(checkout, tools):
    answer = set_up(checkout, tools, "everything")
    assert answer.returncode == 1
    assert "usage: tools/setup.sh run|test" in answer.stderr


def pretend_python(checkout: Path) -> Path:
    """A .venv whose Python installs everything at once; returns the file where it notes what."""
    note = checkout / "calls"
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >>{note}\n')
    python.chmod(0o755)
    return note


def test_second_set_up_says_and_does_nothing(checkout, tools):
    note = pretend_python(checkout)
    assert "setup: done" in set_up(checkout, tools, "test").stdout
    assert "requirements/dev.txt" in note.read_text()
    note.unlink()
    for purpose in ("test", "run"):
        answer = set_up(checkout, tools, purpose)
        assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert not note.exists()


def test_set_up_to_run_leaves_the_tests_packages_out(checkout, tools):
    note = pretend_python(checkout)
    set_up(checkout, tools, "run")
    assert "requirements/runtime.txt" in note.read_text()
    assert "requirements/dev.txt" not in note.read_text()


def test_every_list_is_installed_by_its_hashes(checkout, tools):
    note = pretend_python(checkout)
    set_up(checkout, tools, "test")
    calls = [call for call in note.read_text().splitlines() if "pip install" in call]
    assert calls
    assert all("--require-hashes" in call for call in calls if "--requirement" in call)
    assert all("--no-index" in call for call in calls if "--editable" in call)


def test_changed_pin_is_installed(checkout, tools):
    note = pretend_python(checkout)
    set_up(checkout, tools, "test")
    note.unlink()
    with (checkout / "requirements/dev.txt").open("a") as lock:
        lock.write("# another pin\n")
    assert "setup: done" in set_up(checkout, tools, "test").stdout
    assert note.exists()


def test_failed_install_leaves_no_stamp(checkout, tools):
    pretend_python(checkout)
    (checkout / ".venv/bin/python").write_text('#!/bin/sh\n[ "$1" = -c ]\n')
    answer = set_up(checkout, tools)
    assert answer.returncode == 1
    assert "pip failed" in answer.stderr
    assert not list((checkout / ".venv").glob(".ready*"))


def test_help_lists_every_target():
    answer = subprocess.run(
        ["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    listed = set(re.findall(r"^  make ([a-z-]+) ", answer.stdout, re.MULTILINE))
    assert listed >= {
        "setup", "mount", "umount", "test", "test-quick", "check", "bench", "peers", "help",
    }  # fmt: skip
    phony = re.search(r"\.PHONY: ((?:.|\\\n)*?)\n\n", (PROJECT / "Makefile").read_text())
    assert phony
    targets = set(phony[1].replace("\\\n", " ").split())
    assert targets - listed == {"setup-test"}
