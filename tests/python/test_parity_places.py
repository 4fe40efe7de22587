"""After a loss the job starts again with its ranks on other nodes than before: survivors take in what
was lost, and one node may serve all that is left."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

import node_ranks
import pytest
from node import wait_for
from test_nodes import Cluster, Outputs
from test_parity import protected, require_restored


@dataclasses.dataclass(frozen=True)
class Case:
    """Trained on the first nodes, one rank each; rank r comes back on node places[r]."""

    data: int
    parity: int
    lost: tuple[int, ...]
    places: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.data}+{self.parity} without {self.lost} on {self.places}"

    @property
    def coding(self) -> str:
        return f"[coding]\ndata = {self.data}\nparity = {self.parity}\n"


CASES = [
    Case(1, 1, (1,), (2, 0)),  # what is left of rank 1 is the row of the node that serves it now
    Case(1, 1, (0,), (1, 2)),
    Case(2, 1, (2,), (1, 3, 0)),
    Case(2, 2, (2, 3), (2, 3, 0, 1)),
    Case(2, 2, (0, 3), (1, 0, 3, 2)),
    Case(1, 1, (1,), (0, 0)),  # a job of one node
    Case(1, 1, (), (0, 0)),
    Case(1, 1, (0,), (1, 1)),
]


@pytest.fixture
def nodes(built: dict[str, str], tmp_path: pathlib.Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, built, 4)
    yield cluster
    cluster.clean()


def train(nodes: Cluster, world: int, folder: pathlib.Path) -> Outputs:
    store = folder / "first"
    pathlib.Path(f"{store}.go").touch()
    return nodes.run(node_ranks.main, list(range(world)), store, 4, 1, "die")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ranks_come_back_on_other_nodes(
    nodes: Cluster, tmp_path: pathlib.Path, case: Case
) -> None:
    """I10, I11, R: bit for bit, at the newest protected step, wherever the launcher puts them."""
    for i in range(4):
        nodes.start(i, more=case.coding)
    world = len(case.places)
    trained = train(nodes, world, tmp_path)
    assert [code for code, _ in trained] == [-9] * world, trained
    survivor = next(i for i in range(world) if i not in case.lost)
    safe = wait_for("protection", lambda: protected(nodes.nodes[survivor]))
    for i in case.lost:
        nodes.lose(i)
        nodes.start(i, more=case.coding)
    shown = nodes.run(node_ranks.show, list(case.places), tmp_path / "second", 77)
    require_restored(trained, shown, safe)
