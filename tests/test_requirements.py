"""The lock files pin what the lists ask for; every direct dependency has a reason."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
REQUIREMENTS = PROJECT / "requirements"
NAMES = ("build", "runtime", "dev")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def asked(name: str) -> set[str]:
    lines = (REQUIREMENTS / f"{name}.in").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "-c"))]
    return {normal(re.split(r"[<>=~!\[ ]", line)[0]) for line in wanted}


def pinned(name: str) -> dict[str, str]:
    content = (REQUIREMENTS / f"{name}.txt").read_text()
    return {
        normal(package): pin
        for package, pin in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", content, re.MULTILINE)
    }


@pytest.mark.parametrize("name", NAMES)
def test_everything_asked_for_is_pinned(name):
    assert asked(name) <= set(pinned(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_pin_has_hashes(name):
    content = (REQUIREMENTS / f"{name}.txt").read_text()
    blocks = re.split(r"^(?=[A-Za-z0-9])", content, flags=re.MULTILINE)
    pins = [block for block in blocks if "==" in block]
    assert len(pins) == len(pinned(name))
    assert all("--hash=sha256:" in block for block in pins)


@pytest.mark.parametrize("name", NAMES)
def test_no_lock_file_says_where_packages_come_from(name):
    content = (REQUIREMENTS / f"{name}.txt").read_text()
    assert "://" not in content
    assert "--index" not in content


def test_lock_files_agree():
    everywhere: dict[str, set[str]] = {}
    for name in NAMES:
        for package, pin in pinned(name).items():
            everywhere.setdefault(package, set()).add(pin)
    assert {package: pins for package, pins in everywhere.items() if len(pins) > 1} == {}


def test_what_is_installed_is_what_is_pinned():
    wanted = pinned("runtime") | pinned("dev")
    assert {package: version(package) for package in wanted} == wanted


def test_every_direct_dependency_has_a_reason():
    page = (PROJECT / "docs/decisions/0003-dependencies.md").read_text().lower()
    direct = asked("build") | asked("runtime") | asked("dev")
    assert [package for package in sorted(direct) if package not in page] == []
