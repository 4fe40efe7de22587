"""Two ranks over gloo: one incarnation for both, and a restart of both."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

from node import Node

HERE = pathlib.Path(__file__).resolve().parent


def run(
    tmp_path: pathlib.Path, name: str, steps: int, seed: int, mode: str
) -> list[tuple[int, str]]:
    """(exit code, output) of both ranks."""
    path = os.pathsep.join([str(HERE.parents[1] / "client/python"), str(HERE)])
    ranks = [
        subprocess.Popen(
            [sys.executable, str(HERE / "ranks.py"), str(rank), "2", str(tmp_path / name),
             str(steps), str(seed), mode],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    return [(r.returncode, out) for r, out in [(r, r.communicate(timeout=120)[0]) for r in ranks]]


def lines(outputs: list[tuple[int, str]], word: str) -> list[str]:
    return [
        next((line for line in out.splitlines() if line.startswith(word)), out)
        for _, out in outputs
    ]


def test_a_restart_of_two_killed_ranks_goes_on_bit_for_bit(
    node: Node, tmp_path: pathlib.Path
) -> None:
    died = run(tmp_path, "first", 5, 1, "die")
    assert [code for code, _ in died] == [-9, -9], died
    again = run(tmp_path, "second", 5, 50, "end")
    assert [code for code, _ in again] == [0, 0], again
    assert lines(again, "restored") == ["restored 5"] * 2
    assert lines(again, "digest") == lines(died, "digest")
    job = node.job()
    assert job is not None and job["incarnation"] == 2 and job["world_size"] == 2


def test_a_misfit_on_one_rank_is_an_error_on_all(node: Node, tmp_path: pathlib.Path) -> None:
    first = run(tmp_path, "first", 2, 1, "end")
    assert [code for code, _ in first] == [0, 0], first
    second = run(tmp_path, "second", 3, 1, "misfit")
    for code, output in second:
        assert code == 1 and "StateMismatchError" in output and "rank 1: " in output or (
            "StateMismatchError" in output and "8, 8" in output
        ), output
