"""docs/formats/blkdev.md against blkdev/format.py: every field, limit, kind and the example."""

import re
from pathlib import Path

import pytest

from blkdev import format as fmt
from blkdev.device import RamDevice
from blkdev.store import Store

DOCUMENT = (Path(__file__).parents[2] / "docs" / "formats" / "blkdev.md").read_text()


def rows_below(title: str) -> list[list[str]]:
    """Cells of the first table after a heading that starts with `title`."""
    section = re.split(rf"^#+ {re.escape(title)}\b.*$", DOCUMENT, flags=re.MULTILINE)[1]
    lines = section.split("\n#")[0].splitlines()
    table = [line for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


@pytest.mark.parametrize("layout", fmt.LAYOUTS, ids=lambda layout: layout.title)
def test_byte_table_says_what_the_code_packs(layout):
    assert f"### {layout.title}, {layout.size_bytes} bytes" in DOCUMENT
    documented = [(int(r[0]), int(r[1]), r[2], r[3]) for r in rows_below(layout.title)]
    assert documented == [tuple(field) for field in layout.fields]


@pytest.mark.parametrize("layout", fmt.LAYOUTS, ids=lambda layout: layout.title)
def test_every_field_has_its_reason(layout):
    assert all(row[4] for row in rows_below(layout.title))


def test_document_describes_no_structure_that_the_code_lacks():
    documented = re.findall(r"^### (\w+), \d+ bytes$", DOCUMENT, flags=re.MULTILINE)
    assert documented == [layout.title for layout in fmt.LAYOUTS]


def test_limits_are_those_of_the_code():
    documented = {row[0]: int(row[1]) for row in rows_below("Limits and constants")}
    assert documented == {name: getattr(fmt, name) for name in documented}
    limits = {name for name in vars(fmt) if re.search(r"_(MAX|MIN|MAX_BYTES|MIN_BYTES)$", name)} - {
        "RECORD_SIZE_MAX_BYTES"
    }
    assert limits <= documented.keys()


def test_kinds_are_those_of_the_code():
    documented = {row[0]: int(row[1]) for row in rows_below("Kinds of records")}
    assert documented == {n: v for n, v in vars(fmt).items() if n.startswith("KIND_")}
    assert set(documented.values()) == fmt.KINDS


def test_location_packs_as_described():
    location = fmt.pack_location(5, 4160, 72)
    assert location == 520 | 5 << 23 | 9 << 43


def test_worked_example_is_what_the_store_writes():
    device = RamDevice(64 << 20)
    Store.format(device)
    store = Store.open(device)
    store.put_many([(bytes(34), b"hello world")])
    store.commit()
    segment = device.read(2 * fmt.ERASE_UNIT_SIZE_BYTES, 2 * fmt.PAGE_SIZE_BYTES)
    seed = fmt.store_seed(store.uuid)
    group = fmt.GROUP_HEADER.open(segment, fmt.PAGE_SIZE_BYTES, seed)
    assert group is not None
    assert (group.size_bytes, group.record_count, group.number) == (136, 1, 1)
    record = fmt.decode_record_head(segment, 4160, seed)
    assert record is not None
    assert (record.key_size_bytes, record.value_size_bytes) == (34, 11)
    assert segment[4160 + 24 + 34 : 4160 + 69] == b"hello world"
