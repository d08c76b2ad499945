"""docs/formats/ipld.md says what the code does: its tables are compared with the constants."""

import importlib
from dataclasses import asdict
from pathlib import Path

from ipld import cid as cids
from ipld import walk
from ipld.profile import UNIXFS_V0_2015, UNIXFS_V1_2025, by_name

PAGE = (Path(__file__).parents[2] / "docs/formats/ipld.md").read_text()


def table(heading: str) -> list[list[str]]:
    """Rows of the first table whose head begins with this cell."""
    lines = iter(PAGE.splitlines())
    for line in lines:
        if line.startswith(f"| {heading} |"):
            break
    assert next(lines).startswith("| ---")
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_profile_table_has_every_field_with_its_value():
    rows = table("field")
    for column, profile in ((1, UNIXFS_V1_2025), (2, UNIXFS_V0_2015)):
        fields = asdict(profile)
        assert fields.pop("name") in PAGE
        assert {row[0]: row[column] for row in rows} == {
            name: str(value) for name, value in fields.items()
        }


def test_every_name_of_a_profile_is_mentioned():
    assert by_name("legacy-cid-v0") is UNIXFS_V0_2015
    assert "legacy-cid-v0" in PAGE


def test_limits_are_those_of_the_code():
    rows = table("constant")
    assert len(rows) >= 9
    for name, value, _guard in rows:
        module, _, constant = name.strip("`").rpartition(".")
        assert str(getattr(importlib.import_module(module), constant)) == value


def test_codecs_that_the_page_names_can_be_walked():
    empty = {"raw": b"", "dag-pb": b"", "dag-cbor": b"\x80", "dag-json": b"[]", "libp2p-key": b""}
    assert "raw, dag-pb, dag-cbor, dag-json, libp2p-key" in PAGE
    for name, block in empty.items():
        codec = getattr(cids, name.replace("-", "_").upper())
        assert walk.links_of(cids.make(1, codec, b"\x12\x20" + bytes(32)), block) == []


def test_tests_that_the_page_names_are_there():
    assert "tests/ipld/test_editing_law.py" in PAGE
    assert (Path(__file__).parent / "test_editing_law.py").exists()
