#!/usr/bin/env python3
"""Keeps Bazel's disk cache, which only grows, under a size: what was used longest ago goes first.

    tools/prune_cache.py FOLDER GIB

Down to three quarters of it, so that this is rare. Silent and without effect while the folder is
smaller. A build that asks for what is gone makes it again. Linux notes a reading of a file about once
a day (relatime), so ages are that exact.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Iterator

GIB = 1 << 30


def entries(folder: pathlib.Path) -> Iterator[tuple[float, int, str]]:
    """Of each file: when it was last used, its bytes on disk, its path."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                stat = os.lstat(path)
            except FileNotFoundError:
                continue  # Bazel renames its temporary files
            yield max(stat.st_atime, stat.st_mtime), stat.st_blocks * 512, path


def prune(folder: pathlib.Path, limit: float) -> tuple[int, float]:
    """How many files went over a limit in GiB, and the GiB of them."""
    found = sorted(entries(folder))
    size = sum(each for _, each, _ in found)
    removed = freed = 0
    if size <= limit * GIB:
        return removed, freed
    for _, each, path in found:
        if size - freed <= 0.75 * limit * GIB:
            break
        pathlib.Path(path).unlink(missing_ok=True)
        removed += 1
        freed += each
    return removed, freed / GIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("gib", type=float, help="GiB at which it acts")
    args = parser.parse_args()
    if not args.gib > 0:
        parser.error(f"a cache of {args.gib:g} GiB holds nothing")
    removed, freed = prune(args.folder, args.gib)
    if removed:
        print(f"build cache {args.folder}: {removed} files unused for longest removed, {freed:.1f} GiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
