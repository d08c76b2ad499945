"""Every error of the datastores.

    DatastoreError
    ├── RequestError          your request: the store is fine, ask for something else
    │   ├── KeyNotFound       nothing is stored under the key (also a KeyError)
    │   ├── InvalidKey        no Key, the root, too long, or not to be encoded
    │   ├── InvalidValue      not bytes
    │   ├── InvalidQuery      an offset, a limit or an operator that means nothing
    │   ├── ValueTooLarge     more than one value of this store may have
    │   ├── BatchSpent        the batch was committed before
    │   ├── StoreFull         no room: delete something and collect garbage
    │   ├── StoreReadOnly     opened read-only, or latched after a failed write
    │   └── StoreClosed       the datastore was closed
    └── DataError             your data or your device
        ├── ValueDamaged      the stored bytes are not what was put
        ├── NotADatastore     the store below holds something else
        ├── NewerDatastore    written by a version that this one does not understand
        └── StoreFailed       the store below gave up; the message is its own

Our bugs are not in the tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datastore.key import Key


class DatastoreError(Exception):
    """Base of all; never raised itself."""


class RequestError(DatastoreError):
    """The request cannot be met; the data is fine."""


class KeyNotFound(RequestError, KeyError):
    """Nothing is stored under the key."""

    def __init__(self, key: Key) -> None:
        super().__init__(f"{key}: nothing is stored under this key")
        self.key = key

    def __str__(self) -> str:
        # KeyError would show the repr of the message.
        return str(self.args[0])


class InvalidKey(RequestError):
    """What was given cannot be a key, or nothing can be stored under it."""


class InvalidValue(RequestError):
    """What was given is not bytes."""

    def __init__(self, value: object) -> None:
        super().__init__(f"a value is bytes, not {type(value).__name__} (encode it first)")


class InvalidQuery(RequestError):
    """A query that means nothing."""


class ValueTooLarge(RequestError):
    """The value has more bytes than this store can hold in one."""


class BatchSpent(RequestError):
    """The batch was committed before."""

    def __init__(self) -> None:
        super().__init__("this batch was committed already (begin a new one)")


class StoreFull(RequestError):
    """Nothing was written; everything stored stays readable."""

    def __init__(self) -> None:
        super().__init__("store is full: your data is safe; delete something, collect garbage")


class StoreReadOnly(RequestError):
    """Writing is refused; the message says why."""


class StoreClosed(RequestError):
    """The datastore was closed."""

    def __init__(self) -> None:
        super().__init__("the datastore is closed (open it again)")


class DataError(DatastoreError):
    """What is stored is damaged, or is not ours to use."""


class ValueDamaged(DataError):
    """The stored bytes are not what was put under the key; none of them were returned."""

    def __init__(self, key: Key) -> None:
        super().__init__(f"{key}: the stored value is damaged (put it again, or delete it)")
        self.key = key


class NotADatastore(DataError):
    """The store holds something, and no datastore wrote it."""


class NewerDatastore(DataError):
    """The store was written by a version that this program does not know."""


class StoreFailed(DataError):
    """The store below gave up."""
