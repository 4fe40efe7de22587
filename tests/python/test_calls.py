"""Signals that come while a call into the library waits: handlers run, and may end the wait."""

from __future__ import annotations

import gc
import pathlib
import signal
import threading
import types
import weakref
from collections.abc import Callable, Iterator

import interrupts
import pytest

from holdfast._calls import Calls
from node import Node, wait_for
from processes import run_all
from support import Training, make, take

Handler = Callable[[int, types.FrameType | None], None]


class Interrupt(Exception):
    """What the handler of a test raises."""


class Result:
    """Of a call; whether it is still held can be asked."""


def interrupt(number: int, frame: types.FrameType | None) -> None:
    raise Interrupt


@pytest.fixture
def on_signal() -> Iterator[Callable[[Handler], None]]:
    """Sets the handler of SIGUSR1; signal_main() sends it."""
    before = signal.getsignal(signal.SIGUSR1)

    def install(handler: Handler) -> None:
        signal.signal(signal.SIGUSR1, handler)

    yield install
    signal.signal(signal.SIGUSR1, before)


def signal_main() -> None:
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, signal.SIGUSR1)


def test_a_handler_runs_while_a_call_waits(on_signal: Callable[[Handler], None]) -> None:
    came = threading.Event()
    on_signal(lambda number, frame: came.set())

    def call() -> str:
        signal_main()
        return "in time" if came.wait(60) else "too late"

    assert Calls().make(call) == "in time"


def test_what_a_handler_raises_leaves_the_call_and_what_it_works_on_outlives_it(
    on_signal: Callable[[Handler], None],
) -> None:
    on_signal(interrupt)
    calls = Calls()
    go = threading.Event()
    results: list[weakref.ref[Result]] = []
    freed: list[str] = []

    def call() -> Result:
        signal_main()
        go.wait(60)
        result = Result()
        results.append(weakref.ref(result))
        freed.append("used")
        return result

    with pytest.raises(Interrupt) as raised:
        calls.make(call)
    assert calls.under_way()
    calls.free(lambda: freed.append("freed"))
    assert freed == []
    go.set()
    wait_for("the end of the call", lambda: freed[1:] or None)
    assert freed == ["used", "freed"] and not calls.under_way()
    # The result goes although the exception is still here, and with it the frames that it names.
    gc.collect()
    assert raised.value.__traceback__ is not None and results[0]() is None


def test_results_and_errors_of_a_call_are_those_of_its_function() -> None:
    calls = Calls()
    threads: list[threading.Thread] = []

    def call() -> None:
        threads.append(threading.current_thread())
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        calls.make(call)
    assert threads[0] is not threading.main_thread()
    freed: list[threading.Thread] = []
    calls.free(lambda: freed.append(threading.current_thread()))
    assert freed == [threading.main_thread()], "at once"


def test_a_signal_before_there_is_a_thread_leaves_nothing_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(thread: threading.Thread, *args: object, **kwargs: object) -> None:
        raise Interrupt

    monkeypatch.setattr(threading.Thread, "__init__", interrupted)
    calls = Calls()
    with pytest.raises(Interrupt):
        calls.make(lambda: None)
    assert not calls.under_way()


def test_nothing_is_freed_while_a_short_call_is_made() -> None:
    calls = Calls()
    freed: list[str] = []

    def call() -> list[str]:
        calls.free(lambda: freed.append("freed"))
        return list(freed)

    assert calls.count(call) == []
    assert freed == ["freed"]


def test_without_a_thread_to_be_had_a_call_is_made_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    calls = Calls()
    assert calls.make(threading.current_thread) is threading.main_thread()
    assert not calls.under_way()


# ---- with the library and a daemon ----


def run(what: Callable[[str], None], go: pathlib.Path) -> str:
    ((code, output),) = run_all([(what, (str(go),))])
    assert code == 0, output
    assert "too late" not in output, output
    return output


def test_a_handler_runs_while_a_seal_is_awaited(node: Node, tmp_path: pathlib.Path) -> None:
    assert "sealed" in run(interrupts.wait, tmp_path / "go")


def test_ctrl_c_ends_the_wait_for_a_drain_and_the_training_may_go_on(
    node: Node, tmp_path: pathlib.Path
) -> None:
    assert "went on" in run(interrupts.drain, tmp_path / "go")


def test_ctrl_c_ends_a_restore_whose_daemon_hangs_and_the_next_one_restores(
    node: Node, tmp_path: pathlib.Path
) -> None:
    with make(Training()) as checkpointer:
        checkpointer.restore()
        take(checkpointer, 1)
    go = tmp_path / "go"
    node.stop()
    node.start(failpoints=f"restore.before_choice=wait:{go}")
    assert "restored 1" in run(interrupts.restore, go)
