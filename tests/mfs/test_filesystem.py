"""The conformance suite on the tree itself, without a mount."""

import pytest

from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025
from tests.mfs.tree_driver import TreeDriver
from tests.suites.filesystem_suite import FilesystemSuite

SMALL = UNIXFS_V1_2025.with_options(
    name="small", chunk_size_bytes=4096, max_file_links=8, hamt_threshold_bytes=2000, hamt_fanout=8
)


@pytest.mark.parametrize(
    "fs", [UNIXFS_V1_2025, UNIXFS_V0_2015, SMALL], indirect=True, ids=lambda profile: profile.name
)
class TestOnTree(FilesystemSuite):
    @pytest.fixture
    def fs(self, request):
        driver = TreeDriver(request.param)
        yield driver
        driver.remount()
        assert driver.world.repo.gc().missing_count == 0
