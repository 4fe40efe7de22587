"""Random faults on a job of four nodes with 2+2 coding, and a checker of what had been promised.

A training with a rank on each node runs on and on; between two looks at it something is done to it:
a daemon killed or stopped for a while, a rank killed, one or two nodes lost for good.  Checked after
each restore, for every rank:

  the bytes    the state is, bit for bit, what that step had whenever it was trained (the training is
               deterministic, so a step has one digest over the whole run)
  one step     all ranks have the same one
  I3, I10      it is not older than what was protected (a node was lost) or complete (none was) by
               what the CLI had said before the fault

    python tests/python/chaos.py --faults 1000 --seed 7        (or: make chaos FAULTS=1000)
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import node_ranks
from node import NoAnswer, signal_process, wait_for
from processes import run_all
from test_nodes import Cluster

COUNT = 4
#: Bytes move over the peers' connection with even seeds, over a fabric with odd ones.  Half of the
#: model is frozen with the second and the third of each four.
PLANES = ("tls", "tcp;ofi_rxm")
CONFIG = 'data_plane = "{plane}"\n[coding]\ndata = 2\nparity = 2\n'
LONGEST_START = 120.0


class Broken(AssertionError):
    """A promise was not kept."""


@dataclasses.dataclass
class Promise:
    """What the next restore must not fall behind."""

    complete: int = 0
    protected: int = 0


def judge(
    restored: list[tuple[int, str]], trained: list[list[tuple[int, str]]], least: int
) -> int:
    """Of each rank: the step and digest that it restored, and those of all that it ever trained.
    The step, if it is what was promised."""
    steps = {step for step, _ in restored}
    if len(steps) != 1:
        raise Broken(f"the ranks restored the steps {sorted(steps)}")
    (step,) = steps
    if step < least:
        raise Broken(f"step {least} had been promised, {step} came back")
    for rank, (_, digest) in enumerate(restored):
        seen = {d for s, d in trained[rank] if s == step}
        if seen != {digest}:
            raise Broken(f"rank {rank}: step {step} came back as {digest}, it was {sorted(seen)}")
    return step


class Chaos:
    def __init__(self, folder: pathlib.Path, built: dict[str, str], seed: int) -> None:
        self._random = random.Random(seed)
        self._config = CONFIG.format(plane=PLANES[seed % 2])
        self._frozen = seed % 4 in (2, 3)
        self._folder = folder / "ranks"
        self._folder.mkdir()
        self._cluster = Cluster(folder, built, COUNT)
        self._starts = 0
        self._base = 0  # the step that the present start began from
        self._outputs: list[list[tuple[int | None, str]]] = []
        self._job: threading.Thread | None = None
        self.log: list[str] = []
        for i in range(COUNT):
            self._cluster.start(i, more=self._config)
            self._cluster.nodes[i].supervise()

    # ---- the job ----

    def _start(self) -> None:
        self._starts += 1
        store = str(self._folder / f"store-{self._starts}")
        more = (store, str(self._folder), 90.0, self._frozen)
        calls = [(node_ranks.go_on, (rank, COUNT, *more)) for rank in range(COUNT)]
        environments = [node.environment for node in self._cluster.nodes]
        self._outputs = []

        def run() -> None:
            self._outputs.append(run_all(calls, 86_400.0, environments))

        self._job = threading.Thread(target=run)
        self._job.start()

    def _lines(self, name: str, rank: int) -> list[tuple[int, str]]:
        path = self._folder / f"{name}.{rank}"
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1].splitlines()
        return [(int(step), digest) for step, digest in (line.split() for line in whole)]

    def _running(self) -> bool:
        return self._job is not None and self._job.is_alive()

    def _started(self) -> bool | None:
        if not self._running():
            raise Broken(f"the job ended by itself: {self._outputs}")
        there = all(len(self._lines("restored", r)) == self._starts for r in range(COUNT))
        return True if there else None

    def _kill_ranks(self) -> None:
        for node in self._cluster.nodes:
            job = node.job()
            for rank in job["ranks"] if job else []:
                if rank["connected"]:
                    signal_process(rank["pid"], signal.SIGKILL)

    def _end(self) -> None:
        assert self._job is not None
        deadline = time.monotonic() + 60
        while self._running() and time.monotonic() < deadline:
            self._kill_ranks()
            self._job.join(0.2)
        if self._running():
            raise Broken("ranks outlived their kill")

    def _restart(self, promise: Promise, lost: bool) -> None:
        self._end()
        self._start()
        wait_for("the restore of all ranks", self._started, LONGEST_START)
        least = promise.protected if lost else promise.complete
        step = judge(
            [self._lines("restored", rank)[-1] for rank in range(COUNT)],
            [self._lines("digests", rank) for rank in range(COUNT)],
            least,
        )
        self._base = step
        self._say(f"restored {step}, promised {least}")

    # ---- what is seen ----

    def _promise(self) -> Promise:
        """The most that any daemon says now of the present history: of what this start took, and of
        what it began from.  What was newer in an older start was given up when that was chosen."""
        best = Promise(complete=self._base)
        jobs = [(node, node.job()) for node in self._cluster.nodes]
        start = max((job["incarnation"] for _, job in jobs if job), default=0)
        for node, _ in jobs:
            try:
                shown = node.snapshots()
            except NoAnswer:
                continue
            for snapshot in shown:
                if snapshot["incarnation"] != start and snapshot["step"] != self._base:
                    continue
                if snapshot["state"] in ("complete", "durable"):
                    best.complete = max(best.complete, snapshot["step"])
                if snapshot["protected"]:
                    best.protected = max(best.protected, snapshot["step"])
        return best

    def _safe(self) -> bool | None:
        """Whether two nodes may go: the margin, as rank 0's node has it."""
        if not self._running():
            raise Broken(f"the job ended by itself: {self._outputs}")
        job = self._cluster.nodes[0].job()
        return True if job and job.get("protected") and job.get("margin") == 2 else None

    def _say(self, text: str) -> None:
        self.log.append(f"{len(self.log)}: {text}")

    # ---- faults ----

    def _kill_daemon(self) -> None:
        i = self._random.randrange(COUNT)
        self._say(f"kill daemon {i}")
        signal_process(self._cluster.nodes[i].pid, signal.SIGKILL)

    def _hang_daemon(self) -> None:
        i = self._random.randrange(COUNT)
        pause = self._random.uniform(0.2, 4.0)
        self._say(f"stop daemon {i} for {pause:.1f} s")
        pid = self._cluster.nodes[i].pid
        signal_process(pid, signal.SIGSTOP)
        time.sleep(pause)
        signal_process(pid, signal.SIGCONT)

    def _kill_rank(self) -> None:
        promise = self._promise()
        rank = self._random.randrange(COUNT)
        self._say(f"kill rank {rank}; {promise}")
        job = self._cluster.nodes[rank].job()
        for found in job["ranks"] if job else []:
            signal_process(found["pid"], signal.SIGKILL)
        self._restart(promise, lost=False)

    def _lose_nodes(self) -> None:
        wait_for("margin 2", self._safe, 180.0)
        promise = self._promise()
        lost = self._random.sample(range(COUNT), self._random.choice([1, 2, 2]))
        self._say(f"lose nodes {lost}; {promise}")
        for i in lost:
            self._cluster.nodes[i].unsupervise()
        for i in lost:
            self._cluster.lose(i)
        self._end()
        for i in lost:
            self._cluster.start(i, more=self._config)
            self._cluster.nodes[i].supervise()
        self._restart(promise, lost=True)

    def run(self, faults: int, seconds: float) -> int:
        """Until so many faults are done, or so long; how many there were."""
        deadline = time.monotonic() + seconds
        self._start()
        wait_for("the first start", self._started, LONGEST_START)
        kinds: list[Callable[[], None]] = [
            self._kill_daemon, self._kill_daemon, self._hang_daemon, self._kill_rank,
            self._lose_nodes, self._lose_nodes,
        ]  # fmt: skip
        done = 0
        while done < faults and time.monotonic() < deadline:
            time.sleep(self._random.uniform(0.0, 2.0))
            self._random.choice(kinds)()
            done += 1
        self._kill_rank()
        return done + 1

    def clean(self) -> None:
        self._kill_ranks()
        if self._job is not None:
            self._job.join(60)
        self._cluster.clean()


def play(folder: pathlib.Path, built: dict[str, str], seed: int, faults: int, seconds: float) -> int:
    """Raises Broken, with what was done until then."""
    chaos = Chaos(folder, built, seed)
    try:
        return chaos.run(faults, seconds)
    except Exception as error:
        story = "\n".join(chaos.log)
        raise Broken(f"seed {seed}: {error}\nwhat was done:\n{story}") from error
    finally:
        chaos.clean()


def main() -> int:
    import native

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=86_400.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--subnet", default=Cluster.subnet,
                        help="of the daemons, so that several runs can be at it at one time")
    options = parser.parse_args()
    Cluster.subnet = options.subnet
    folder = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-chaos-"))
    started = time.monotonic()
    try:
        done = play(folder, native.environment(folder), options.seed, options.faults, options.seconds)
    except Broken as error:
        print(f"{error}\nkept: {folder}")
        return 1
    shutil.rmtree(folder)
    print(f"{done} faults in {time.monotonic() - started:.0f} s, every promise was kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
