"""Daemons of four nodes that die while they protect, rebuild and repair; a supervisor starts others."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Iterator

import node_ranks
import pytest
from node import wait_for
from test_nodes import Cluster, Outputs
from test_parity import CODING, lose, protected, require_restored, train

NODES = range(4)


@pytest.fixture
def idle_four(built: dict[str, str], tmp_path: pathlib.Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, built, 4)
    yield cluster
    cluster.clean()


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


@pytest.mark.parametrize(
    "failpoint",
    ["protect.before_window", "protect.before_encode", "protect.before_lend",
     "protect.before_done", "pull.before_window", "pull.before_done"],
)  # fmt: skip
def test_a_daemon_dies_while_it_protects(
    idle_four: Cluster, tmp_path: pathlib.Path, failpoint: str
) -> None:
    """I3, I10, L: nothing half made counts, training goes on, what is protected then is safe."""
    for i in NODES:
        idle_four.start(i, f"{failpoint}=kill@1" if i == 3 else "", more=CODING)
    supervise(idle_four, [3])
    store = tmp_path / "first"
    outputs: list[Outputs] = []
    gate = 4
    call = (node_ranks.main, list(NODES), store, gate, 1, "die")
    training = threading.Thread(target=lambda: outputs.append(idle_four.run(*call)))
    training.start()
    died_once(idle_four, [3])  # the ranks live, and are at the gate at the latest
    pathlib.Path(f"{store}.go").touch()
    training.join()
    (trained,) = outputs
    assert [code for code, _ in trained] == [-9] * 4, trained
    safe = wait_for("protection", lambda: protected(idle_four.nodes[3], gate))
    lose(idle_four, 0)
    lose(idle_four, 1)
    shown = idle_four.run(node_ranks.show, list(NODES), tmp_path / "second", 77)
    require_restored(trained, shown, safe)


def test_replacements_die_while_they_rebuild(idle_four: Cluster, tmp_path: pathlib.Path) -> None:
    """I5, I11: a second failure while the first is being rebuilt; its ranks wait, and get all."""
    for i in NODES:
        idle_four.start(i, more=CODING)
    trained = train(idle_four, tmp_path / "first", 4, 1)
    assert [code for code, _ in trained] == [-9] * 4, trained
    safe = wait_for("protection", lambda: protected(idle_four.nodes[2]))
    lost = {1: "rebuild.before_window=kill@1", 3: "rebuild.before_done=kill@1"}
    for i, failpoint in lost.items():
        idle_four.lose(i)
        idle_four.start(i, failpoint, more=CODING)
    supervise(idle_four, list(lost))
    shown = idle_four.run(node_ranks.show, list(NODES), tmp_path / "second", 77)
    died_once(idle_four, list(lost))
    require_restored(trained, shown, safe)


def test_a_replacement_dies_while_it_protects_again(
    idle_four: Cluster, tmp_path: pathlib.Path
) -> None:
    """I3: repair is protection of what came back; it is done in the end, and two others may go."""
    for i in NODES:
        idle_four.start(i, more=CODING)
    trained = train(idle_four, tmp_path / "first", 4, 1)
    safe = wait_for("protection", lambda: protected(idle_four.nodes[2]))
    lose(idle_four, 0)
    idle_four.lose(1)
    idle_four.start(1, "pull.before_done=kill@1", more=CODING)
    supervise(idle_four, [1])
    again = train(idle_four, tmp_path / "second", safe + 6, 50)
    assert [code for code, _ in again] == [-9] * 4, again
    died_once(idle_four, [1])
    second = wait_for("protection", lambda: protected(idle_four.nodes[3], safe))
    lose(idle_four, 2)
    lose(idle_four, 3)
    shown = idle_four.run(node_ranks.show, list(NODES), tmp_path / "third", 77)
    require_restored(again, shown, second)
