"""What holds for every test.

- Examples of property tests are the same in every run; `HYPOTHESIS_PROFILE=thorough` draws fresh
  ones and more of them, `quick` (used by `make test-quick`) fewer.
- A test that needs something of the machine says so with a `needs_…` marker. Where that is
  missing the test is skipped with the reason, except in CI (environment variable `CI` set): there
  a skip is a failure, because nobody would see it.
- Tests may be run in the background: then the shell has Ctrl-C ignored, and so would every program
  that a test starts and interrupts.
- `IPFS_MFS_PURE=1` runs the engine without its C helper, and leaves out `needs_helper`.
- A log record of WARNING or above that the test did not announce with `allow_logs` fails it.
"""

import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator

import hypothesis
import pytest

if os.environ.get("IPFS_MFS_PURE"):
    # The engine without its C helper, as on a machine that has no compiler.
    sys.modules["blkdev._native"] = None  # type: ignore[assignment]  # makes its import fail

from benchmarks.rivals import go_datastores
from tests.interop import judges

IN_CI = bool(os.environ.get("CI"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "default", derandomize=True, deadline=None, max_examples=60, database=None
)
hypothesis.settings.register_profile(
    "quick", derandomize=True, deadline=None, max_examples=15, database=None
)
hypothesis.settings.register_profile(
    "thorough", deadline=None, max_examples=3000, database=None, print_blob=True
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "default")


# ---------------------------------------------------------------------- means of the machine


def _missing_root() -> str | None:
    return None if os.geteuid() == 0 else "runs as root only"


def _missing_fuse() -> str | None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened"
    return None if shutil.which("fusermount3") else "fusermount3 is not installed"


def _missing_node() -> str | None:
    if not shutil.which("node") or not shutil.which("npm"):
        return "node and npm are not installed"
    return None if (judges.node_folder() / "node_modules").exists() else "run `make peers` first"


def _missing_peers() -> str | None:
    found = judges.kubo().exists() and go_datastores.program().exists()
    return None if found else "run `make peers` first"


MISSING = {
    "needs_root": _missing_root,
    "needs_fuse": _missing_fuse,
    "needs_node": _missing_node,
    "needs_peers": _missing_peers,
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is about the C helper itself is left out without it: that was asked for, no skip."""
    if os.environ.get("IPFS_MFS_PURE"):
        left_out = [item for item in items if item.get_closest_marker("needs_helper")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, missing in MISSING.items():
        if item.get_closest_marker(marker) and (reason := missing()):
            pytest.skip(f"{marker}: {reason}")


# --------------------------------------------------------------------- a skip in CI is red


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {item.nodeid}: {call.excinfo and call.excinfo.value}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {collector.nodeid}: {report.longrepr}"
    return report


# ------------------------------------------------------------------------ unexpected noise


@pytest.fixture(autouse=True)
def no_unexpected_logs(request: pytest.FixtureRequest, caplog) -> Iterator[None]:
    """Fail a test that logged a warning, an error or a traceback without announcing it."""
    yield
    allowed = [re.compile(mark.args[0]) for mark in request.node.iter_markers("allow_logs")]
    noise = [
        f"{record.levelname} {record.name}: {record.getMessage()}"
        for phase in ("setup", "call", "teardown")
        for record in caplog.get_records(phase)
        if (record.levelno >= logging.WARNING or record.exc_info)
        and not any(pattern.search(record.getMessage()) for pattern in allowed)
    ]
    if noise:
        pytest.fail("unexpected log records:\n" + "\n".join(noise))
