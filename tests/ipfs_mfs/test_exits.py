"""The table from errors to exit statuses is total and right."""

import errno
import importlib

import pytest

from ipfs_mfs import exits
from ipfs_mfs.errors import BadAddress, ProgramError, StoreInUse
from tests.ipfs_mfs.errors_of_layers import ERROR_CLASSES


@pytest.mark.parametrize(
    "kind", ERROR_CLASSES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}"
)
def test_every_error_class_is_covered_by_an_entry_of_its_own_package(kind):
    covering = [
        base for base in kind.__mro__ if f"{base.__module__}.{base.__qualname__}" in exits.TABLE
    ]
    assert covering, "no entry at all"
    assert covering[0].__module__ == kind.__module__, f"only covered by {covering[0]}"


@pytest.mark.parametrize("name", exits.TABLE)
def test_every_entry_names_a_class(name):
    module, _, kind = name.rpartition(".")
    assert issubclass(getattr(importlib.import_module(module), kind), BaseException)


def test_a_subclass_that_is_not_listed_has_the_status_of_its_base():
    class Special(StoreInUse):
        pass

    assert exits.exit_code(Special("x")) == exits.BUSY


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadAddress("x"), exits.USAGE),
        (ProgramError("x"), exits.FAILED),
        (FileNotFoundError(2, "x"), exits.NOT_FOUND),
        (PermissionError(13, "x"), exits.MEANS),
        (OSError(errno.EBUSY, "x"), exits.BUSY),
        (OSError(errno.ENOSPC, "x"), exits.FAILED),
        (ZeroDivisionError(), exits.FAILED),
        (KeyboardInterrupt(), exits.FAILED),
    ],
)
def test_the_status_of_an_error(error, status):
    assert exits.exit_code(error) == status


def test_the_description_has_the_reason_and_what_to_do():
    assert exits.describe(BadAddress("no CID", "look again")) == "no CID (look again)"
    assert exits.describe(FileNotFoundError(2, "No such file", "/x")) == "/x: No such file"
    assert "make room" in exits.describe(OSError(errno.ENOSPC, "No space left", "/x"))
    assert "sudo" in exits.describe(PermissionError(13, "Permission denied", "/x"))
    assert "run it with -v" in exits.describe(ZeroDivisionError("division by zero"))
