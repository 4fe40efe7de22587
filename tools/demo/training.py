"""One run of the example under torchrun, watched and, where the demo wants it, killed."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from typing import Any

from node import DemoError, Node, alive, signal_process, wait_for

HERE = pathlib.Path(__file__).resolve().parent
WORLD = 2
STEPS = 40
DURABLE_EVERY = 10
JOB = "demo"
RUN_SECONDS = 150.0


def digests_in(folder: pathlib.Path, world: int) -> dict[str, str]:
    """What the example left there, by rank and name."""
    result: dict[str, str] = {}
    for rank in range(world):
        part = json.loads((folder / f"rank-{rank}.json").read_text())
        result.update({f"rank {rank} {name}": value for name, value in part.items()})
    return result


def restores_in(output: str) -> list[tuple[int, str]]:
    """(step, source) of each restore that the example printed, in order."""
    found = re.findall(r"resumed after step (\d+) from (.*)", output)
    return [(int(step), source) for step, source in found]


class Training:
    """torchrun with two ranks.  Output goes to a file that can be read while it runs."""

    def __init__(
        self, node: Node, folder: pathlib.Path, plan: dict[str, Any] | None = None
    ) -> None:
        folder.mkdir(parents=True)
        self.out = folder / "digests"
        self._log = folder / "output.log"
        self._marks = folder / "marks"
        self._marks.mkdir()
        # The last snapshot of a run is what the demo looks for in the end.
        plan = {"sure": [STEPS], **(plan or {}), "folder": str(self._marks)}
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--nproc-per-node", str(WORLD), "--max-restarts", "2",
            str(HERE / "trainer.py"),
            "--steps", str(STEPS), "--job", JOB, "--size", "small", "--out", str(self.out),
            "--persist", str(node.root), "--persist-every", str(DURABLE_EVERY),
        ]  # fmt: skip
        environment = {
            **os.environ,
            **node.environment,
            "HOLDFAST_DEMO_PLAN": json.dumps(plan),
            "OMP_NUM_THREADS": "1",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        self._node = node
        self._last_pids: dict[int, int] = {}

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def _failed(self, what: str) -> DemoError:
        return DemoError(f"{what}; the training's output ends with:\n{self.output()[-3000:]}")

    def paused(self, step: int) -> None:
        """Waits until every rank has stopped after that step."""

        def look() -> bool | None:
            if self._process.poll() is not None:
                raise self._failed("the training ended before it paused")
            marks = [self._marks / f"paused-{step}-{rank}" for rank in range(WORLD)]
            return True if all(mark.exists() for mark in marks) else None

        try:
            wait_for(f"the pause of all ranks after step {step}", look)
        except DemoError as error:
            raise self._failed(str(error)) from None

    def go_on(self, step: int) -> None:
        (self._marks / f"go-{step}").touch()

    def told_sealed(self) -> dict[int, int]:
        """Rank -> newest step that the daemon has told it to be sealed (-1: none)."""
        marks = {rank: self._marks / f"sealed-{rank}" for rank in range(WORLD)}
        return {r: int(mark.read_text()) if mark.exists() else -1 for r, mark in marks.items()}

    def freeze(self, frozen: bool) -> None:
        """Stops every rank where it is, or lets it run again."""
        for pid in self._last_pids.values():
            os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def finish(self) -> None:
        try:
            code = self._process.wait(RUN_SECONDS)
        except subprocess.TimeoutExpired:
            raise self._failed(f"the training did not end within {RUN_SECONDS:.0f} s") from None
        if code != 0:
            raise self._failed(f"the training ended with {code}")

    def pids(self) -> dict[int, int]:
        """Rank -> process, as the daemon knows them."""
        job = self._node.job()
        self._last_pids = {r["rank"]: r["pid"] for r in job["ranks"]} if job else {}
        return self._last_pids

    def kill(self) -> None:
        """kill -9 to torchrun and every rank: nobody restarts anything."""
        ranks = self.pids()
        self._process.kill()
        self._process.wait()
        for pid in ranks.values():
            signal_process(pid, signal.SIGKILL)
        wait_for("the end of all ranks",
                 lambda: None if any(alive(pid) for pid in ranks.values()) else True)

    def clean(self) -> None:
        """Leaves no process behind: torchrun ends its ranks when it is told to end."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def resumed(self) -> list[tuple[int, str]]:
        """(step, source) of each restore, in order."""
        return restores_in(self.output())

    def digests(self) -> dict[str, str]:
        """Of everything that the run ended with, by rank and name."""
        return digests_in(self.out, WORLD)
