"""The rules of STYLE.md that a program can check, with no list of exceptions."""

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # reads every file; `make check` runs it, too

PROJECT = Path(__file__).parent.parent
FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 500
FOLDER_STATEMENTS_MAX = {
    "ipld": 2500,
    "blkdev": 2500,
    "blkdev/care": 1200,
    "blkdev/compaction": 300,
    "blkdev/recovery": 350,
}
CHANGE_KINDS = {"added", "changed", "fixed", "removed", "security"}

# Never entered: made by tools, or mounted by `make mount`.
FOREIGN_FOLDERS = {".git", ".venv", "mnt", "build", "dist", "node_modules", "__pycache__"}
BUILT = (".so", ".o")

UNFINISHED = re.compile(r"\b(TO" + "DO|FIX" + "ME|X" + r"XX|HA" + r"CK)\b")
# The names are in pieces so that this file does not contain what it looks for.
REGISTRY_HOSTS = re.compile(
    "|".join(
        re.escape(".".join(parts))
        for parts in (
            ("pypi", "org"), ("python" + "hosted", "org"), ("golang", "org"), ("npmjs", "org"),
            ("npmjs", "com"), ("crates", "io"), ("debian", "org"), ("maven", "org"),
            ("docker", "io"), ("ghcr", "io"),
        )
    )
)  # fmt: skip
MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(wo" + r"rk|fa" + r"rm|opt/wheels)/")
SUPPRESSION = re.compile(r"#\s*(noqa|type:\s*ignore)(?P<rest>.*)$")
REASONED = re.compile(r"(:\s*[A-Z]+[0-9]+(, ?[A-Z]+[0-9]+)*|\[[a-z-]+(, ?[a-z-]+)*\])\s+#\s+\S")


@cache
def files() -> tuple[Path, ...]:
    """Every file of the checkout that is ours, sorted."""
    found = []
    for folder, subfolders, names in os.walk(PROJECT):
        subfolders[:] = [
            name
            for name in subfolders
            if name not in FOREIGN_FOLDERS
            and not name.endswith((".egg-info", "_cache"))
            and name not in {".hypothesis", ".benchmarks"}
        ]
        ours = (name for name in names if not name.endswith(BUILT))
        found += [Path(folder, name).relative_to(PROJECT) for name in ours]
    return tuple(sorted(found))


def generated(path: Path) -> bool:
    return path.stem.endswith(("_pb2", "_pb2_grpc"))


def python_files() -> list[Path]:
    return [path for path in files() if path.suffix == ".py" and not generated(path)]


@cache
def packages() -> frozenset[str]:
    """The layers: every top-level package that is installed."""
    tops = {
        path.parts[0] for path in files() if len(path.parts) == 2 and path.name == "__init__.py"
    }
    return frozenset(tops - {"tests", "benchmarks"})


def code_files() -> list[Path]:
    return [path for path in python_files() if path.parts[0] in packages()]


@cache
def text(path: Path) -> str:
    return (PROJECT / path).read_text(encoding="utf-8", errors="replace")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path), str(path))


def lines_count(paths: list[Path]) -> int:
    return sum(text(path).count("\n") for path in paths)


def statements(path: Path) -> int:
    """Statements of code; a docstring is none. The formatter's line breaks make no difference."""
    return sum(
        isinstance(node, ast.stmt)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in ast.walk(tree(path))
    )


def text_lines() -> Iterator[tuple[Path, int, str]]:
    for path in files():
        if path.suffix in {".json", ".svg", ".png", ".car"} or path.name == "LICENSE":
            continue
        for number, line in enumerate(text(path).splitlines(), start=1):
            yield path, number, line


def report(findings: list[str]) -> None:
    assert not findings, "\n" + "\n".join(findings)


# ------------------------------------------------------------------------------------- sizes


def test_functions_fit_a_screen():
    findings = []
    for path in python_files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or 0) - node.lineno + 1
                if count > FUNCTION_LINES_MAX:
                    findings.append(f"{path}:{node.lineno}: {node.name} has {count} lines")
    report(findings)


def test_modules_are_short():
    sizes = {path: lines_count([path]) for path in python_files() if path.parts[0] != "tests"}
    report([f"{path}: {size} lines" for path, size in sizes.items() if size > MODULE_LINES_MAX])


