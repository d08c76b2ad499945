"""A store is a repository's or a datastore's, and each refuses what is the other's."""

import pytest

from blkdev.device import RamDevice
from blkdev.store import Store
from datastore import BlkdevDatastore, Key, mapping
from datastore.errors import NotADatastore, StoreFailed
from ipld import cid as cids
from repo import claim, refs
from repo.errors import InvalidRefName, NotARepository, RepoError
from repo.refs import Ref
from repo.service import Repo
from tests.blkdev.devices import FaultyDevice, copied, formatted
from tests.repo.dags import leaf

VALUES = {Key(f"/{number}"): b"%d" % number for number in range(20)}
LONG = Key("/" + "long" * 100)


@pytest.fixture
def device():
    device = FaultyDevice(20 << 20, pages=formatted())
    device.name = "the device"
    return device


def spoil_record(device: FaultyDevice, store: Store, name: bytes) -> None:
    """The name's record has wrong bytes."""
    location = store._catalog.names[name].location
    page, at = divmod(store._volume.device_offset(location), 4096)
    spoiled = bytearray(device.pages[page])
    spoiled[at + 30] ^= 1
    device.pages[page] = bytes(spoiled)


def with_datastore(device: RamDevice, values: dict[Key, bytes] = VALUES) -> RamDevice:
    datastore = BlkdevDatastore(Store.open(device))
    for key, value in values.items():
        datastore.put(key, value)
    datastore.close()
    return device


def test_repository_refuses_the_store_of_a_datastore_and_leaves_every_value(device):
    store = Store.open(with_datastore(device))
    with pytest.raises(NotARepository, match=r"the device holds a datastore.*another device"):
        Repo.open_blkdev(store)
    store.close()
    datastore = BlkdevDatastore(Store.open(device))
    assert {key: datastore.get(key) for key in VALUES} == VALUES


def test_repository_refuses_an_empty_datastore(device):
    with pytest.raises(NotARepository):
        Repo.open_blkdev(Store.open(with_datastore(device, {})))


def test_repository_refuses_a_datastore_also_for_reading(device):
    with pytest.raises(NotARepository):
        Repo.open_blkdev(Store.open(with_datastore(device), read_only=True))


def test_repository_refuses_a_datastore_of_any_version(device):
    store = Store.open(device)
    store.set_name(mapping.MARK, b"\2")
    with pytest.raises(NotARepository):
        Repo.open_blkdev(store)


def test_repository_refuses_a_datastore_whose_mark_cannot_be_read(device):
    with_datastore(device)
    store = Store.open(device)
    spoil_record(device, store, mapping.MARK)
    with pytest.raises(NotARepository):
        Repo.open_blkdev(store)
    with pytest.raises(StoreFailed):
        BlkdevDatastore(store)


@pytest.mark.parametrize("key", [Key("/short"), LONG], ids=lambda key: f"{len(key.raw)} bytes")
def test_repository_refuses_a_datastore_that_lost_its_mark_in_a_repair(device, key):
    with_datastore(device, {key: b"value"})
    store = Store.open(device)
    spoil_record(device, store, mapping.MARK)
    store.repair()
    assert store.name(mapping.MARK) is None
    with pytest.raises(NotARepository):
        Repo.open_blkdev(store)
    assert store.stats().keys == 1


def test_datastore_refuses_a_repository_even_an_empty_one(device):
    Repo.open_blkdev(Store.open(device)).close()
    store = Store.open(device)
    with pytest.raises(NotADatastore, match=r"the device holds no datastore.*another device"):
        BlkdevDatastore(store)
    assert [name for name, _ in store.names()] == [claim.MARK]


def test_mark_of_a_repository_is_no_ref(device):
    repo = Repo.open_blkdev(Store.open(device))
    assert repo.refs.list() == []
    repo.refs.update({"root/main": Ref()})
    assert repo.refs.list() == [("root/main", Ref())]
    assert repo.gc().freed_count == 0


def test_mark_of_a_repository_is_a_ref_to_versions_that_know_no_marks(device):
    store = Store.open(device)
    Repo.open_blkdev(store)
    ((name, record),) = store.names()
    assert Ref.decode(name.decode(), record) == Ref()


def test_mark_is_there_before_everything_else_after_a_power_cut(device):
    """One log: what a cut leaves of a repository is nothing at all, or begins with the mark."""
    repo = Repo.open_blkdev(Store.open(device))
    repo.put(leaf("x"))
    repo.commit()
    store = Store.open(copied(device))
    assert store.name(claim.MARK) is not None
    with pytest.raises(NotADatastore):
        BlkdevDatastore(store)


@pytest.mark.parametrize("what", ["refs", "blocks"])
def test_store_of_a_repository_without_mark_is_opened_and_keeps_all(device, what):
    """As older versions leave one."""
    store = Store.open(device)
    block = leaf("kept")
    if what == "refs":
        store.set_name(b"root/main", Ref(links=(block.cid,)).encode())
    store.put_many([(cids.multihash_of(block.cid), block.data)])
    store.close()
    repo = Repo.open_blkdev(Store.open(device))
    assert repo.get(block.cid) == block.data
    if what == "refs":
        assert repo.gc().freed_count == 0
    repo.close()
    with pytest.raises(NotADatastore):
        BlkdevDatastore(Store.open(device))


def test_opening_a_repository_again_writes_nothing(device):
    Repo.open_blkdev(Store.open(device)).close()
    store = Store.open(device)
    position = store.position()
    Repo.open_blkdev(store)
    assert store.position() == position


def test_empty_store_opened_read_only_is_an_empty_repository(device):
    repo = Repo.open_blkdev(Store.open(device, read_only=True))
    assert repo.refs.list() == []


def test_empty_store_that_is_repaired_after_its_mark_rotted_is_anybodys_again(device):
    Repo.open_blkdev(Store.open(device)).close()
    store = Store.open(device)
    spoil_record(device, store, claim.MARK)
    with pytest.raises(RepoError, match="check --repair"):
        Repo.open_blkdev(store).refs.list()
    store.repair()
    assert Repo.open_blkdev(store).refs.list() == []
    assert store.name(claim.MARK) is not None


def test_store_that_fails_while_it_is_marked_gives_the_repositorys_error(device, monkeypatch):
    from blkdev.errors import StoreReadOnly

    store = Store.open(device)

    def fail(*_arguments):
        raise StoreReadOnly("the device died")

    monkeypatch.setattr(store, "set_name", fail)
    with pytest.raises(RepoError, match="the device died"):
        Repo.open_blkdev(store)


def test_no_ref_can_have_the_name_of_the_datastores_mark(device):
    repo = Repo.open_blkdev(Store.open(device))
    with pytest.raises(InvalidRefName, match="marks datastores"):
        repo.refs.update({"datastore": Ref()})
    repo.refs.update({"datastore/x": Ref()})


def test_what_the_repository_knows_of_datastores_is_what_they_do():
    assert refs.DATASTORE_MARK == mapping.MARK
    assert claim.DATASTORE_KEYS == (mapping.SHORT, mapping.LONG)
    assert all(mapping.engine_key(key.raw).startswith(claim.DATASTORE_KEYS) for key in VALUES)
