"""The network fails while a snapshot is being protected and while a lost node is being rebuilt.
Needs root (netns.py)."""

from __future__ import annotations

import pathlib
import signal
from collections.abc import Iterator

import pytest
from net_nodes import (
    EVERYWHERE, SOON, NetCluster, Training, held, judge, namespaces, protected, restore,
)
from node import signal_process, wait_for

PROMPT = 20.0
__all__ = ["namespaces"]  # a fixture


@pytest.fixture
def idle(
    namespaces: None, built: dict[str, str], tmp_path: pathlib.Path
) -> Iterator[NetCluster]:
    nodes = NetCluster(tmp_path, built)
    try:
        yield nodes
    finally:
        nodes.clean()


def train_until_protected(nodes: NetCluster, folder: pathlib.Path) -> int:
    """A first start, killed again; the step that is safe."""
    training = Training(nodes, EVERYWHERE, folder)
    training.restored()
    safe = wait_for("protection", lambda: protected(nodes.nodes[0]), SOON)
    training.kill()
    return safe


@pytest.mark.parametrize(
    ("reached", "at"),
    [("protect.before_window", "protect.before_encode"), ("pull.before_window", "pull.before_done")],
    ids=["of the maker", "of an owner"],
)
def test_a_link_that_is_cut_while_a_snapshot_is_protected(
    idle: NetCluster, tmp_path: pathlib.Path, reached: str, at: str
) -> None:
    """I3, I10, L: nothing half made counts; it is protected when the link is back."""
    mark, go = tmp_path / "reached", tmp_path / "go"
    for i in EVERYWHERE:
        idle.start(i, f"{reached}=mark:{mark}@1;{at}=wait:{go}@1" if i == 1 else "")
    training = Training(idle, EVERYWHERE, tmp_path / "ranks")
    wait_for("the middle of it", lambda: mark.exists() or None, SOON)
    idle.network.isolate(1, "link")
    go.touch()
    training.goes_on()
    assert all(protected(node) is None for node in idle.nodes)
    idle.network.heal()
    # Sooner than a maker's patience with an owner that does not come for its row (30 s).
    wait_for("the snapshot that was cut short", lambda: protected(idle.nodes[0]), PROMPT)
    step = training.steps()
    safe = [wait_for("protection", lambda: protected(node, step), SOON) for node in idle.nodes]
    training.kill()
    idle.lose(3)
    idle.start(3)
    restore(idle, EVERYWHERE, tmp_path / "ranks", min(safe))


class Rebuild:
    """Node 3 is lost; its replacement stands still between two reads of what it decodes."""

    def __init__(self, nodes: NetCluster, folder: pathlib.Path) -> None:
        for i in EVERYWHERE:
            nodes.start(i)
        self.safe = train_until_protected(nodes, folder)
        self._go = folder / "go"
        nodes.lose(3)
        nodes.start(3, f"rebuild.before_window=wait:{self._go}@2")
        self.restart = Training(nodes, EVERYWHERE, folder)
        wait_for("the middle of it", lambda: held(nodes.nodes[3]), SOON)

    def go_on(self) -> None:
        self._go.touch()


@pytest.mark.parametrize("cut", [1, 2])
def test_a_link_that_is_cut_while_a_lost_node_is_rebuilt(
    idle: NetCluster, tmp_path: pathlib.Path, cut: int
) -> None:
    """I5, I10, I11: the bytes come from the others."""
    rebuild = Rebuild(idle, tmp_path / "ranks")
    idle.network.part(3, cut)
    rebuild.go_on()
    rebuild.restart.restored()
    rebuild.restart.judge(rebuild.safe)
    idle.network.heal()
    step = rebuild.restart.steps()
    wait_for("protection", lambda: protected(idle.nodes[0], step), SOON)
    rebuild.restart.kill()


def test_a_daemon_that_hangs_while_a_lost_node_is_rebuilt(
    idle: NetCluster, tmp_path: pathlib.Path
) -> None:
    """I10, I11: its bytes come from others; its own rank alone waits for it, and all have one step."""
    rebuild = Rebuild(idle, tmp_path / "ranks")
    signal_process(idle.nodes[2].pid, signal.SIGSTOP)
    rebuild.go_on()

    def rebuilt() -> bool | None:
        shards = [shard for s in idle.nodes[3].snapshots() for shard in s["shards"]]
        return True if any(s["rank"] == 3 and s["state"] == "sealed" for s in shards) else None

    try:
        wait_for("the shard from others", rebuilt, SOON)
    finally:
        signal_process(idle.nodes[2].pid, signal.SIGCONT)
    rebuild.restart.restored()
    rebuild.restart.judge(rebuild.safe)
    rebuild.restart.kill()
