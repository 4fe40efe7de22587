"""The part of the demo with four nodes: any two of them are lost for good, again and again."""

from __future__ import annotations

import pathlib
from typing import Any

from cluster import Cluster
from node import Node, wait_for
from nodes_training import STEPS, NodesTraining
from scenes import Row, Scene, require

NODES = 4
# The first lines go on with what a node needs to be reached.
CONFIG = 'data_plane = ["tcp;ofi_rxm", "tls"]\n[coding]\ndata = 2\nparity = 2\n[restore]\nwait = "5s"\n'
# Every pair; each is lost right after the two others, which were rebuilt from it.
PAIRS = [(0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2)]
# Steps that are trained between two losses, at the least.
APART = 3


def _cluster(scene: Scene, name: str) -> Cluster:
    cluster = Cluster(scene.folder / name, scene.node.arena / name, scene.node.environment, NODES)
    scene.clusters.append(cluster)
    for i in range(NODES):
        cluster.start(i, more=CONFIG)
    return cluster


def protected(node: Node) -> tuple[int, int]:
    """(newest step of which all parity is in place, nodes that its groups may still lose), as this
    node knows it; (-1, 0) where there is none."""
    job: dict[str, Any] = node.job() or {}
    safe = job.get("protected")
    return (safe["step"], job["margin"]) if safe else (-1, 0)


def _story(scene: Scene, cluster: Cluster, i: int) -> None:
    """What node i tells about the cluster."""
    node = cluster.nodes[i]
    listed = node.cli("ls").stdout.splitlines()
    scene.show(f"node {i + 1}: holdfast status\n" + node.cli("status").stdout)
    scene.show(f"node {i + 1}: holdfast ls\n" + "\n".join(listed[:6] + ["..."]))


def _lose(scene: Scene, cluster: Cluster, training: NodesTraining, pair: tuple[int, int],
          above: int) -> int:  # fmt: skip
    """Loses the pair while training runs; the step that was protected by then."""
    survivor = cluster.nodes[next(i for i in range(NODES) if i not in pair)]

    def look() -> int | None:
        training.require_running()
        step, margin = protected(survivor)
        return step if margin == 2 and step >= above else None

    safe = wait_for(f"the protection of step {above} or a later one", look)
    for i in pair:
        training.kill_on(i)
        cluster.lose(i)
    training.end()
    for i in pair:
        cluster.start(i, more=CONFIG)
    return safe


def _reference(scene: Scene) -> dict[str, str]:
    undisturbed = NodesTraining(_cluster(scene, "reference"), scene.folder / "run-0",
                                scene.folder / "digests-0")  # fmt: skip
    scene.runs.append(undisturbed)
    undisturbed.finish()
    require(undisturbed.resumed() is None, "the reference run must not resume anything")
    scene.clusters.pop().clean()
    return undisturbed.digests()


def nodes_lost(scene: Scene) -> list[Row]:
    """Four nodes, 2+2: any two are lost for good while training runs; then two others, six times."""
    expected = _reference(scene)
    cluster = _cluster(scene, "nodes")
    out: pathlib.Path = scene.folder / "digests"
    rows: list[Row] = []

    def launch() -> NodesTraining:
        scene.runs.append(NodesTraining(cluster, scene.folder / f"run-{len(scene.runs)}", out))
        return scene.runs[-1]

    training = launch()
    at = 0
    for pair in PAIRS:
        names = f"nodes {pair[0] + 1} and {pair[1] + 1}"
        safe = _lose(scene, cluster, training, pair, at + APART)
        training = launch()

        def back() -> tuple[int, str] | None:
            training.require_running()
            return training.resumed()

        at, _ = wait_for(f"a restore without {names}", back)
        require(at >= safe, f"step {safe} was protected, the job went on from step {at}")
        scene.show(f"{names} lost; step {safe} was protected; resumed after step {at}")
        if pair == PAIRS[0]:
            _story(scene, cluster, 3)
        rows.append(Row("5", f"{names} (kill -9, arena and catalog deleted)",
                        f"step {safe} protected", "two empty nodes, from the others' memory",
                        f"{at}", training, expected=expected))  # fmt: skip
    training.finish()
    step, margin = wait_for("the protection of the last step",
                            lambda: _last(cluster.nodes[0]))  # fmt: skip
    scene.show(f"the end: step {step} is protected, every group may lose {margin} nodes; bytes moved "
               f"over {cluster.nodes[0].json('status')['daemon']['data_plane']}")
    _story(scene, cluster, 1)
    return rows


def _last(node: Node) -> tuple[int, int] | None:
    step, margin = protected(node)
    return (step, margin) if step == STEPS and margin == 2 else None
