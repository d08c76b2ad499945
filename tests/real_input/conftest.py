"""Frozen real trees, and worlds with room for them."""

import pytest

from fusefs.options import KERNEL, PYFUSE3
from tests.ipfs_mfs.program import World
from tests.real_input import trees


def roomy_world(base, transport):
    made = World.make(base)
    made.environment |= {"IPFS_MFS_STORE_SIZE": "2G", "IPFS_MFS_TRANSPORT": transport}
    return made


@pytest.fixture(scope="module", params=[PYFUSE3, KERNEL])
def transport(request):
    """All that is done on a mount is done on both kinds."""
    return request.param


@pytest.fixture
def world(tmp_path, transport):
    """A world of its own, nothing mounted."""
    made = roomy_world(tmp_path, transport)
    yield made
    made.clean_up()


@pytest.fixture
def mounted(world):
    """A world of its own, mounted."""
    world.run("mount", world.mountpoint)
    return world


@pytest.fixture(scope="module")
def shared(tmp_path_factory, transport):
    """One mounted world for the tests of a module, each of which keeps to its own folder."""
    made = roomy_world(tmp_path_factory.mktemp("shared"), transport)
    made.run("mount", made.mountpoint)
    yield made
    made.clean_up()


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    target = tmp_path_factory.mktemp("frozen") / "library"
    trees.freeze_library(target)
    return target


@pytest.fixture(scope="session")
def headers(tmp_path_factory):
    target = tmp_path_factory.mktemp("frozen") / "headers"
    trees.freeze_headers(target)
    return target


@pytest.fixture(scope="session")
def repository(tmp_path_factory, library):
    target = tmp_path_factory.mktemp("frozen") / "repository"
    trees.make_repository(target, library)
    return target
