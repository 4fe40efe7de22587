"""The layout that the state has, and whether the daemon has taken it.

A snapshot must not wait for a daemon that is away or slow: it learns why no layout is in force, is
skipped, and the next one tries again.
"""

from __future__ import annotations

import time

from holdfast._client import Client
from holdfast._devices import StreamSource, TorchStreams
from holdfast._layout import Layout
from holdfast._state import TrainingState
from holdfast._tensors import LayoutChanged
from holdfast._values import Capture
from holdfast.errors import DeadlineError, HoldfastError, InputOutputError, NoSpaceError
from holdfast.errors import UnavailableError

#: How long a snapshot waits for the answer to a new layout; the next one only looks for it.
SNAPSHOT_SECONDS = 0.1
_RETRY_SECONDS = 0.02


class Registration:
    """One rank's layout.  Threads: the training thread."""

    def __init__(self, client: Client, state: TrainingState) -> None:
        self._client = client
        self._state = state
        self._streams: StreamSource = TorchStreams()
        self._layout: Layout | None = None
        self._in_force = False
        self._told = False  # the daemon has been sent this layout, and may not have answered yet
        self.admitted = False  # a layout of this rank was taken once

    def capture(self) -> Capture:
        """The state as it is now, of a layout that is in force."""
        if self._streams.capturing():
            # Before anything else: torch does not tell its generators' states then.
            raise UnavailableError(
                "the current stream is being captured into a CUDA graph: take the snapshot outside "
                "the capture"
            )
        try:
            if self._layout is None:
                raise LayoutChanged
            capture = self._layout.capture()
        except LayoutChanged:
            capture = self._renew().capture()
        self._tell(0.0 if self._told else SNAPSHOT_SECONDS)
        return capture

    def register(self, seconds: float) -> None:
        """Puts the layout of the present state in force, waiting for the daemon."""
        self._renew()
        deadline = time.monotonic() + seconds
        while True:
            try:
                self._tell(max(0.001, deadline - time.monotonic()))
                return
            except UnavailableError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY_SECONDS)

    def begin(self) -> None:
        """Tells the daemon the layout of the present state, and leaves the answer to the next
        snapshot, which waits for it as for that of any new layout."""
        self._renew()
        try:
            self._tell(0.0)
        except DeadlineError:
            self._told = False

    def may_pass(self, error: HoldfastError) -> bool:
        """Whether another snapshot may succeed though this one failed by "error".  The first
        layout that does not fit is the user's to know at once; a later one may fit again."""
        if isinstance(error, NoSpaceError):
            return self.admitted
        return isinstance(error, (UnavailableError, DeadlineError, InputOutputError))

    def thaw(self) -> list[str]:
        """Names of tensors that were taken for frozen and were found written; from the next
        snapshot on they are saved like all others."""
        if self._layout is None:
            return []
        names = [self._layout.specs[i].name for i in self._client.not_constant()]
        if names:
            self._state.thaw(names)
            self._layout.release()
            self._layout = None
            self._in_force = self._told = False
        return names

    def release(self) -> None:
        """The copies of the last capture are done."""
        if self._layout is not None:
            self._layout.release()

    def streams(self) -> list[tuple[int, int]]:
        """The streams that this thread works on now, one for each device of the layout."""
        return [] if self._layout is None else self._layout.streams()

    def forget(self) -> None:
        """Lets go of the training's memory."""
        self._layout = None

    def _renew(self) -> Layout:
        layout = Layout(self._state, self._streams)
        if self._state.derived.undo_differing():
            layout = Layout(self._state, self._streams)
        if self._layout is None or layout.specs != self._layout.specs:
            self._in_force = self._told = False
        self._layout = layout
        return layout

    def _tell(self, seconds: float) -> None:
        if self._in_force:
            return
        assert self._layout is not None
        if away := self._client.why_away():
            raise UnavailableError(away)
        self._told = True
        try:
            self._client.set_layout(self._layout.specs, seconds)
        except DeadlineError:
            raise
        except HoldfastError:
            self._told = False
            raise
        if self._layout.zeros:
            self._client.expect_zero(self._layout.zeros)
        self._in_force = self.admitted = True


__all__ = ["Registration"]
