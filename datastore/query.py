"""Queries: which keys, in which order, how many of them, and what of each.

    keys below the prefix -> filters -> orders -> offset -> limit

Stores differ in how they list keys; `answer` does the rest for all of them. It reads values only
where they are asked for or looked at, and as late as it can.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cmp_to_key
from itertools import islice
from typing import Any, Final, Protocol

from datastore.errors import InvalidQuery, KeyNotFound
from datastore.key import ROOT, Key

_OPERATORS: Final[dict[str, Callable[[bytes, bytes], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One result. `value` is None when only keys were asked for, `size` unless sizes were."""

    key: Key
    value: bytes | None = None
    size: int | None = None


class Filter(Protocol):
    """Says which entries stay. `needs_value` is whether it looks at values."""

    @property
    def needs_value(self) -> bool: ...

    def __call__(self, entry: Entry, /) -> bool: ...


@dataclass(frozen=True)
class KeyCompare:
    """Keys that compare so with the text, byte by byte. Raises InvalidQuery."""

    op: str
    key: str
    needs_value = False

    def __post_init__(self) -> None:
        _check_operator(self.op)

    def __call__(self, entry: Entry) -> bool:
        return _OPERATORS[self.op](entry.key.raw, _encoded(self.key))


@dataclass(frozen=True)
class KeyPrefix:
    """Keys that begin with the text, also in the middle of a namespace."""

    prefix: str
    needs_value = False

    def __call__(self, entry: Entry) -> bool:
        return entry.key.raw.startswith(_encoded(self.prefix))


@dataclass(frozen=True)
class KeyContains:
    """Keys with the text somewhere in them."""

    part: str
    needs_value = False

    def __call__(self, entry: Entry) -> bool:
        return _encoded(self.part) in entry.key.raw


@dataclass(frozen=True)
class ValueCompare:
    """Values that compare so with the bytes. Raises InvalidQuery."""

    op: str
    value: bytes
    needs_value = True

    def __post_init__(self) -> None:
        _check_operator(self.op)

    def __call__(self, entry: Entry) -> bool:
        assert entry.value is not None
        return _OPERATORS[self.op](entry.value, self.value)


@dataclass(frozen=True)
class Where:
    """Entries for which the function says so."""

    function: Callable[[Entry], bool]
    needs_value: bool = True

    def __call__(self, entry: Entry) -> bool:
        return self.function(entry)


@dataclass(frozen=True)
class Order:
    """Sorts by what `by` gives; entries that it does not tell apart are sorted by key."""

    by: Callable[[Entry], Any]
    descending: bool = False
    needs_value: bool = True


BY_KEY: Final = Order(lambda entry: entry.key.raw, needs_value=False)
BY_KEY_DESCENDING: Final = replace(BY_KEY, descending=True)
BY_VALUE: Final = Order(lambda entry: entry.value)
BY_VALUE_DESCENDING: Final = replace(BY_VALUE, descending=True)


def by_function(compare: Callable[[Entry, Entry], int]) -> Order:
    """The order of a function that says which of two entries comes first: below 0, 0, above 0."""
    return Order(cmp_to_key(compare))


@dataclass(frozen=True)
class Query:
    """What to list. The prefix itself is not below the prefix. Raises InvalidQuery.

    `limit` None means all. With orders, all entries that pass the filters are held in memory;
    their values too, if a filter or an order looks at values.
    """

    prefix: Key = ROOT
    filters: tuple[Filter, ...] = ()
    orders: tuple[Order, ...] = ()
    offset: int = 0
    limit: int | None = None
    keys_only: bool = False
    returns_sizes: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, Key):
            raise InvalidQuery(f"a prefix is a Key, not {type(self.prefix).__name__}")
        if self.offset < 0:
            raise InvalidQuery(f"an offset is 0 or more, not {self.offset}")
        if self.limit is not None and self.limit < 0:
            raise InvalidQuery(f"a limit is 0 or more, not {self.limit}")

    @property
    def looks_at_values(self) -> bool:
        filtered = any(each.needs_value for each in self.filters)
        return filtered or any(each.needs_value for each in self.orders)


EVERYTHING: Final = Query()


def answer(
    query: Query,
    keys: Iterable[Key],
    get: Callable[[Key], bytes],
    get_size: Callable[[Key], int],
) -> Iterator[Entry]:
    """The query's entries, given the store's keys. Keys that `get` or `get_size` find no more were
    deleted meanwhile and are left out. Raises what those raise.
    """
    early = query.looks_at_values
    passed: Iterator[Entry]
    passed = (Entry(key) for key in keys if query.prefix.is_ancestor_of(key))
    if early:
        passed = _with_values(passed, get)
    for keep in query.filters:
        passed = filter(keep, passed)
    if query.orders:
        passed = iter(_sorted(passed, query.orders))
    end = None if query.limit is None else query.offset + query.limit
    wanted: Iterator[Entry] = islice(passed, query.offset, end)
    if not (query.keys_only or early):
        wanted = _with_values(wanted, get)
    if query.returns_sizes:
        wanted = _with_sizes(wanted, get_size)
    if query.keys_only and early:
        wanted = (replace(entry, value=None) for entry in wanted)
    return wanted


def _with_values(entries: Iterable[Entry], get: Callable[[Key], bytes]) -> Iterator[Entry]:
    for entry in entries:
        try:
            value = get(entry.key)
        except KeyNotFound:
            continue
        yield Entry(entry.key, value)


def _with_sizes(entries: Iterable[Entry], get_size: Callable[[Key], int]) -> Iterator[Entry]:
    for entry in entries:
        if entry.value is not None:
            yield replace(entry, size=len(entry.value))
            continue
        try:
            yield replace(entry, size=get_size(entry.key))
        except KeyNotFound:
            continue


def _sorted(entries: Iterable[Entry], orders: tuple[Order, ...]) -> list[Entry]:
    """Python's sort is stable, so the last order to matter is sorted by first."""
    ordered = sorted(entries, key=BY_KEY.by)
    for order in reversed(orders):
        ordered.sort(key=order.by, reverse=order.descending)
    return ordered


def _check_operator(op: str) -> None:
    if op not in _OPERATORS:
        raise InvalidQuery(f"{op!r} is no operator ({', '.join(_OPERATORS)} are)")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
