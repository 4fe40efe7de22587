#!/usr/bin/env python3
"""Writes compile_commands.json from Bazel's own compile actions, for editors and clang tools."""

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent


def compile_commands(aquery: dict[str, Any], execution_root: str) -> list[dict[str, Any]]:
    """The database's entries: one for each source file of this repository."""
    entries = {}
    for action in aquery.get("actions", []):
        arguments = action["arguments"]
        source = next((a for i, a in enumerate(arguments) if i and arguments[i - 1] == "-c"), None)
        if source is None or source.startswith("external/"):
            continue
        # A tool sees what a file includes itself, and needs nothing that was built.
        while "-include-pch" in arguments:
            at = arguments.index("-include-pch")
            arguments = arguments[:at] + arguments[at + 2 :]
        entries[source] = {"directory": execution_root, "file": source, "arguments": arguments}
    return [entries[source] for source in sorted(entries)]


def main() -> int:
    bazel = os.environ.get("BAZEL", "bazel").split()

    def run(*command: str) -> str:
        return subprocess.run(
            [*bazel, *command], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    pattern = 'mnemonic("CppCompile", //...)'
    aquery = json.loads(run("aquery", pattern, "--output=jsonproto"))
    entries = compile_commands(aquery, run("info", "execution_root").strip())
    (ROOT / "compile_commands.json").write_text(json.dumps(entries, indent=1) + "\n")
    print(f"{len(entries)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
