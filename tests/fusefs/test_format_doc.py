"""docs/formats/fuse.md says what the code does."""

import re
from pathlib import Path

from fusefs import wire

PAGE = Path(__file__).parents[2] / "docs" / "formats" / "fuse.md"


def test_table_of_structures_is_that_of_the_code():
    rows = re.findall(r"^\| (fuse_\w+) \| (\d+) \| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert [(name, int(size), code) for name, size, code in rows] == [
        (name, layout.size, layout.format) for name, layout in wire.STRUCTURES.items()
    ]


def test_limits_are_those_of_the_code():
    text = PAGE.read_text()
    assert f"| oldest protocol | 7.{wire.MINOR_MIN} |" in text
    assert f"| newest that is spoken | 7.{wire.MINOR} |" in text
    for name in ("MAX_WRITE_BYTES", "REQUEST_SIZE_MAX_BYTES"):
        assert f"| {name} | {getattr(wire, name)} |" in text


def test_entries_and_attributes_are_as_long_as_is_said():
    text = PAGE.read_text()
    assert f"then `fuse_attr`: {wire.ENTRY_OUT.size + wire.ATTR.size} bytes" in text
    assert f"then `fuse_attr`: {wire.ATTR_OUT.size + wire.ATTR.size} bytes" in text
    assert f"`fuse_setxattr_in` is the short one, {wire.SETXATTR_IN.size} bytes" in text
