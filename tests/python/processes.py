"""Processes of tests, forked from one that has imported torch already: starting them costs little."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["warm", "ranks", "sharded", "trainer_process"])
_PASSED_ON = ("HOLDFAST_", "HOME", "XDG_")


def _run(
    function: Callable[..., None], arguments: tuple[Any, ...], log: str, environment: dict[str, str]
) -> None:
    os.environ.update(environment)
    output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
    try:
        function(*arguments)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def run_all(
    calls: list[tuple[Callable[..., None], tuple[Any, ...]]],
    seconds: float = 120.0,
    environments: list[dict[str, str]] | None = None,
) -> list[tuple[int | None, str]]:
    """Each call in a process of its own, all at once: (exit code, output).  "environments": one for
    each call, on top of this process's."""
    common = {n: v for n, v in os.environ.items() if n.startswith(_PASSED_ON)}
    own = environments or [{} for _ in calls]
    with tempfile.TemporaryDirectory() as folder:
        logs = [str(pathlib.Path(folder) / str(i)) for i in range(len(calls))]
        processes = [
            _context.Process(target=_run, args=(function, arguments, log, common | extra))
            for (function, arguments), log, extra in zip(calls, logs, own)
        ]
        for process in processes:
            process.start()
        try:
            for process in processes:
                process.join(seconds)
            assert all(p.exitcode is not None for p in processes), [
                pathlib.Path(log).read_text() for log in logs
            ]
        finally:
            for process in processes:
                process.kill()
        return [
            (p.exitcode, pathlib.Path(log).read_text(errors="replace"))
            for p, log in zip(processes, logs)
        ]
