"""The import contracts of pyproject.toml hold, and they are able to fail."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
LINT = Path(sys.executable).parent / "lint-imports"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT, "--no-logo", "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


def packages() -> list[str]:
    return sorted(path.parent.name for path in PROJECT.glob("*/__init__.py"))


def test_contracts_are_kept():
    answer = lint(PROJECT)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_package_has_a_layer():
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]
    code = {name for name in packages() if name not in {"tests", "benchmarks"}}
    assert code == set(settings["root_packages"])
    layers = next(one["layers"] for one in settings["contracts"] if one["type"] == "layers")
    placed = {name.strip(" ()") for layer in layers for name in layer.split("|")}
    assert code <= placed


@pytest.fixture
def empty_layers(tmp_path: Path) -> Path:
    """The packages with nothing in them, under the project's contracts."""
    for name in packages():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    for part in ("care", "compaction"):
        (tmp_path / "blkdev" / part).mkdir()
        (tmp_path / "blkdev" / part / "__init__.py").touch()
    (tmp_path / "blkdev" / "store.py").write_text("import blkdev.care, blkdev.compaction\n")
    (tmp_path / "ipfs_mfs" / "control.py").write_text("import grpc\n")  # the one that may
    (tmp_path / "pyproject.toml").write_text((PROJECT / "pyproject.toml").read_text())
    return tmp_path


def test_empty_layers_break_no_contract(empty_layers):
    assert lint(empty_layers).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("ipld", "import blkdev"),
        ("ipld", "import threading"),
        ("ipld", "import asyncio"),
        ("blkdev", "import ipld"),
        ("blkdev", "import socket"),
        ("blkdev", "import blkdev.care"),
        ("blkdev", "import blkdev.compaction"),
        ("blkdev", "import blkdev.store"),
        ("blkdev.care", "import blkdev.store"),
        ("blkdev.compaction", "import blkdev.care"),
        ("blkdev.compaction", "import blkdev.store"),
        ("repo", "import blkdev.care"),
        ("repo", "import mfs"),
        ("repo", "import datastore"),
        ("datastore", "import repo"),
        ("datastore", "import ipld"),
        ("mfs", "import pinning"),
        ("mfs", "import trio"),
        ("csi", "import fusefs"),
        ("csi", "import pyfuse3"),
        ("fusefs", "import grpc"),
        ("fusefs", "import ipfs_mfs"),
        ("ipfs_mfs", "import grpc"),
        ("ipfs_mfs", "import trio"),
    ],
)
def test_forbidden_import_is_reported(empty_layers, module, line):
    (empty_layers / module.replace(".", "/") / "wrong.py").write_text(line + "\n")
    answer = lint(empty_layers)
    assert answer.returncode == 1
    assert f"{module}.wrong" in answer.stdout
