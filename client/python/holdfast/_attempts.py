"""The attempts of a restore: all ranks load one snapshot together, or all try another."""

from __future__ import annotations

import dataclasses
import logging
import time

from holdfast._client import Choice, Client, Restore
from holdfast._group import Group
from holdfast._restore import Loader, Sidecar
from holdfast._state import TrainingState
from holdfast.errors import CorruptionError, HoldfastError, StateError, StateMismatchError

_log = logging.getLogger("holdfast")


@dataclasses.dataclass(frozen=True)
class Wish:
    """What restore() was asked for."""

    step: int | None
    include_discarded: bool
    deadline: float  # of time.monotonic()

    def left(self) -> float:
        return max(0.001, self.deadline - time.monotonic())


class Attempts:
    """One call of restore().  Threads: the training thread."""

    def __init__(self, client: Client, group: Group, state: TrainingState, threads: int) -> None:
        self._client = client
        self._group = group
        self._state = state
        self._threads = threads
        self._overwritten = False

    def run(self, wish: Wish) -> tuple[Choice, Loader | None]:
        """The choice that all ranks have loaded, and what loaded it; None for nothing."""
        attempt = 0
        while True:
            restore = self._client.restore_begin(
                wish.step, wish.include_discarded, attempt, wish.left()
            )
            try:
                loader = self._attempt(restore)
                failure = loader if isinstance(loader, HoldfastError) else None
                told = None if failure is None else str(failure)
                if restore.finish(told, wish.left()):
                    break
                attempt = restore.choice.attempt
                _log.warning("restore attempt %d failed, trying again: %s", attempt,
                             failure or "another rank could not load")
            finally:
                restore.free()
        for line in restore.choice.log:
            _log.warning("passed over: %s", line)
        return restore.choice, loader if isinstance(loader, Loader) else None

    def _attempt(self, restore: Restore) -> Loader | HoldfastError | None:
        """Loads one choice: the loader, None for nothing to load, or why it could not (another
        attempt may help).  What no attempt can help is raised, on all ranks alike."""
        fatal: HoldfastError | None = None
        result: Loader | HoldfastError | None = None
        if restore.choice.step is None:
            if self._overwritten:
                fatal = CorruptionError(
                    "no snapshot is left to restore, and a failed attempt has overwritten the "
                    "initial state: start the training again with this job's snapshots removed"
                )
        else:
            loader: Loader | None = None
            try:
                loader = Loader(self._state, Sidecar(restore.sidecar()))
                loader.load(restore, self._threads)
                result = loader
            except (StateError, StateMismatchError) as error:
                fatal = error
            except HoldfastError as error:
                result = error
            # From here a start from nothing would train on what a failed attempt left behind.
            self._overwritten |= loader is not None and loader.wrote
        shared = self._group.first_failure("" if fatal is None else str(fatal))
        if shared:
            try:
                restore.finish(shared, 10.0)
            except HoldfastError as error:
                _log.info("while giving the restore up: %s", error)
            raise fatal or StateMismatchError(shared)
        return result


__all__ = ["Attempts", "Wish"]
