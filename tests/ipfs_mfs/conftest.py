"""A world for tests that run the real program."""

import pytest

from tests.ipfs_mfs.program import World


@pytest.fixture
def world(tmp_path):
    made = World.make(tmp_path)
    yield made
    made.clean_up()
