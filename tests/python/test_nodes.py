"""A job over several nodes: real daemons that talk to each other, each serving some of the ranks."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator

import pytest
import ranks
from node import Node, wait_for
from processes import run_all


class Cluster:
    """Daemons at 127.0.0.N, each with folders of its own."""

    def __init__(self, folder: pathlib.Path, built: dict[str, str], count: int) -> None:
        self.memory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-test-", dir="/dev/shm"))
        self.nodes = [
            Node(folder / f"node{i}", self.memory / str(i), built) for i in range(1, count + 1)
        ]
        for i in range(count):
            self.start(i)

    def start(self, i: int) -> None:
        self.nodes[i].start(config=f'[peer]\nlisten = "127.0.0.{i + 1}:7411"\n')

    def run(
        self, store: pathlib.Path, steps: int, seed: int, mode: str, places: list[int]
    ) -> list[tuple[int | None, str]]:
        """Rank r trains on node places[r]."""
        calls = [
            (ranks.main, (r, len(places), str(store), steps, seed, mode))
            for r in range(len(places))
        ]
        return run_all(calls, environments=[self.nodes[place].environment for place in places])

    def clean(self) -> None:
        for node in self.nodes:
            node.clean()
        shutil.rmtree(self.memory, ignore_errors=True)


@pytest.fixture
def pair(built: dict[str, str], tmp_path: pathlib.Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, built, 2)
    yield cluster
    cluster.clean()


def lines(outputs: list[tuple[int | None, str]], word: str) -> list[str]:
    return [
        next((line for line in out.splitlines() if line.startswith(word)), out)
        for _, out in outputs
    ]


def test_ranks_of_two_nodes_restart_together(pair: Cluster, tmp_path: pathlib.Path) -> None:
    died = pair.run(tmp_path / "first", 5, 1, "die", [0, 1])
    assert [code for code, _ in died] == [-9, -9], died
    again = pair.run(tmp_path / "second", 5, 50, "end", [0, 1])
    assert [code for code, _ in again] == [0, 0], again
    assert lines(again, "restored") == ["restored 5"] * 2
    assert lines(again, "digest") == lines(died, "digest")
    for node in pair.nodes:
        job = node.job()
        assert job is not None and job["incarnation"] == 2 and job["world_size"] == 2
        assert {s["state"] for s in node.snapshots() if s["step"] == 5} == {"complete"}
