"""ADDR: the one way to name content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_mfs.address import parse
from ipfs_mfs.errors import BadAddress, ProgramError
from ipld.cid import parse as parse_cid

V0 = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
V1 = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


@pytest.mark.parametrize("text", [V0, V1])
@pytest.mark.parametrize("form", ["{}", "/ipfs/{}", "ipfs://{}", "{}/", "/ipfs/{}/"])
def test_a_cid_is_a_cid_in_every_form(text, form):
    address = parse(form.format(text))
    assert address.cid == parse_cid(text)
    assert (address.root, address.snapshot, address.segments) == (None, None, ())
    assert address.last_name == text


def test_a_path_follows_a_cid_a_root_and_a_snapshot():
    assert parse(f"/ipfs/{V1}/a/b").segments == (b"a", b"b")
    address = parse("main/a//b/")
    assert (address.root, address.snapshot, address.segments) == ("main", None, (b"a", b"b"))
    address = parse("main@v1/dist/x.tar")
    assert (address.root, address.snapshot) == ("main", "v1")
    assert address.last_name == "x.tar"


def test_the_name_of_a_copy_without_a_path_is_the_snapshot_or_the_root():
    assert parse("main").last_name == "main"
    assert parse("main@v1").last_name == "v1"


def test_path_segments_keep_bytes_that_are_not_text():
    assert parse("main/\udcff").segments == (b"\xff",)


@pytest.mark.parametrize("text", ["/home/me/x", "/ipfs/nonsense", "ipfs://", "", "/", "/ipfs/main"])
def test_what_names_nothing_is_refused_with_a_reason(text):
    with pytest.raises(BadAddress):
        parse(text)


@pytest.mark.parametrize("text", ["main@", "@v1", "a@b@c", "main/../x", "main/.", ".x", "a\0b"])
def test_names_inside_an_address_are_checked(text):
    with pytest.raises(ProgramError):
        parse(text)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_typed_error(text):
    try:
        address = parse(text)
    except ProgramError:
        return
    assert (address.cid is None) != (address.root is None)
