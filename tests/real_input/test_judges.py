"""A real tree written on the mount has the CID that other people's programs give the original."""

import base64
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.interop import judges
from tests.interop.test_kubo_add import V0, V1, Kubo
from tests.real_input import trees

pytestmark = [pytest.mark.needs_fuse, pytest.mark.slow]

IMPORT_TREE = Path(judges.__file__).parent / "import_tree.mjs"
PROFILES = [V0, V1]


@pytest.fixture(scope="module")
def sources(library, tmp_path_factory):
    """The library without its bytecode: small enough for the JavaScript judge's memory."""
    target = tmp_path_factory.mktemp("sources") / "library"
    shutil.copytree(library, target, ignore=shutil.ignore_patterns("__pycache__"))
    trees.drop_empty_folders(target)
    return target


def cid_on_the_mount(world, tree, profile):
    world.run("mount", world.mountpoint, "-o", f"root=judged,profile={profile}")
    target = world.mountpoint / "tree"
    shutil.copytree(tree, target, symlinks=True)
    cid = os.getxattr(target, "ipfs.cid").decode()
    assert cid == world.run("add", "-n", "-Q", "-r", "-H", "--profile", profile, tree).out.strip()
    return cid


@pytest.mark.needs_node
@pytest.mark.parametrize("profile", PROFILES)
def test_the_javascript_importer_gives_the_library_the_same_cid(world, sources, profile):
    files = {
        str(path.relative_to(sources)): base64.b64encode(path.read_bytes()).decode()
        for path in trees.files_of(sources)
    }
    car = world.base / "judge.car"
    answer = judges.run_node(IMPORT_TREE, profile, car, stdin=json.dumps(files).encode())
    judged = answer.decode().strip()
    assert cid_on_the_mount(world, sources, profile) == judged
    world.run("root", "create", "empty")
    imported = world.run("import", car, "--json").records
    assert judged in str(imported), "and its blocks are ours"


@pytest.mark.needs_peers
@pytest.mark.parametrize("profile", PROFILES)
def test_kubo_gives_the_library_and_the_headers_the_same_cid(
    world, sources, headers, tmp_path, profile
):
    kubo = Kubo(tmp_path / "kubo", profile)
    tree = tmp_path / "both"
    tree.mkdir()
    shutil.copytree(sources, tree / "library")
    shutil.copytree(headers, tree / "headers", symlinks=True)
    (judged,) = kubo.add("-Q", "-r", "-H", tree.name, cwd=tmp_path)
    assert cid_on_the_mount(world, tree, profile) == judged
