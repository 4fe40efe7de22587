"""Daemons whose network fails while a job trains, each in a network namespace of its own: partitions,
pulled cables, hung peers, loss and delay.  Needs root (netns.py).

All cases of a fault while training happen to one job, one after the other: what a fault leaves behind
meets the next.
"""

from __future__ import annotations

import dataclasses
import pathlib
import signal
from collections.abc import Iterator

import netns
import pytest
from net_nodes import (
    COUNT, EVERYWHERE, SOON, Complaints, NetCluster, Training, connected, namespaces, protected,
    restore,
)
from node import DemoError, signal_process, wait_for

#: What tc is told; the worst first.
BAD_LINKS = {
    "loss and delay": "netem loss 5% delay 50ms 20ms",
    "a narrow link": "tbf rate 40mbit burst 64kbit latency 50ms",
}
__all__ = ["namespaces"]  # a fixture


@dataclasses.dataclass
class Job:
    nodes: NetCluster
    folder: pathlib.Path
    training: Training
    uuids: list[str]


@pytest.fixture(scope="module")
def job(
    namespaces: None, built: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Job]:
    """A job on four nodes, protected with 2+2, that trains on and on."""
    folder = tmp_path_factory.mktemp("netns")
    nodes = NetCluster(folder, built)
    try:
        for i in EVERYWHERE:
            nodes.start(i)
        training = Training(nodes, EVERYWHERE, folder / "ranks")
        training.restored()
        yield Job(nodes, folder / "ranks", training, [nodes.uuid(i) for i in EVERYWHERE])
    finally:
        nodes.kill_ranks(EVERYWHERE)
        nodes.clean()


class Blame:
    """Nodes that have to say who is silent, from now on."""

    def __init__(self, job: Job, blamed: dict[int, list[int]]) -> None:
        """blamed: those that each may name."""
        self._job = job
        self._blamed = {i: [job.uuids[c] for c in culprits] for i, culprits in blamed.items()}
        self._missed = {i: Complaints.of(job.nodes.nodes[i]).missed for i in blamed}

    def wait(self) -> None:
        """Both in general, and for the steps that its rank skips."""
        for i, uuids in self._blamed.items():

            def said() -> bool | None:
                now = Complaints.of(self._job.nodes.nodes[i])
                return True if now.missed > self._missed[i] and now.name(uuids) else None

            try:
                wait_for("the name", said, 20.0)
            except DemoError:
                pytest.fail(f"{i} says {Complaints.of(self._job.nodes.nodes[i])}, not {uuids}")


def require_heals(job: Job, seconds: float = SOON) -> None:
    """L: what is taken from now on is protected, on every node's word, and training goes on."""
    step = job.training.steps()
    for node in job.nodes.nodes:
        wait_for("protection", lambda: protected(node, step), seconds)
    job.training.goes_on()


@pytest.mark.parametrize(
    ("which", "how"),
    [(3, "both"), (3, "out"), (3, "in"), (0, "both"), (0, "link")],
    ids=["a member", "out of a member", "into a member", "the coordinator", "its link"],
)
def test_an_isolated_node_is_named_stops_nothing_and_comes_back(
    job: Job, which: int, how: str
) -> None:
    """I1, I3, L: without it nothing becomes complete, what was protected stays, training goes on
    everywhere, each node says who is silent; after it, new snapshots are protected by themselves."""
    others = [i for i in EVERYWHERE if i != which]
    safe = wait_for("protection", lambda: protected(job.nodes.nodes[0]), SOON)
    blame = Blame(job, {i: others if i == which else [which] for i in EVERYWHERE})
    job.nodes.network.isolate(which, how)
    try:
        for i, left in {0: COUNT - 2, which: 0}.items():
            wait_for("the loss", lambda: connected(job.nodes.nodes[i]) == left or None, SOON)
        job.training.goes_on()
        blame.wait()
        complete = [node.newest_complete() for node in job.nodes.nodes]
        job.training.goes_on(10)
        assert [node.newest_complete() for node in job.nodes.nodes] == complete
        for node in job.nodes.nodes:
            assert any(s["step"] >= safe and s["parity_rows"] for s in node.snapshots())
    finally:
        job.nodes.network.heal()
    require_heals(job)


@pytest.mark.parametrize("which", [3, 0], ids=["of a member", "of the coordinator"])
def test_a_hung_daemon_is_named_stops_nothing_and_comes_back(job: Job, which: int) -> None:
    """I3, L: neither its own rank nor the others wait for it."""
    wait_for("protection", lambda: protected(job.nodes.nodes[0]), SOON)
    blame = Blame(job, {i: [which] for i in EVERYWHERE if i != which})
    signal_process(job.nodes.nodes[which].pid, signal.SIGSTOP)
    try:
        job.training.goes_on()
        blame.wait()
    finally:
        signal_process(job.nodes.nodes[which].pid, signal.SIGCONT)
    require_heals(job)


@pytest.mark.parametrize("qdisc", BAD_LINKS.values(), ids=BAD_LINKS.keys())
def test_a_bad_link_delays_and_changes_nothing(job: Job, qdisc: str) -> None:
    """I5, L: of two nodes; snapshots are protected all the same."""
    words = qdisc.split()
    refused = netns.shaping_refused(*words)
    if refused is not None:
        pytest.skip(refused)
    try:
        for i in (1, 3):
            job.nodes.network.shape(i, *words)
        require_heals(job, 120.0)
    finally:
        job.nodes.network.heal()


def test_after_all_faults_the_job_restores_what_was_protected(job: Job) -> None:
    """I3, I8, I10, I11: one step on all ranks, bit for bit, though a node is lost for good, and over
    the worst link that this kernel can make."""
    safe = wait_for("protection", lambda: protected(job.nodes.nodes[0]), SOON)
    job.training.kill()
    job.nodes.lose(2)
    job.nodes.start(2)
    possible = [q.split() for q in BAD_LINKS.values() if netns.shaping_refused(*q.split()) is None]
    for words in possible[:1]:
        job.nodes.network.shape(3, *words)
    restore(job.nodes, EVERYWHERE, job.folder, safe)
