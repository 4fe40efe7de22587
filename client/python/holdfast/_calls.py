"""Calls into the library that may last for minutes, and the signals that come meanwhile.

Python runs the handler of a signal in the main thread, between two of its own instructions, and a
call into the library is one.  Another thread makes such a call for the main thread, therefore, and
the main thread waits where handlers run.  What a handler raises (KeyboardInterrupt) ends the wait
at once.  The library cannot give the call up: it goes on to its end or its limit, and what it
works on is freed only then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

_T = TypeVar("_T")
#: A signal that the kernel gives to another thread does not end a wait by itself.
_LOOK_SECONDS = 0.2


class _Call(Generic[_T]):
    """One that another thread makes."""

    def __init__(self, function: Callable[[], _T]) -> None:
        self._function = function
        self._result: _T | None = None
        self._error: BaseException | None = None
        self._left = False
        self.begun = False
        self.skip = False
        self.over = threading.Event()

    def make(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error
        if self._left:
            self._result = self._error = None

    def leave(self) -> None:
        """Nobody waits for the result, which must go: the exception on its way may keep this object
        for long."""
        # In this order: make() has the result before it looks, so one of both lets go of it.
        self._left = True
        self._result = None

    def outcome(self) -> _T:
        error, self._error = self._error, None
        if error is None:
            return cast(_T, self._result)
        try:
            raise error
        finally:
            del error  # it holds this frame


class Calls:
    """Those on one client.  Threads: any.

    Without a lock: a handler may come between any two lines here, and make a call of its own.  What
    several threads change, they change by single operations of a set and a list.
    """

    def __init__(self) -> None:
        self._under_way: set[_Call[Any]] = set()
        self._frees: list[Callable[[], None]] = []

    def under_way(self) -> bool:
        return bool(self._under_way)

    def make(self, function: Callable[[], _T]) -> _T:
        """What "function" returns or raises.  It asks for the handle that it works on when it is
        called, not before."""
        if threading.current_thread() is not threading.main_thread():
            return function()
        call = _Call(function)
        try:
            self._under_way.add(call)
            if not self._begin(call):
                return function()
            while not call.over.wait(_LOOK_SECONDS):
                pass
        except BaseException:
            call.leave()
            # In this order, and the other way round in _run: one of both sees the other.
            call.skip = True
            if not call.begun:
                self._under_way.discard(call)
                self._settle()
            raise
        return call.outcome()

    def count(self, function: Callable[[], _T]) -> _T:
        """The same in this thread, for what is short: nothing is freed meanwhile."""
        call = _Call(function)
        self._under_way.add(call)
        try:
            return function()
        finally:
            self._under_way.discard(call)
            self._settle()

    def free(self, free: Callable[[], None]) -> None:
        """Calls "free" now; while calls are under way that were left, at the end of the last one.
        No call that comes later may find the handle."""
        self._frees.append(free)
        self._settle()

    def _begin(self, call: _Call[Any]) -> bool:
        """Whether there is a thread for it."""
        thread = threading.Thread(
            target=self._run, args=(call,), name="holdfast-wait", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            if thread.ident is not None:
                raise  # by a handler, which came meanwhile
            self._under_way.discard(call)
            return False
        return True

    def _run(self, call: _Call[Any]) -> None:
        call.begun = True
        if not call.skip:
            call.make()
        self._under_way.discard(call)
        self._settle()
        # Last: who has waited frees in its own thread, and has freed when that returns.
        call.over.set()

    def _settle(self) -> None:
        while self._frees and not self._under_way:
            try:
                free = self._frees.pop(0)
            except IndexError:
                return  # another thread was faster
            free()


__all__ = ["Calls"]
