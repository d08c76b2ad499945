"""Keys in the engine: nothing collides, everything comes back, and no bytes can confuse it."""

from hypothesis import example, given
from hypothesis import strategies as st

from blkdev.format import KEY_SIZE_MAX_BYTES
from datastore import mapping

short_raws = st.binary(min_size=1, max_size=63).map(lambda tail: b"/" + tail)
long_raws = st.binary(min_size=64, max_size=200).map(lambda tail: b"/" + tail)
raws = short_raws | long_raws


@given(raws, raws)
@example(b"/" + b"k" * 63, b"/" + b"k" * 64)
def test_two_keys_have_two_places(one, other):
    assert (mapping.engine_key(one) == mapping.engine_key(other)) == (one == other)


@given(raws, st.binary(max_size=100))
def test_key_and_value_come_back(raw, value):
    place = mapping.engine_key(raw)
    stored = mapping.front(raw) + value
    assert 0 < len(place) <= KEY_SIZE_MAX_BYTES
    assert len(mapping.front(raw)) == mapping.front_size(raw)
    assert stored[mapping.front_size(raw) :] == value
    if place.startswith(mapping.SHORT):
        assert place == raw
    else:
        assert mapping.key_in_front(place, stored[: mapping.FRONT_SIZE_MAX_BYTES]) == raw


@given(st.binary(max_size=64), st.binary(max_size=300))
@example(b"~" + bytes(32), b"")
@example(b"/short", b"\x06\x00/short")
def test_foreign_bytes_are_no_key(place, start):
    assert mapping.key_in_front(place, start) is None


@given(long_raws, st.data())
def test_cut_or_changed_front_is_no_key(raw, data):
    place, front = mapping.engine_key(raw), bytearray(mapping.front(raw))
    at = data.draw(st.integers(0, len(front) - 1))
    assert mapping.key_in_front(place, bytes(front[:at])) is None
    front[at] ^= data.draw(st.integers(1, 255))
    assert mapping.key_in_front(place, bytes(front)) is None
