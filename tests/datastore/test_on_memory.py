"""The datastore in memory."""

import pytest

from datastore import Datastore, Key, MemoryDatastore
from tests.suites.datastore_suite import StrictSuite


class TestOnMemory(StrictSuite):
    @pytest.fixture
    def datastore(self) -> Datastore:
        return MemoryDatastore()


def test_disk_usage_is_what_keys_and_values_have():
    datastore = MemoryDatastore()
    datastore.put(Key("/a"), b"123")
    datastore.put(Key("/a"), b"12345")
    assert datastore.disk_usage() == 2 + 5
