#!python
"""Becomes the program of this name in the installed package holdfast.

The package is found, not imported: that would import torch, which the program does not need.
"""

import importlib.util
import os
import pathlib
import signal
import sys


def main() -> int:
    name = pathlib.Path(sys.argv[0]).name
    package = importlib.util.find_spec("holdfast")
    if package is None or package.origin is None:
        print(f"{name}: no package holdfast for {sys.executable}: install its wheel again",
              file=sys.stderr)
        return 1
    program = pathlib.Path(package.origin).parent / "_bin" / name
    # Python ignores these, and a program that follows would inherit that.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    os.execv(program, [str(program), *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
