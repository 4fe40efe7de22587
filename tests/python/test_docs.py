"""Documents that programs print must say what the programs say."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_tables_of_operations_are_what_the_daemon_prints(built: dict[str, str]) -> None:
    daemon = os.path.join(built["HOLDFAST_BIN"], "holdfastd")
    check = subprocess.run(
        [sys.executable, str(ROOT / "tools/update_docs.py"), daemon, "--check"], timeout=60
    )
    assert check.returncode == 0, "docs/operations.md is out of date: run make docs"


def test_architecture_stays_within_its_length() -> None:
    lines = (ROOT / "docs/ARCHITECTURE.md").read_text().splitlines()
    assert len(lines) <= 250
