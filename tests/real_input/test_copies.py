"""Real trees come in by the tools that people use: the same bytes, metadata and CIDs come out."""

import os
import shutil
import subprocess

import pytest

from tests.real_input import trees

pytestmark = [pytest.mark.needs_fuse, pytest.mark.slow]


def cid_on_the_mount(path):
    """By the tool of the README, as a user would ask."""
    command = ["getfattr", "--only-values", "-n", "ipfs.cid", path]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout.decode()


def cid_by_add(world, path):
    return world.run("add", "-n", "-Q", "-r", "-H", path).out.strip()


def assert_faithful(world, original, copy):
    trees.assert_same(original, copy)
    assert cid_on_the_mount(copy) == cid_by_add(world, original)


@pytest.fixture(scope="module")
def copied(shared, library):
    """The library on the mount, by `cp -a`."""
    target = shared.mountpoint / "cp"
    subprocess.run(["cp", "-a", library, target], check=True, timeout=100)
    return target


def test_the_library_is_a_real_tree(library):
    files = trees.files_of(library)
    assert len(files) > 1000
    assert len({path.suffix for path in files}) > 5
    assert max(path.stat().st_size for path in files) > 1 << 20, "a file of several chunks"


def test_a_tree_copied_by_cp_is_the_same(shared, library, copied):
    assert_faithful(shared, library, copied)


def test_every_folder_has_the_cid_that_add_gives_it(shared, library, copied):
    folders = [path for path in library.iterdir() if path.is_dir()]
    lines = shared.run("add", "-n", "-r", "-H", library).out.splitlines()
    added = dict(reversed(line.split(" ", 2)[1:]) for line in lines)
    assert len(folders) > 20
    for folder in folders:
        expected = added[f"{library.name}/{folder.name}"]
        assert os.getxattr(copied / folder.name, "ipfs.cid").decode() == expected


def test_a_tree_unpacked_by_tar_is_the_same(shared, headers):
    target = shared.mountpoint / "tar"
    target.mkdir()
    pack = ["tar", "-C", headers, "--format=posix", "-cf", "-", "."]
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as packer:
        unpack = ["tar", "-C", target, "-xpf", "-"]
        subprocess.run(unpack, stdin=packer.stdout, check=True, timeout=100)
    assert packer.returncode == 0
    assert_faithful(shared, headers, target)


def test_a_tree_on_the_mount_packed_by_tar_unpacks_the_same(shared, library, copied, tmp_path):
    archive = tmp_path / "archive.tar"
    pack = ["tar", "-C", copied / "asyncio", "--format=posix", "-cf", archive, "."]
    subprocess.run(pack, check=True, capture_output=True, timeout=60)
    (tmp_path / "back").mkdir()
    unpack = ["tar", "-C", tmp_path / "back", "-xpf", archive]
    subprocess.run(unpack, check=True, capture_output=True, timeout=60)
    trees.assert_same(library / "asyncio", tmp_path / "back")


def test_a_repository_copied_by_rsync_is_the_same_and_a_second_run_sends_nothing(
    shared, repository
):
    target = shared.mountpoint / "rsync"
    command = ["rsync", "-a", "--itemize-changes", f"{repository}/", f"{target}/"]
    first = subprocess.run(command, check=True, capture_output=True, timeout=100)
    assert first.stdout.count(b"\n") > len(trees.files_of(repository))
    assert_faithful(shared, repository, target)
    again = subprocess.run([*command, "--checksum"], check=True, capture_output=True, timeout=100)
    assert again.stdout == b""
    assert trees.git(target, "fsck", "--full", "--strict") == ""
    assert trees.git(target, "status", "--porcelain") == ""


def test_rsync_takes_over_changes_and_removals(shared, library, tmp_path):
    source, target = tmp_path / "source", shared.mountpoint / "changing"
    shutil.copytree(library / "json", source)
    command = ["rsync", "-a", "--delete", "--inplace", f"{source}/", f"{target}/"]
    subprocess.run(command, check=True, timeout=60)
    (source / "decoder.py").write_text("changed\n")
    (source / "encoder.py").unlink()
    with (source / "scanner.py").open("a") as file:
        file.write("# longer\n" * 1000)
    # rsync compares whole seconds: a folder changed twice in one would keep its copy's own time.
    os.utime(source, ns=(1, 10**18 + 123_456_789))
    subprocess.run(command, check=True, timeout=60)
    assert_faithful(shared, source, target)


def test_a_tree_taken_out_by_get_is_the_same_content(shared, library, copied, tmp_path):
    shared.run("get", "main/cp/email", "-o", tmp_path / "email")
    done = subprocess.run(["diff", "-r", library / "email", tmp_path / "email"], timeout=60)
    assert done.returncode == 0


def test_the_store_is_sound_with_all_of_that_in_it(shared, copied):
    assert shared.run("check", "--json").record["findings"] == []
    assert "Traceback" not in shared.log()
