"""`python -m holdfast ...` is the command line program `holdfast ...` of this package."""

from __future__ import annotations

import os
import signal
import sys

from holdfast._native import program_path
from holdfast.errors import HoldfastError


def main() -> int:
    try:
        program = os.fspath(program_path("holdfast"))
    except HoldfastError as error:
        print(f"holdfast: {error}", file=sys.stderr)
        return 1
    # Python ignores these, and a program that follows would inherit that.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    os.execv(program, [program, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
