"""bench/gpu runs from end to end without a GPU, and shows what it cannot measure there."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench" / "gpu"


def run(
    out: pathlib.Path, *options: str, device: str = "cpu", library: str | None = None
) -> subprocess.CompletedProcess[str]:
    changed = {} if library is None else {"HOLDFAST_LIBRARY": library}
    return subprocess.run(
        [sys.executable, str(BENCH / "run.py"), "--device", device, "--out", str(out), *options],
        capture_output=True, text=True, timeout=300, env={**os.environ, **changed},
    )  # fmt: skip


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module("timeline")


# The same engine as on a GPU: torn writes are found, every restore has the bytes, of kills too.
def test_a_dry_run_goes_through_every_work(simulated: str, tmp_path: pathlib.Path) -> None:
    result = run(tmp_path, device="sim", library=simulated)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = {row["work"]: row for row in json.loads((tmp_path / "results.json").read_text())}
    for work in ("bare copy to the host", "digests alone, 1 threads",
                 "iteration of 400 ms, snapshot every step", "training thread in fence(), p99",
                 "iteration of 400 ms, the same with a flush every 10th",
                 "iteration of 103 ms, snapshot every step",
                 "iteration of 103 ms, every 2nd step, staged", "copy rate, 0.00142 GB",
                 "trace of 3 iterations", "restore to the device, digests checked, 0.00142 GB",
                 "iteration of 400 ms, every step digested on the device",
                 "torch.save every step", "DCP save every step", "DCP async_save every step",
                 "copy rate of all GPUs at once, DDP, 2 x 0.00142 GB",
                 "trace of 3 iterations under FSDP2"):  # fmt: skip
        assert rows[work]["ours"] > 0, work
        assert work in result.stdout
    for peer in ("torch.save", "DCP save", "DCP async_save"):
        assert "bytes verified" in rows[f"{peer} every step"]["note"], rows[f"{peer} every step"]
    for work in ("file of a flushed step", "restore, the last of the row",
                 "restore by another Checkpointer", "restore of all ranks, DDP",
                 "restore of all ranks, FSDP2", "torn: an update without the fence",
                 "torn: a fused update without the fence",
                 "torn: an average written on another stream", "false alarms with the fence",
                 "restore after so many snapshots", "killed in mid-copy: right bytes again",
                 "killed with copies queued, a forked worker alive: right bytes again"):  # fmt: skip
        assert rows[work]["ok"] is True, rows[work]
    skipped = {work: row["note"] for work, row in rows.items() if row["reach"] == "skipped"}
    assert skipped == {
        "an update replayed as a CUDA graph": "there is no CUDA graph without a GPU",
        "DCP async_save, pinned staging every step": "pinned staging needs a GPU",
        "sanitize": "there is nothing for compute-sanitizer without a GPU",
    }
    assert rows["DataStates-LLM every step"]["reach"] == "not installed"
    assert re.search(r"DataStates-LLM every step +not installed", result.stdout)
    assert "slots ready" in result.stdout and " 0 pinned" not in result.stdout
    batches = re.findall(r"simulated runtime: (\d+) batches", result.stdout)
    assert sum(int(count) > 0 for count in batches) >= 3, batches
    assert (tmp_path / "iterations-1.svg").read_text().startswith("<svg")
    assert len((tmp_path / "iterations.csv").read_text().splitlines()) > 6


DATASTATES = """
import torch
class Checkpointing:
    def __init__(self, config, rank):
        assert config["host_cache_size"] >= 1 and rank == 0
        self.waits = []
    def save(self, state, path):
        torch.save(state, path)
    def load(self, path):
        return torch.load(path, weights_only=True)
    def wait(self, persist=False):
        self.waits.append(persist)
"""


class OneLayer:
    def __init__(self) -> None:
        self.model = torch.nn.Linear(8, 8)
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.model(torch.ones(8)).sum().backward()
        self.optimizer.step()

    @staticmethod
    def bytes() -> int:
        return 864


def test_a_peer_that_the_bench_does_not_bring_runs_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    for folder in (BENCH.parent, BENCH):
        monkeypatch.syspath_prepend(str(folder))
    kind = importlib.import_module("peers").DataStates
    assert kind.missing()
    (tmp_path / "datastates").mkdir()
    (tmp_path / "datastates" / "__init__.py").touch()
    (tmp_path / "datastates" / "llm.py").write_text(DATASTATES)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not kind.missing()
    training = OneLayer()
    peer = kind(training, tmp_path / "peer")
    peer.begin()
    peer.after_update()
    saved = training.model.weight.detach().clone()
    peer.before_update()
    peer.end()
    assert peer._engine.waits == [False, True]
    torch.nn.init.zeros_(training.model.weight)
    peer.load()
    assert torch.equal(training.model.weight, saved)
    peer.close()
    assert not (tmp_path / "peer").exists()


def test_a_library_that_is_not_simulated_is_no_dry_run(
    built: dict[str, str], tmp_path: pathlib.Path
) -> None:
    result = run(tmp_path, "--only", "environment", device="sim")
    assert result.returncode == 1
    assert "is no libholdfast_sim.so" in result.stdout


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