@pytest.mark.parametrize("folder", FOLDER_STATEMENTS_MAX)
def test_the_core_stays_an_evenings_reading(folder):
    """Nobody shall save on explanations or on readable line breaks: neither is counted."""
    paths = [path for path in code_files() if path.parent == Path(folder)]
    assert sum(map(statements, paths)) <= FOLDER_STATEMENTS_MAX[folder]


def test_there_is_at_least_as_much_test_as_code():
    code = lines_count(code_files())
    tests = lines_count([path for path in python_files() if path.parts[0] == "tests"])
    assert tests >= code, f"{tests} lines of tests for {code} lines of code"


# ------------------------------------------------------------------------------------- words


def test_nothing_is_left_for_later():
    report([f"{p}:{n}: {line.strip()}" for p, n, line in text_lines() if UNFINISHED.search(line)])


def test_no_registry_host_is_named():
    report(
        [f"{p}:{n}: {line.strip()}" for p, n, line in text_lines() if REGISTRY_HOSTS.search(line)]
    )


def test_no_path_of_one_machine_is_named():
    report(
        [f"{p}:{n}: {line.strip()}" for p, n, line in text_lines() if MACHINE_PATHS.search(line)]
    )


def test_every_suppression_has_a_code_and_a_reason():
    findings = []
    for path in python_files():
        for number, line in enumerate(text(path).splitlines(), start=1):
            match = SUPPRESSION.search(line)
            if match and path.name != "test_tidy.py" and not REASONED.match(match["rest"]):
                findings.append(f"{path}:{number}: {line.strip()}")
    report(findings)


# --------------------------------------------------------------------------------- structure


def test_every_module_says_what_it_is():
    silent = [path for path in python_files() if not ast.get_docstring(tree(path))]
    report([f"{path}: no docstring" for path in silent if text(path).strip()])


def test_every_package_is_installed():
    settings = tomllib.loads(text(Path("pyproject.toml")))["tool"]["setuptools"]
    included = set(settings["packages"]["find"]["include"])
    missing = [name for name in packages() if not {name, f"{name}.*"} <= included]
    assert not missing
    folders = {path.parent for path in code_files()}
    report([f"{f}: no __init__.py" for f in sorted(folders) if f / "__init__.py" not in files()])


def imported_names(path: Path) -> Iterator[str]:
    """The absolute names that a module imports, at the top or inside a function."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = path.with_suffix("").parts[: -node.level] if node.level else ()
            base = ".".join([*here, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def test_every_module_is_used():
    """A module that no code imports is a command (found by its name) or the program's entry."""
    used = {name for path in code_files() for name in imported_names(path)}
    findings = []
    for path in code_files():
        if path.name == "__init__.py" or path.parts[:2] == ("ipfs_mfs", "commands"):
            continue
        name = ".".join(path.with_suffix("").parts)
        if name not in used and name != "ipfs_mfs.main":
            findings.append(f"{path}: imported by no code")
    report(findings)


def test_only_the_engine_makes_data_durable():
    """The program may sync the files that it writes for the user; no layer may sync by itself."""
    findings = []
    for path in code_files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                call = f"{node.value.id}.{node.attr}"
                durable = call in {"os.fsync", "os.fdatasync", "os.sync"}
                if durable and path.parts[0] not in {"blkdev", "ipfs_mfs"}:
                    findings.append(f"{path}:{node.lineno}: {call}")
    report(findings)


# --------------------------------------------------------------------------------- documents


def prose(path: Path) -> list[str]:
    """The lines of a Markdown file outside of its code fences."""
    fenced, lines = False, []
    for line in text(path).splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            lines.append(line)
    return lines


def documents() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]


def test_every_document_has_one_title():
    findings = []
    for path in documents():
        lines = prose(path)
        if sum(line.startswith("# ") for line in lines) != 1 or not lines[0].startswith("# "):
            findings.append(f"{path}: needs exactly one title, in its first line")
    report(findings)


def links(path: Path) -> Iterator[str]:
    for line in prose(path):
        yield from re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", line)


def test_links_between_documents_lead_somewhere():
    report(
        [
            f"{path}: {target}"
            for path in documents()
            for target in links(path)
            if "://" not in target and not (PROJECT / path.parent / target).exists()
        ]
    )


def test_change_notes_name_their_kind():
    names = [path.name for path in files() if path.parts[0] == "changes"]
    pattern = re.compile(rf"[a-z0-9-]+\.({'|'.join(sorted(CHANGE_KINDS))})\.md")
    report([name for name in names if name != "README.md" and not pattern.fullmatch(name)])
