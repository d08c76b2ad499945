"""An error at the n-th operation of the device, for every n, through everything a store can do.

`CALLS` is the whole public interface of Store, and a test says so. Every call either does what it
is for or raises a typed error, whatever the calls before it met; nothing that was promised is lost.
"""

from collections.abc import Callable

import pytest

from blkdev.errors import StoreError
from blkdev.store import Store
from tests.blkdev.devices import (
    SIZE_BYTES,
    SMALL_SEGMENT_BYTES,
    FaultyDevice,
    assert_sound,
    blocks,
    contents,
    copied,
    formatted,
)

pytestmark = pytest.mark.slow

OLD = blocks(0, 24, 6000)
KEPT, GONE = OLD[18:], OLD[:18]
LARGE = blocks(40, 2, 32_000)
LATE = blocks(60, 3, 3000)
VALUES = dict(OLD + LARGE + LATE)
KEY, VALUE = LARGE[0]


class Life:
    """A store on a device that fails once, and what was promised about it."""

    def __init__(self, device: FaultyDevice) -> None:
        self.device = device
        self.store = Store.open(device)
        self.staged: dict[bytes, bytes] = {}
        self.promised: dict[bytes, bytes] = {}
        self.deleted: set[bytes] = set()
        self.gone: set[bytes] = set()
        self.name = self.promised_name = b""

    def put(self, items: list[tuple[bytes, bytes]]) -> None:
        self.store.put_many(items)
        self.staged.update(items)

    def delete(self, items: list[tuple[bytes, bytes]]) -> None:
        keys = {key for key, _ in items}
        for key in keys:
            self.staged.pop(key, None)
            self.promised.pop(key, None)
        self.store.delete_many(keys)
        self.deleted |= keys

    def set_name(self, value: bytes, set_it: Callable[[], None]) -> None:
        self.promised_name = b""
        set_it()
        self.name = value

    def commit(self) -> None:
        self.store.commit()
        self.promised |= self.staged
        self.gone |= self.deleted
        self.promised_name = self.name

    def read(self, found: object, expected: object) -> None:
        """What a read returned; a key whose put failed is missing, and its read has raised."""
        assert found == expected

    def journal(self) -> None:
        stream = self.store.journal(1)
        first = stream.append(b"first")
        stream.append(b"second")
        stream.trim(first)
        assert [record for _, record in stream.replay()] == [b"second"]

    def view(self) -> None:
        with self.store.view(KEY) as view:
            assert view == VALUE

    def check(self) -> None:
        """What the device cannot read is a finding, and raises nothing."""
        report = self.store.check()
        assert report.ok or self.device.fail_at >= 0

    def judge(self, image: FaultyDevice) -> None:
        with Store.open(copied(image)) as store:
            found = contents(store)
            for key, value in self.promised.items():
                assert found.get(key) == value
            for key, value in found.items():
                assert VALUES[key] == value
                assert key not in self.gone
            if self.promised_name:
                assert store.name(b"name") == self.promised_name
            assert_sound(store)


CALLS: tuple[tuple[str, Callable[[Life], object]], ...] = (
    ("put_many", lambda life: life.put(OLD)),
    ("commit", Life.commit),
    ("has", lambda life: life.read(life.store.has(OLD[3][0]) or not life.staged, True)),
    ("delete_many", lambda life: life.delete(GONE)),
    ("set_name", lambda life: life.set_name(b"1", lambda: life.store.set_name(b"name", b"1"))),
    ("journal", Life.journal),
    ("commit", Life.commit),
    ("put_many", lambda life: life.put(LARGE)),
    ("write_out", lambda life: life.store.write_out()),
    ("get", lambda life: life.read(life.store.get(KEY), VALUE)),
    # None where its put failed.
    ("get_many", lambda life: life.read(dict(life.store.get_many([KEY]))[KEY] or VALUE, VALUE)),
    ("get_part", lambda life: life.read(life.store.get_part(KEY, 5, 300), VALUE[5:305])),
    ("view", Life.view),
    ("size_of", lambda life: life.read(life.store.size_of(KEY), len(VALUE))),
    ("has_many", lambda life: life.read(life.store.has_many([b"none", b"n"]), [False, False])),
    ("compact", lambda life: life.store.compact()),
    ("checkpoint", lambda life: life.store.checkpoint()),
    ("put_many", lambda life: life.put(LATE)),
    ("set_names", lambda life: life.set_name(b"2", lambda: life.store.set_names({b"name": b"2"}))),
    ("commit", Life.commit),
    ("name", lambda life: life.read(life.store.name(b"none"), None)),
    ("names", lambda life: life.read(dict(life.store.names()).get(b"name", life.name), life.name)),
    ("keys", lambda life: life.read(set(life.store.keys()) - set(VALUES), set())),
    ("check", Life.check),
    ("condemn", lambda life: life.store.condemn(b"none")),
    ("apply", lambda life: life.store.apply({})),
    ("resize", lambda life: life.store.resize()),
    ("scrub", lambda life: life.store.scrub()),
    ("repair", lambda life: life.store.repair()),
    ("position", lambda life: life.store.position()),
    ("spare_range", lambda life: life.store.spare_range()),
    ("stats", lambda life: life.store.stats()),
    ("close", lambda life: life.store.close()),
)


