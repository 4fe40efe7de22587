"""Persistent folders, as a training names them."""

from __future__ import annotations

import dataclasses
import logging
import os
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

_log = logging.getLogger("holdfast")
#: How long the first look at the folders may take: a file system that is away answers none.
LOOK_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Tier:
    """A persistent folder, and which snapshots are made durable in it.

    root: path of the folder.  node_local: a local disk, not a file system that all nodes see.
    every: flush complete snapshots whose step is a multiple (0: not by steps).  seconds: flush at
    least so often (0: not by time).  keep_last: durable snapshots to keep; keep_every: of these
    steps, every one is kept (0: none).  The last snapshot before close() is always flushed.
    """

    root: str | os.PathLike[str]
    node_local: bool = False
    every: int = 0
    seconds: int = 0
    keep_last: int = 2
    keep_every: int = 0


def tiers_of(
    persist: Any, every: int, seconds: int, keep_last: int, keep_every: int
) -> list[Tier]:
    """The tiers that Checkpointer's arguments mean."""
    if persist is None:
        return []
    if isinstance(persist, (str, os.PathLike, Tier)):
        persist = [persist]
    return [
        tier
        if isinstance(tier, Tier)
        else Tier(os.fspath(tier), False, every, seconds, keep_last, keep_every)
        for tier in persist
    ]


def warn_of_missing(tiers: Sequence[Tier]) -> None:
    """Training starts without a folder, which may still be mounted; but nobody should learn of a
    mistake in its path at the end."""
    # All are asked at once: several on one dead server cost one limit.
    asked = [(os.fspath(tier.root), _ask(tier.root)) for tier in tiers]
    deadline = time.monotonic() + LOOK_SECONDS
    for root, answer in asked:
        try:
            found = answer.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            _log.warning(
                "the persistent folder %s did not answer within %g s: is its file system away? "
                "Nothing is durable there until it is back",
                root, LOOK_SECONDS,
            )  # fmt: skip
            continue
        if not found:
            _log.warning(
                "the persistent folder %s does not exist: nothing is durable there until it does",
                root,
            )


def _ask(root: str | os.PathLike[str]) -> queue.SimpleQueue[bool]:
    """Whether it is a folder, as soon as that is known.  A file system that is away may hold the
    thread for ever."""
    answer: queue.SimpleQueue[bool] = queue.SimpleQueue()
    look = threading.Thread(
        target=lambda: answer.put(os.path.isdir(root)), name="holdfast-look", daemon=True
    )
    try:
        look.start()
    except RuntimeError:  # no more threads: then it is waited for
        answer.put(os.path.isdir(root))
    return answer


__all__ = ["Tier", "tiers_of", "warn_of_missing"]
