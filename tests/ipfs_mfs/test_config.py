"""Settings: precedence, the place of the store, and what is refused."""

import os
from pathlib import Path

import pytest

from fusefs import options
from ipfs_mfs.config import (
    SOCKET_PATH_MAX_BYTES,
    TRANSPORTS,
    Config,
    load,
    socket_dir,
    with_flags,
)
from ipfs_mfs.errors import BadSetting


def environment(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), **more}


def write_file(home: Path, text: str) -> None:
    path = home / ".config/ipfs-mfs/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_without_any_setting_the_store_is_below_the_home_directory(tmp_path):
    config = load(environment(tmp_path))
    assert config.store == tmp_path / ".local/share/ipfs-mfs/store.blk"
    assert config.store_is_default
    assert config.store_size_bytes == 16 << 30


def test_the_data_home_moves_the_default_store(tmp_path):
    config = load(environment(tmp_path, XDG_DATA_HOME=str(tmp_path / "data")))
    assert config.store == tmp_path / "data/ipfs-mfs/store.blk"


def test_a_relative_data_home_is_ignored(tmp_path):
    config = load(environment(tmp_path, XDG_DATA_HOME="data"))
    assert config.store == tmp_path / ".local/share/ipfs-mfs/store.blk"


def test_file_environment_and_flag_override_each_other_in_this_order(tmp_path):
    write_file(tmp_path, 'store = "/from/file"\nprofile = "unixfs-v0-2015"\nlog_level = "debug"\n')
    config = load(environment(tmp_path, IPFS_MFS_STORE="/from/environment", IPFS_MFS_LOG_LEVEL=""))
    assert config.store == Path("/from/environment")
    assert not config.store_is_default
    assert config.profile == "unixfs-v0-2015"
    assert config.log_level == "debug", "an empty variable counts as not set"
    config = with_flags(config, store=Path("/from/flag"), profile=None)
    assert config.store == Path("/from/flag")
    assert config.profile == "unixfs-v0-2015"


def test_sizes_of_the_file_may_be_numbers_or_text(tmp_path):
    write_file(tmp_path, 'store_size = 1048576\nsegment_size = "8M"\n')
    config = load(environment(tmp_path))
    assert (config.store_size_bytes, config.segment_size_bytes) == (1 << 20, 8 << 20)


def test_another_file_can_be_named(tmp_path):
    path = tmp_path / "other.toml"
    path.write_text("busy_wait = 3\n")
    assert load(environment(tmp_path, IPFS_MFS_CONFIG=str(path))).busy_wait_s == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('stoer = "/x"', "unknown setting 'stoer'"),
        ("store = ", "not valid TOML"),
        ('store_size = "big"', "store_size: 'big' is not a size"),
        ('transport = "smoke"', "transport: 'smoke' is none of auto, pyfuse3, kernel"),
        ("flush_tick = 0", "not a number of seconds above 0"),
        ('flush_tick = "x"', "flush_tick: could not convert"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file(tmp_path, text, message):
    write_file(tmp_path, text)
    with pytest.raises(BadSetting) as caught:
        load(environment(tmp_path))
    assert message in str(caught.value)
    assert "config.toml" in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    write_file(tmp_path, "")
    (tmp_path / ".config/ipfs-mfs/config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadSetting, match="cannot be read"):
        load(environment(tmp_path))


def test_a_wrong_variable_is_named(tmp_path):
    with pytest.raises(BadSetting, match=r"\$IPFS_MFS_STORE_SIZE: store_size: 'x'"):
        load(environment(tmp_path, IPFS_MFS_STORE_SIZE="x"))


def test_a_runtime_directory_too_long_for_a_socket_is_replaced_by_a_short_one(tmp_path):
    short = Config(store=Path("/s"), runtime_dir=Path("/run/ipfs-mfs"))
    assert socket_dir(short) == Path("/run/ipfs-mfs")
    long = Config(store=Path("/s"), runtime_dir=Path("/" + "x" * 90))
    replaced = socket_dir(long)
    assert str(os.getuid()) in replaced.name
    assert len(str(replaced)) + len("/0123456789abcdef.sock") <= SOCKET_PATH_MAX_BYTES


def test_root_uses_one_runtime_directory_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    from_login = load(environment(tmp_path, XDG_RUNTIME_DIR="/run/user/0"))
    from_cron = load(environment(tmp_path))
    assert from_login.runtime_dir == from_cron.runtime_dir == Path("/run/ipfs-mfs")


def test_a_user_has_the_session_directory_or_one_in_tmp(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 987654)
    config = load(environment(tmp_path, XDG_RUNTIME_DIR="/run/user/987654"))
    assert config.runtime_dir == Path("/run/user/987654/ipfs-mfs")
    assert load(environment(tmp_path)).runtime_dir == Path("/tmp/ipfs-mfs-987654")


def test_transports_of_the_settings_are_those_of_the_mount():
    assert TRANSPORTS == options.TRANSPORTS