def lived(device: FaultyDevice) -> tuple[int, Life | None]:
    """Call everything, whatever fails; how many calls did, and the life if the store opened."""
    try:
        life = Life(device)
    except StoreError:
        return 1, None
    failed = 0
    for _, call in CALLS:
        try:
            call(life)
        except StoreError:
            failed += 1
    return failed, life


def test_every_public_method_of_a_store_is_called():
    public = {name for name, member in vars(Store).items() if callable(member) and name[0] != "_"}
    public |= {name for name, each in vars(Store).items() if isinstance(each, classmethod)}
    assert {name for name, _ in CALLS} == public - {"format", "open", "abandon"}


@pytest.mark.parametrize("healing", [True, False], ids=["one error", "all from then on"])
def test_error_at_any_operation_is_typed_and_loses_nothing_promised(healing):
    plain = FaultyDevice(SIZE_BYTES, pages=formatted())
    failed, life = lived(plain)
    assert not failed
    assert life is not None
    assert set(life.promised) == {key for key, _ in KEPT + LARGE + LATE}
    life.judge(plain)
    total = sum(plain.counts.values())
    assert total > 150
    met = 0
    for number in range(total):
        device = FaultyDevice(SIZE_BYTES, pages=formatted())
        device.fail_at, device.healing = number, healing
        failed, life = lived(device)
        met += bool(failed)
        device.fail_at = -1
        if life is not None:
            life.judge(device)
        else:
            assert contents(Store.open(copied(device))) == {}
    assert met > total / 4, (met, total)


@pytest.mark.parametrize("healing", [True, False], ids=["one error", "all from then on"])
def test_error_at_any_operation_of_reading_only_is_typed_and_writes_nothing(healing):
    plain = FaultyDevice(SIZE_BYTES, pages=formatted())
    lived(plain)
    before = dict(plain.pages)
    expected = dict(KEPT + LARGE + LATE)

    def read_all(device: FaultyDevice) -> None:
        """All that is there, right; what is not there for want of reading was reported."""
        with Store.open(device, read_only=True) as store:
            keys = list(store.keys())
            for key in keys:
                assert store.get(key) == expected[key]
                assert store.size_of(key) == len(expected[key])
            # A key that cannot be read cannot be listed; `check` tells where it is.
            unlisted = len(expected) - len(keys)
            found = unlisted <= 1, store.names(), len(list(store.journal(1).replay()))
            whole = True, [(b"name", b"2")], 1
            assert found == whole or store.recovery.damaged_slots
            store.check()

    counted = FaultyDevice(SIZE_BYTES, pages=dict(before))
    read_all(counted)
    met = 0
    for number in range(sum(counted.counts.values())):
        device = FaultyDevice(SIZE_BYTES, pages=dict(before))
        device.fail_at, device.healing = number, healing
        try:
            read_all(device)
        except StoreError:
            met += 1
        assert device.pages == before
        assert device.counts["write"] == device.counts["sync"] == 0
    assert met > 10


def test_error_at_any_operation_of_format_is_an_os_error_and_format_can_be_repeated():
    whole = FaultyDevice(SIZE_BYTES)
    Store.format(whole, segment_size_bytes=SMALL_SEGMENT_BYTES)
    failed = 0
    for number in range(sum(whole.counts.values())):
        device = FaultyDevice(SIZE_BYTES)
        device.fail_at = number
        try:
            Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES)
        except OSError:
            failed += 1
            Store.format(device, segment_size_bytes=SMALL_SEGMENT_BYTES, force=True)
        assert Store.open(device).stats().keys == 0
    # Four writes, two syncs and the look at what is there; one unreadable copy stops nothing.
    assert failed >= 7
