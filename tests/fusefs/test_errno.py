"""The table of errnos is total, and says what POSIX says."""

import errno

import pytest

import blkdev.errors
import fusefs.errors
import ipld.errors
import mfs.errors
import repo.errors
from fusefs.errno import errno_of

LAYERS = [
    (ipld.errors, ipld.errors.IpldError),
    (blkdev.errors, blkdev.errors.StoreError),
    (repo.errors, repo.errors.RepoError),
    (mfs.errors, mfs.errors.MfsError),
    (fusefs.errors, fusefs.errors.FusefsError),
]


def leaves(base):
    below = base.__subclasses__()
    return [leaf for kind in below for leaf in leaves(kind)] if below else [base]


ALL_LEAVES = [leaf for _, base in LAYERS for leaf in leaves(base)]


def instance(kind):
    """An exception without running its constructor, whose arguments differ."""
    return kind.__new__(kind)


@pytest.mark.parametrize("kind", ALL_LEAVES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_error_of_every_layer_has_an_errno(kind):
    code = errno_of(instance(kind))
    assert code in errno.errorcode


def test_the_walk_finds_the_errors():
    assert len(ALL_LEAVES) > 80
    assert mfs.errors.QuotaExceeded in ALL_LEAVES


def documented(module):
    """Pairs of an error's name and the errno that the tree in the module's docstring gives it."""
    for line in module.__doc__.splitlines():
        words = line.replace("│", " ").replace("├──", " ").replace("└──", " ").split()
        if len(words) >= 2 and words[1] in errno.errorcode.values():
            yield words[0], words[1]


@pytest.mark.parametrize("module", [mfs.errors, fusefs.errors])
def test_the_errnos_in_the_error_trees_are_those_of_the_table(module):
    pairs = list(documented(module))
    assert len(pairs) >= 8
    for name, code in pairs:
        assert errno_of(instance(getattr(module, name))) == getattr(errno, code), name


def test_a_more_special_row_wins():
    assert errno_of(mfs.errors.NoSpace()) == errno.ENOSPC
    assert errno_of(mfs.errors.QuotaExceeded(1)) == errno.ENOSPC
    assert errno_of(mfs.errors.AttributesFull()) == errno.ENOSPC


def test_an_error_nobody_announced_has_no_errno():
    for error in (KeyError("x"), AssertionError(), TypeError(), ValueError(), RuntimeError()):
        assert errno_of(error) is None


def test_the_bases_of_the_layers_say_nothing():
    for _, base in LAYERS:
        assert errno_of(base("nobody thought about it")) is None


def test_a_devices_own_number_is_not_passed_on():
    assert errno_of(OSError(errno.ENOENT, "the store's file")) == errno.EIO
    assert errno_of(MemoryError()) == errno.ENOMEM
