"""Sizes, rates and times as people write and read them: `16G`, `1.5 MiB`, `00:42`.

Invariant: a suffix is a power of 1024 (K, M, G, T, with or without `iB` or `B`), so that
`--size 16G` is exactly 16 * 2**30 bytes.
"""

_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def parse_size_bytes(text: str) -> int:
    """Bytes of `4096`, `64K`, `16M`, `1.5GiB`. ValueError when it is not such a text."""
    stripped = text.strip().upper()
    for suffix in ("IB", "B"):
        if stripped.endswith(suffix):
            stripped = stripped[: -len(suffix)]
            break
    power = _POWERS.get(stripped[-1:], 0)
    number = stripped[:-1] if stripped[-1:] in _POWERS and stripped[-1:] else stripped
    try:
        value = int(number) if number.isdigit() else float(number)
    except ValueError:
        raise ValueError(f"{text!r} is not a size such as 64M or 16G") from None
    if not 0 <= value < float("inf"):
        raise ValueError(f"{text!r} is not a size such as 64M or 16G")
    return int(value * 1024**power)


def size_text(size_bytes: float) -> str:
    """`1.5 MiB` for people; exact numbers belong into --json."""
    value = float(size_bytes)
    for unit in _UNITS:
        if abs(value) < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def duration_text(seconds: float) -> str:
    """`1:02:03`, or `02:03` below an hour."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes:02}:{second:02}"
