"""What tests/conftest.py promises about every run: no hidden skip, no unexpected noise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow  # each test starts a run of its own


@pytest.fixture
def run(tmp_path: Path):
    """Runs the text of a test module under the project's settings; gives exit code and output."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")

    def run(module: str, *options: str, **environment: str) -> tuple[int, str]:
        (tmp_path / "test_it.py").write_text("import logging, os, pytest, warnings\n" + module)
        clean = {name: value for name, value in os.environ.items() if name != "CI"}
        settings = ["-c", str(PROJECT / "pyproject.toml"), "--rootdir", str(tmp_path)]
        answer = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                *settings,
                "-p",
                "no:cacheprovider",
                *options,
                tmp_path,
            ],
            cwd=PROJECT,
            env=clean | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return answer.returncode, answer.stdout

    return run


SKIPPING = "def test_a(): pytest.skip('no means')\ndef test_b(): pass\n"


def test_skip_is_fine_on_a_developers_machine(run):
    code, output = run(SKIPPING)
    assert code == 0
    assert "1 passed, 1 skipped" in output


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_skip_in_ci_is_a_named_failure(run, options):
    code, output = run(SKIPPING, *options, CI="1")
    assert code == 1
    assert "skipped in CI: test_it.py::test_a: no means" in output
    assert "1 failed, 1 passed" in output


def test_module_that_skips_itself_in_ci_is_a_failure(run):
    code, output = run("pytest.skip('no means', allow_module_level=True)\n", CI="1")
    assert code != 0
    assert "skipped in CI: test_it.py" in output


def test_expected_failure_in_ci_is_no_skip(run):
    code, _ = run("@pytest.mark.xfail(reason='x')\ndef test_a(): assert False\n", CI="1")
    assert code == 0


@pytest.mark.parametrize(
    "call", ["warning('smoke')", "error('smoke')", "info('smoke', exc_info=ValueError())"]
)
def test_unannounced_log_record_fails_the_test(run, call):
    code, output = run(f"def test_a(): logging.getLogger().setLevel(0); logging.{call}\n")
    assert code == 1
    assert "unexpected log records" in output


def test_announced_log_record_is_fine(run):
    code, _ = run("@pytest.mark.allow_logs('sm.ke')\ndef test_a(): logging.error('smoke')\n")
    assert code == 0


def test_python_warning_fails_the_test(run):
    code, _ = run("def test_a(): warnings.warn('old')\n")
    assert code == 1


def test_exception_in_a_thread_fails_the_test(run):
    code, output = run(
        "import threading\n"
        "def test_a():\n"
        "    thread = threading.Thread(target=lambda: 1 / 0)\n"
        "    thread.start()\n"
        "    thread.join()\n"
    )
    assert code == 1
    assert "ZeroDivisionError" in output


def test_unknown_marker_is_an_error(run):
    code, _ = run("@pytest.mark.neds_root\ndef test_a(): pass\n")
    assert code != 0


def test_missing_peers_are_named(run, tmp_path):
    module = "@pytest.mark.needs_peers\ndef test_a(): pass\n"
    code, output = run(module, IPFS_MFS_PEERS=str(tmp_path))
    assert code == 0
    assert "run `make peers` first" in output


def test_examples_are_the_same_in_every_run(run):
    module = (
        "from hypothesis import given, strategies\n"
        "@given(strategies.integers())\n"
        "def test_a(number): print('drew', number)\n"
    )
    draws = [
        [line for line in run(module, "-s")[1].splitlines() if line.startswith("drew")]
        for _ in range(2)
    ]
    assert draws[0] == draws[1] != []
