"""Nodes that protect each other: lost for good, with arena and catalog, and rebuilt from the others."""

from __future__ import annotations

import itertools
import pathlib
import re
import urllib.request
from collections.abc import Iterator

import node_ranks
import pytest
from node import Node, wait_for
from support import free_port
from test_nodes import CODING, GATE, Cluster, Outputs, flip

# Stands first in the lines of a node: they go on with its [peer] table.
FABRIC = 'data_plane = "tcp;ofi_rxm"\n'


@pytest.fixture
def idle_four(built: dict[str, str], tmp_path: pathlib.Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, built, 4)
    yield cluster
    cluster.clean()


@pytest.fixture
def four(idle_four: Cluster) -> Cluster:
    for i in range(4):
        idle_four.start(i, more=CODING)
    return idle_four


def lose(cluster: Cluster, i: int) -> None:
    """The node is gone for good; an empty one of another uuid stands at its address."""
    cluster.lose(i)
    cluster.start(i, more=CODING)


def digests(output: str) -> dict[int, str]:
    return {int(step): text for step, text in re.findall(r"^digest (\d+) (\S+)$", output, re.M)}


def protected(node: Node, above: int = 0) -> int | None:
    """Step of the newest snapshot of which all parity is in place, if that is above a step."""
    newest = max((s["step"] for s in node.snapshots() if s["protected"]), default=-1)
    return newest if newest > above else None


def require_restored(trained: Outputs, shown: Outputs, safe: int) -> None:
    """Every rank has bit for bit what it had at one step, not older than "safe"."""
    assert [code for code, _ in shown] == [0] * len(shown), shown
    steps = set()
    for (_, before), (_, after) in zip(trained, shown):
        ((step, text),) = digests(after).items()
        assert step >= safe and digests(before)[step] == text, (step, safe)
        steps.add(step)
    assert len(steps) == 1, steps


def joined(first: Outputs, second: Outputs) -> Outputs:
    """What the ranks said in both: the base of the second start may still be the newest protected
    step when nodes are lost again, and only the first start trained it."""
    return [(code, before + after) for (_, before), (code, after) in zip(first, second)]


def train(cluster: Cluster, store: pathlib.Path, gate: int, seed: int) -> Outputs:
    pathlib.Path(f"{store}.go").touch()
    return cluster.run(node_ranks.main, [0, 1, 2, 3], store, gate, seed, "die")


@pytest.mark.parametrize("lost", list(itertools.combinations(range(4), 2)), ids=str)
def test_any_two_of_four_nodes_may_vanish(
    four: Cluster, tmp_path: pathlib.Path, lost: tuple[int, int]
) -> None:
    """I10, I3, I11: with 2+2 every shard comes back bit for bit, at the newest protected step."""
    before = train(four, tmp_path / "first", 4, 1)
    assert [code for code, _ in before] == [-9] * 4, before
    survivor = four.nodes[next(i for i in range(4) if i not in lost)]
    safe = wait_for("protection", lambda: protected(survivor))
    for i in lost:
        lose(four, i)
    shown = four.run(node_ranks.show, [0, 1, 2, 3], tmp_path / "second", 77)
    require_restored(before, shown, safe)


def test_after_the_loss_of_two_nodes_two_others_may_vanish(
    four: Cluster, tmp_path: pathlib.Path
) -> None:
    """The job goes on from what it got back, under new groups; its margin is full again by itself."""
    before = train(four, tmp_path / "first", 4, 1)
    assert [code for code, _ in before] == [-9] * 4, before
    first = wait_for("protection", lambda: protected(four.nodes[2]))
    lose(four, 0)
    lose(four, 1)
    gate = max(digests(before[0][1])) + 4
    again = train(four, tmp_path / "second", gate, 50)
    assert [code for code, _ in again] == [-9] * 4, again
    second = wait_for("protection", lambda: protected(four.nodes[0], first))
    lose(four, 2)
    lose(four, 3)
    shown = four.run(node_ranks.show, [0, 1, 2, 3], tmp_path / "third", 77)
    require_restored(joined(before, again), shown, second)


def fell_back(cluster: Cluster) -> list[bool]:
    """Of each node: whether a fabric failed it, so that it used the peers' connection."""
    return ["data_plane.fallback" in node.log.read_text() for node in cluster.nodes]


