"""The attempts of a restore: all ranks load one snapshot together, or all try another."""

from __future__ import annotations

import dataclasses
import logging
import time

from holdfast._client import Client, Restore
from holdfast._restore import Loader
from holdfast._sidecar import Sidecar
from holdfast._state import TrainingState
from holdfast._values import Choice
from holdfast.errors import CorruptionError, HoldfastError, InvalidArgumentError
from holdfast.errors import StateError, StateMismatchError

_log = logging.getLogger("holdfast")
_REFUSE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Wish:
    """What restore() was asked for."""

    step: int | None
    include_discarded: bool
    deadline: float  # of time.monotonic()

    def __post_init__(self) -> None:
        # -1 is "the newest" to the daemon, which a caller must not get by accident.
        if self.step is not None and self.step < 0:
            raise InvalidArgumentError(f"restore(step={self.step}): a step is not negative")

    def left(self) -> float:
        return max(0.001, self.deadline - time.monotonic())


class Attempts:
    """One call of restore().  Threads: the training thread.

    There is no collective in an attempt: what a rank has to say travels through the daemon, which
    may die between telling one rank and the next.
    """

    def __init__(self, client: Client, state: TrainingState, threads: int) -> None:
        self._client = client
        self._state = state
        self._threads = threads
        self._overwritten = False

    def run(self, wish: Wish) -> tuple[Choice, Loader | None]:
        """The choice that all ranks have loaded, and what loaded it; None for nothing."""
        attempt = 0
        while True:
            restore = self._client.restore_begin(
                wish.step, wish.include_discarded, attempt, wish.left(), self._overwritten
            )
            try:
                loaded = self._load_or_refuse(restore)
                failure = loaded if isinstance(loaded, HoldfastError) else None
                if self._finish(restore, failure, wish):
                    break
                attempt = restore.choice.attempt
                _log.warning("restore attempt %d failed, trying again: %s", attempt,
                             failure or "another rank could not load")
            finally:
                restore.free()
        for line in restore.choice.log:
            _log.warning("passed over: %s", line)
        return restore.choice, loaded if isinstance(loaded, Loader) else None

    def _load_or_refuse(self, restore: Restore) -> Loader | HoldfastError | None:
        try:
            return self._load(restore)
        except HoldfastError as fatal:
            try:
                restore.refuse(str(fatal), _REFUSE_SECONDS)
            except HoldfastError as error:
                _log.info("while giving the restore up: %s", error)
            raise

    def _load(self, restore: Restore) -> Loader | HoldfastError | None:
        """Loads one choice: the loader, None for nothing to load, or why it could not (another
        attempt may help).  Raises what no attempt can help."""
        if restore.choice.step is None:
            if self._overwritten:
                raise CorruptionError(
                    "no snapshot is left to restore, and a failed attempt has overwritten the "
                    "initial state: start the training again with this job's snapshots removed"
                )
            return None
        loader: Loader | None = None
        try:
            loader = Loader(self._state, Sidecar(restore.sidecar()))
            loader.load(restore, self._threads)
            return loader
        except (StateError, StateMismatchError):
            raise
        except HoldfastError as error:
            return error
        except Exception as error:
            raise StateError(f"the snapshot could not be loaded: {error!r}") from error
        finally:
            # From here a start from nothing would train on what a failed attempt left behind.
            self._overwritten |= loader is not None and loader.wrote

    def _finish(self, restore: Restore, failure: HoldfastError | None, wish: Wish) -> bool:
        try:
            return restore.finish(None if failure is None else str(failure), wish.left())
        except InvalidArgumentError as refused:  # by another rank, in its own words
            raise StateMismatchError(str(refused)) from None


__all__ = ["Attempts", "Wish"]
