"""Every promise of docs/durability.md names a test, and every test that it names is there."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "durability.md").read_text()
QUOTED = re.compile(r"`([^`]+)`")


@cache
def known_tests() -> frozenset[str]:
    """Names of test functions, and of the classes that hypothesis makes."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Assign):
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(name for name in found if name.lower().startswith("test"))


def rows() -> list[list[str]]:
    """Cells of every row of every table that lists promises."""
    lines = [line.strip("|").split(" | ") for line in DOCUMENT.splitlines() if "**" in line]
    return [[cell.strip(" |") for cell in cells] for cells in lines if len(cells) > 1]


def is_a_test(name: str) -> bool:
    if name.startswith("make "):
        return name[5:] in {"soak", "test", "test-peers"}
    if "/" in name:
        return (ROOT / name).exists()
    return name in known_tests()


def test_every_promise_of_the_document_names_a_test():
    assert len(rows()) > 40
    for cells in rows():
        proof = cells[-1]
        assert QUOTED.search(proof) or proof.startswith("the same"), cells


def test_every_test_that_the_document_names_is_there():
    named = {name for cells in rows() for name in QUOTED.findall(cells[-1])}
    named |= {name for name in QUOTED.findall(DOCUMENT) if name.lower().startswith("test")}
    assert len(named) > 60
    assert [name for name in sorted(named) if not is_a_test(name)] == []


def test_the_document_does_not_name_a_test_that_is_missing_without_being_noticed():
    assert not is_a_test("test_that_nobody_wrote")
    assert not is_a_test("tests/blkdev/test_nothing.py")