def test_over_a_fabric_lost_nodes_are_rebuilt_by_one_sided_reads(
    idle_four: Cluster, tmp_path: pathlib.Path
) -> None:
    """I10: rows are made and shards are decoded from bytes that libfabric brought, and no others."""
    for i in range(4):
        idle_four.start(i, more=FABRIC + CODING)
    plane = idle_four.nodes[2].json("status")["daemon"]["data_plane"]
    assert plane.startswith("tcp;ofi_rxm at ") and idle_four.address(2) in plane, plane
    before = train(idle_four, tmp_path / "first", 4, 1)
    safe = wait_for("protection", lambda: protected(idle_four.nodes[2]))
    assert fell_back(idle_four) == [False] * 4
    for i in (0, 3):
        idle_four.lose(i)
        idle_four.start(i, more=FABRIC + CODING)
    shown = idle_four.run(node_ranks.show, [0, 1, 2, 3], tmp_path / "second", 77)
    require_restored(before, shown, safe)
    assert not any(fell_back(idle_four)[i] for i in (0, 3))


def test_nodes_with_and_without_a_fabric_protect_each_other(
    idle_four: Cluster, tmp_path: pathlib.Path
) -> None:
    """Where one of two nodes has no fabric, their bytes go over the connection, and the log says so."""
    for i in range(4):
        idle_four.start(i, more=(FABRIC if i < 2 else "") + CODING)
    before = train(idle_four, tmp_path / "first", 4, 1)
    safe = wait_for("protection", lambda: protected(idle_four.nodes[2]))
    assert fell_back(idle_four) == [True, True, False, False]
    lose(idle_four, 1)
    lose(idle_four, 3)
    shown = idle_four.run(node_ranks.show, [0, 1, 2, 3], tmp_path / "second", 77)
    require_restored(before, shown, safe)


@pytest.mark.parametrize("plane", ["", FABRIC], ids=["connection", "fabric"])
def test_a_rotten_shard_does_not_stop_protection(
    idle_four: Cluster, tmp_path: pathlib.Path, plane: str
) -> None:
    """I5, L: whoever reads it for its parity finds it, its holder puts it aside, and what was trained
    later is protected."""
    for i in range(4):
        idle_four.start(
            i,
            "protect.before_window=error:1000000;rebuild.before_window=error:1000000",
            plane + CODING,
        )
    training = idle_four.run_gated([0, 1, 2, 3], tmp_path / "first", GATE)
    training.arrived()
    assert protected(idle_four.nodes[2]) is None
    assert any([flip(p, image=True) for p in (idle_four.nodes[1].arena / "slots").iterdir()])
    for i in range(4):
        idle_four.nodes[i].kill()
        idle_four.start(i, more=plane + CODING)
    log = idle_four.nodes[1].log
    wait_for("a reader that finds it", lambda: "slot.poisoned" in log.read_text() or None)
    training.go_on()
    wait_for("protection", lambda: protected(idle_four.nodes[2], GATE))
    training.end()


def told(node: Node) -> dict[str, float]:
    """Of the job, by metric."""
    address = node.json("status")["daemon"]["metrics_address"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(r'^(\w+)\{job="pair"\} (\S+)$', text, re.M)
    return {name: float(value) for name, value in found}


def test_metrics_of_every_node_tell_how_far_the_job_is_safe(
    four: Cluster, tmp_path: pathlib.Path
) -> None:
    """I3: protected is the job's, not the node's; an alert may ask any of them."""
    for node in four.nodes:
        node.kill()
        node.start(metrics=f"127.0.0.1:{free_port()}")
    training = four.run_gated([0, 1, 2, 3], tmp_path / "first", GATE)
    training.arrived()

    def safe(node: Node) -> float | None:
        now = told(node)
        step = now.get("holdfast_protected_step")
        whole = step == now.get("holdfast_complete_step") and now.get("holdfast_margin") == 2
        return step if whole else None

    # Nothing is trained meanwhile, so that all come to tell of the same step.
    steps = {wait_for("the metrics", lambda: safe(node)) for node in four.nodes}
    assert len(steps) == 1 and steps.pop() > 0
    training.go_on()
    training.end()
