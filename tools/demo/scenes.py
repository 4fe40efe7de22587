"""The parts of the demo with one node.  Each kills something for real and says what came back from where."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from flip import flip_in_arena, flip_on_tier
from node import DemoError, Node, ShardKey, wait_for
from training import DURABLE_EVERY, STEPS, Training

if TYPE_CHECKING:
    from cluster import Cluster
    from nodes_training import NodesTraining


class Run(Protocol):
    """A training that has ended, or will."""

    def digests(self) -> dict[str, str]: ...


@dataclasses.dataclass
class Row:
    """One line of the table."""

    part: str
    killed: str
    when: str
    came_back: str
    resumed: str
    training: Run
    identical: str = ""
    expected: dict[str, str] | None = None  # of an undisturbed run of its own kind; None: the demo's


@dataclasses.dataclass
class Scene:
    """What a part needs: a folder, a node of its own, and a place to show what it saw."""

    folder: pathlib.Path
    node: Node
    show: Callable[[str], None]
    trainings: list[Training] = dataclasses.field(default_factory=list)
    # Of the part with several nodes.
    runs: list[NodesTraining] = dataclasses.field(default_factory=list)
    clusters: list[Cluster] = dataclasses.field(default_factory=list)

    def train(self, name: str, **plan: object) -> Training:
        self.trainings.append(Training(self.node, self.folder / name, plan))
        return self.trainings[-1]

    def clean(self) -> None:
        for training in self.trainings:
            training.clean()
        for run in self.runs:
            run.end()
        for cluster in self.clusters:
            cluster.clean()
        self.node.clean()


def require(truth: bool, what: str) -> None:
    if not truth:
        raise DemoError(what)


def reference(scene: Scene) -> Training:
    """The run that nobody disturbs."""
    scene.node.start()
    training = scene.train("run")
    training.finish()
    require(training.resumed() == [], "the reference run must not resume anything")
    return training


def trainer_killed(scene: Scene) -> list[Row]:
    """kill -9 of a rank in the middle of a copy; torchrun restarts; memory of the node has it."""
    scene.node.start()
    fault = {"rank": 1, "restart": 0, "arm": "client.copy.chunk=kill@250"}
    training = scene.train("run", failpoints=fault)
    training.finish()
    resumed = training.resumed()
    require(len(resumed) == 1, f"one restart was planned, {len(resumed)} happened")
    step, source = resumed[0]
    require(source == "arena", f"it came back from {source}")
    torn = [
        s["step"]
        for s in scene.node.snapshots()
        if s["incarnation"] == 1 and s["state"] in ("durable", "complete", "sealed") and s["step"] > step
    ]
    require(not torn, f"steps {torn} were complete and newer than {step}")
    return [
        Row("1", "trainer, rank 1 (kill -9)", f"while it copied step {step + 1}",
            "both ranks, by torchrun", f"{step} from the node's memory", training)
    ]


class SealWitness:
    """What was sealed when the daemon died, by what the ranks were told and by its folders, and
    what the next daemon finds.  The ranks stand still meanwhile, so that nothing is retired."""

    def __init__(self, node: Node, training: Training) -> None:
        self._node = node
        self._training = training
        self.told: dict[int, int] = {}
        self.at_rest: set[ShardKey] = set()
        self.found: set[ShardKey] = set()

    def died(self) -> None:
        self._training.freeze(True)
        self.told = self._training.told_sealed()
        self.at_rest = self._node.at_rest()

    def back(self) -> None:
        self.found = self._node.sealed()
        self._training.freeze(False)

    def judge(self) -> None:
        for rank, step in self.told.items():
            newest = max((s.step for s in self.at_rest if s.rank == rank), default=-1)
            require(newest >= step, f"rank {rank} was told that step {step} is sealed, the dead "
                                    f"daemon's folders have {newest}")
        lost = self.at_rest - self.found
        require(bool(self.at_rest) and not lost, f"sealed and lost by the kill in a seal: {lost}")


def daemon_killed(scene: Scene) -> list[Row]:
    """kill -9 of the daemon between two snapshots, then during a seal; training never stops."""
    node = scene.node
    node.start()
    training = scene.train("run", pauses=[12])
    training.paused(12)
    wait_for("step 12 to be complete", lambda: node.newest_complete() == 12 or None)
    pids = training.pids()
    before = node.sealed()
    node.kill()
    at_rest = node.at_rest()
    require(before <= at_rest, f"the dead daemon's folders lack {before - at_rest}")
    # The next one dies by itself in a seal, after the bytes are final and before the record is.
    node.start(failpoints="seal.before_record=kill@21")
    after = node.sealed()
    require(before <= after, f"lost by the first kill: {before - after}")
    scene.show(f"sealed before the kill: {len(before)} shards; after: {len(after)}, none lost")
    first = Row("2a", "holdfastd (kill -9)", "between the snapshots 12 and 13",
                f"{len(after)} of {len(before)} sealed shards", "never stopped", training)

    witness = SealWitness(node, training)
    node.supervise(witness.died, witness.back)
    training.go_on(12)
    restarts = wait_for("the death of the daemon in a seal", lambda: node.restarts or None)
    witness.judge()
    scene.show(f"sealed when it died in a seal: {len(witness.at_rest)} shards; found by the next "
               f"daemon: {len(witness.found)}, none lost")
    wait_for("a snapshot sealed by the next daemon",
             lambda: node.newest_complete() > 12 or None)
    training.finish()
    node.unsupervise()
    job = node.job()
    require(job is not None and job["incarnation"] == 1, "the job was started a second time")
    require(training.resumed() == [], "the training was restarted")
    require(training.pids() == pids, f"other processes: {training.pids()} instead of {pids}")
    require(restarts == 1, f"the daemon was started {restarts} times")
    newest = node.newest_complete()
    require(newest == STEPS, f"the last complete snapshot is {newest}, not {STEPS}")
    second = Row("2b", "holdfastd (kill -9)", "in the 21st seal after that, before its record",
                 "supervisor; trainers reconnected", "never stopped, same processes", training)
    return [first, second]


def train_until(scene: Scene, name: str, last: int) -> tuple[Training, int]:
    """A training that stands still after step "last", and its newest durable step, an older one.

    All ranks stop after a step that is due first: it is durable before they go on, and nothing is
    due again before they stop for good.
    """
    due = last - last % DURABLE_EVERY
    training = scene.train(name, pauses=[due, last])
    training.paused(due)
    durable = wait_for("a durable snapshot", lambda: _at_least(due, scene.node.durable()))
    training.go_on(due)
    training.paused(last)
    wait_for(f"step {last} to be complete", lambda: scene.node.newest_complete() == last or None)
    still = scene.node.durable()[0]
    require(still == durable, f"step {still} became durable though nothing was due")
    return training, durable


def _at_least(step: int, durable: list[int]) -> int | None:
    return durable[0] if durable and durable[0] >= step else None


def memory_lost(scene: Scene) -> list[Row]:
    """Everything in memory is gone; the newest durable snapshot is on the persistent tier."""
    node = scene.node
    node.start()
    first, durable = train_until(scene, "before", 27)
    first.kill()
    node.stop()
    node.lose_memory()
    node.start()
    second = scene.train("after")
    second.finish()
    require(second.resumed() == [(durable, f"persistent {node.root}")],
            f"resumed {second.resumed()}, step {durable} was the newest durable one")
    return [
        Row("3", "all ranks, daemon, arena", f"after step 27, step {durable} durable",
            "the persistent tier", f"{durable} from the persistent tier", second)
    ]


def bytes_flipped(scene: Scene) -> list[Row]:
    """One bit in a sealed slot, then one in a durable file: found, reported, passed over."""
    node = scene.node
    node.start()
    first, durable = train_until(scene, "first", 25)
    first.kill()
    scene.show(f"flipped in the arena: {flip_in_arena(node.arena, 25)}")
    second = scene.train("second")
    second.finish()
    require(second.resumed() == [(durable, f"persistent {node.root}")],
            f"resumed {second.resumed()}, step {durable} was the newest durable one")
    job = node.job()
    require(job is not None and any("step 25" in line for line in job["restore_log"]),
            "the daemon does not say that it passed over step 25")
    scene.show("holdfast status:\n" + node.cli("status").stdout)

    # The run is over; its last step is durable.  Another start of the job finds only that.
    node.stop()
    node.lose_memory()
    newest, fallback = node.durable()[:2]
    require(newest == STEPS, f"the newest durable step is {newest}, not the last, {STEPS}")
    scene.show(f"flipped on the persistent tier: {flip_on_tier(node.root, newest)}")
    verified = node.cli("verify", "--root", str(node.root))
    require(verified.returncode == 3, f"verify ended with {verified.returncode}, not 3 (data bad)")
    scene.show("holdfast verify --root ...:\n" + verified.stdout)
    node.start()
    third = scene.train("third")
    third.finish()
    require(third.resumed() == [(fallback, f"persistent {node.root}")],
            f"resumed {third.resumed()}, step {fallback} was durable before step {newest}")
    listed = node.cli("ls").stdout.splitlines()
    scene.show("holdfast ls:\n" + "\n".join(listed[:8] + ["..."]))
    return [
        Row("4a", "all ranks; a bit in the arena", "in step 25, the newest",
            "found by its digest, passed over", f"{durable} from the persistent tier", second),
        Row("4b", "everything in memory; a bit on disk", f"in step {newest}, the newest durable",
            "found by its digest, passed over", f"{fallback} from the persistent tier", third),
    ]
