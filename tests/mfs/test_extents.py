"""Written ranges, compared with a plain array of bytes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mfs.extents import PIECE_OVERHEAD_BYTES, Extents, Intervals

SPAN = 64
writes = st.tuples(st.just("write"), st.integers(0, SPAN), st.binary(max_size=24))
cuts = st.tuples(st.just("truncate"), st.integers(0, SPAN), st.just(b""))
steps = st.lists(st.one_of(writes, writes, cuts), max_size=30)


def contents(extents: Extents) -> dict[int, int]:
    found = {}
    for start, view in extents.slices(0, 10 * SPAN):
        found.update(enumerate(bytes(view), start))
        view.release()
    return found


@given(steps)
def test_extents_hold_what_was_written_last_at_each_offset(history):
    extents, intervals, model = Extents(), Intervals(), {}
    for step, at, data in history:
        if step == "write":
            extents.write(at, data)
            intervals.add(at, at + len(data))
            model.update(enumerate(data, at))
        else:
            extents.truncate(at)
            intervals.truncate(at)
            model = {offset: byte for offset, byte in model.items() if offset < at}
        assert contents(extents) == model
        assert extents.size_bytes == len(model)
        assert [offset for low, high in intervals for offset in range(low, high)] == sorted(model)


@given(steps)
def test_ranges_are_disjoint_ascending_and_apart(history):
    extents, intervals = Extents(), Intervals()
    for step, at, data in history:
        if step == "write":
            extents.write(at, data)
            intervals.add(at, at + len(data))
        else:
            extents.truncate(at)
            intervals.truncate(at)
        pieces = [(start, start + len(view)) for start, view in extents.slices(0, 10 * SPAN)]
        assert pieces == list(intervals)
        assert all(left[1] < right[0] for left, right in pairwise(pieces))


@given(steps, st.integers(0, SPAN), st.integers(0, SPAN))
def test_a_slice_is_the_part_of_the_whole(history, start, length):
    extents = Extents()
    for _, at, data in history:
        extents.write(at, data)
    whole = contents(extents)
    part = {}
    for at, view in extents.slices(start, start + length):
        part.update(enumerate(bytes(view), at))
    assert part == {at: byte for at, byte in whole.items() if start <= at < start + length}


def test_a_complete_leaf_is_handed_out_without_a_copy():
    extents = Extents()
    extents.write(0, b"ab")
    assert extents.take_whole(4) is None
    extents.write(2, b"cd")
    whole = extents.take_whole(4)
    assert bytes(whole or b"") == b"abcd"
    assert extents.take_whole(4) is whole


def test_scattered_writes_take_memory_for_themselves_only():
    extents = Extents()
    for index in range(100):
        extents.write(index * 10_000, b"x")
    assert extents.size_bytes == 100
    assert extents.memory_bytes == 100 + 100 * PIECE_OVERHEAD_BYTES


def test_an_empty_write_leaves_no_piece():
    extents = Extents()
    extents.write(5, b"")
    assert not extents


def test_cleared_intervals_are_empty():
    intervals = Intervals()
    intervals.add(1, 3)
    intervals.clear()
    assert not intervals
    assert list(intervals) == []
