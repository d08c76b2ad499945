"""The suite on the adapters of other stores: benchmarks compare only what does the same."""

import pytest

from benchmarks.rivals.datastores import DATASTORES
from datastore import Key
from datastore.errors import KeyNotFound
from tests.suites.datastore_suite import DatastoreSuite

pytestmark = pytest.mark.slow  # five databases on a file system


@pytest.mark.parametrize("datastore", sorted(DATASTORES), indirect=True)
class TestRivals(DatastoreSuite):
    @pytest.fixture
    def datastore(self, request, tmp_path):
        made = DATASTORES[request.param](tmp_path)
        yield made
        made.close()


@pytest.mark.parametrize("name", sorted(DATASTORES))
def test_what_was_put_is_there_after_reopen(tmp_path, name):
    datastore = DATASTORES[name](tmp_path)
    datastore.put(Key("/kept"), b"value")
    datastore.put(Key("/gone"), b"value")
    datastore.delete(Key("/gone"))
    datastore.close()
    again = DATASTORES[name](tmp_path)
    assert again.get(Key("/kept")) == b"value"
    with pytest.raises(KeyNotFound):
        again.get(Key("/gone"))
    again.close()
