"""Values by hierarchical key, with go-datastore's contract: get, put, delete, query, batch, sync.

    store = Store.open(open_device(path))        # blkdev; `Store.format` makes an empty one
    with closing(BlkdevDatastore(store)) as datastore:
        datastore.put(Key("/peers/local"), b"...")
        datastore.sync()                         # now it survives a power cut
        for entry in datastore.query(Query(prefix=Key("/peers"), orders=(BY_KEY,))):
            print(entry.key, entry.value)

What holds is in `datastore/interface.py`, how to use it in docs/guide/datastore.md.
"""

from datastore.interface import Batch, Datastore, Finding
from datastore.key import ROOT, Key
from datastore.on_blkdev import BlkdevDatastore
from datastore.on_memory import MemoryDatastore
from datastore.query import (
    BY_KEY,
    BY_KEY_DESCENDING,
    BY_VALUE,
    BY_VALUE_DESCENDING,
    EVERYTHING,
    Entry,
    KeyCompare,
    KeyContains,
    KeyPrefix,
    Order,
    Query,
    ValueCompare,
    Where,
    by_function,
)

__all__ = [
    "BY_KEY",
    "BY_KEY_DESCENDING",
    "BY_VALUE",
    "BY_VALUE_DESCENDING",
    "EVERYTHING",
    "ROOT",
    "Batch",
    "BlkdevDatastore",
    "Datastore",
    "Entry",
    "Finding",
    "Key",
    "KeyCompare",
    "KeyContains",
    "KeyPrefix",
    "MemoryDatastore",
    "Order",
    "Query",
    "ValueCompare",
    "Where",
    "by_function",
]
