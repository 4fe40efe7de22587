"""Snapshots that were skipped: what the user hears of them, and a new daemon where theirs has died."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable

from holdfast import _daemon
from holdfast._client import Client
from holdfast._values import Drained
from holdfast.errors import HoldfastError, UnavailableError

_log = logging.getLogger("holdfast")

#: One skip is nothing: the next snapshot tries again.  This long without any is told.
QUIET_SECONDS = 10.0
REPEAT_SECONDS = 60.0
#: A daemon that ends at once is not started over and over.
RESTART_SECONDS = 30.0
_AWAY = "holdfastd is away"  # how the library's reason begins


class Skips:
    """Of one rank.  Threads: the training thread.

    restart: starts a daemon for this user where none answers; None: that is not ours to do.
    """

    def __init__(self, restart: Callable[[], None] | None) -> None:
        self._restart = restart
        self._since: float | None = None  # the first skip after the last snapshot that was begun
        self._count = 0
        self._told_at = 0.0
        self._told = ""
        self._tried_at = 0.0
        self._trying: threading.Thread | None = None
        self.newest = -1  # step that was skipped

    def begun(self) -> None:
        self._since, self._count, self._told = None, 0, ""

    def skipped(self, step: int, reason: str, *, at_once: bool = False) -> None:
        """at_once: say so at the first one of this reason."""
        away = _AWAY in reason
        now = time.monotonic()
        self.newest = step
        self._count += 1
        self._since = self._since or now
        if away:
            self._start_daemon(now)
        if at_once or away:
            tell = reason != self._told or now - self._told_at > REPEAT_SECONDS
        else:
            tell = now - self._since > QUIET_SECONDS and now - self._told_at > REPEAT_SECONDS
        if tell:
            self._told_at, self._told = now, reason
            more = "" if self._count == 1 else f", like the {self._count - 1} before it"
            _log.warning("step %d is not saved%s: %s", step, more, reason)

    def warn_of_newer(self, begun: int, incarnation: int, drained: Drained, how: str) -> None:
        """Where the newest step that was to be saved, begun or skipped, is not the drained one."""
        newest, what = max((begun, "begun and given up, see ckpt.stats"), (self.newest, "skipped"))
        if newest >= 0 and (incarnation, newest) > (drained.incarnation, drained.step):
            _log.warning(
                "step %d was %s: the newest snapshot that is %s is step %d", newest, what,
                how, drained.step,
            )  # fmt: skip

    def _start_daemon(self, now: float) -> None:
        """In a thread: the training does not wait for it, and reconnects by itself."""
        busy = self._trying is not None and self._trying.is_alive()
        if self._restart is None or busy or now - self._tried_at < RESTART_SECONDS:
            return
        self._tried_at = now
        self._trying = threading.Thread(target=self._run, name="holdfast-restart", daemon=True)
        self._trying.start()

    def _run(self) -> None:
        assert self._restart is not None
        try:
            self._restart()
        except HoldfastError as error:
            _log.warning("holdfastd cannot be started again: %s", error)


def restarter(
    client: Client, given: str | os.PathLike[str] | None, autostart: bool
) -> Callable[[], None] | None:
    """What starts the daemon again that connect() may have started; None where it must not."""
    paths, may_start = _daemon.sockets(given)
    if not (autostart and may_start and client.socket == paths[0]):
        return None
    return lambda: _daemon.connect(_probe, None, True, _daemon.START_SECONDS)


def _probe(path: str, seconds: float) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(seconds)
        try:
            probe.connect(path)
        except OSError as error:
            raise UnavailableError(f"no daemon answers at {path}: {error}") from error
