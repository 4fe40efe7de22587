#!/usr/bin/env python3
"""Reads llvm-cov's JSON summary from standard input; prints covered lines by folder.

Usage: coverage_table.py MINIMUM_PERCENT
"""

from __future__ import annotations

import collections
import json
import re
import sys

FOLDERS = ("daemon", "storage_tiers", "layout", "ec", "client")


def main() -> int:
    minimum = float(sys.argv[1])
    lines: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for file in json.load(sys.stdin)["data"][0]["files"]:
        name = re.sub(r"^.*?/?((?:%s)/)" % "|".join(FOLDERS), r"\1", file["filename"], count=1)
        folder = name.split("/")[0]
        if folder not in FOLDERS or name.endswith((".pb.h", ".pb.cc")) or "tests/" in file["filename"]:
            continue
        summary = file["summary"]["lines"]
        lines[folder][0] += summary["covered"]
        lines[folder][1] += summary["count"]
    covered = sum(c for c, _ in lines.values())
    total = sum(t for _, t in lines.values())
    for folder in FOLDERS:
        got, all_lines = lines[folder]
        print(f"{folder + '/':16} {got:6} of {all_lines:6} lines  {100 * got / max(all_lines, 1):5.1f} %")
    percent = 100 * covered / max(total, 1)
    print(f"{'together':16} {covered:6} of {total:6} lines  {percent:5.1f} %  (at least {minimum:g} %)")
    print(f"coverage: lines {'passed' if percent >= minimum else 'failed'}")
    return 0 if percent >= minimum else 1


if __name__ == "__main__":
    sys.exit(main())
