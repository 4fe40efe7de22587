#!/usr/bin/env python3
"""Writes the tables that holdfastd prints into docs/operations.md, between their markers.

Usage: update_docs.py HOLDFASTD [--check]     --check changes nothing; exit code 1 where they differ
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "operations.md"
MARKED = re.compile(r"(<!-- generated: holdfastd (--[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def renewed(text: str, daemon: str) -> str:
    def table(match: re.Match[str]) -> str:
        printed = subprocess.run(
            [daemon, match[2]], check=True, capture_output=True, text=True, timeout=60
        )
        return match[1] + printed.stdout + match[3]

    return MARKED.sub(table, text)


def main() -> int:
    text = PAGE.read_text()
    new = renewed(text, sys.argv[1])
    if "--check" in sys.argv[2:]:
        return 0 if new == text else 1
    PAGE.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
