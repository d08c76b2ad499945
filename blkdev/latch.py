"""Changes of a log that must not end half-way: if one does, the store takes no more of them.

A signal's exception, or memory that ran out, can end a method between two of its statements. What
is in memory then may differ from what would be written, and writing it would damage what was
there before. So nothing is written any more; opening the store again finds the last whole state.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

from blkdev.errors import StoreError


class Latched(Protocol):
    """Something that refuses changes once `failure` is set."""

    failure: OSError | None


M = TypeVar("M", bound=Callable[..., Any])


def whole(method: M) -> M:
    """A method that latches its object when it ends with anything but a StoreError or OSError,
    which it raises before it changed anything or after it has latched by itself.
    """

    @wraps(method)
    def changed(self: Latched, *arguments: Any, **options: Any) -> Any:
        try:
            return method(self, *arguments, **options)
        except (StoreError, OSError):
            raise
        except BaseException as error:
            self.failure = self.failure or InterruptedError(f"interrupted by {error!r}")
            raise

    return cast(M, changed)
