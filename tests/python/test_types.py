"""The package, the example, the demo, the wheel's builder and the benches hold up to strict typing."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "folder, what, beside",
    [
        ("client/python", "holdfast", ""),
        ("examples", "train_gpt.py", ""),
        ("tools/demo", ".", ""),
        ("tools/wheel", ".", ""),
        ("bench/gpu", ".", "bench"),
        ("bench", "*.py", "examples"),
    ],
)
def test_mypy_strict_is_clean(folder: str, what: str, beside: str) -> None:
    # Most of its time goes into torch, which does not change; a folder each, since several may run.
    caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    cache = caches / "holdfast" / "mypy" / folder.replace("/", "-")
    files = sorted(path.name for path in (ROOT / folder).glob(what)) if "*" in what else [what]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), *files],
        cwd=ROOT / folder,
        env={
            "MYPYPATH": ":".join(str(ROOT / path) for path in ("client/python", beside) if path),
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
