"""Finds the daemon of this node, and starts one for this user where none answers.

A daemon started here must outlive the trainer, and torchrun's killing of the trainer's process
group: it gets a session of its own and no descriptor of the trainer.  When several ranks start at
once, a file lock lets one of them start it while the others wait and then find it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from holdfast._native import program_path
from holdfast.errors import DeadlineError, UnavailableError

_Client = TypeVar("_Client")

_SYSTEM_SOCKET = "/run/holdfast/holdfastd.sock"
START_SECONDS = 30.0
# A daemon that lives answers at once; one that is gone refuses at once.
_TRY_SECONDS = 1.0
# Kept so that the interpreter does not complain of a child that it did not wait for.
_started: list[subprocess.Popen[bytes]] = []


def state_folder() -> pathlib.Path:
    """Where this user's daemon keeps its catalog, socket and log, as holdfastd --user has it."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return pathlib.Path(base) / "holdfast"


def sockets(given: str | os.PathLike[str] | None) -> tuple[list[str], bool]:
    """Sockets to try in order, and whether a daemon may be started on the first.  What a user
    names is the only one tried: state must not land in another daemon unnoticed."""
    named = given or os.environ.get("HOLDFAST_SOCKET")
    if named:
        return [os.fspath(named)], False
    return [os.fspath(state_folder() / "holdfastd.sock"), _SYSTEM_SOCKET], True


def connect(
    open_client: Callable[[str, float], _Client],
    given: str | os.PathLike[str] | None,
    autostart: bool,
    timeout: float,
) -> _Client:
    """A client of the daemon that is found or started.  open_client(socket, seconds) raises
    UnavailableError where none answers."""
    paths, may_start = sockets(given)
    if len(paths) == 1:
        return open_client(paths[0], timeout)
    found = _try(open_client, paths)
    if found is not None:
        return found
    if not (may_start and autostart):
        return open_client(paths[0], timeout)
    with _lock(state_folder()):
        found = _try(open_client, paths)  # another process may have started it meanwhile
        if found is not None:
            return found
        process, log = _start()
        return _wait_for(open_client, paths[0], process, log)


def _try(open_client: Callable[[str, float], _Client], paths: list[str]) -> _Client | None:
    for path in paths:
        if os.path.exists(path):
            with contextlib.suppress(UnavailableError):
                return open_client(path, _TRY_SECONDS)
    return None


@contextlib.contextmanager
def _lock(folder: pathlib.Path) -> Iterator[None]:
    """The right to start a daemon.  Given back by the kernel if this process dies."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    deadline = time.monotonic() + 2 * START_SECONDS
    descriptor = os.open(folder / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DeadlineError(
                        f"another process holds {folder}/start.lock and starts no daemon"
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _start() -> tuple[subprocess.Popen[bytes], pathlib.Path]:
    log = state_folder() / "holdfastd.log"
    command = [os.fspath(program_path("holdfastd")), "--user"]
    command += shlex.split(os.environ.get("HOLDFAST_DAEMON_FLAGS", ""))
    # Failpoints of a trainer under test are not the daemon's.
    environment = {k: v for k, v in os.environ.items() if k != "HOLDFAST_FAILPOINTS"}
    with open(log, "ab") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            close_fds=True,
            cwd="/",
            env=environment,
        )
    _started.append(process)
    print(f"holdfast: started holdfastd for this user (pid {process.pid}, log {log})",
          file=sys.stderr, flush=True)
    return process, log


def _wait_for(
    open_client: Callable[[str, float], _Client],
    socket: str,
    process: subprocess.Popen[bytes],
    log: pathlib.Path,
) -> _Client:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return open_client(socket, _TRY_SECONDS)
        except UnavailableError as error:
            code = process.poll()
            if code is not None or time.monotonic() > deadline:
                how = "does not answer" if code is None else f"ended at once with code {code}"
                raise UnavailableError(
                    f"holdfastd, started for this user, {how}; its log {log} ends with: "
                    f"{_tail(log)}"
                ) from error
            time.sleep(0.05)


def _tail(log: pathlib.Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:])
    return "(cannot be read)"
