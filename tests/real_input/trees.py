"""Trees that programs and people made, not tests: Python's library, the C headers, a repository.

Each is frozen first: a copy outside of the mount that nobody changes while a test compares. A
Python that is at work writes `.pyc` files, and a package manager may be at work as well.
"""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

LIBRARY = Path(sysconfig.get_path("stdlib"))
HEADERS = Path("/usr/include")
HEADERS_MAX = 3000
NOT_LIBRARY = shutil.ignore_patterns(
    "site-packages", "dist-packages", "config-*", "*.opt-?.pyc", "*.pyc.*", ".*"
)
GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def freeze_library(target: Path) -> None:
    """The library of the Python that runs: some 4,000 files, modules, bytecode, shared objects."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        links = {name for name in names if Path(folder, name).is_symlink()}
        return set(NOT_LIBRARY(folder, names)) | links

    shutil.copytree(LIBRARY, target, ignore=ignored)
    drop_empty_folders(target)


def freeze_headers(target: Path) -> None:
    """The C headers with their symbolic links; of a machine with very many, the first ones."""
    kept = 0
    for folder, subfolders, names in os.walk(HEADERS):
        subfolders.sort()
        for name in sorted(names):
            if kept == HEADERS_MAX:
                return
            place = target / Path(folder).relative_to(HEADERS) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(folder, name), place, follow_symlinks=False)
            kept += 1


def make_repository(target: Path, library: Path) -> None:
    """A repository of real source with a little history: files come, change, move and go."""
    shutil.copytree(library / "email", target / "email")
    git(target, "init", "--quiet", "--initial-branch=main")
    commit(target, "Take email")
    shutil.copytree(library / "json", target / "json")
    (target / "email/utils.py").write_text("changed = True\n")
    commit(target, "Take json, change email")
    (target / "json/tool.py").rename(target / "tool.py")
    shutil.rmtree(target / "email/mime")
    commit(target, "Move a file, drop a folder")
    # rsync compares whole seconds: a folder made in the same second as its copy keeps another time.
    for number, path in enumerate([target, *target.rglob("*")]):
        os.utime(path, ns=(1, 10**18 + number), follow_symlinks=False)


def git(folder: Path, *arguments: str | Path) -> str:
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", *map(str, arguments)],
        cwd=folder,
        env=os.environ | GIT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", f"--message={message}")


def drop_empty_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        if not os.listdir(folder):  # noqa: PTH208  # a list is what is wanted here
            Path(folder).rmdir()


def files_of(top: Path) -> list[Path]:
    return sorted(path for path in top.rglob("*") if path.is_file() and not path.is_symlink())


def assert_same(left: Path, right: Path) -> None:
    """The same content, permissions, owners, times and links."""
    assert_same_content(left, right)
    here, there = metadata(left), metadata(right)
    assert here.keys() == there.keys()
    differing = [
        f"{path}: {here[path]} {there[path]}" for path in here if here[path] != there[path]
    ]
    assert not differing, "\n".join(differing[:20])


def assert_same_content(left: Path, right: Path) -> None:
    """`diff -r` is empty."""
    command: list[str | Path] = ["diff", "-r", "--no-dereference", left, right]
    done = subprocess.run(command, capture_output=True, timeout=100)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[:2000]


def metadata(top: Path) -> dict[str, tuple]:
    """By path: what `cp -a` promises to keep, to the nanosecond."""
    found = {}
    for path in [top, *top.rglob("*")]:
        status = path.lstat()
        target = path.readlink() if path.is_symlink() else None
        size = 0 if path.is_dir() else status.st_size
        facts = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, size, target)
        found[str(path.relative_to(top))] = facts
    return found
