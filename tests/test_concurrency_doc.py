"""`docs/concurrency.md` lists every lock of the source, and none that is not there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "ipld", "blkdev", "datastore", "repo", "exchange", "mfs", "pinning", "fusefs", "csi",
    "ipfs_mfs",
)  # fmt: skip
KINDS = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"}
ROW = re.compile(r"^\| `(\w+)` \| `([\w/]+\.py)` \|")


def locks_in(path: Path) -> Iterator[str]:
    """Names of the variables and attributes that hold a lock."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Call):
            continue
        function = node.value.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name in KINDS:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                yield target.attr if isinstance(target, ast.Attribute) else ast.unparse(target)


def test_every_lock_is_in_the_document_and_every_entry_is_a_lock():
    found = {
        (name, str(path.relative_to(ROOT)))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in locks_in(path)
    }
    document = (ROOT / "docs" / "concurrency.md").read_text()
    listed = {(m[1], m[2]) for line in document.splitlines() if (m := ROW.match(line))}
    assert listed == found


def test_a_lock_is_found_however_it_is_written(tmp_path):
    source = "a = Lock()\nclass B:\n    def f(self):\n        self.c: object = threading.RLock()\n"
    (tmp_path / "x.py").write_text(source)
    assert list(locks_in(tmp_path / "x.py")) == ["a", "c"]
