"""The network fails while a snapshot is being protected, while a lost node is being rebuilt, and
between two starts of a job.  Needs root (netns.py)."""

from __future__ import annotations

import pathlib
import signal
from collections.abc import Iterator

import net_ranks
import node_ranks
import pytest
from net_nodes import (
    EVERYWHERE, SOON, NetCluster, Training, held, judge, lines, namespaces, protected, restore,
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
    """Node 3 is lost; its replacement stands still between two segments that it takes.
    failpoints: of node 0.  limit: of each rank's restore, in seconds."""

    def __init__(
        self, nodes: NetCluster, folder: pathlib.Path, failpoints: str = "", limit: float = 60.0
    ) -> None:
        for i in EVERYWHERE:
            nodes.start(i, failpoints if i == 0 else "")
        self.safe = train_until_protected(nodes, folder)
        self._go = folder / "go"
        nodes.lose(3)
        nodes.start(3, f"pull.before_window=wait:{self._go}@2")
        self.restart = Training(nodes, EVERYWHERE, folder, node_ranks.go_on, limit)
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
    idle.wait = "15s"  # it hangs for as long as the others take, and that much is waited for the lost one
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


def test_one_survivor_in_reach_decodes_with_the_others(
    idle: NetCluster, tmp_path: pathlib.Path
) -> None:
    """I5, I11: k of them need not be in reach of the replacement."""
    rebuild = Rebuild(idle, tmp_path / "ranks")
    for cut in (1, 2):
        idle.network.part(3, cut)
    rebuild.go_on()
    rebuild.restart.restored()
    rebuild.restart.judge(rebuild.safe)
    rebuild.restart.kill()


def test_too_few_sources_are_an_error_in_time_and_nothing_is_lost(
    idle: NetCluster, tmp_path: pathlib.Path
) -> None:
    """I11, R: all ranks are told what is missing and which nodes had it; later it is there."""
    # Nor does the one that is in reach decode.
    rebuild = Rebuild(idle, tmp_path / "ranks", "share.before_window=error:1000000", 20.0)
    for cut in (1, 2):
        idle.network.part(3, cut)
    rebuild.go_on()
    outputs = rebuild.restart.join()
    assert [code for code, _ in outputs] == [1] * 4, outputs
    for _, output in outputs:
        assert "rank 3" in output, output
        assert all(idle.uuid(cut) in output for cut in (1, 2)), output
    idle.network.heal()
    restore(idle, EVERYWHERE, tmp_path / "ranks", rebuild.safe)


class TestOldStart:
    """The node of rank 0 is cut off with its daemon and its rank alive; the job starts again without
    it, on another one; then the node is back."""

    @pytest.fixture
    def five(
        self, namespaces: None, built: dict[str, str], tmp_path: pathlib.Path
    ) -> Iterator[NetCluster]:
        nodes = NetCluster(tmp_path, built, 5)
        try:
            yield nodes
        finally:
            nodes.clean()

    def test_it_publishes_deletes_and_overwrites_nothing(
        self, five: NetCluster, tmp_path: pathlib.Path
    ) -> None:
        """I8, I4, I6: its publish was under way, and it is told that it is fenced."""
        root, mark, go = tmp_path / "root", tmp_path / "reached", tmp_path / "go"
        root.mkdir()
        patient = '[flush]\ntier_timeout = "5m"\n'  # its publish stands still until "go"
        third = f"flush.before_publish=mark:{mark}@3;publish.before_manifest=wait:{go}@3"
        for i in range(5):
            five.start(i, third if i == 0 else "", more=patient)
        old = Start(five, EVERYWHERE, tmp_path / "old", root)
        wait_for("two durable snapshots", lambda: len(durable(five, root, 1)) >= 2 or None, SOON)
        # Files of all ranks are not enough: cut off before they told it, it never publishes them.
        wait_for("the publish of a third", lambda: mark.exists() or None, SOON)
        five.network.isolate(0, "both")
        five.kill_ranks([1, 2, 3])
        new = Start(five, [4, 1, 2, 3], tmp_path / "new", root)
        new.restored()
        restored = [lines(tmp_path / "new", "restored", rank)[-1] for rank in range(4)]
        judge(restored, tmp_path / "old", max(durable(five, root, 1)))
        wait_for("a new durable one", lambda: durable(five, root, 2) or None, SOON)
        before = durable(five, root, 1)
        go.touch()
        wait_for("the refused publish", lambda: refused(five), SOON)
        five.network.heal()
        told = tmp_path / "old" / "fenced.0"
        wait_for("the fence", lambda: told.exists() or None, SOON)
        assert "of this job exists: this one may do nothing any more" in told.read_text()
        step = new.steps()
        for i in (4, 1, 2, 3):
            wait_for("protection", lambda: protected(five.nodes[i], step), SOON)
        assert durable(five, root, 1) <= before
        new.kill()
        old.join()
        verified = five.nodes[1].cli("verify", "--root", str(root))
        assert verified.returncode == 0, verified.stdout + verified.stderr


class Start(Training):
    """One start of a job whose ranks do not wait for each other (net_ranks.alone)."""

    def __init__(
        self, nodes: NetCluster, places: list[int], folder: pathlib.Path, root: pathlib.Path
    ) -> None:
        super().__init__(nodes, places, folder, net_ranks.alone, str(root))


def durable(nodes: NetCluster, root: pathlib.Path, incarnation: int) -> set[int]:
    """Steps that are published there, of one start."""
    return {
        int(s["step"]) for s in nodes.nodes[1].snapshots("--root", str(root))
        if s["incarnation"] == incarnation and s["durable_on"]
    }


def refused(nodes: NetCluster) -> bool | None:
    """Whether the old coordinator says that a newer start stands between it and the root."""
    job = nodes.nodes[0].job()
    assert job is not None
    return True if any("incarnation" in str(tier["last_error"]) for tier in job["tiers"]) else None
