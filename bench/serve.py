"""The Python side of bench/commands.h: answers one line of numbers for each line that it reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

Command = Callable[..., Sequence[float]]


def serve(commands: dict[str, Command]) -> None:
    """Serves standard input to its end.  Arguments of a command are whole numbers.  What libraries
    print goes to standard error, so that the answers stay alone on standard output."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print("ready", file=answers)
    for line in sys.stdin:
        name, *arguments = line.split()
        try:
            numbers = commands[name](*map(int, arguments))
            print("ok", *(f"{n:.9g}" for n in numbers), file=answers)
        except Exception as error:  # noqa: BLE001: whatever it is belongs on the line
            text = " ".join(f"{type(error).__name__}: {error}".split())
            print("error", text, file=answers)
