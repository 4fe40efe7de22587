"""Trainings that get a signal while they wait, for test_calls.py.

What each waits for ends only when the file "go" is there.  "too late" is printed where a handler
has not run, or the wait has not ended by it, long after the signal.
"""

from __future__ import annotations

import contextlib
import pathlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import holdfast
from node import wait_for
from support import Training, make

_LONG = 20.0


class Watched:
    """The library, which says when one of its functions is called."""

    def __init__(self, real: Any, name: str) -> None:
        self._real = real
        self._name = name
        self.called = threading.Event()

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._real, name)
        if name != self._name:
            return function

        def watched(*arguments: Any) -> Any:
            self.called.set()
            return function(*arguments)

        return watched


@contextlib.contextmanager
def signalled(
    checkpointer: holdfast.Checkpointer, name: str, number: signal.Signals, go: str
) -> Iterator[threading.Event]:
    """Sends the signal when that function of the library is called.  The body sets the event when
    the signal has done what it should: then, or long after, what is waited for may end."""
    good = threading.Event()
    client: Any = checkpointer._client
    client.lib = library = Watched(client.lib, name)
    ident = threading.main_thread().ident
    assert ident is not None

    def send() -> None:
        if library.called.wait(_LONG):
            signal.pthread_kill(ident, number)
        if not good.wait(_LONG):
            print("too late", flush=True)
        pathlib.Path(go).touch()

    sender = threading.Thread(target=send)
    sender.start()
    yield good
    sender.join()


def begin() -> tuple[Training, holdfast.Checkpointer]:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    training = Training()
    return training, make(training)


def hold_the_seal(go: str) -> holdfast.Checkpointer:
    """Of the snapshot of step 1, which is copied."""
    training, checkpointer = begin()
    checkpointer.restore()
    training.step()
    checkpointer.prepare()
    holdfast.arm_failpoints(f"client.before_seal=wait:{go}")
    assert checkpointer.snapshot(1)
    checkpointer.fence()
    return checkpointer


def wait(go: str) -> None:
    checkpointer = hold_the_seal(go)
    with signalled(checkpointer, "hf_wait_sealed", signal.SIGUSR1, go) as good:
        signal.signal(signal.SIGUSR1, lambda number, frame: good.set())
        checkpointer.wait(1, timeout=2 * _LONG)
    print("sealed", flush=True)
    checkpointer.close()


def drain(go: str) -> None:
    checkpointer = hold_the_seal(go)
    with signalled(checkpointer, "hf_drain", signal.SIGINT, go) as good:
        try:
            checkpointer.drain(timeout=2 * _LONG)
        except KeyboardInterrupt:
            good.set()
    checkpointer.wait(1)
    assert checkpointer.drain().step == 1
    checkpointer.prepare()
    assert checkpointer.snapshot(2)
    checkpointer.close()
    print("went on", flush=True)


def restore(go: str) -> None:
    training, checkpointer = begin()
    with signalled(checkpointer, "hf_restore_begin", signal.SIGINT, go) as good:
        try:
            checkpointer.restore(timeout=2 * _LONG)
        except KeyboardInterrupt:
            checkpointer.close(drain=False)  # waits for nothing: the daemon still hangs
            good.set()
    wait_for("the end of the call that was left", lambda: None if left() else True)
    with make(training) as again:
        print("restored", again.restore(), flush=True)


def left() -> bool:
    return any(thread.name == "holdfast-wait" for thread in threading.enumerate())
