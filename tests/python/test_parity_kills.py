"""Daemons of four nodes that die while they protect, rebuild and repair; a supervisor starts others."""

from __future__ import annotations

import pathlib

import node_ranks
import pytest
from node import wait_for
from test_nodes import Cluster
from test_parity import (
    CODING, GATE, digests, four, idle_four, joined, lose, protected, require_restored, train,
)

NODES = range(4)
__all__ = ["four", "idle_four"]  # the fixtures of test_parity


def supervise(cluster: Cluster, nodes: list[int]) -> None:
    for i in nodes:
        cluster.nodes[i].supervise()


def died_once(cluster: Cluster, nodes: list[int]) -> None:
    """Waits until each of these daemons has died, once, and another has taken its place."""
    for i in nodes:
        wait_for(f"the death of the daemon of node {i}", lambda: cluster.nodes[i].restarts or None)
    for i in nodes:
        cluster.nodes[i].unsupervise()
    assert [cluster.nodes[i].restarts for i in nodes] == [1] * len(nodes)


# A row whose encoding failed is decoded from the segments: there it dies too.
DECODED = "protect.before_window=error:5@1;rebuild.before_row_done"


@pytest.mark.parametrize(
    "failpoint",
    ["protect.before_window", "protect.before_encode", "protect.before_lend",
     "protect.before_done", "pull.before_window", "pull.before_done", DECODED],
)  # fmt: skip
def test_a_daemon_dies_while_it_protects(
    idle_four: Cluster, tmp_path: pathlib.Path, failpoint: str
) -> None:
    """I3, I10, L: nothing half made counts, training goes on, what is protected then is safe."""
    for i in NODES:
        idle_four.start(i, f"{failpoint}=kill@1" if i == 3 else "", more=CODING)
    supervise(idle_four, [3])
    training = idle_four.run_gated(list(NODES), tmp_path / "first", GATE)
    died_once(idle_four, [3])  # the ranks live, and are at the gate at the latest
    training.go_on()
    trained = training.end()
    safe = wait_for("protection", lambda: protected(idle_four.nodes[3], GATE))
    lose(idle_four, 0)
    lose(idle_four, 1)
    shown = idle_four.run(node_ranks.show, list(NODES), tmp_path / "second", 77)
    require_restored(trained, shown, safe)


def test_replacements_die_while_they_rebuild(four: Cluster, tmp_path: pathlib.Path) -> None:
    """I5, I11: a second failure while the first is being rebuilt; its ranks wait, and get all."""
    trained = train(four, tmp_path / "first", 4, 1)
    assert [code for code, _ in trained] == [-9] * 4, trained
    safe = wait_for("protection", lambda: protected(four.nodes[2]))
    lost = {1: "pull.before_window=kill@1", 3: "rebuild.before_done=kill@1"}
    for i, failpoint in lost.items():
        four.lose(i)
        four.start(i, failpoint, more=CODING)
    supervise(four, list(lost))
    shown = four.run(node_ranks.show, list(NODES), tmp_path / "second", 77)
    died_once(four, list(lost))
    require_restored(trained, shown, safe)


@pytest.mark.parametrize("failpoint", ["share.before_window", "rebuild.before_window"])
def test_a_survivor_dies_while_it_decodes_for_a_replacement(
    four: Cluster, tmp_path: pathlib.Path, failpoint: str
) -> None:
    """I5, I11: both that are left decode for both replacements; when it is back it does so again."""
    trained = train(four, tmp_path / "first", 4, 1)
    safe = wait_for("protection", lambda: protected(four.nodes[2]))
    four.nodes[2].kill()
    four.start(2, f"{failpoint}=kill@1", more=CODING)
    for i in (1, 3):
        lose(four, i)
    supervise(four, [2])
    shown = four.run(node_ranks.show, list(NODES), tmp_path / "second", 77)
    died_once(four, [2])
    require_restored(trained, shown, safe)


def test_a_replacement_dies_while_it_protects_again(four: Cluster, tmp_path: pathlib.Path) -> None:
    """I3: repair is protection of what came back; it is done in the end, and two others may go."""
    trained = train(four, tmp_path / "first", 4, 1)
    safe = wait_for("protection", lambda: protected(four.nodes[2]))
    lose(four, 0)
    four.lose(1)
    four.start(1, "pull.before_done=kill@1", more=CODING)
    supervise(four, [1])
    # Beyond what came back, which may be newer than what was safe then.
    again = train(four, tmp_path / "second", max(digests(trained[0][1])) + 4, 50)
    assert [code for code, _ in again] == [-9] * 4, again
    died_once(four, [1])
    second = wait_for("protection", lambda: protected(four.nodes[3], safe))
    lose(four, 2)
    lose(four, 3)
    shown = four.run(node_ranks.show, list(NODES), tmp_path / "third", 77)
    require_restored(joined(trained, again), shown, second)
