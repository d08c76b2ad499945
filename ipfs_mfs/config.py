"""Every default and setting of the program, in one frozen dataclass.

Order of precedence: built-in default < configuration file < environment < command-line flag.
Lower layers receive values; nobody below this module reads settings from the environment or a file.

The file is TOML at `${XDG_CONFIG_HOME:-~/.config}/ipfs-mfs/config.toml`, or where
`$IPFS_MFS_CONFIG` points. The file's `store_size` is `$IPFS_MFS_STORE_SIZE` in the environment.
Unknown keys are refused: a mistyped setting that is silently ignored is worse than an error.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ipfs_mfs.errors import BadSetting
from ipfs_mfs.sizes import parse_size_bytes

PROGRAM = "ipfs-mfs"
DEFAULT_ROOT = "main"
DEFAULT_PROFILE = "unixfs-v1-2025"
TRANSPORTS = ("auto", "pyfuse3", "kernel")
"""Those of `fusefs.options`, which is not loaded for `--help`; a test compares them."""
LOG_LEVELS = ("debug", "info", "warning", "error")
# A unix socket path must fit into sockaddr_un.sun_path: 108 bytes with the closing NUL.
SOCKET_PATH_MAX_BYTES = 107
_SOCKET_NAME_BYTES = len("/0123456789abcdef.sock")


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one invocation. Sizes are bytes, times are seconds, paths are absolute."""

    store: Path
    """Block device or plain file that holds everything."""
    store_is_default: bool = False
    """Whether nobody named the store; only then may `mount` make it."""
    store_size_bytes: int = 16 << 30
    """Size of a store that `mount` creates by itself; a sparse file takes only what is used."""
    segment_size_bytes: int | None = None
    """Unit of space reclamation of a new store; None is 16 MiB, less on a small device."""
    profile: str = DEFAULT_PROFILE
    """Profile of new roots and of `add` without flags; decides the CIDs."""
    mount_options: str = ""
    """Options put before those of `mount -o`."""
    transport: str = "auto"
    """How the mount talks to the kernel."""
    runtime_dir: Path = Path()
    """Control sockets and locks of running daemons; lost at reboot."""
    log_dir: Path = Path()
    """Logs of the daemons."""
    log_level: str = "info"
    """Least severity that is written to the log."""
    flush_tick_s: float = 0.5
    """How often the daemon asks the roots whether a flush is due."""
    compact_bytes_per_s: int = 16 << 20
    """What the daemon copies to give dead space back while nobody asks for it; 0 never does."""
    busy_wait_s: float = 10.0
    """How long a command waits for another short command that has the store open."""


def load(
    environment: Mapping[str, str] | None = None, *, config_path: Path | None = None
) -> Config:
    """Configuration from file and environment. Raises BadSetting, which names key and source."""
    env = os.environ if environment is None else environment
    path = config_path or _config_path(env)
    values: dict[str, object] = {}
    for key, value in _file_settings(path).items():
        _take(values, key, value, str(path))
    for key in _KEYS:
        variable = f"IPFS_MFS_{key.upper()}"
        if env.get(variable):
            _take(values, key, env[variable], f"${variable}")
    data_home = _xdg(env, "XDG_DATA_HOME", ".local/share")
    if "store" not in values:
        values |= {"store": data_home / PROGRAM / "store.blk", "store_is_default": True}
    values.setdefault("runtime_dir", _default_runtime_dir(env))
    values.setdefault("log_dir", _xdg(env, "XDG_STATE_HOME", ".local/state") / PROGRAM)
    return Config(**values)  # type: ignore[arg-type]  # each parser in _KEYS gives the field's type


def with_flags(config: Config, **flags: object) -> Config:
    """The configuration with command-line flags on top; a flag that is None was not given."""
    given = {key: value for key, value in flags.items() if value is not None}
    if "store" in given:
        given["store_is_default"] = False
    return replace(config, **given)  # type: ignore[arg-type]  # click has converted the types


def socket_dir(config: Config) -> Path:
    """Directory of the control sockets; a short one in /tmp when the configured path is too long
    for a unix socket, so that every process of this user computes the same place."""
    length = len(os.fsencode(config.runtime_dir)) + _SOCKET_NAME_BYTES
    if length <= SOCKET_PATH_MAX_BYTES:
        return config.runtime_dir
    return Path(f"/tmp/{PROGRAM}-{os.getuid()}")


def _config_path(env: Mapping[str, str]) -> Path:
    if env.get("IPFS_MFS_CONFIG"):
        return _absolute(env["IPFS_MFS_CONFIG"])
    return _xdg(env, "XDG_CONFIG_HOME", ".config") / PROGRAM / "config.toml"


def _file_settings(path: Path) -> Mapping[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path}: cannot be read: {error}", "fix or remove it") from error
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadSetting(f"{path}: not valid TOML: {error}", "fix that line") from error


def _take(values: dict[str, object], key: str, value: object, source: str) -> None:
    if key not in _KEYS:
        known = ", ".join(sorted(_KEYS))
        raise BadSetting(f"{source}: unknown setting {key!r}", f"known settings: {known}")
    field, parse = _KEYS[key]
    try:
        values[field] = parse(str(value))
    except ValueError as error:
        raise BadSetting(f"{source}: {key}: {error}", "correct the value") from error


def _absolute(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return parse


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError(f"{text!r} is not a number of seconds above 0")
    return value


def _rate(text: str) -> int:
    return 0 if text == "0" else parse_size_bytes(text)


_KEYS: dict[str, tuple[str, Callable[[str], object]]] = {
    "store": ("store", _absolute),
    "store_size": ("store_size_bytes", parse_size_bytes),
    "segment_size": ("segment_size_bytes", parse_size_bytes),
    "profile": ("profile", str),
    "mount_options": ("mount_options", str),
    "transport": ("transport", _one_of(*TRANSPORTS)),
    "runtime_dir": ("runtime_dir", _absolute),
    "log_dir": ("log_dir", _absolute),
    "log_level": ("log_level", _one_of(*LOG_LEVELS)),
    "flush_tick": ("flush_tick_s", _seconds),
    "compact_rate": ("compact_bytes_per_s", _rate),
    "busy_wait": ("busy_wait_s", _seconds),
}
assert {field for field, _ in _KEYS.values()} == {field.name for field in fields(Config)} - {
    "store_is_default"
}


def _xdg(env: Mapping[str, str], variable: str, below_home: str) -> Path:
    """XDG base directory; relative values are ignored, as the specification demands."""
    value = env.get(variable, "")
    if value.startswith("/"):
        return Path(value)
    return Path(env.get("HOME") or Path("~").expanduser()) / below_home


def _default_runtime_dir(env: Mapping[str, str]) -> Path:
    """One place per user, the same from a login, from cron and through sudo.

    root always uses /run: with $XDG_RUNTIME_DIR a daemon started in a root login would be
    invisible to the same root in a unit or a cron job.
    """
    if os.getuid() == 0:
        return Path("/run") / PROGRAM
    if env.get("XDG_RUNTIME_DIR", "").startswith("/"):
        return Path(env["XDG_RUNTIME_DIR"]) / PROGRAM
    session = Path(f"/run/user/{os.getuid()}")
    if session.is_dir():
        return session / PROGRAM
    return Path(f"/tmp/{PROGRAM}-{os.getuid()}")
