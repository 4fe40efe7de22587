"""The package, the example, the demo, the wheel's builder and the GPU bench hold up to strict typing."""

from __future__ import annotations

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
    ],
)
def test_mypy_strict_is_clean(
    folder: str, what: str, beside: str, tmp_path: pathlib.Path
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), what],
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
