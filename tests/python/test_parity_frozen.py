"""Frozen tensors on nodes that protect each other: coded once, and rebuilt with what is trained."""

from __future__ import annotations

import pathlib
from typing import Any

import node_ranks
import pytest
from node import wait_for
from test_nodes import CODING, Cluster
from test_parity import FABRIC, digests, idle_four, joined, protected, require_restored

ALL = [0, 1, 2, 3]
__all__ = ["idle_four"]  # the fixture of test_parity


def train(cluster: Cluster, store: pathlib.Path, gate: int, seed: int) -> Any:
    pathlib.Path(f"{store}.go").touch()
    return cluster.run(node_ranks.main, ALL, store, gate, seed, "die", True)


def whole(cluster: Cluster, node: int) -> dict[str, Any] | None:
    """The newest protected snapshot, once all nodes have all of it, as one of them shows it: what was
    protected before it is freed at one node after the other."""
    snapshots = cluster.nodes[node].json("ls", "--cluster")["snapshots"]
    safe = [s for s in snapshots if s["protected"] and s["margin_seen"] == s["margin"] == 2]
    return max(safe, key=lambda s: s["step"], default=None)


@pytest.mark.parametrize("plane", ["", FABRIC], ids=["connection", "fabric"])
def test_frozen_tensors_of_lost_nodes_come_back(
    idle_four: Cluster, tmp_path: pathlib.Path, plane: str
) -> None:
    """I10, I3: bit for bit, twice, from parity that was made of them once."""
    for i in ALL:
        idle_four.start(i, more=plane + CODING)
    before = train(idle_four, tmp_path / "first", 4, 1)
    assert [code for code, _ in before] == [-9] * 4, before
    found = wait_for("protection", lambda: whole(idle_four, 2))
    first: int = found["step"]
    images = {s["image"]: s for s in found["sets"]}
    assert sorted(images) == ["dynamic", "static"], images
    for one in images.values():
        assert all(len(position["rows"]) == 2 for position in one["positions"]), one
    for i in (0, 3):
        idle_four.lose(i)
        idle_four.start(i, more=plane + CODING)
    gate = max(digests(before[0][1])) + 4
    again = train(idle_four, tmp_path / "second", gate, 50)
    assert [code for code, _ in again] == [-9] * 4, again
    second = wait_for("protection", lambda: protected(idle_four.nodes[0], first))
    for i in (1, 2):
        idle_four.lose(i)
        idle_four.start(i, more=plane + CODING)
    shown = idle_four.run(node_ranks.show, ALL, tmp_path / "third", 77, True)
    require_restored(joined(before, again), shown, second)

