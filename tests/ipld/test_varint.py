"""Varints of both dialects."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipld import varint


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3))
def test_every_63_bit_number_survives(value, before):
    encoded = varint.encode(value)
    buffer = before + encoded + b"\xff"
    end = len(before) + len(encoded)
    assert varint.read(buffer, len(before)) == (value, end)
    assert varint.read_protobuf(memoryview(buffer), len(before)) == (value, end)


@given(st.integers(2**63, 2**64 - 1))
def test_64_bits_fit_protobuf_only(value):
    encoded = varint.encode(value)
    assert varint.read_protobuf(encoded, 0) == (value, 10)
    with pytest.raises(ValueError, match="longer than 9"):
        varint.read(encoded, 0)


@pytest.mark.parametrize("encoded", [b"", b"\x80", b"\xff" * 8])
def test_a_cut_number_is_refused(encoded):
    for read in (varint.read, varint.read_protobuf):
        with pytest.raises(ValueError, match="cut short"):
            read(encoded, 0)


def test_padding_is_refused_by_multiformats_only():
    assert varint.read_protobuf(b"\x81\x00", 0) == (1, 2)
    with pytest.raises(ValueError, match="shortest"):
        varint.read(b"\x81\x00", 0)
    assert varint.read(b"\x00", 0) == (0, 1)


def test_more_than_64_bits_are_refused():
    with pytest.raises(ValueError, match="64 bits"):
        varint.read_protobuf(b"\xff" * 9 + b"\x02", 0)
    with pytest.raises(ValueError, match="longer than 10"):
        varint.read_protobuf(b"\xff" * 11, 0)
