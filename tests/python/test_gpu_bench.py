"""bench/gpu runs from end to end without a GPU, and shows what it cannot measure there."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench" / "gpu"


def run(out: pathlib.Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH / "run.py"), "--device", "cpu", "--tiny", "--out", str(out),
         *options],
        capture_output=True, text=True, timeout=170,
    )  # fmt: skip


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module("timeline")


def test_a_dry_run_gives_a_row_for_each_thing_measured(
    built: dict[str, str], tmp_path: pathlib.Path
) -> None:
    result = run(tmp_path, "--only", "environment,iteration,restore,torn,sanitize",
                 "--budget", "150")  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    rows = {row["work"]: row for row in json.loads((tmp_path / "results.json").read_text())}
    for work in ("bare copy to the host", "iteration of 400 ms, snapshot every step",
                 "training thread in fence(), p99",
                 "restore to the device, digests checked, 0.00142 GB"):  # fmt: skip
        assert rows[work]["ours"] > 0, work
        assert work in result.stdout
    for work in ("restore, the last of the row", "torn: an update without the fence",
                 "torn: a fused update without the fence",
                 "torn: an average written on another stream"):  # fmt: skip
        assert rows[work]["ok"] is True, rows[work]
    for work in ("an update replayed as a CUDA graph", "sanitize"):
        assert rows[work]["reach"] == "skipped" and rows[work]["note"]
    assert (tmp_path / "iterations-1.svg").read_text().startswith("<svg")
    assert len((tmp_path / "iterations.csv").read_text().splitlines()) > 6


def test_what_cannot_run_is_said_and_the_rest_goes_on(
    built: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """A daemon that does not start takes its stage only."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("holdfastd", "holdfast"):
        (programs / name).write_text("#!/bin/sh\necho no >&2\nexit 1\n")
        (programs / name).chmod(0o755)
    environment = {**os.environ, "HOLDFAST_BIN": str(programs)}
    result = subprocess.run(
        [sys.executable, str(BENCH / "run.py"), "--device", "cpu", "--out", str(tmp_path / "out"),
         "--only", "environment,calm"],
        capture_output=True, text=True, timeout=120, env=environment,
    )  # fmt: skip
    assert result.returncode == 1
    rows = {r["work"]: r for r in json.loads((tmp_path / "out/results.json").read_text())}
    assert rows["bare copy to the host"]["ours"] > 0
    assert rows["calm"]["ok"] is False and "does not answer" in rows["calm"]["note"]


def test_no_time_means_no_work_and_unknown_works_are_refused(
    built: dict[str, str], tmp_path: pathlib.Path
) -> None:
    result = run(tmp_path, "--only", "environment,calm", "--budget", "0")
    assert result.returncode == 0
    assert "the time of --budget is over" in result.stdout
    assert run(tmp_path, "--only", "nonsense").returncode == 2


def test_a_timeline_shows_copies_beside_kernels(drawing: Any, tmp_path: pathlib.Path) -> None:
    events = [
        {"ph": "X", "cat": "kernel", "name": "gemm", "ts": 10.0 * i, "dur": 9.0, "tid": 7}
        for i in range(100)
    ]
    events += [
        {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy DtoH (Device -> Pinned)", "ts": 300.0,
         "dur": 400.0, "tid": 21},
        {"ph": "i", "name": "mark", "ts": 1.0},
    ]  # fmt: skip
    source, target = tmp_path / "trace.json.gz", tmp_path / "timeline.svg"
    with gzip.open(source, "wt") as file:
        json.dump({"traceEvents": events}, file)
    subprocess.run([sys.executable, str(BENCH / "timeline.py"), str(source), str(target)],
                   check=True, timeout=60)  # fmt: skip
    drawn = target.read_text()
    assert "stream 7: kernel" in drawn and "stream 21: copy" in drawn
    assert drawing.joined([(0, 1), (1.1, 2), (5, 6)], 0.5) == [(0, 2), (5, 6)]
