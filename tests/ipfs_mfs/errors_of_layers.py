"""Every exception class that the layers define, for tests that walk them all."""

import importlib
import inspect
import pkgutil

import blkdev
import fusefs
import ipfs_mfs
import ipld
import mfs
import pinning
import repo

PACKAGES = [ipld, blkdev, repo, mfs, pinning, fusefs, ipfs_mfs]


def _error_modules():
    for package in PACKAGES:
        if any(module.name == "errors" for module in pkgutil.iter_modules(package.__path__)):
            yield importlib.import_module(f"{package.__name__}.errors")


ERROR_CLASSES = [
    kind
    for module in _error_modules()
    for kind in vars(module).values()
    if inspect.isclass(kind)
    and issubclass(kind, Exception)
    and kind.__module__ == module.__name__
    and not kind.__name__.startswith("_")
]
