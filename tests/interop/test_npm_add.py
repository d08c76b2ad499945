"""The JavaScript importer gives random trees the same root as `add` does, under both profiles."""

import base64
import json
import random
from pathlib import Path

import pytest

from ipfs_mfs.addoptions import AddOptions
from ipfs_mfs.importer import Importer
from ipld import cid as cids
from tests.interop.judges import run_node

pytestmark = pytest.mark.needs_node

SCRIPT = Path(__file__).parent / "import_tree.mjs"
NAMES = ("a", "Z", "-", "ü", "file with spaces", "x.tar.gz", "ż" * 40, "0" * 200)
SIZES_BYTES = (0, 1, 100, 4095, 262_143, 262_144, 262_145, 600_000, 1_048_576, 1_048_577)


def random_files(seed: int) -> dict[str, bytes]:
    """Paths and contents; every folder holds a file somewhere, because the judge knows no other."""
    rng = random.Random(seed)
    folders = [""]
    files: dict[str, bytes] = {}
    for number in range(30):
        if rng.random() < 0.3:
            folders.append(f"{rng.choice(folders)}{rng.choice(NAMES)}{number}/")
        size = rng.choice(SIZES_BYTES[: 10 if number % 10 == 0 else 4])
        files[f"{rng.choice(folders)}{rng.choice(NAMES)}.{number}"] = rng.randbytes(size)
    return files


@pytest.mark.parametrize("profile", ["unixfs-v0-2015", "unixfs-v1-2025"])
@pytest.mark.parametrize("seed", range(3))
def test_a_random_tree_has_the_same_root(tmp_path, profile, seed):
    files = random_files(seed)
    top = tmp_path / "top"
    for name, content in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
    printed = run_node(SCRIPT, profile, tmp_path / "tree.car", stdin=json.dumps(encoded).encode())
    options = AddOptions(profile=profile, recursive=True, hidden=True)
    *_, root = Importer(options, lambda _blocks: None).add([str(top)])
    assert root.cid is not None
    assert cids.to_text(root.cid) == printed.decode().strip(), f"seed {seed}"
