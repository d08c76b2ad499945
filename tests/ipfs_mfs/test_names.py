"""Names from outside: command line, control socket, DAGs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_mfs.errors import BadName, UnsafeName
from ipfs_mfs.names import check_extracted, check_root_name, check_segment


@pytest.mark.parametrize("name", ["main", "a" * 255, "with space", "größe", "x.y-z_1", "日本"])
def test_a_plain_name_passes(name):
    assert check_root_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a" * 256, "ü" * 128, "..", ".", ".hidden", "a/b", "a@b", "a\0b", "a\nb", "\x1b[2J"],
)
def test_a_name_that_could_mislead_is_refused(name):
    with pytest.raises(BadName):
        check_root_name(name)


@pytest.mark.parametrize("segment", [b"", b".", b"..", b"a/b", b"a\0b", b"x" * 256])
def test_a_path_segment_that_is_no_file_name_is_refused(segment):
    with pytest.raises(BadName):
        check_segment(segment)
    with pytest.raises(UnsafeName):
        check_extracted(segment, "tree")


@given(st.binary(max_size=300))
def test_an_extracted_name_never_leaves_its_directory(name):
    try:
        check_extracted(name, "tree")
    except UnsafeName:
        return
    assert name not in (b"", b".", b"..")
    assert not {0, ord("/")} & set(name)
    assert len(name) <= 255
