"""Conformance of a datastore: one suite for every implementation of `datastore.Datastore`.

A test module makes a class of `DatastoreSuite` and gives it a fixture `datastore`: an empty one.
The first half has the behaviours of go-datastore's public suite, by its names. `StrictSuite` adds
what ours promise beyond that.
"""

import itertools
import random
import threading

import pytest

from datastore import (
    BY_KEY,
    BY_KEY_DESCENDING,
    BY_VALUE,
    BY_VALUE_DESCENDING,
    ROOT,
    Datastore,
    Entry,
    Key,
    KeyCompare,
    KeyContains,
    KeyPrefix,
    Query,
    ValueCompare,
    Where,
    by_function,
)
from datastore.errors import (
    BatchSpent,
    InvalidKey,
    InvalidValue,
    KeyNotFound,
    StoreClosed,
)

COUNT = 100
BLOCK_SIZE_BYTES = 256 << 10
FOLDERS = ("/", "/prefix", "/prefix/sub", "/capital")

Contents = dict[Key, bytes]


def entries_of(count: int, seed: int = 1) -> Contents:
    """That many keys in each of four places, with values of 64 bytes."""
    rng = random.Random(seed)
    names = [f"{number}{{}}{number}" for number in range(count)]
    return {
        Key(f"{folder}/{name.format('KEY' if folder == '/capital' else 'key')}"): rng.randbytes(64)
        for folder in FOLDERS
        for name in names
    }


def fill(datastore: Datastore, contents: Contents) -> None:
    for key, value in contents.items():
        datastore.put(key, value)


def by_value(a: Entry, b: Entry) -> int:
    assert a.value is not None and b.value is not None
    return (a.value > b.value) - (a.value < b.value)


def expected(contents: Contents, query: Query) -> list[tuple[Key, bytes]]:
    """The naive answer, from a dict; written without a look at how datastores do it."""
    prefix = "" if str(query.prefix) == "/" else str(query.prefix)
    rows = [row for row in contents.items() if str(row[0]).startswith(prefix + "/")]
    rows = [row for row in rows if all(keep(Entry(*row)) for keep in query.filters)]
    rows.sort(key=lambda row: row[0].raw)
    if query.orders and query.orders[0] is BY_KEY_DESCENDING:
        rows.reverse()
    elif query.orders and query.orders[0] is BY_VALUE_DESCENDING:
        rows.sort(key=lambda row: row[1], reverse=True)
    elif query.orders and query.orders[0] is not BY_KEY:
        rows.sort(key=lambda row: row[1])
    rows = rows[query.offset :]
    return rows if query.limit is None else rows[: query.limit]


def agree(datastore: Datastore, contents: Contents, query: Query) -> None:
    """The datastore answers as the dict does; without orders, in any order."""
    found = list(datastore.query(query))
    wanted = expected(contents, query)
    if not query.orders:
        found.sort(key=lambda entry: entry.key.raw)
    assert [entry.key for entry in found] == [key for key, _ in wanted]
    values = [None if query.keys_only else value for _, value in wanted]
    assert [entry.value for entry in found] == values
    sizes = [len(value) if query.returns_sizes else None for _, value in wanted]
    assert [entry.size for entry in found] == sizes


