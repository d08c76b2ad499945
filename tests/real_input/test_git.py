"""A git repository lives on the mount: cloned, checked, committed to, packed, pushed."""

import pytest

from tests.real_input import trees
from tests.real_input.trees import git

pytestmark = [pytest.mark.needs_fuse, pytest.mark.slow]


@pytest.fixture
def clone(mounted, repository):
    target = mounted.mountpoint / "clone"
    git(mounted.base, "clone", "--quiet", "--no-local", repository, target)
    return target


def assert_sound(folder):
    """`fsck` names lost objects on standard output and fails on damaged ones."""
    assert git(folder, "fsck", "--full", "--strict", "--no-dangling") == ""


def test_a_clone_is_sound_and_clean(clone, repository):
    assert_sound(clone)
    assert git(clone, "status", "--porcelain") == ""
    assert git(clone, "rev-parse", "HEAD^{tree}") == git(repository, "rev-parse", "HEAD^{tree}")
    assert git(clone, "rev-list", "--count", "HEAD") == "3"


def test_work_on_the_mount_is_kept_over_a_remount(mounted, clone):
    (clone / "new.py").write_text("new = True\n")
    git(clone, "mv", "json", "renamed")
    trees.commit(clone, "Work on the mount")
    git(clone, "checkout", "--quiet", "-b", "other", "HEAD~2")
    git(clone, "checkout", "--quiet", "main")
    git(clone, "gc", "--quiet", "--prune=now")
    head = git(clone, "rev-parse", "HEAD")
    mounted.run("umount", mounted.mountpoint)
    mounted.run("mount", mounted.mountpoint)
    assert git(clone, "rev-parse", "HEAD") == head
    assert git(clone, "status", "--porcelain") == ""
    assert (clone / "renamed/decoder.py").exists()
    assert_sound(clone)


def test_a_bare_repository_takes_a_push_and_gives_it_back(mounted, clone, tmp_path):
    bare = mounted.mountpoint / "bare.git"
    git(mounted.mountpoint, "init", "--quiet", "--bare", "--initial-branch=main", bare)
    git(clone, "push", "--quiet", bare, "main")
    assert_sound(bare)
    git(tmp_path, "clone", "--quiet", "--no-local", bare, tmp_path / "back")
    assert git(tmp_path / "back", "rev-parse", "HEAD") == git(clone, "rev-parse", "HEAD")


def test_a_commit_survives_the_kill_of_the_daemon_once_it_is_synced(mounted, clone):
    (clone / "new.py").write_text("new = True\n")
    trees.commit(clone, "Before the kill")
    head = git(clone, "rev-parse", "HEAD")
    mounted.run("sync")
    mounted.kill_daemon()
    mounted.run("mount", mounted.mountpoint)
    assert git(clone, "rev-parse", "HEAD") == head
    assert git(clone, "status", "--porcelain") == ""
    assert_sound(clone)
    assert mounted.run("check", "--json").record["findings"] == []
