"""What the suite cannot see: when values are read, what is refused; any query against a dict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore import (
    BY_KEY,
    BY_KEY_DESCENDING,
    BY_VALUE,
    BY_VALUE_DESCENDING,
    EVERYTHING,
    Entry,
    Key,
    KeyCompare,
    KeyContains,
    KeyPrefix,
    MemoryDatastore,
    Order,
    Query,
    ValueCompare,
    Where,
    by_function,
)
from datastore.errors import InvalidQuery, KeyNotFound
from datastore.query import answer
from tests.suites.datastore_suite import agree, by_value


class Counting:
    """A dict that tells which values were read."""

    def __init__(self, count: int) -> None:
        self.values = {Key(f"/{number:03}"): b"%d" % number for number in range(count)}
        self.read: list[Key] = []
        self.sized: list[Key] = []

    def get(self, key: Key) -> bytes:
        self.read.append(key)
        if key not in self.values:
            raise KeyNotFound(key)
        return self.values[key]

    def get_size(self, key: Key) -> int:
        self.sized.append(key)
        if key not in self.values:
            raise KeyNotFound(key)
        return len(self.values[key])

    def answer(self, query: Query, keys=None):
        return answer(query, self.values if keys is None else keys, self.get, self.get_size)


@pytest.mark.parametrize(
    ("query", "reads", "sizes"),
    [
        (Query(keys_only=True), 0, 0),
        (Query(keys_only=True, orders=(BY_KEY,), filters=(KeyPrefix("/0"),)), 0, 0),
        (Query(keys_only=True, returns_sizes=True, limit=3), 0, 3),
        (Query(offset=90, orders=(BY_KEY_DESCENDING,)), 10, 0),
        (Query(limit=5), 5, 0),
        (Query(limit=5, returns_sizes=True), 5, 0),
        (Query(keys_only=True, filters=(Where(lambda entry: True, needs_value=False),)), 0, 0),
        (Query(keys_only=True, orders=(BY_VALUE,), limit=1), 100, 0),
        (Query(keys_only=True, filters=(ValueCompare("==", b"7"),)), 100, 0),
        (Query(prefix=Key("/none"), orders=(BY_VALUE,)), 0, 0),
        (Query(limit=0), 0, 0),
    ],
)
def test_values_are_read_only_where_they_are_needed_and_once(query, reads, sizes):
    store = Counting(100)
    list(store.answer(query))
    assert (len(store.read), len(store.sized)) == (reads, sizes)


def test_results_come_one_by_one_where_nothing_has_to_be_sorted():
    store = Counting(100)
    results = store.answer(EVERYTHING)
    next(results)
    assert len(store.read) == 1


@pytest.mark.parametrize(
    "query",
    [
        EVERYTHING,
        Query(orders=(BY_VALUE,)),
        Query(keys_only=True, returns_sizes=True),
        Query(filters=(ValueCompare("!=", b""),), returns_sizes=True),
    ],
)
def test_key_that_is_gone_when_it_is_read_is_left_out(query):
    store = Counting(3)
    keys = [*store.values, Key("/gone")]
    assert {entry.key for entry in store.answer(query, keys)} == set(store.values)


def test_values_of_filtered_keys_are_not_given_when_only_keys_were_asked_for():
    store = Counting(3)
    query = Query(keys_only=True, returns_sizes=True, filters=(ValueCompare(">", b"0"),))
    assert list(store.answer(query)) == [Entry(Key("/001"), None, 1), Entry(Key("/002"), None, 1)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Query(offset=-1),
        lambda: Query(limit=-1),
        lambda: Query(prefix="/text"),  # type: ignore[arg-type]  # on purpose
        lambda: KeyCompare("=", "/a"),
        lambda: ValueCompare("like", b""),
    ],
)
def test_query_that_means_nothing_is_refused(make):
    with pytest.raises(InvalidQuery):
        make()


def test_orders_are_applied_one_after_the_other():
    datastore = MemoryDatastore()
    for text, value in (("/a", b"2"), ("/b", b"1"), ("/c", b"2"), ("/d", b"1")):
        datastore.put(Key(text), value)

    def listed(*orders: Order) -> str:
        return "".join(entry.key.base for entry in datastore.query(Query(orders=orders)))

    assert listed(BY_VALUE, BY_KEY_DESCENDING) == "dbca"
    assert listed(BY_VALUE_DESCENDING, BY_KEY) == "acbd"
    assert listed(BY_VALUE_DESCENDING) == "acbd", "equal values are ordered by key"
    assert listed(by_function(lambda a, b: 0), BY_KEY_DESCENDING) == "dcba"


names = st.text("ab/:", min_size=1, max_size=5)
filters = st.one_of(
    st.builds(KeyCompare, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), names),
    st.builds(
        ValueCompare, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), st.binary(max_size=2)
    ),
    st.builds(KeyPrefix, names),
    st.builds(KeyContains, names),
)
single_orders = [BY_KEY, BY_KEY_DESCENDING, BY_VALUE, BY_VALUE_DESCENDING, by_function(by_value)]
queries = st.builds(
    Query,
    prefix=names.map(Key),
    filters=st.lists(filters, max_size=2).map(tuple),
    orders=st.sampled_from([(), *((order,) for order in single_orders)]),
    offset=st.integers(0, 4),
    limit=st.none() | st.integers(0, 6),
    keys_only=st.booleans(),
    returns_sizes=st.booleans(),
)


@given(st.dictionaries(names.map(Key), st.binary(max_size=3), max_size=12), queries)
def test_any_query_agrees_with_a_dict(contents, query):
    contents.pop(Key("/"), None)
    datastore = MemoryDatastore()
    for key, value in contents.items():
        datastore.put(key, value)
    if query.orders or (query.offset == 0 and query.limit is None):
        agree(datastore, contents, query)
    else:
        found = len(list(datastore.query(query)))
        everything = Query(query.prefix, query.filters)
        passed = len(list(datastore.query(everything)))
        left = max(0, passed - query.offset)
        assert found == (left if query.limit is None else min(left, query.limit))