class DatastoreSuite:
    """Inherited by one test class per implementation."""

    @pytest.fixture
    def datastore(self) -> Datastore:
        raise NotImplementedError

    @pytest.fixture
    def filled(self, datastore) -> Contents:
        contents = entries_of(COUNT)
        fill(datastore, contents)
        return contents

    # ------------------------------------------------------------ the basic ten, by their names

    def test_basic_put_get(self, datastore):
        key, value = Key("foo"), b"Hello Datastore!"
        datastore.put(key, value)
        for _ in range(2):
            assert datastore.has(key)
            assert datastore.get_size(key) == len(value)
            assert datastore.get(key) == value
        datastore.delete(key)
        assert not datastore.has(key)
        with pytest.raises(KeyNotFound):
            datastore.get(key)
        with pytest.raises(KeyNotFound):
            datastore.get_size(key)

    def test_not_founds(self, datastore):
        key = Key("notreal")
        with pytest.raises(KeyNotFound, match="/notreal"):
            datastore.get(key)
        assert not datastore.has(key)
        with pytest.raises(KeyNotFound):
            datastore.get_size(key)
        datastore.delete(key)

    @pytest.mark.parametrize(
        "prefix",
        ["", "/", "/./", "/.././/", "/prefix/../", "/prefix", "/prefix/", "/prefix/sub/", "/0/",
         "/bad/"],
    )  # fmt: skip
    def test_prefix(self, datastore, filled, prefix):
        agree(datastore, filled, Query(prefix=Key(prefix)))

    @pytest.mark.parametrize(
        "orders",
        [
            (BY_KEY,), (BY_KEY_DESCENDING,), (BY_VALUE,), (BY_VALUE_DESCENDING,),
            (BY_VALUE, BY_KEY), (by_function(by_value),),
        ],
        ids=["key", "key down", "value", "value down", "value and key", "function"],
    )  # fmt: skip
    def test_order(self, datastore, filled, orders):
        agree(datastore, filled, Query(orders=orders))

    @pytest.mark.parametrize(
        ("offset", "limit"),
        [
            (0, COUNT // 10), (0, None), (COUNT // 10, None), (COUNT // 10, COUNT // 10),
            (COUNT // 10, COUNT // 5), (COUNT // 2, COUNT // 5), (COUNT - 1, COUNT // 5),
            (COUNT * 2, COUNT // 5), (COUNT * 2, None), (COUNT - 1, None), (COUNT - 5, None),
            (COUNT * 4 - 3, 5), (COUNT * 4, 5), (0, 0),
        ],
    )  # fmt: skip
    def test_limit(self, datastore, filled, offset, limit):
        query = Query(orders=(BY_KEY,), offset=offset, limit=limit, keys_only=True)
        agree(datastore, filled, query)

    @pytest.mark.parametrize(
        "filters",
        [
            (KeyCompare("==", "/0key0"),),
            (KeyCompare("<", "/2"),),
            (KeyCompare(">=", "/2"), KeyCompare("!=", "/2key2")),
            (KeyPrefix("/0key0"),),
            (KeyContains("KEY"),),
            (ValueCompare("<", bytes([100]) * 64),),
            (ValueCompare(">", bytes([100]) * 64), ValueCompare("<=", bytes([200]) * 64)),
            (Where(lambda entry: len(str(entry.key)) % 2 == 0, needs_value=False),),
        ],
    )
    @pytest.mark.parametrize("keys_only", [False, True])
    def test_filter(self, datastore, filled, filters, keys_only):
        agree(datastore, filled, Query(filters=filters, keys_only=keys_only))

    def test_many_keys_and_query(self, datastore, filled):
        agree(datastore, filled, Query(keys_only=True))
        agree(datastore, filled, Query())
        for key, value in filled.items():
            assert datastore.get(key) == value
            datastore.delete(key)
        assert list(datastore.query()) == []

    @pytest.mark.parametrize("keys_only", [False, True])
    def test_return_sizes(self, datastore, filled, keys_only):
        agree(datastore, filled, Query(keys_only=keys_only, returns_sizes=True))

    def test_basic_sync(self, datastore):
        datastore.sync(Key("prefix"))
        datastore.put(Key("/prefix"), b"foo")
        datastore.sync(Key("/prefix"))
        datastore.put(Key("/prefix/sub"), b"bar")
        datastore.sync(Key("/prefix"))
        datastore.sync(Key("/prefix/sub"))
        datastore.sync(Key(""))
        datastore.sync()
        assert datastore.get(Key("/prefix/sub")) == b"bar"

    @pytest.mark.parametrize("length", [0, 1, COUNT])
    def test_combinations(self, datastore, length):
        contents = entries_of(length, seed=length)
        fill(datastore, contents)
        tried = 0
        for offset, limit, filters, orders, prefix in itertools.product(
            (0, COUNT // 10, COUNT - 5, COUNT),
            (None, 1, COUNT // 10, COUNT),
            ((KeyCompare("==", "/0key0"),), (KeyCompare("<", "/2"),)),
            ((BY_KEY,), (BY_KEY_DESCENDING,), (BY_VALUE, BY_KEY), (by_function(by_value),)),
            ("", "/prefix", "/0"),
        ):
            query = Query(Key(prefix), filters, orders, offset, limit)
            agree(datastore, contents, query)
            tried += 1
        assert tried == 4 * 4 * 2 * 4 * 3

    # ---------------------------------------------------------- the three about batches

    def test_batch(self, datastore):
        rng = random.Random(7)
        blocks = {Key(rng.randbytes(8).hex()): rng.randbytes(BLOCK_SIZE_BYTES) for _ in range(20)}
        batch = datastore.batch()
        for key, value in blocks.items():
            batch.put(key, value)
        assert not any(datastore.has(key) for key in blocks), "seen before the commit"
        batch.commit()
        for key, value in blocks.items():
            assert datastore.get(key) == value

    def test_batch_delete(self, datastore):
        contents = entries_of(5)
        fill(datastore, contents)
        batch = datastore.batch()
        for key in contents:
            batch.delete(key)
        assert all(datastore.has(key) for key in contents), "gone before the commit"
        batch.commit()
        assert not any(datastore.has(key) for key in contents)

    def test_batch_put_and_delete(self, datastore):
        batch = datastore.batch()
        batch.put(Key("/a"), b"\1")
        batch.put(Key("/b"), b"\2")
        batch.delete(Key("/a"))
        batch.delete(Key("/b"))
        batch.put(Key("/b"), b"\3")
        batch.commit()
        assert not datastore.has(Key("/a"))
        assert datastore.get(Key("/b")) == b"\3"

    # ------------------------------------------------------------------- what they leave out

    @pytest.mark.parametrize("size_bytes", [0, 1, 4096, 4097, 100_000, 1 << 20])
    def test_value_of_any_size_comes_back(self, datastore, size_bytes):
        value = random.Random(size_bytes).randbytes(size_bytes)
        datastore.put(Key("/value"), value)
        assert datastore.get(Key("/value")) == value
        assert datastore.get_size(Key("/value")) == size_bytes

    def test_put_replaces_the_value(self, datastore):
        for value in (b"first", b"second, longer", b"", b"third"):
            datastore.put(Key("/key"), value)
            assert datastore.get(Key("/key")) == value
            assert [entry.value for entry in datastore.query()] == [value]

    def test_key_that_was_deleted_can_be_put_again(self, datastore):
        for value in (b"first", b"second"):
            datastore.put(Key("/key"), value)
            datastore.delete(Key("/key"))
            assert not datastore.has(Key("/key"))
        datastore.put(Key("/key"), b"third")
        assert datastore.get(Key("/key")) == b"third"

    def test_key_and_its_child_are_two_keys(self, datastore):
        datastore.put(Key("/a"), b"parent")
        datastore.put(Key("/a/b"), b"child")
        datastore.put(Key("/ab"), b"neighbour")
        assert datastore.get(Key("/a")) == b"parent"
        found = list(datastore.query(Query(prefix=Key("/a"))))
        assert [(str(entry.key), entry.value) for entry in found] == [("/a/b", b"child")]
        datastore.delete(Key("/a"))
        assert datastore.get(Key("/a/b")) == b"child"

    @pytest.mark.parametrize(
        "text", ["/ä/日本", "/with space/and:colon", "/%2F", "/\0/nul", "/\udcff\udc80", "/'\";--"]
    )
    def test_key_of_any_characters_comes_back(self, datastore, text):
        datastore.put(Key(text), b"value")
        assert datastore.get(Key(text)) == b"value"
        assert [entry.key for entry in datastore.query()] == [Key(text)]

    def test_query_is_not_disturbed_by_changes_meanwhile(self, datastore):
        contents = entries_of(20)
        fill(datastore, contents)
        results = datastore.query(Query(keys_only=True))
        seen = [next(results).key]
        for key in contents:
            datastore.put(key, b"new")
        datastore.put(Key("/later"), b"x")
        seen += [entry.key for entry in results]
        assert len(seen) == len(set(seen))
        assert set(contents) <= set(seen) <= {*contents, Key("/later")}

    def test_key_deleted_during_a_query_is_left_out_or_whole(self, datastore):
        contents = entries_of(20)
        fill(datastore, contents)
        results = datastore.query()
        first = next(results)
        for key in contents:
            datastore.delete(key)
        for entry in (first, *results):
            assert entry.value == contents[entry.key]

    def test_query_that_is_abandoned_holds_nothing(self, datastore):
        fill(datastore, entries_of(5))
        next(iter(datastore.query()))
        datastore.put(Key("/after"), b"x")
        datastore.sync()

    def test_value_changed_by_its_owner_is_stored_as_it_was(self, datastore):
        value = bytearray(b"before")
        batch = datastore.batch()
        datastore.put(Key("/put"), value)
        batch.put(Key("/batch"), memoryview(value))
        value[:] = b"after!"
        batch.commit()
        assert datastore.get(Key("/put")) == datastore.get(Key("/batch")) == b"before"

    def test_empty_batch_changes_nothing(self, datastore):
        datastore.put(Key("/key"), b"value")
        datastore.batch().commit()
        assert [entry.value for entry in datastore.query()] == [b"value"]

    def test_batch_is_spent_by_its_commit(self, datastore):
        batch = datastore.batch()
        batch.put(Key("/key"), b"value")
        batch.commit()
        for again in (batch.commit, lambda: batch.put(Key("/b"), b""), lambda: batch.delete(ROOT)):
            with pytest.raises(BatchSpent):
                again()

    def test_two_batches_do_not_see_each_other(self, datastore):
        one, other = datastore.batch(), datastore.batch()
        one.put(Key("/one"), b"1")
        other.put(Key("/other"), b"2")
        other.commit()
        assert not datastore.has(Key("/one"))
        one.commit()
        assert datastore.has(Key("/one")) and datastore.has(Key("/other"))

    def test_nothing_is_found_by_check_and_scrub_of_a_sound_store(self, datastore, filled):
        datastore.sync()
        assert datastore.check() == []
        assert datastore.scrub() == []

    def test_disk_usage_grows_with_what_is_stored(self, datastore):
        before = datastore.disk_usage()
        for number in range(20):
            datastore.put(Key(f"/{number}"), random.Random(number).randbytes(100_000))
        datastore.sync()
        assert datastore.disk_usage() - before >= 20 * 90_000

    def test_what_is_left_is_intact_after_collecting_garbage(self, datastore, filled):
        removed = list(filled)[::2]
        for key in removed:
            datastore.delete(key)
        datastore.sync()
        assert datastore.collect_garbage() >= 0
        left = {key: value for key, value in filled.items() if key not in set(removed)}
        agree(datastore, left, Query())

    def test_threads_that_put_and_read_do_not_disturb_each_other(self, datastore):
        failures: list[BaseException] = []

        def work(mark: int) -> None:
            try:
                for number in range(60):
                    key = Key(f"/{mark}/{number % 7}")
                    datastore.put(key, b"%d" % number)
                    assert datastore.get(key) == b"%d" % number
                    datastore.put(Key("/shared"), b"%d" % mark)
                    assert datastore.get(Key("/shared")) in {b"0", b"1", b"2", b"3"}
                    if number % 20 == 0:
                        datastore.sync()
                        assert len(list(datastore.query(Query(prefix=Key(f"/{mark}"))))) >= 1
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]
        assert len(list(datastore.query())) == 4 * 7 + 1

    def test_second_close_does_nothing(self, datastore):
        datastore.close()
        datastore.close()

    # ------------------------------------------------------------------------- bad arguments

    @pytest.mark.parametrize("text", ["", "/", "a/..", "//", "."])
    def test_root_holds_nothing_and_takes_nothing(self, datastore, text):
        key = Key(text)
        assert not datastore.has(key)
        with pytest.raises(KeyNotFound):
            datastore.get(key)
        datastore.delete(key)
        with pytest.raises(InvalidKey):
            datastore.put(key, b"value")
        with pytest.raises(InvalidKey):
            datastore.batch().put(key, b"value")
        assert list(datastore.query()) == []

    @pytest.mark.parametrize("key", ["/text", b"/bytes", None, 7])
    def test_what_is_no_key_is_refused(self, datastore, key):
        calls = (
            lambda: datastore.get(key),
            lambda: datastore.has(key),
            lambda: datastore.get_size(key),
            lambda: datastore.put(key, b""),
            lambda: datastore.delete(key),
            lambda: datastore.sync(key),
            lambda: datastore.batch().put(key, b""),
            lambda: datastore.batch().delete(key),
        )
        for call in calls:
            with pytest.raises(InvalidKey, match="a key is a Key"):
                call()

    @pytest.mark.parametrize("value", ["text", None, 7, ["list"]])
    def test_what_is_no_bytes_is_refused(self, datastore, value):
        with pytest.raises(InvalidValue, match=type(value).__name__):
            datastore.put(Key("/key"), value)
        with pytest.raises(InvalidValue):
            datastore.batch().put(Key("/key"), value)
        assert not datastore.has(Key("/key"))

    def test_closed_datastore_refuses(self, datastore):
        datastore.put(Key("/key"), b"value")
        batch = datastore.batch()
        batch.put(Key("/batch"), b"value")
        datastore.close()
        calls = (
            lambda: datastore.get(Key("/key")),
            lambda: datastore.has(Key("/key")),
            lambda: datastore.get_size(Key("/key")),
            lambda: datastore.put(Key("/key"), b""),
            lambda: datastore.delete(Key("/key")),
            lambda: list(datastore.query()),
            lambda: datastore.sync(),
            lambda: datastore.collect_garbage(),
            lambda: datastore.check(),
            lambda: datastore.scrub(),
            lambda: datastore.disk_usage(),
            batch.commit,
        )
        for number, call in enumerate(calls):
            with pytest.raises(StoreClosed):
                call()
                pytest.fail(f"call {number} was answered")


class StrictSuite(DatastoreSuite):
    """What ours promise beyond the contract: long keys, and batches that others see whole."""

    @pytest.mark.parametrize("size_bytes", [2, 63, 64, 65, 66, 127, 255, 511, 512, 4095, 4096])
    def test_key_of_every_allowed_size_is_stored(self, datastore, size_bytes):
        key = Key("/" + "k" * (size_bytes - 1))
        other = Key("/" + "k" * (size_bytes - 2) + "x")
        assert len(key.raw) == size_bytes
        datastore.put(other, b"other")
        for value in (b"first", b"", b"second" * 1000):
            datastore.put(key, value)
            assert datastore.get(key) == value
            assert datastore.get_size(key) == len(value)
            assert datastore.has(key)
        assert {(e.key, e.value) for e in datastore.query()} == {(key, value), (other, b"other")}
        datastore.delete(key)
        assert not datastore.has(key)
        assert datastore.get(other) == b"other"

    def test_queries_see_short_and_long_keys_alike(self, datastore):
        contents = {
            Key(f"/{folder}/{'n' * length}"): b"%d" % length
            for folder, length in itertools.product(("a", "b" * 70), (1, 50, 61, 62, 63, 300, 3000))
        }
        fill(datastore, contents)
        for prefix in ("/", "/a", "/" + "b" * 70):
            for orders in ((BY_KEY,), (BY_KEY_DESCENDING,), (BY_VALUE,)):
                agree(datastore, contents, Query(Key(prefix), orders=orders, returns_sizes=True))

    def test_batch_of_other_threads_is_seen_whole(self, datastore):
        keys = [Key(f"/{number}") for number in range(10)]
        done = threading.Event()

        def write() -> None:
            for number in range(200):
                batch = datastore.batch()
                for key in keys:
                    batch.put(key, b"%d" % number)
                batch.commit()
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not done.is_set():
            # A batch seen in parts would show an older value after a newer one.
            values = [datastore.get(key) if datastore.has(key) else b"-1" for key in keys]
            numbers = [int(value) for value in values]
            assert numbers == sorted(numbers), numbers
        writer.join()
        assert {entry.value for entry in datastore.query()} == {b"199"}
