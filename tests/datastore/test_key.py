"""Keys: cleaning, taking apart, ancestry, order; the behaviours of go-datastore's own tests."""

import copy
import pickle
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore import ROOT, Key
from datastore.errors import InvalidKey
from datastore.key import KEY_SIZE_MAX_BYTES, name_of, type_of

TEXTS = [
    "",
    "abcde",
    "disahfidsalfhduisaufidsail",
    "/fdisahfodisa/fdsa/fdsafdsafdsafdsa/fdsafdsa/",
    "4215432143214321432143214321",
    "/fdisaha////fdsa////fdsafdsafdsafdsa/fdsafdsa/",
    "abcde:fdsfd",
    "disahfidsalfhduisaufidsail:fdsa",
    "/fdisahfodisa/fdsa/fdsafdsafdsafdsa/fdsafdsa/:",
    "4215432143214321432143214321:",
    "fdisaha////fdsa////fdsafdsafdsafdsa/fdsafdsa/f:fdaf",
    "a:b:c/d:e:f",
]

parts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
texts = st.lists(st.sampled_from(["", ".", "..", "a", "b:c", "ä"]) | parts, max_size=6).map(
    "/".join
)


def reference(text: str) -> str:
    """What a cleaned path is, by somebody else's code; it keeps two slashes in front."""
    return posixpath.normpath("/" + text.lstrip("/"))


@pytest.mark.parametrize("text", TEXTS)
def test_key_is_what_its_parts_say(text):
    key, fixed = Key(text), reference(text)
    namespaces = [part for part in fixed.split("/") if part]
    last = namespaces[-1] if namespaces else ""
    kind, _, name = last.rpartition(":")
    parent = "/" + "/".join(namespaces[:-1])
    assert str(key) == key.text == fixed
    assert list(key.namespaces) == namespaces
    assert (key.base, key.type, key.name) == (last, kind, name)
    assert str(key.parent) == parent
    assert str(key.path) == reference(f"{parent}/{kind}")
    assert (
        str(key.child("cchildd")) == str(key.child(Key("cchildd"))) == reference(f"{fixed}/cchildd")
    )
    assert key.child("cchildd").parent == key
    assert str(key.instance("inst")) == f"{fixed}:inst"
    assert key.reversed().namespaces == key.namespaces[::-1]
    assert Key.of(namespaces) == key
    assert key.is_top_level == (len(namespaces) == 1)
    assert key < key.child("foo")
    assert not key < key.parent


@given(texts)
def test_cleaned_key_is_that_of_the_path_library_and_stays_so(text):
    key = Key(text)
    assert str(key) == reference(text)
    assert Key(str(key)) == key
    assert Key.from_raw(key.raw) == key
    assert str(Key.from_raw(key.raw)) == str(key)


@given(texts, texts)
def test_keys_are_equal_exactly_when_their_bytes_are(one, other):
    a, b = Key(one), Key(other)
    assert (a == b) == (a.raw == b.raw) == (str(a) == str(b))
    assert a != b or hash(a) == hash(b)
    assert (a < b) + (b < a) + (a == b) == 1
    assert (a < b) == (a.raw.split(b"/") < b.raw.split(b"/"))


@given(texts, texts)
def test_ancestry_is_that_of_namespaces(one, other):
    a, b = Key(one), Key(other)
    below = len(b.namespaces) > len(a.namespaces)
    below = below and b.namespaces[: len(a.namespaces)] == a.namespaces
    assert a.is_ancestor_of(b) == b.is_descendant_of(a) == below
    assert not below or a < b


def test_ancestry_of_neighbours():
    abc, abcd, ab, a = Key("/A/B/C"), Key("/A/B/C/D"), Key("/AB"), Key("/A")
    assert abc.is_ancestor_of(abcd) and abcd.is_descendant_of(abc)
    assert a.is_ancestor_of(abcd) and a.is_ancestor_of(abc)
    assert not ab.is_descendant_of(a) and not a.is_ancestor_of(ab)
    assert not abc.is_ancestor_of(abc) and not abc.is_descendant_of(abc)
    assert ROOT.is_ancestor_of(a) and not ROOT.is_ancestor_of(ROOT)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ("/a/b/c", "/a/b/c/d"), ("/a/b", "/a/b/c/d"), ("/a", "/a/b/c/d"), ("/a/a/c", "/a/b/c"),
        ("/a/a/d", "/a/b/c"), ("/a/b/c/d/e/f/g/h", "/b"), ("/", "/a"), ("/a/b", "/a!"),
    ],
)  # fmt: skip
def test_order_is_by_namespaces(less, more):
    assert Key(less) < Key(more)
    assert Key(more) > Key(less)
    assert Key(less) <= Key(less)


def test_type_and_name_of_a_namespace():
    assert type_of("Music:Song:PhilosopherSong") == "Music:Song"
    assert name_of("Music:Song:PhilosopherSong") == "PhilosopherSong"
    assert type_of("plain") == ""
    assert name_of("plain") == "plain"


@pytest.mark.parametrize(
    ("text", "first"), [("/", ""), ("/Comedy", "Comedy"), ("/a/b/c:d", "a"), ("/a:b", "a:b")]
)
def test_first_namespace(text, first):
    assert Key(text).root_namespace == first


def test_random_keys_are_top_level_and_differ():
    keys = {Key.random() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(key.is_top_level for key in keys)


def test_child_by_text_may_lead_up_and_never_above_the_root():
    assert Key("/a/b").child("../c") == Key("/a/c")
    assert Key("/a").child("../../../..") == ROOT


def test_bytes_that_are_no_utf_8_come_back():
    raw = b"/\xff\x80/ok"
    assert Key.from_raw(raw).raw == raw
    assert Key(str(Key.from_raw(raw))).raw == raw


def test_key_is_as_long_as_allowed_and_no_longer():
    longest = Key("/" + "ä" * ((KEY_SIZE_MAX_BYTES - 1) // 2))
    assert len(longest.raw) == KEY_SIZE_MAX_BYTES - 1
    with pytest.raises(InvalidKey, match=f"at most {KEY_SIZE_MAX_BYTES} bytes, not"):
        longest.child("ä")
    assert Key("/" * 10_000 + "short") == Key("short")


@pytest.mark.parametrize("text", [b"/bytes", None, 7, Key("/key")])
def test_key_of_something_else_than_text_is_refused(text):
    with pytest.raises(InvalidKey, match="made of text"):
        Key(text)


def test_lone_surrogate_is_refused():
    with pytest.raises(InvalidKey, match="surrogates not allowed"):
        Key("/\ud800")


@pytest.mark.parametrize("name", ["text", "raw", "other"])
def test_key_cannot_be_changed(name):
    key = Key("/a")
    with pytest.raises(AttributeError):
        setattr(key, name, "x")
    assert key == Key("/a")


def test_key_is_copied_and_pickled_as_itself():
    key = Key("/a/b:c")
    assert copy.deepcopy(key) == pickle.loads(pickle.dumps(key)) == key


def test_key_equals_nothing_but_keys():
    assert Key("/a") != "/a"
    assert repr(Key("a//b")) == "Key('/a/b')"
