"""Mount options: what is understood, what is refused, and that nothing is lost on the way."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusefs.errors import InvalidMountOption
from fusefs.options import SYNC_POLICIES, TRANSPORTS, MountOptions, to_text


def test_no_options_mean_the_main_root_checked_by_the_kernel():
    options = MountOptions.parse("")
    assert options.root_name == "main"
    assert options.default_permissions
    assert not options.read_only and not options.allow_other and not options.suid
    assert options.read_ahead_bytes == 1 << 20


def test_every_option_of_the_manual_is_understood():
    options = MountOptions.parse(
        "root=photos,ro,allow_other,default_permissions,uid=1000,gid=100,umask=022,noatime,"
        "read_ahead=128k,sync=close,profile=unixfs-v0-2015,nonempty,suid,dev,noexec"
    )
    assert options == MountOptions(
        root="photos",
        read_only=True,
        allow_other=True,
        uid=1000,
        gid=100,
        umask=0o22,
        update_atime=False,
        read_ahead_bytes=128 << 10,
        sync="close",
        profile="unixfs-v0-2015",
        nonempty=True,
        suid=True,
        dev=True,
        execute=False,
    )


def test_options_of_fstab_and_systemd_are_passed_over():
    text = "defaults,_netdev,noauto,nofail,x-systemd.automount,x-systemd.idle-timeout=60"
    assert MountOptions.parse(text) == MountOptions()


def test_later_options_win_and_blanks_do_not_matter():
    assert MountOptions.parse(" ro , rw ,,noatime,relatime") == MountOptions()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("frobnicate", "unknown mount option"),
        ("frobnicate=1", "unknown mount option"),
        ("ro=yes", "takes no value"),
        ("uid", "needs a value"),
        ("root=", "needs a value"),
        ("uid=me", "needs a number"),
        ("uid=-1", "must be below"),
        ("gid=4294967295", "must be below"),
        ("umask=9", "needs a number in base 8"),
        ("umask=1000", "must be below"),
        ("read_ahead=1G", "needs a size"),
        ("read_ahead=-1", "needs a size"),
        ("sync=sometimes", "one of fsync, close, always"),
        ("transport=smoke", "one of auto, pyfuse3, kernel"),
        ("root=a,all", "exclude each other"),
        ("cid=b,all", "exclude each other"),
        ("root=a,cid=b", "exclude each other"),
    ],
)
def test_a_wrong_option_is_refused_by_name(text, complaint):
    with pytest.raises(InvalidMountOption, match=complaint) as caught:
        MountOptions.parse(text)
    assert text.split("=", maxsplit=1)[0].split(",")[0] in str(caught.value)


def test_no_root_is_shown_where_the_view_is_another():
    assert MountOptions.parse("all").root_name is None
    assert MountOptions.parse("cid=bafy").root_name is None
    assert MountOptions.parse("cid=bafy").describe() == "bafy"
    assert MountOptions.parse("all").describe() == "all"


NAMES = st.text(string.ascii_letters + string.digits + "-_. ", min_size=1).map(str.strip)


@given(
    st.builds(
        MountOptions,
        root=st.one_of(st.none(), NAMES.filter(bool)),
        read_only=st.booleans(),
        allow_other=st.booleans(),
        default_permissions=st.booleans(),
        nonempty=st.booleans(),
        suid=st.booleans(),
        dev=st.booleans(),
        execute=st.booleans(),
        uid=st.one_of(st.none(), st.integers(0, 2**32 - 2)),
        gid=st.one_of(st.none(), st.integers(0, 2**32 - 2)),
        umask=st.one_of(st.none(), st.integers(0, 0o777)),
        update_atime=st.booleans(),
        read_ahead_bytes=st.integers(0, 1 << 30),
        sync=st.sampled_from(SYNC_POLICIES),
        transport=st.sampled_from(TRANSPORTS),
    )
)
def test_options_survive_the_way_to_another_process(options):
    assert MountOptions.parse(to_text(options)) == options


@given(st.text(max_size=60))
def test_any_text_gives_options_or_the_typed_error(text):
    try:
        MountOptions.parse(text).validate()
    except InvalidMountOption:
        pass
