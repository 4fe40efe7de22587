"""Python's garbage collector, put off where thousands of objects are made that all live on.

A look at a large state makes enough of them for several collections of the whole heap, which take
longer than the look itself and find nothing.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """A context, and a decorator.  Leaves the collector as it was."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


__all__ = ["collection_paused"]
