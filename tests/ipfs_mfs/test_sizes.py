"""Sizes and times as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_mfs.sizes import duration_text, parse_size_bytes, size_text


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64K", 64 << 10),
        ("16m", 16 << 20),
        ("16G", 16 << 30),
        ("1.5GiB", 3 << 29),
        ("2TB", 2 << 40),
        (" 7 B ", 7),
    ],
)
def test_a_size_with_a_suffix_is_a_power_of_1024(text, size_bytes):
    assert parse_size_bytes(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "G", "-1", "12X", "1..5G", "nan", "inf", "infG", "1e999", "½"]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size_bytes(text)


@given(st.integers(0, 1 << 60))
def test_every_number_of_bytes_is_read_exactly(size_bytes):
    assert parse_size_bytes(str(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (16 << 30, "16.0 GiB"),
        (1 << 63, "8192.0 PiB"),
    ],
)
def test_size_text_uses_the_largest_unit_that_fits(size_bytes, text):
    assert size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "00:00"), (61.4, "01:01"), (3723, "1:02:03"), (-5, "00:00")]
)
def test_duration_text_has_hours_only_when_needed(seconds, text):
    assert duration_text(seconds) == text
